"""Order books while recording: snapshots are fetched when they are needed, for whom they are needed, and recorded."""

from __future__ import annotations

import pytest
import trio

from streamsvc.integrity.rebuild import BookUnknownError, rebuild_book
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind, Market

SPOT, FUTURES = Market.SPOT, Market.FUTURES
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def depth_only(market):
    """Settings that record the books of two symbols."""
    if market is SPOT:
        return {"spot_symbols": SYMBOLS, "spot_kinds": (Kind.DEPTH,)}
    return {"spot_symbols": (), "futures_symbols": SYMBOLS, "futures_kinds": (Kind.DEPTH,)}


def asked_for(world):
    """The symbols whose books were asked for, in order."""
    return [parameters["symbol"] for _, _, path, parameters in world.requests if path.endswith("/depth")]


@pytest.mark.parametrize("market", list(Market))
async def test_books_are_synced_soon_after_the_start(world, market):
    """One snapshot a symbol, proved by the ids; and the files rebuild the book."""
    world.has_rest = True
    await world.open_exchange(symbols=SYMBOLS, markets=(market,))
    async with world.recording(**depth_only(market)):
        await trio.sleep(300)
        moment_ns = world.wall_ns() - 60 * 10**9
    assert set(SYMBOLS) == {event["symbol"] for event in world.log.events("book_synced")}
    assert [] == world.log.events("book_lost")
    assert len(asked_for(world)) <= 4
    assert 0 == world.verify().exit_code
    for symbol in SYMBOLS:
        book = rebuild_book(DataFolder(world.folder).root, symbol, moment_ns)
        assert book.book.best_bid < book.book.best_ask


async def test_a_gap_costs_its_own_book_one_snapshot(world):
    """The neighbour keeps its state and pays no request."""
    world.has_rest = True
    exchange = await world.open_exchange(symbols=SYMBOLS)
    async with world.recording(**depth_only(SPOT)):
        await trio.sleep(120)
        before = len(asked_for(world))
        exchange.drop(SPOT, "btcusdt@depth@100ms", 3)
        await trio.sleep(30)
        lost_ns = world.wall_ns()
        await trio.sleep(120)
        moment_ns = world.wall_ns() - 30 * 10**9
    assert ["BTCUSDT"] == [event["symbol"] for event in world.log.events("book_lost")]
    assert {"BTCUSDT"} == set(asked_for(world)[before:])
    assert 2 == len([event for event in world.log.events("book_synced") if event["symbol"] == "BTCUSDT"])
    assert lost_ns < moment_ns
    rebuild_book(DataFolder(world.folder).root, "BTCUSDT", moment_ns)


async def test_books_get_a_snapshot_now_and_then(world):
    world.has_rest = True
    await world.open_exchange(symbols=SYMBOLS)
    async with world.recording(**depth_only(SPOT), snapshot_interval_sec=600):
        await trio.sleep(3700)
    assert 14 <= len(asked_for(world)) <= 16
    assert [] == world.log.events("book_lost")


async def test_without_rest_books_are_not_called_synced(world):
    """It is asked more and more rarely, recording goes on, and the rebuild says what is missing."""
    await world.open_exchange(symbols=SYMBOLS)
    async with world.recording(**depth_only(SPOT)):
        await trio.sleep(3600)
        moment_ns = world.wall_ns() - 60 * 10**9
    assert [] == world.log.events("book_synced")
    assert 10 < len(world.log.events("snapshot_failed")) < 40
    assert 0 == world.verify().exit_code
    with pytest.raises(BookUnknownError):
        rebuild_book(DataFolder(world.folder).root, "BTCUSDT", moment_ns)
