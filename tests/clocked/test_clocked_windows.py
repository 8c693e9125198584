"""Streams whose ids do not chain: the ledger says when nobody listened, in ids and in time."""

from __future__ import annotations

import pytest
import trio

from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity

SPOT, FUTURES = Market.SPOT, Market.FUTURES
QUOTES = {"spot_kinds": (Kind.BOOK_TICKER,)}
ALL = {
    "spot_symbols": (),
    "futures_symbols": ("BTCUSDT",),
    "futures_kinds": (Kind.BOOK_TICKER, Kind.MARK_PRICE, Kind.FORCE_ORDER),
}
LABELS = {"bookTicker", "markPrice", "forceOrder"}
BUSY = Activity(trades_per_sec=5, quotes_per_sec=5)
SECOND_NS = 10**9


def ledger(world):
    return Catalogue(DataFolder(world.folder).catalogue).gaps()


def assert_windows(rows, *, cause, begin_ns, end_ns, within_sec):
    """Every row says that about this time nobody listened, and why; nobody can bring it back."""
    for row in rows:
        assert (cause, "unrepairable") == (row.cause, row.status), row
        assert row.first_id <= row.last_id
        assert abs(row.first_time_ns - begin_ns) <= within_sec * SECOND_NS, row
        assert abs(row.last_time_ns - end_ns) <= within_sec * SECOND_NS, row


async def test_a_connection_that_breaks(world):
    """Every kind has one row, from the last message to the first; liquidations from the break to the new connection."""
    exchange = await world.open_exchange(markets=(FUTURES,), activity=BUSY)
    async with world.recording(**ALL, stream_idle_sec=3600):
        await trio.sleep(900)
        world.dial_fault = ConnectionRefusedError(111, "refused")
        begin_ns = world.wall_ns()
        exchange.cut(FUTURES, "fin")
        await trio.sleep(60)
        world.dial_fault = None
        await trio.sleep(60)
        end_ns = begin_ns + 60 * SECOND_NS
        await trio.sleep(600)
    assert LABELS == {row.kind for row in ledger(world)}
    assert 3 == len(ledger(world))
    assert_windows(ledger(world), cause="disconnect", begin_ns=begin_ns, end_ns=end_ns, within_sec=61)
    report = world.verify()
    assert (1, []) == (report.exit_code, report.errors)


@pytest.mark.parametrize("ending", ["sealed", "unsealed"])
async def test_the_time_between_a_stop_and_a_start(world, ending):
    """It goes on from the catalogue, and from what lies in unsealed segments."""
    await world.open_exchange(markets=(FUTURES,), activity=BUSY)
    async with world.recording(**ALL, parquet_rotate_sec=300):
        await trio.sleep(1000)
        if ending == "unsealed":
            world.sealers.takes_sec = 1000
        begin_ns = world.wall_ns()
    assert (ending == "unsealed") == bool(world.leftovers())
    world.sealers.takes_sec = 0
    await trio.sleep(600)
    end_ns = world.wall_ns()
    async with world.recording(**ALL):
        await trio.sleep(600)
    rows = ledger(world)
    assert LABELS == {row.kind for row in rows}
    assert_windows(rows, cause="restart", begin_ns=begin_ns, end_ns=end_ns, within_sec=60)
    assert 1 == world.verify().exit_code


async def test_a_quote_stream_that_stalls_while_its_neighbours_flow(world):
    """What it lacks from its last quote to the first after the repair is due to the stall."""
    exchange = await world.open_exchange(activity=BUSY)
    async with world.recording(spot_kinds=(Kind.TRADE, Kind.BOOK_TICKER), orderbook_timeout=60):
        await trio.sleep(100)
        begin_ns = world.wall_ns()
        exchange.mute(SPOT, "btcusdt@bookTicker")
        await world.log.wait("stream_repair")
        exchange.unmute(SPOT, "btcusdt@bookTicker")
        end_ns = world.wall_ns()
        await trio.sleep(120)
    (row,) = [row for row in ledger(world) if row.kind == "bookTicker"]
    assert_windows([row], cause="stall", begin_ns=begin_ns, end_ns=end_ns, within_sec=10)


async def test_a_successor_leaves_no_window(world):
    """Where another connection carries a stream, its end is no break."""
    await world.open_exchange(markets=(FUTURES,), activity=BUSY)
    async with world.recording(**ALL, max_connection_age_sec=20):
        await trio.sleep(300)
    assert world.log.events("connection_renewed")
    assert [] == ledger(world)


async def test_a_stream_that_never_brought_anything_has_no_window(world):
    """What was not there before cannot be missed."""
    await world.open_exchange(activity=BUSY)
    world.dial_fault = ConnectionRefusedError(111, "refused")
    async with world.recording(**QUOTES):
        await trio.sleep(60)
        world.dial_fault = None
        await trio.sleep(60)
    assert [] == ledger(world)
