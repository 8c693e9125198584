"""Symbols that come and go while the service runs: the symbols file, SIGHUP, patterns, listings."""

import trio

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
