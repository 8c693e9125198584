"""Planned breaks: a connection is replaced before it ends, and nothing is lost or there twice, in any kind."""

from __future__ import annotations

import pytest
import trio
from clocked_books import expected_rows

from streamsvc.schema import STREAM_KINDS, Kind, Market
from streamsvc.simulator.market import Activity

SPOT, FUTURES = Market.SPOT, Market.FUTURES
BUSY = Activity(trades_per_sec=5, quotes_per_sec=20)


def all_kinds(market):
    """Settings that record every kind of a market."""
    if market is SPOT:
        return {"spot_kinds": STREAM_KINDS[SPOT]}
    kinds = tuple(kind for kind in STREAM_KINDS[FUTURES] if kind is not Kind.FORCE_ORDER)
    return {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": kinds}


def assert_nothing_lost_or_twice(world):
    report = world.verify()
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert [] == world.log.events("gap_opened")
    assert [] == world.log.events("connection_lost")
    assert [] == world.log.events("stream_suspect")


@pytest.mark.parametrize("market", list(Market))
async def test_connections_that_are_replaced_every_six_seconds(world, market):
    """Every message that any connection brought is in the data set once, bookTicker and kinds without ids included."""
    await world.open_exchange(markets=(market,), activity=BUSY)
    async with world.recording(**all_kinds(market), max_connection_age_sec=6):
        await trio.sleep(120)
    assert_nothing_lost_or_twice(world)
    renewed = len(world.log.events("connection_renewed"))
    assert 10 < renewed
    assert world.counts()["duplicates"] > 0
    assert expected_rows((market, text) for text in {text for _, text in world.heard()}) == world.stored_rows()


@pytest.mark.parametrize("market", list(Market))
async def test_a_connection_that_lags_is_replaced(world, market):
    """It is read until it has brought what was sent before its successor's first messages."""
    exchange = await world.open_exchange(markets=(market,), activity=BUSY)
    async with world.recording(**all_kinds(market), max_connection_age_sec=60, gap_grace_sec=20.0):
        await trio.sleep(30)
        exchange.lag(market, 6.0)
        await trio.sleep(60)
    assert_nothing_lost_or_twice(world)
    assert world.log.events("connection_renewed")


async def test_a_shutdown_notice_is_answered_by_a_successor(world):
    """The exchange says that it will end the connections: others deliver before it does."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT)):
        await trio.sleep(60)
        exchange.shut_down(SPOT, 20)
        await trio.sleep(120)
    assert_nothing_lost_or_twice(world)
    assert 1 == len(world.log.events("connection_renewed"))


async def test_a_successor_that_cannot_be_made_leaves_the_old_one_alone(world):
    """It goes on, and the next try succeeds."""
    await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), max_connection_age_sec=60):
        await trio.sleep(50)
        world.dial_fault = ConnectionRefusedError(111, "refused")
        await trio.sleep(60)
        assert [] == world.log.events("connection_renewed")
        world.dial_fault = None
        await trio.sleep(120)
    assert_nothing_lost_or_twice(world)
    assert world.log.events("connection_renewed")


async def test_the_old_one_dies_while_its_successor_is_made(world):
    """Then it is a break like any other, and what it cost is in the ledger."""
    world.has_rest = True
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(spot_kinds=(Kind.TRADE, Kind.AGG_TRADE), max_connection_age_sec=60):
        await trio.sleep(53)
        exchange.stall_handshakes(SPOT)
        await trio.sleep(5)
        exchange.cut(SPOT, "fin")
        await trio.sleep(5)
        exchange.lift(SPOT)
        await trio.sleep(120)
    assert 0 == world.verify().exit_code


async def test_the_successor_dies_while_both_are_read(world):
    """The old one is not let go: it carries its streams on, they count as up, and another successor is made."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), max_connection_age_sec=60) as recording:
        await world.until(lambda: len(world.dials) == 2, every_sec=0.1)
        await world.until(lambda: len(exchange.connections(SPOT)) == 2, every_sec=0.1)
        await trio.sleep(1)
        newest = max(one.connection for one in exchange.connections(SPOT))
        exchange.cut(SPOT, "fin", connection=newest)
        await trio.sleep(1)
        assert 1 == recording.live.supervisor.statistics().up
        assert all(slot.subscribed_at is not None for slot in recording.live.health.slots())
        await trio.sleep(120)
    report = world.verify()
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert 1 == len(world.log.events("connection_lost"))
    assert world.log.events("connection_renewed")


async def until_both_are_read(world, exchange):
    """Wait until the successor of the first connection delivers beside it; returns the exchange's numbers of both."""
    await world.until(lambda: len(exchange.connections(SPOT)) == 2, every_sec=0.1)
    await trio.sleep(1)
    return sorted(one.connection for one in exchange.connections(SPOT))


async def test_the_old_one_dies_while_both_are_read(world):
    """The successor carries on alone, at once."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), max_connection_age_sec=60) as recording:
        old, _ = await until_both_are_read(world, exchange)
        exchange.cut(SPOT, "fin", connection=old)
        await trio.sleep(20)
        assert 1 == recording.live.supervisor.statistics().up
        assert all(slot.subscribed_at is not None for slot in recording.live.health.slots())
    report = world.verify()
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert 2 == len(world.dials)


async def test_both_die_while_both_are_read(world):
    """It is a break like any other, and what it cost is in the ledger."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), max_connection_age_sec=60, reconnect_max_sec=2) as recording:
        await until_both_are_read(world, exchange)
        exchange.cut(SPOT, "fin")
        world.dial_fault = ConnectionRefusedError(111, "refused")
        await trio.sleep(5)
        assert all(slot.subscribed_at is None for slot in recording.live.health.slots())
        world.dial_fault = None
        await trio.sleep(10)
        assert 1 == recording.live.supervisor.statistics().up
        assert all(slot.subscribed_at is not None for slot in recording.live.health.slots())
    report = world.verify()
    assert ([], {"disconnect"}, 1) == (report.errors, {gap.cause for gap in report.gaps}, report.exit_code)


async def test_a_stop_while_both_are_read(world):
    """Both connections are left, and what they had brought is there once."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), max_connection_age_sec=60):
        await until_both_are_read(world, exchange)
    assert_nothing_lost_or_twice(world)


async def test_the_old_one_dies_before_the_next_successor_is_tried(world):
    """The wait for that one is not followed by another: the stream would be down for both."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(**all_kinds(SPOT), max_connection_age_sec=60, reconnect_min_sec=50) as recording:
        await trio.sleep(50)
        world.dial_fault = ConnectionRefusedError(111, "refused")
        await world.until(lambda: world.log.events("connection_retry"), every_sec=0.1)
        world.dial_fault = None
        exchange.cut(SPOT, "fin")
        await trio.sleep(1)
        retries = world.log.events("connection_retry")
        await trio.sleep(retries[-1]["after_sec"] + 1)
        assert (2, 1) == (len(retries), recording.live.supervisor.statistics().up)
    assert [] == world.verify().errors
