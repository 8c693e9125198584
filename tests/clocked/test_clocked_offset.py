"""A recorder whose clock is not the exchange's: latency is judged by the exchange's, what is recorded stays ours."""

from __future__ import annotations

import pytest
import trio
from clocked_world import START_NS

from streamsvc import dataset
from streamsvc.schema import Kind, Market

SPOT, FUTURES = Market.SPOT, Market.FUTURES
TRADES = {"spot_kinds": (Kind.TRADE,), "hours_max": 2}
MS = 10**6


@pytest.fixture
async def exchange(world):
    world.has_rest = True
    return await world.open_exchange()


@pytest.mark.parametrize("ahead_ms", [1400, -1400])
async def test_a_clock_that_is_off(world, exchange, ahead_ms):
    """The offset is known at once, and a stream that is in time is not called late; `receive_time` is not corrected."""
    del exchange
    world.wall_step_ns = ahead_ms * MS
    async with world.recording(**TRADES) as recording:
        await trio.sleep(60)
        late_before = recording.live.intake.health.slots()[0].late_messages
        await trio.sleep(540)
        offset = recording.live.clock_offsets[SPOT]
        late = recording.live.intake.health.slots()[0].late_messages
    assert -ahead_ms == pytest.approx(offset.offset_ms, abs=offset.uncertainty_ms)
    assert late == late_before <= 2
    event = world.log.events("clock_offset")[0]
    assert ("spot", "warning") == (event["market"], event["level"])
    assert -ahead_ms == pytest.approx(event["offset_ms"], abs=event["uncertainty_ms"])
    assert world.log.times("clock_offset")[0] < 2
    rows = dataset.load(world.folder, "trade", "BTCUSDT", 0, START_NS + 10**15)
    behind_ms = (rows.receive_time - rows.exchange_time).dt.total_seconds() * 1000
    assert ahead_ms <= behind_ms.min() <= behind_ms.max() < ahead_ms + 200


async def test_a_clock_that_is_set_in_mid_run(world, exchange):
    """Seen within half a minute; until then everything seems late, and nothing afterwards."""
    del exchange
    async with world.recording(**TRADES) as recording:
        await trio.sleep(300)
        world.wall_step_ns = 1400 * MS
        await world.log.wait("clock_stepped")
        await trio.sleep(30)
        late = recording.live.intake.health.slots()[0].late_messages
        await trio.sleep(300)
        assert late == recording.live.intake.health.slots()[0].late_messages
        assert -1400 == pytest.approx(recording.live.clock_offsets[SPOT].offset_ms, abs=2)
    assert [1400] == [event["step_ms"] for event in world.log.events("clock_stepped")]
    first, second = world.log.events("clock_offset")[:2]
    assert ("info", "warning") == (first["level"], second["level"])
    assert [] == world.log.events("stream_stalled")


async def test_without_an_answer_latency_is_judged_by_our_clock(world):
    """As before; and recording does not notice."""
    await world.open_exchange()
    world.wall_step_ns = 1400 * MS
    async with world.recording(**TRADES) as recording:
        await trio.sleep(300)
        assert {} == recording.live.clock_offsets
        slot = recording.live.intake.health.slots()[0]
        assert slot.messages == slot.late_messages > 50
    assert world.log.events("clock_offset_failed")
    world.verify_complete()


async def test_each_market_has_a_clock_of_its_own(world):
    world.has_rest = True
    await world.open_exchange(markets=(SPOT, FUTURES))
    async with world.recording(futures_symbols=("BTCUSDT",), futures_kinds=(Kind.TRADE,), **TRADES) as recording:
        await trio.sleep(30)
        assert {SPOT, FUTURES} == set(recording.live.clock_offsets)
    assert {"spot", "futures"} == {event["market"] for event in world.log.events("clock_offset")}
