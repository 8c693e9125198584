"""A symbols file that is edited while a real recorder runs, and SIGHUP."""

from __future__ import annotations

import signal

from recorded import verified
from recorder_process import SLOW_RECORDER, until

from streamsvc.schema import Market


def spot(*symbols):
    return f'[spot]\nsymbols = {list(symbols)}\nkinds = ["trade", "depth"]\n'


async def test_a_symbols_file_that_is_edited(stage, start, tmp_path):
    """Written in place, renamed over, or read again on a signal: the streams follow, on the connection that stands."""
    file = tmp_path / "etc" / "symbols.toml"
    file.parent.mkdir()
    file.write_text(spot("BTCUSDT"))
    recorder = start(stage, SYMBOLS_FILE=str(file), SPOT_SYMBOLS="", FUTURES_SYMBOLS="")
    await recorder.saw("ready")

    def carried():
        return {name for one in stage.exchange.connections(Market.SPOT) for name in one.streams}

    async def follows(*symbols):
        wanted = {f"{symbol.lower()}@{kind}" for symbol in symbols for kind in ("trade", "depth@100ms")}
        await until(lambda: wanted == carried(), f"{symbols} are carried")

    # The watch begins some time after `ready`: a first change is found by its look at the start, or by the watch.
    file.write_text(spot("BTCUSDT", "ETHUSDT"))
    await follows("BTCUSDT", "ETHUSDT")
    new = file.with_name(".symbols.toml.swp")
    new.write_text(spot("ETHUSDT"))
    new.replace(file)
    await follows("ETHUSDT")
    file.write_text("[spot]\nsymbols = [")
    await recorder.saw("symbols_refused")
    recorder.signal(signal.SIGHUP)
    await recorder.saw("symbols_refused", 2)
    file.write_text(spot("BTCUSDT", "ETHUSDT"))
    await follows("BTCUSDT", "ETHUSDT")
    recorder.signal(signal.SIGHUP)
    await recorder.saw("symbols_unchanged")
    assert 0 == await recorder.stop()
    assert 1 == len(recorder.events("connection_opened"))
    assert 3 == len(recorder.events("symbols_changed"))
    assert 0 == verified(recorder.data).exit_code
    assert "" == recorder.errors()


async def test_a_signal_to_read_symbols_before_there_is_anything_to_read_them(stage, start):
    """SIGHUP ends nothing, at whatever moment, and is answered."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_LOAD_SEC="1")
    await until(lambda: recorder.is_holding(signal.SIGHUP), "signals are held back")
    recorder.signal(signal.SIGHUP)
    refused = await recorder.saw("reload_refused")
    assert "not ready" in refused["reason"]
    await recorder.saw("ready")
    recorder.signal(signal.SIGHUP)
    refused = await recorder.saw("reload_refused", 2)
    assert "SYMBOLS_FILE" in refused["reason"]
    assert 0 == await recorder.stop()
