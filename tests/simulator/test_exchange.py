# ruff: noqa: PT012 - tests ask for the clock by its fixture; what ends a loop is its last receive
"""Faults on command: each does what it says, and the ledger knows it. In memory, under a clock that jumps."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest
import trio
import trio.testing
from simulator_support import EndedError
from wsproto.events import CloseConnection, Ping, RejectConnection, TextMessage

from streamsvc.schema import Market
from streamsvc.simulator.faults import CORRUPTIONS

SPOT, FUTURES = Market
TRADES = "btcusdt@trade"


async def ids_of(client, count):
    return [(await client.json())["t"] for _ in range(count)]


def withheld(stage):
    return [
        (line.cause, line.first_id, line.last_id, line.count, line.connection)
        for line in stage.exchange.ledger.withheld
    ]


@pytest.mark.parametrize("mode", ["rst", "fin"])
async def test_a_cut_ends_the_connection_without_a_goodbye(autojump_clock, stage_of, mode):
    """What the client has is what was sent: the rest is missing."""
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    seen = await ids_of(client, 5)
    assert 1 == stage.exchange.cut(SPOT, mode, stream=TRADES)
    with pytest.raises(EndedError):
        while True:
            seen.append((await client.json())["t"])
    await client.stream.aclose()
    await trio.sleep(5)
    again = await stage.client(SPOT, f"/ws/{TRADES}")
    first = (await again.json())["t"]
    assert seen[-1] + 1 < first
    record = stage.exchange.ledger.records[SPOT, TRADES]
    assert (seen[-1] + 1, first - 1) in list(record.missing)


async def test_a_cut_of_one_connection_leaves_its_neighbours(autojump_clock, stage_of):
    stage = await stage_of()
    one = await stage.client(SPOT, f"/ws/{TRADES}")
    other = await stage.client(SPOT, f"/ws/{TRADES}")
    first, second = stage.exchange.connections(SPOT)
    assert 1 == stage.exchange.cut(SPOT, connection=first.connection)
    with pytest.raises(EndedError):
        while True:
            await one.text()
    assert await ids_of(other, 3)
    assert [second.connection] == [info.connection for info in stage.exchange.connections(SPOT)]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 1013])
async def test_a_close_carries_its_code(autojump_clock, stage_of, code):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.close(SPOT, code, "on command")
    event = await client.until(CloseConnection)
    assert (code, "on command") == (event.code, event.reason)


async def test_a_frozen_connection_is_silent_and_loses_what_it_was_meant_to_have(autojump_clock, stage_of):
    """No messages, no pongs, no pings; afterwards it goes on, with a hole that the ledger knows."""
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    before = await ids_of(client, 3)
    stage.exchange.freeze(SPOT)
    await client.ping()
    with pytest.raises(trio.TooSlowError), trio.fail_after(50):
        while True:
            event = await client.event()
            assert isinstance(event, TextMessage)
            before.append(json.loads(event.data)["t"])
    stage.exchange.thaw(SPOT)
    after = (await client.json())["t"]
    number = stage.exchange.connections(SPOT)[0].connection
    expected = [("freeze", before[-1] + 1, after - 1, after - before[-1] - 1, number)]
    assert expected == withheld(stage)


async def test_a_stream_muted_on_one_connection_flows_on_the_other(autojump_clock, stage_of):
    """Of the one the ledger says what was withheld; the other hears every id."""
    stage = await stage_of()
    muted, other = [await stage.client(SPOT, f"/ws/{TRADES}") for _ in range(2)]
    number = stage.exchange.connections(SPOT)[0].connection
    stage.exchange.mute(SPOT, TRADES, connection=number)
    heard = await ids_of(other, 20)
    assert list(range(heard[0], heard[-1] + 1)) == heard
    stage.exchange.unmute(SPOT, TRADES)
    (line,) = stage.exchange.ledger.withheld
    assert ("mute", number) == (line.cause, line.connection)
    ids = await ids_of(muted, 1)
    while ids[-1] <= line.last_id:
        ids += await ids_of(muted, 1)
    assert [] == [one for one in ids if line.first_id <= one <= line.last_id]


async def test_a_connection_that_lags_loses_nothing(autojump_clock, stage_of):
    """Everything comes in order, late by what was asked for at least, and by twice that at most."""
    stage = await stage_of()
    lagging, other = [await stage.client(SPOT, f"/ws/{TRADES}") for _ in range(2)]
    first, _ = stage.exchange.connections(SPOT)
    assert 1 == stage.exchange.lag(SPOT, 3.0, connection=first.connection)
    heard = await ids_of(other, 1)
    at = trio.current_time()
    late = await ids_of(lagging, 1)
    while late[-1] < heard[0]:
        late += await ids_of(lagging, 1)
    assert 2.5 <= trio.current_time() - at <= 6.5
    assert list(range(late[0], late[-1] + 1)) == late


async def test_a_muted_stream_stalls_while_its_neighbours_flow(autojump_clock, stage_of):
    """Ids are consumed; the ledger says which."""
    stage = await stage_of()
    client = await stage.client(SPOT, f"/stream?streams={TRADES}/btcusdt@bookTicker")
    stage.exchange.mute(SPOT, TRADES)
    until = trio.current_time() + 10
    while trio.current_time() < until:
        assert "btcusdt@bookTicker" == (await client.json())["stream"]
    stage.exchange.unmute(SPOT, TRADES)
    while (message := await client.json())["stream"] != TRADES:
        pass
    (line,) = stage.exchange.ledger.withheld
    assert ("mute", message["data"]["t"] - 1) == (line.cause, line.last_id)
    assert line.last_id - line.first_id + 1 == line.count > 50
    assert [(line.first_id, line.last_id)] == list(stage.exchange.ledger.records[SPOT, TRADES].missing)


async def test_dropped_messages_leave_a_hole(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    (before,) = await ids_of(client, 1)
    await trio.testing.wait_all_tasks_blocked()
    stage.exchange.drop(SPOT, TRADES, 3)
    ids = [before, *await ids_of(client, 30)]
    ((first, last),) = list(stage.exchange.ledger.records[SPOT, TRADES].missing)
    assert [("drop", first, last, 3, 0)] == withheld(stage)
    assert [*range(before, first), *range(last + 1, ids[-1] + 1)] == ids


async def test_duplicated_messages_come_twice(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    stage.exchange.duplicate(SPOT, TRADES, 2)
    ids = await ids_of(client, 6)
    first = ids[0]
    assert [first, first, first + 1, first + 1, first + 2, first + 3] == ids


async def test_reordered_messages_come_backwards(autojump_clock, stage_of):
    """Nothing is missing."""
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    stage.exchange.reorder(SPOT, TRADES, 3)
    ids = await ids_of(client, 5)
    first = ids[2]
    assert [first + 2, first + 1, first, first + 3, first + 4] == ids
    await stage.exchange.venues[SPOT].hub.wait_empty()
    assert [] == list(stage.exchange.ledger.records[SPOT, TRADES].missing)


@pytest.mark.parametrize("how", CORRUPTIONS)
@pytest.mark.parametrize("stream", [TRADES, "btcusdt@depth@100ms", "btcusdt@bookTicker"])
async def test_a_corrupted_message_differs_and_counts_as_withheld(autojump_clock, stage_of, how, stream):
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{stream}")
    good = (await client.json()).keys()
    await trio.testing.wait_all_tasks_blocked()
    stage.exchange.corrupt(SPOT, stream, 1, how)
    for _ in range(30):
        text = await client.text()
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            assert how in ("truncated", "nan")
            break
        if message.keys() != good or "abc" in text or 'x"' in text:
            assert how in ("field", "price", "type")
            break
    else:
        pytest.fail("every message was good")
    (line,) = stage.exchange.ledger.withheld
    assert ("corrupt", 1) == (line.cause, line.count)


async def test_a_fragmented_message_is_whole_and_none_is_missing(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    stage.exchange.fragment(SPOT, TRADES, 1)
    first = await client.until(TextMessage)
    assert not first.message_finished
    rest = await client.until(TextMessage)
    number = json.loads(first.data + rest.data)["t"]
    assert [number + 1, number + 2] == await ids_of(client, 2)
    assert [] == withheld(stage)


@pytest.mark.parametrize(
    "kind",
    ["bad_opcode", "reserved_bits", "masked", "oversize_control", "fragmented_control"],
)
async def test_frames_that_break_the_protocol_are_seen_by_another_implementation(autojump_clock, stage_of, kind):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    assert 1 == stage.exchange.garbage(SPOT, kind)
    event = await client.event()
    assert (CloseConnection, 1002) == (type(event), event.code)


@pytest.mark.parametrize("kind", ["not_json", "empty", "byte_order_mark", "wrong_shape", "extra_fields", "oversize"])
async def test_texts_that_mean_nothing_are_valid_frames(autojump_clock, stage_of, kind):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.garbage(SPOT, kind, size_bytes=100_000)
    text = await client.text()
    assert "" == text if kind == "empty" else text
    assert (len(text) > 100_000) is (kind == "oversize")


async def test_text_that_is_no_utf8(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.garbage(SPOT, "invalid_utf8")
    event = await client.event()
    assert (CloseConnection, 1007) == (type(event), event.code)


async def test_fragments_without_an_end(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.garbage(SPOT, "endless_fragments", size_bytes=300_000)
    size = 0
    while size < 300_000:
        event = await client.until(TextMessage)
        assert not event.message_finished
        size += len(event.data)


async def test_any_text_can_be_sent(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.send_text(SPOT, b'{"e":"trade","t":1}')
    assert {"e": "trade", "t": 1} == await client.json()


async def test_a_flood_of_pings(autojump_clock, stage_of):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.ping_flood(SPOT, 1000)
    payloads = [(await client.until(Ping)).payload for _ in range(1000)]
    assert 1000 == len(set(payloads))


async def test_a_shutdown_on_command(autojump_clock, stage_of):
    """The notice now, the end later."""
    stage = await stage_of()
    client = await stage.client(SPOT, "/stream")
    begun = trio.current_time()
    stage.exchange.shut_down(SPOT, 5)
    assert "!serverShutdown" == (await client.json())["stream"]
    assert 1001 == (await client.until(CloseConnection)).code
    assert 5 == round(trio.current_time() - begun)


@pytest.mark.parametrize("how", ["error", "silent", "wrong_id"])
async def test_replies_can_fail(autojump_clock, stage_of, how):
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws")
    stage.exchange.fail_replies(SPOT, how)
    await client.send(json.dumps({"method": "SUBSCRIBE", "params": [TRADES], "id": 5}))
    first = await client.json()
    if how == "error":
        assert 2 == first["code"]
    elif how == "silent":
        assert "trade" == first["e"]
    else:
        assert (None, True) == (first["result"], first["id"] != 5)
    assert 6 == (await client.ask(method="LIST_SUBSCRIPTIONS", id=6))["id"]


async def test_upgrades_can_be_refused_a_few_times(autojump_clock, stage_of):
    stage = await stage_of()
    stage.exchange.refuse_upgrades(SPOT, 418, (("Retry-After", "120"),), count=2)
    for _ in range(2):
        answer = await stage.dial(SPOT).open("/ws")
        assert isinstance(answer, RejectConnection)
        assert (418, b"120") == (answer.status_code, dict(answer.headers)[b"retry-after"])
    await stage.client(SPOT, "/ws")


async def test_a_stalled_handshake_says_nothing_until_it_is_lifted(autojump_clock, stage_of):
    stage = await stage_of()
    stage.exchange.stall_handshakes(SPOT)
    with trio.move_on_after(60) as scope:
        await stage.dial(SPOT).open("/ws")
    assert scope.cancelled_caught
    stage.exchange.lift(SPOT)
    await stage.client(SPOT, "/ws")


async def test_a_handshake_that_drips(autojump_clock, stage_of):
    """Some 130 bytes at a second each."""
    stage = await stage_of()
    stage.exchange.stall_handshakes(SPOT, drip_sec=1.0)
    begun = trio.current_time()
    await stage.client(SPOT, "/ws")
    assert 100 < trio.current_time() - begun < 200


async def test_lifting_ends_every_fault(autojump_clock, stage_of):
    """Messages held back to be reordered are sent."""
    stage = await stage_of()
    client = await stage.client(SPOT, f"/ws/{TRADES}")
    exchange = stage.exchange
    exchange.reorder(SPOT, TRADES, 1000)
    exchange.refuse_upgrades(SPOT, 503)
    exchange.fail_rest(SPOT, 500)
    exchange.fail_replies(SPOT, "silent", 5)
    await trio.sleep(3)
    exchange.lift(SPOT)
    ids = await ids_of(client, 100)
    assert list(range(ids[0], ids[0] + 100)) == ids
    other = await stage.client(SPOT, "/ws")
    assert 1 == (await other.ask(method="LIST_SUBSCRIPTIONS", id=1))["id"]


async def test_nothing_is_missing_where_nothing_was_withheld(autojump_clock, stage_of):
    """Produced is sent and logged, for every chained kind of both markets."""
    stage = await stage_of()
    for market, target in (
        (SPOT, "/stream?streams=btcusdt@trade/btcusdt@aggTrade/btcusdt@depth@100ms/btcusdt@depth"),
        (FUTURES, "/stream?streams=btcusdt@trade/btcusdt@depth@0ms/btcusdt@depth@100ms"),
    ):
        client = await stage.client(market, target)
        await trio.sleep(30)
        stage.nursery.start_soon(client.until, CloseConnection)
    for venue in stage.exchange.venues.values():
        await venue.hub.wait_empty()
    for record in stage.exchange.ledger.records.values():
        assert [] == list(record.missing)
        assert 1 == len(record.produced)
        assert record.produced_count == record.sent_count > 10
    logged = [json.loads(data) for _, stream, data in stage.exchange.ledger.log if stream == TRADES]
    spot = [trade["t"] for trade in logged if "M" in trade]
    assert all(after - before == 1 for before, after in itertools.pairwise(spot))


async def test_a_stream_that_nobody_knows_cannot_be_muted(autojump_clock, stage_of):
    stage = await stage_of()
    with pytest.raises(KeyError):
        stage.exchange.mute(SPOT, "nobody@trade")


async def statuses_of(stage):
    answer = await stage.dial(SPOT).http("GET /api/v3/exchangeInfo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return {info["symbol"]: info["status"] for info in json.loads(answer.partition(b"\r\n\r\n")[2])["symbols"]}


async def test_a_symbol_that_is_listed_and_delisted(autojump_clock, stage_of):
    """Its streams are heard from then on, also by who asked before; silent when it goes, they go on with their ids."""
    stage = await stage_of()
    client = await stage.client(SPOT, "/ws/newusdt@trade")
    with trio.move_on_after(10) as scope:
        await client.json()
    assert scope.cancelled_caught
    stage.exchange.list_symbol(SPOT, "NEWUSDT", trades_per_sec=20)
    (last,) = (await ids_of(client, 5))[-1:]
    assert "TRADING" == (await statuses_of(stage))["NEWUSDT"]
    stage.exchange.delist_symbol(SPOT, "NEWUSDT")
    assert "BREAK" == (await statuses_of(stage))["NEWUSDT"]
    with trio.move_on_after(20):
        while True:
            last = (await client.json())["t"]
    stage.exchange.list_symbol(SPOT, "NEWUSDT")
    again = await client.json()
    assert last + 1 == again["t"]
    stage.exchange.delist_symbol(SPOT, "NEWUSDT", is_absent=True)
    assert "NEWUSDT" not in await statuses_of(stage)
