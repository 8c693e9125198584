"""What the exchange sends and nobody can read: kept with a reason, counted, and no harm to anything else."""

from collections import Counter

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import scripted, trade

from streamsvc.schema import Market
from streamsvc.simulator.faults import CORRUPTIONS, GARBAGE, OVERSIZE_BYTES

SPOT = Market.SPOT


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("stream", ["btcusdt@trade", "btcusdt@depth@100ms"])
async def test_a_real_message_that_is_damaged(world, stream, corruption):
    """It is kept as text with a reason and costs neither the connection nor its neighbours: exactly its ids lack."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(30)
        exchange.corrupt(SPOT, stream, 3, corruption)
        await trio.sleep(60)
    assert 1 == len(world.dials)
    report = world.verify()
    assert [] == world.leftovers()
    texts = world.quarantined()
    assert 3 == len(texts)
    assert all(reason in {"malformed", "wrong_shape"} for reason, _ in texts)
    heard = Counter(text.decode() for _, text in world.heard())
    assert all(heard[text] for _, text in texts)
    counts = world.counts()
    assert 0 == counts["shed"] + counts["notices"]
    assert counts["received"] == counts["accepted"] + counts["quarantined"] == len(world.heard())
    assert 3 == counts["quarantined"] + report.quarantined
    assert withheld(exchange, report) == lacking(report) != {}
    assert (1, {"quarantined"}) == (report.exit_code, {gap.cause for gap in report.gaps})


TEXTS = {"not_json": 1, "empty": 1, "deep_nest": 1, "byte_order_mark": 1, "wrong_shape": 1, "extra_fields": 1,
         "invalid_utf8": 1, "binary": 1}  # fmt: skip
"""Garbage that is a message: it is quarantined, and the connection stays."""


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_out_of_nowhere(world, garbage):
    """A text is quarantined and the connection stays; what breaks the protocol or a limit ends the connection only."""
    world.capacity_bytes = 2 * OVERSIZE_BYTES
    exchange = await world.open_exchange()
    async with world.recording(message_max_mb=1):
        await trio.sleep(30)
        exchange.garbage(SPOT, garbage, size_bytes=2 << 20)
        await trio.sleep(60)
    expected = TEXTS.get(garbage, 0)
    assert expected == world.counts()["quarantined"] == len(world.quarantined())
    lost = world.log.events("connection_lost")
    if expected:
        assert [] == lost
    else:
        assert ["protocol"] == [one["cause"] for one in lost]
        assert [1009 if garbage in {"oversize", "endless_fragments"} else 1002] == [one["status"] for one in lost]
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report)


async def test_more_garbage_than_may_be_kept(world):
    """The quarantine keeps to QUARANTINE_MAX_MB, all is counted and told at a bounded rate; recording goes on."""
    junk = b'{"stream":"btcusdt@trade","data":' + b"x" * 3000

    async def converse(talk):
        await talk.play(0.1, lambda number: [junk, junk, junk, junk, trade("BTCUSDT", number, 1)], until_sec=120)
        await trio.sleep_forever()

    world.servers["spot.test"] = scripted(converse)
    async with world.recording(quarantine_max_mb=1):
        await trio.sleep(130)
    counts = world.counts()
    assert 4 * counts["accepted"] == counts["quarantined"] > 4000
    kept = world.quarantined()
    assert 300 < len(kept) < 350
    told = world.log.events("messages_quarantined")
    assert len(told) <= 4
    assert counts["quarantined"] == sum(sum(event["reasons"].values()) for event in told)
    assert (len(kept), counts["quarantined"] - len(kept)) == (told[-1]["kept"], told[-1]["dropped"])
    assert 1 == len(world.dials)
    world.verify_complete()
