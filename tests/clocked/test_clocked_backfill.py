"""What did not come is fetched again: the whole service, a simulated exchange with its REST, and faults in between."""

from __future__ import annotations

import pytest
import trio
from clocked_books import lacking

from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind, Market
from streamsvc.settings.values import SecretStr
from streamsvc.simulator.market import Activity

SPOT, FUTURES = Market.SPOT, Market.FUTURES
KINDS = {"spot_kinds": (Kind.TRADE, Kind.AGG_TRADE)}


def ledger(world, status=None):
    """The gap ledger's rows: kind, ids and status."""
    rows = Catalogue(DataFolder(world.folder).catalogue).gaps(status)
    return [(row.kind, row.first_id, row.last_id, row.status) for row in rows]


async def test_what_a_broken_connection_missed_is_fetched_and_is_there_once(world):
    """Trades and aggTrades of the outage lie in the files like any other, and the ledger says repaired."""
    world.has_rest = True
    exchange = await world.open_exchange()
    async with world.recording(**KINDS):
        await trio.sleep(60)
        exchange.cut(SPOT, "fin")
        world.dial_fault = ConnectionRefusedError(111, "refused")
        await trio.sleep(60)
        world.dial_fault = None
        await trio.sleep(180)
    report = world.verify()
    assert ([], 0) == (report.gaps, report.exit_code)
    rows = ledger(world)
    assert {"trade", "aggTrade"} == {kind for kind, *_ in rows}
    assert {"repaired"} == {status for *_, status in rows}
    assert world.log.events("backfilled")


async def test_messages_that_the_exchange_dropped_are_fetched(world):
    """A hole in a connection that lives is a gap like any other."""
    world.has_rest = True
    exchange = await world.open_exchange()
    async with world.recording(**KINDS):
        await trio.sleep(60)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await trio.sleep(120)
    assert 0 == world.verify().exit_code
    (row,) = ledger(world)
    assert ("trade", "repaired", 4) == (row[0], row[3], row[2] - row[1])


async def test_rest_that_is_down_leaves_the_gap_open_and_mends_it_later(world):
    """It is asked again and again, more and more rarely; the ledger shows the gap meanwhile."""
    exchange = await world.open_exchange()
    async with world.recording(**KINDS):
        await trio.sleep(60)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await trio.sleep(600)
        assert {"open"} == {status for *_, status in ledger(world)}
        failures = len(world.log.events("backfill_failed"))
        assert 5 < failures < 20
        world.has_rest = True
        await trio.sleep(600)
    assert 0 == world.verify().exit_code
    assert {"repaired"} == {status for *_, status in ledger(world)}


async def test_a_ban_is_kept_over_a_restart_and_the_gap_is_mended_after_it(world):
    """From the answer that tells of it until its end nobody asks anything; what waits is not forgotten."""
    world.has_rest = True
    exchange = await world.open_exchange()
    async with world.recording(**KINDS):
        await trio.sleep(60)
        exchange.ban(SPOT, 600)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await world.log.wait("rest_banned")
        banned_at = trio.current_time()
        await trio.sleep(120)
    async with world.recording(**KINDS):
        await trio.sleep(30)
        assert "open" in {status for *_, status in ledger(world)}
        await trio.sleep(900)
    assert [] == [at for at, *_ in world.requests if banned_at < at < 660]
    assert [] != [at for at, *_ in world.requests if at >= 660]
    assert 0 == world.verify().exit_code
    assert {"repaired"} == {status for *_, status in ledger(world)}


async def test_the_hole_between_a_stop_and_a_start_is_a_gap_like_any_other(world):
    world.has_rest = True
    await world.open_exchange()
    async with world.recording(**KINDS):
        await trio.sleep(60)
    await trio.sleep(90)
    async with world.recording(**KINDS):
        await trio.sleep(120)
    assert 0 == world.verify().exit_code
    assert {"restart"} == {event["cause"] for event in world.log.events("gap_opened")}
    assert {"repaired"} == {status for *_, status in ledger(world)}


async def test_a_gap_that_was_open_at_the_stop_is_mended_after_the_start(world):
    """Nothing is fetched that lies there already."""
    exchange = await world.open_exchange()
    async with world.recording(**KINDS):
        await trio.sleep(60)
        exchange.drop(SPOT, "btcusdt@aggTrade", 5)
        await trio.sleep(60)
    assert [("aggTrade", "open")] == [(kind, status) for kind, *_, status in ledger(world)]
    world.has_rest = True
    async with world.recording(**KINDS):
        await trio.sleep(120)
    assert 0 == world.verify().exit_code
    assert {"repaired"} == {status for *_, status in ledger(world)}


