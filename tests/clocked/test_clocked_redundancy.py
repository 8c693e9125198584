"""`REDUNDANCY=2`: every stream comes over two connections; either may fail, and nothing is lost or there twice."""

from __future__ import annotations

import itertools

import pytest
import trio
from clocked_books import expected_rows
from clocked_skew import SkewedEnd
from clocked_world import HOSTS
from test_clocked_turnover import BUSY, SPOT, all_kinds

from streamsvc import dataset
from streamsvc.integrity.rebuild import rebuild_book
from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity

WATCHED = {"trade_timeout": 30.0, "orderbook_timeout": 30.0, "health_check_interval": 10.0}


async def until_doubled(world, exchange, market):
    """Wait until all is there twice; returns the exchange's numbers of the older and of the newer connections."""
    count = 1 if market is SPOT else 3
    await trio.sleep(10)
    await world.until(lambda: len(exchange.connections(market)) == 2 * count, every_sec=0.1)
    by_streams = {}
    for one in sorted(exchange.connections(market), key=lambda one: one.connection):
        by_streams.setdefault(one.streams, []).append(one.connection)
    return tuple(zip(*by_streams.values(), strict=True))


def assert_nothing_lost_or_twice(world, market):
    """Every message that any connection brought is in the data set once, and nobody was told of a gap."""
    report = world.verify()
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert [] == world.log.events("gap_opened") + world.log.events("book_lost")
    heard = expected_rows((market, text) for text in {text for _, text in world.heard()})
    assert heard == world.stored_rows()
    counts = world.counts()
    parts = ("accepted", "duplicates", "notices", "quarantined", "shed")
    assert counts["received"] == sum(counts[part] for part in parts)
    assert counts["duplicates"] > counts["accepted"] / 3


@pytest.mark.parametrize("market", list(Market))
async def test_either_copy_is_cut_in_turn(world, market):
    """As long as the other one is there, nothing is missing, in any kind."""
    exchange = await world.open_exchange(markets=(market,), activity=BUSY)
    async with world.recording(**all_kinds(market), redundancy=2, reconnect_max_sec=5) as recording:
        for place in (0, 1, 0, 1):
            numbers = (await until_doubled(world, exchange, market))[place]
            for number in numbers:
                assert 1 == exchange.cut(market, "rst", connection=number)
            await trio.sleep(0.5)
            assert all(
                any(recording.live.health.slot(market, stream.name, copy).subscribed_at is not None for copy in (0, 1))
                for stream in recording.live.health.streams()
            )
        await trio.sleep(10)
    assert_nothing_lost_or_twice(world, market)
    assert len(numbers) * 4 == len(world.log.events("connection_lost"))


@pytest.mark.parametrize("market", list(Market))
@pytest.mark.parametrize("place", [0, 1])
async def test_one_copy_lags_by_seconds(world, market, place):
    """What it brings again is dropped; when the other one dies, it has all that was sent meanwhile."""
    exchange = await world.open_exchange(markets=(market,), activity=BUSY)
    async with world.recording(**all_kinds(market), redundancy=2):
        pair = await until_doubled(world, exchange, market)
        for number in pair[place]:
            exchange.lag(market, 2.0, connection=number)
        await trio.sleep(30)
        for number in pair[1 - place]:
            exchange.cut(market, "fin", connection=number)
        await trio.sleep(30)
    assert_nothing_lost_or_twice(world, market)


@pytest.mark.parametrize("market", list(Market))
async def test_both_fail_at_different_times(world, market):
    """One is frozen while the other flows, then thaws before that one is cut; what was withheld came over the other."""
    exchange = await world.open_exchange(markets=(market,), activity=BUSY)
    async with world.recording(**all_kinds(market), redundancy=2, reconnect_max_sec=5):
        for _ in range(3):
            first, second = await until_doubled(world, exchange, market)
            for number in first:
                exchange.freeze(market, connection=number)
            await trio.sleep(8)
            for number in first:
                exchange.thaw(market, connection=number)
            await trio.sleep(3)
            for number in second:
                exchange.cut(market, "rst", connection=number)
    assert_nothing_lost_or_twice(world, market)


@pytest.mark.parametrize("market", list(Market))
async def test_copies_that_are_replaced_every_six_seconds(world, market):
    """A planned break of one copy is one of neither."""
    await world.open_exchange(markets=(market,), activity=BUSY)
    async with world.recording(**all_kinds(market), redundancy=2, max_connection_age_sec=6):
        await trio.sleep(60)
    assert_nothing_lost_or_twice(world, market)
    assert 10 < len(world.log.events("connection_renewed"))


async def test_the_copies_are_not_replaced_at_one_moment(world):
    """The second one's first life is half as long, also where both had to begin anew."""
    exchange = await world.open_exchange()
    async with world.recording(redundancy=2, max_connection_age_sec=100) as recording:
        await trio.sleep(70)
        assert ["spot-1-b"] == [event["connection"] for event in world.log.events("connection_renewed")]
        await trio.sleep(36)
        names = [event["connection"] for event in world.log.events("connection_renewed")]
        assert ["spot-1-b", "spot-1"] == names
        exchange.cut(SPOT)
        await trio.sleep(70)
        names = [event["connection"] for event in world.log.events("connection_renewed")]
        assert ["spot-1-b", "spot-1", "spot-1-b"] == names
        assert 2 == recording.live.supervisor.statistics().up


