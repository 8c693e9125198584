"""Symbols that come and go while the service runs: the symbols file, SIGHUP, patterns, listings."""

import trio

from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Market

THREE = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


def table(*symbols, kinds=("trade", "depth"), market="spot"):
    """A symbols file's text."""
    return f"[{market}]\nsymbols = {list(symbols)}\nkinds = {list(kinds)}\n"


async def test_a_file_that_changes_adds_and_removes(world, tmp_path):
    """New symbols are subscribed and old ones end on the connection that stands; the one that stays loses nothing."""
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT", "ETHUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        await trio.sleep(120)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT"))
        await trio.sleep(120)
        (connection,) = world.exchange.connections(Market.SPOT)
        assert {"btcusdt@trade", "btcusdt@depth@100ms", "bnbusdt@trade", "bnbusdt@depth@100ms"} == set(
            connection.streams
        )
        assert {"BTCUSDT", "BNBUSDT"} == {stream.symbol for stream in recording.live.health.streams()}
    (changed,) = world.log.events("symbols_changed")
    assert (["BNBUSDT"], ["ETHUSDT"]) == (changed["added"], changed["removed"])
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert [] == report.gaps


async def test_a_symbol_that_is_removed_and_added_again(world, tmp_path):
    """What lies between was not asked for: the ledger has it with that cause, nothing of it is fetched or missed."""
    world.has_rest = True
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    kinds = ("trade", "depth", "bookTicker")
    world.write_symbols(file, table(*THREE, kinds=kinds))
    async with world.recording(spot_symbols=(), symbols_file=file):
        await trio.sleep(120)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT", kinds=kinds))
        await trio.sleep(120)
        world.write_symbols(file, table(*THREE, kinds=kinds))
        await trio.sleep(120)
    assert [] == world.log.events("gap_opened")
    assert [] == world.log.events("backfilled")
    report = world.verify_complete()
    assert 0 == report.exit_code
    rows = Catalogue(DataFolder(world.folder).catalogue).gaps()
    assert {("ETHUSDT", kind, "removed", "unrecorded") for kind in kinds} == {
        (row.symbol, row.kind, row.cause, row.status) for row in rows
    }


async def test_a_stream_that_comes_back_after_a_restart(world, tmp_path):
    """What an earlier run had left alone is nobody's loss either: added at the start, or while the next run goes on."""
    world.has_rest = True
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    for symbols, later in ((THREE, THREE[:1]), (THREE[:1], THREE[:1]), (THREE[:2], THREE)):
        world.write_symbols(file, table(*symbols))
        async with world.recording(spot_symbols=(), symbols_file=file):
            await trio.sleep(60)
            world.write_symbols(file, table(*later))
            await trio.sleep(60)
        await trio.sleep(30)
    report = world.verify_complete()
    assert 0 == report.exit_code
    rows = Catalogue(DataFolder(world.folder).catalogue).gaps()
    assert {("BTCUSDT", "restart"), ("ETHUSDT", "removed"), ("BNBUSDT", "removed")} == {
        (row.symbol, row.cause) for row in rows if row.kind == "trade"
    }
    assert {"BTCUSDT"} == {event["symbol"] for event in world.log.events("backfilled")}
