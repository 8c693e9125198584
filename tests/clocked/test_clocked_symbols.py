"""Symbols that are not as usual: delisted, of letters that are not ASCII, with ids that start over."""

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import scripted, trade

from streamsvc import dataset
from streamsvc.integrity.rebuild import rebuild_book
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.compaction_command import compact_folder
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity

DAY_NS = 86_400 * 10**9


async def test_a_symbol_that_is_delisted(world):
    """Its silence is told, repaired more and more rarely, and costs its neighbours next to nothing in hours."""
    exchange = await world.open_exchange(symbols=("BTCUSDT", "LUNAUSDT"), activity=Activity(0.1, 0.1))
    wanted = {"spot_symbols": ("BTCUSDT", "LUNAUSDT"), "max_connection_age_sec": 604_800}
    async with world.recording(**wanted, health_check_interval=300, parquet_rotate_sec=7200, hours_max=5) as recording:
        await trio.sleep(600)
        for stream in ("lunausdt@trade", "lunausdt@depth@100ms"):
            exchange.mute(Market.SPOT, stream)
        await trio.sleep(4 * 3600)
        assert (2, 2) == (recording.live.watch.statistics().ok, recording.live.watch.statistics().stalled)
    stalled = world.log.events("stream_stalled")
    assert {"LUNAUSDT"} == {event["symbol"] for event in stalled}
    assert len(stalled) == 2
    replaced = world.log.events("connection_lost")
    assert {"repair"} == {event["cause"] for event in replaced}
    assert 1 <= len(replaced) <= 4
    assert len(world.dials) == len(replaced) + 1
    assert 16 >= len(world.log.events("stream_repair"))
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report)


@pytest.mark.parametrize("market", list(Market))
async def test_a_symbol_that_is_not_ascii(world, market):
    """Recorded, fetched, merged, rebuilt and read like any other."""
    symbol, label = "币安人生USDT", market.label
    world.has_rest = True
    exchange = await world.open_exchange(symbols=(symbol,), markets=(market,))
    kinds = (Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
    wanted = {"spot_symbols": (), f"{label}_symbols": (symbol,), f"{label}_kinds": kinds}
    begin_ns = world.wall_ns()
    async with world.recording(**wanted):
        await trio.sleep(60)
        for stream in (f"{symbol.lower()}@trade", f"{symbol.lower()}@aggTrade"):
            exchange.drop(market, stream, 3)
        await trio.sleep(200)
        moment_ns = world.wall_ns() - 30 * 10**9
    assert [] == world.log.events("symbol_unknown")
    assert {symbol} == {event["symbol"] for event in world.log.events("backfilled")}
    assert {"repaired"} == {row.status for row in Catalogue(DataFolder(world.folder).catalogue).gaps()}
    assert 0 == world.verify().exit_code
    told = []
    assert compact_folder(world.folder, None, begin_ns + 2 * DAY_NS, tell=told.append, pause=lambda: None)
    assert len(kinds) <= len(told)
    assert 0 == world.verify().exit_code
    book = rebuild_book(world.folder, symbol, moment_ns)
    assert book.book.best_bid < book.book.best_ask
    trades = dataset.load(world.folder, "trade", symbol, begin_ns, begin_ns + DAY_NS, market=label)
    assert {symbol} == set(trades["symbol"])
    assert 3 == trades["is_backfilled"].sum()
    assert all(path.is_relative_to(world.folder / "parquet") for path in world.folder.rglob("*.parquet"))


async def test_ids_that_start_over(world):
    """Maintenance resets one symbol's ids: a new epoch, known after a restart as well, and no gap of a billion."""
    first_ids = {"BTCUSDT": 5_000_000_000, "ETHUSDT": 1}

    async def converse(talk):
        def made(number):
            restarted = trade("BTCUSDT", number, world.wall_ns() // 10**6)
            before = trade("BTCUSDT", first_ids["BTCUSDT"] + number, world.wall_ns() // 10**6)
            return [before if trio.current_time() < 60 else restarted, trade("ETHUSDT", number, number * 1000)]

        await talk.play(1, made)

    world.servers["spot.test"] = scripted(converse)
    wanted = {"spot_symbols": tuple(first_ids), "spot_kinds": (Kind.TRADE,), "latency_warn_ms": 10**13}
    for _ in range(2):
        async with world.recording(**wanted):
            await trio.sleep(100)
    (told,) = world.log.events("ids_started_over")
    assert ("BTCUSDT", 1) == (told["symbol"], told["epoch"])
    report = world.verify_complete()
    assert [] == report.gaps
    trades = dataset.load(world.folder, "trade", "BTCUSDT", 0, 2**62, market="spot")
    assert {0, 1} == set(trades["epoch"])
    assert first_ids["BTCUSDT"] + 59 == trades[trades["epoch"] == 0]["trade_id"].max()
    assert 60 == trades[trades["epoch"] == 1]["trade_id"].min()
