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