@pytest.mark.parametrize("kind", ["trade", "depth@100ms"])
async def test_one_silent_copy_of_a_stream_is_repaired_while_the_other_flows(world, kind):
    """It is found, subscribed anew and then replaced on its own connection; the stream counts as up all the time."""
    name = f"btcusdt@{kind}"
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), redundancy=2, **WATCHED) as recording:
        _, (second,) = await until_doubled(world, exchange, SPOT)
        exchange.mute(SPOT, name, connection=second)
        await trio.sleep(55)
        (silent,) = [event["connection"] for event in world.log.events("stream_stalled")]
        assert silent in {"spot-1", "spot-1-b"}  # Which of them was the second one is chance.
        health = world.log.events("health")[-1]
        assert (5, 1, 0) == (health["ok"], health["degraded"], health["stalled"])
        assert "5 ok (1 on one connection only)" in recording.live.status_line()
        await trio.sleep(90)
        steps = [(event["step"], event["connection"]) for event in world.log.events("stream_repair")]
        assert [("resubscribe", silent), ("replace", silent)] == steps
        assert [silent] == [event["connection"] for event in world.log.events("stream_recovered")]
        assert 0 == world.log.events("health")[-1]["degraded"]
    assert_nothing_lost_or_twice(world, SPOT)


async def test_both_copies_of_a_quiet_symbol_are_silent(world):
    """The exchange is asked, and neither is repaired: a trade that one has and the other has not yet proves nothing."""
    world.has_rest = True
    await world.open_exchange(activity=Activity(trades_per_sec=0.0005, quotes_per_sec=0.1))
    async with world.recording(spot_kinds=(Kind.TRADE, Kind.DEPTH), redundancy=2):
        await trio.sleep(3600)
    assert [] == world.log.events("stream_stalled") + world.log.events("stream_repair")
    assert len(world.log.events("stream_quiet")) > 20
    assert 0 == world.verify().exit_code


def depth_seams(world, market):
    """Order-book updates in the data set, and how many of them do not begin where the one before ended."""
    rows = dataset.load(world.folder, "depth", "BTCUSDT", 0, 2**62, market=market.label)
    updates = rows.drop_duplicates(["first_update_id", "final_update_id"])
    before = updates["final_update_id"].shift()
    joins = updates["first_update_id"] - 1 if market is SPOT else updates["previous_final_update_id"]
    return len(updates), int((joins != before).sum()) - 1


async def test_the_last_copy_dies(world):
    """Only then is a hole due to a broken connection, and the stream down."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), redundancy=2, **WATCHED):
        (first,), (second,) = await until_doubled(world, exchange, SPOT)
        world.dial_fault = ConnectionRefusedError(111, "refused")
        exchange.cut(SPOT, "fin", connection=first)
        await trio.sleep(12)
        assert (5, 5, 0) == tuple(world.log.events("health")[-1][name] for name in ("ok", "degraded", "disconnected"))
        exchange.cut(SPOT, "fin", connection=second)
        await trio.sleep(12)
        assert (0, 0, 5) == tuple(world.log.events("health")[-1][name] for name in ("ok", "degraded", "disconnected"))
        world.dial_fault = None
        await trio.sleep(60)
    report = world.verify()
    assert ([], {"disconnect"}) == (report.errors, {gap.cause for gap in report.gaps})
    assert {"trade", "aggTrade", "depth"} <= {gap.kind for gap in report.gaps}


@pytest.mark.parametrize("skew_ms", [-700, 700])
@pytest.mark.parametrize("market", list(Market))
async def test_the_copies_stamp_and_cut_differently(world, market, skew_ms):
    """Ids alone tell what is there, whichever of the two lags, and whatever its clock says of it."""
    world.has_rest = True
    exchange = await world.open_exchange(markets=(market,), activity=BUSY)
    host = next(host for host, of in HOSTS.items() if of is market)
    serve, opened = world.servers[host], itertools.count()

    async def serve_skewed(end):
        await serve(SkewedEnd(end, skew_ms) if next(opened) % 2 else end)

    world.servers[host] = serve_skewed
    async with world.recording(**all_kinds(market), redundancy=2, snapshot_interval_sec=60.0):
        for _ in range(2):
            for place in (0, 1):
                numbers = (await until_doubled(world, exchange, market))[place]
                for number in numbers:
                    exchange.lag(market, 8.0, connection=number)
                await trio.sleep(20)
                for number in numbers:
                    exchange.cut(market, "fin", connection=number)
        moment_ns = world.wall_ns()
        await trio.sleep(10)
    report = world.verify()
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert [] == world.log.events("book_lost") + world.log.events("gap_opened") + world.log.events("ids_started_over")
    assert rebuild_book(world.folder, "BTCUSDT", moment_ns)
    updates, seams = depth_seams(world, market)
    assert updates > 500
    assert seams <= 16, "one connection is recorded, and another only where it takes over"
