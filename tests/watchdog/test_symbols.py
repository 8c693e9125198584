"""The check of the configured symbols: it tells what is wrong, once."""

from __future__ import annotations

from structlog.testing import capture_logs

from streamsvc.schema import Market
from streamsvc.watchdog.symbols import SYMBOLS_TOLD_MAX, SymbolCheck


def looked(symbols: list[str], *answers: dict[str, str]) -> list[dict]:
    """The events of looks at these answers."""
    check = SymbolCheck(Market.SPOT)
    with capture_logs() as events:
        for statuses in answers:
            check.look(statuses, symbols)
    return events


def test_what_the_exchange_does_not_know_or_trade():
    """Unknown symbols are an error that names them, halted ones a warning."""
    statuses = {"BTCUSDT": "TRADING", "LUNAUSDT": "BREAK", "OTHER": "BREAK"}
    events = looked(["LUNAUSDT", "BTCUSTD", "BTCUSDT", "A"], statuses)
    common = {"market": "spot"}
    assert [
        {"event": "symbol_unknown", "log_level": "error", "symbols": ["A", "BTCUSTD"], "count": 2} | common,
        {"event": "symbol_not_trading", "log_level": "warning", "symbols": ["LUNAUSDT"], "count": 1} | common,
        {"event": "symbols_checked", "log_level": "info", "symbols": 4, "unknown": 2} | common,
    ] == events


def test_all_is_well():
    assert ["symbols_checked"] == [event["event"] for event in looked(["BTCUSDT"], {"BTCUSDT": "TRADING"})]


def test_many_unknown_symbols_make_one_bounded_line():
    events = looked([f"S{number}" for number in range(1000)], {})
    assert (SYMBOLS_TOLD_MAX, 1000) == (len(events[0]["symbols"]), events[0]["count"])


def test_what_stays_wrong_is_told_once_and_what_becomes_wrong_again_is_told_again():
    """A symbol that is taken off the list while we record is told at the next look."""
    well, halted, gone = {"A": "TRADING"}, {"A": "BREAK"}, {}
    events = looked(["A"], well, halted, halted, gone, gone, well, halted)
    assert ["symbols_checked", "symbol_not_trading", "symbol_unknown", "symbol_not_trading"] == [
        event["event"] for event in events
    ]