async def test_order_book_updates_cannot_be_fetched(world):
    """The ledger says so, with the reason, and verify exits with 1."""
    world.has_rest = True
    exchange = await world.open_exchange()
    async with world.recording(spot_kinds=(Kind.DEPTH,)):
        await trio.sleep(60)
        exchange.drop(SPOT, "btcusdt@depth@100ms", 3)
        await trio.sleep(60)
    report = world.verify()
    assert 1 == report.exit_code
    assert ["unrepairable"] == [gap.status for gap in report.gaps]
    assert "cannot be fetched" in report.gaps[0].reason


async def test_futures_trades_without_a_key(world):
    """The newest thousand repair a short gap; of a longer one the older part is given up, with the reason."""
    world.has_rest = True
    exchange = await world.open_exchange(markets=(FUTURES,), activity=Activity(trades_per_sec=5, quotes_per_sec=1))
    settings = {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": (Kind.TRADE,)}
    async with world.recording(**settings):
        await trio.sleep(60)
        exchange.drop(FUTURES, "btcusdt@trade", 5)
        await trio.sleep(120)
        assert [] == world.log.events("gap_unrepairable")
        exchange.drop(FUTURES, "btcusdt@trade", 3000)
        await trio.sleep(900)
    report = world.verify()
    assert {"unrepairable"} == {gap.status for gap in report.gaps}
    assert all("API key" in gap.reason for gap in report.gaps)
    assert 1 == report.exit_code


async def test_a_key_that_the_exchange_refuses(world):
    """Rotated, or wrong: an error says so once, and what needs no key is still fetched."""
    world.has_rest = world.has_wrong_key = True
    exchange = await world.open_exchange(markets=(FUTURES,), activity=Activity(trades_per_sec=1, quotes_per_sec=1))
    wanted = {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": (Kind.TRADE,)}
    async with world.recording(**wanted, binance_api_key=SecretStr("rotated")):
        for _ in range(2):
            await trio.sleep(60)
            exchange.drop(FUTURES, "btcusdt@trade", 5)
        await trio.sleep(120)
    assert ["futures"] == [event["market"] for event in world.log.events("api_key_refused", level="error")]
    assert {"repaired"} == {status for *_, status in ledger(world)}
    assert 0 == world.verify().exit_code


async def test_silent_trades_of_a_quiet_symbol_are_no_stall(world):
    """The exchange's last id is ours: nothing is repaired, however long that lasts."""
    world.has_rest = True
    await world.open_exchange(activity=Activity(trades_per_sec=0.0005, quotes_per_sec=1))
    async with world.recording(spot_kinds=(Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH)):
        await trio.sleep(4 * 3600)
    assert [] == world.log.events("stream_stalled")
    assert len(world.log.events("stream_quiet")) > 50
    asked = [path for _, _, path, _ in world.requests]
    assert asked.count("/api/v3/aggTrades") <= 10
    assert 0 == world.verify().exit_code


async def test_silent_trades_of_a_stream_that_died_are_a_stall(world):
    """The exchange has more than came: the stream is repaired, and what it missed is fetched meanwhile."""
    world.has_rest = True
    exchange = await world.open_exchange()
    async with world.recording(**KINDS, trade_timeout=30.0, health_check_interval=10.0):
        await trio.sleep(60)
        exchange.mute(SPOT, "btcusdt@trade")
        await trio.sleep(120)
        assert ["trade"] == [event["kind"] for event in world.log.events("stream_stalled")]
        assert "stall" in {event["cause"] for event in world.log.events("gap_opened")}
        assert world.log.events("backfilled")
        exchange.unmute(SPOT, "btcusdt@trade")
        await trio.sleep(240)
    assert 0 == world.verify().exit_code
    assert {"repaired"} == {status for *_, status in ledger(world)}


@pytest.mark.parametrize("is_backfilled", [False, True])
async def test_a_crash_between_the_gap_and_its_repair(world, is_backfilled):
    """Whatever was in the journal counts after the next start, rows and ledger alike."""
    exchange = await world.open_exchange()
    world.has_rest = is_backfilled
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        async with world.recording(**KINDS, parquet_rotate_sec=3600):
            await trio.sleep(60)
            exchange.drop(SPOT, "btcusdt@trade", 5)
            await trio.sleep(60)
            world.files.fail("sync", OSError(5, "Input/output error"))
            await trio.sleep(60)
    world.has_rest = True
    async with world.recording(**KINDS):
        await trio.sleep(180)
    report = world.verify()
    assert ({}, 0) == (lacking(report), report.exit_code)
    assert {"repaired"} == {status for *_, status in ledger(world)}
