"""The check of the configured symbols: it tells, and it never stops anything."""

from __future__ import annotations

import random

import pytest
import trio
from structlog.testing import capture_logs

from streamsvc.rest import RestLimitedError, RestRefusedError, RestUnavailableError
from streamsvc.schema import Market
from streamsvc.watchdog.symbols import RETRY_MAX_SEC, SYMBOLS_TOLD_MAX, check_symbols


class Exchange:
    """Answers after some faults."""

    def __init__(self, statuses: dict[str, str], *faults: Exception) -> None:
        self.statuses = statuses
        self.faults = list(faults)
        self.asked_at: list[float] = []

    async def __call__(self) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        self.asked_at.append(trio.current_time())
        if self.faults:
            raise self.faults.pop(0)
        return self.statuses


async def check(exchange: Exchange, *symbols: str) -> list[dict]:
    with capture_logs() as events:
        await check_symbols(Market.SPOT, symbols, exchange, random.Random(1))
    return events


async def test_what_the_exchange_does_not_know_or_trade():
    """Unknown symbols are an error that names them, halted ones a warning."""
    exchange = Exchange({"BTCUSDT": "TRADING", "LUNAUSDT": "BREAK", "OTHER": "BREAK"})
    events = await check(exchange, "LUNAUSDT", "BTCUSTD", "BTCUSDT", "A")
    common = {"market": "spot"}
    assert [
        {"event": "symbol_unknown", "log_level": "error", "symbols": ["A", "BTCUSTD"], "count": 2} | common,
        {"event": "symbol_not_trading", "log_level": "warning", "symbols": ["LUNAUSDT"], "count": 1} | common,
        {"event": "symbols_checked", "log_level": "info", "symbols": 4, "unknown": 2} | common,
    ] == events


async def test_all_is_well():
    events = await check(Exchange({"BTCUSDT": "TRADING"}), "BTCUSDT")
    assert ["symbols_checked"] == [event["event"] for event in events]


async def test_many_unknown_symbols_make_one_bounded_line():
    events = await check(Exchange({}), *(f"S{number}" for number in range(1000)))
    assert (SYMBOLS_TOLD_MAX, 1000) == (len(events[0]["symbols"]), events[0]["count"])


async def test_rest_that_is_down_is_an_alarm_and_asked_more_and_more_rarely(autojump_clock):
    """Every failed question is told; the waits double up to an hour; in the end the symbols are checked."""
    exchange = Exchange({"BTCUSDT": "TRADING"}, *[RestUnavailableError("down") for _ in range(20)])
    events = await check(exchange, "BTCUSDT")
    assert [("rest_unavailable", "error", "down")] * 20 == [
        (event["event"], event["log_level"], event["reason"]) for event in events[:-1]
    ]
    assert "symbols_checked" == events[-1]["event"]
    waits = [later - earlier for earlier, later in zip(exchange.asked_at, exchange.asked_at[1:], strict=False)]
    assert all(2.5 * 2**number <= wait <= 5 * 2**number for number, wait in enumerate(waits[:8]))
    assert all(RETRY_MAX_SEC / 2 <= wait <= RETRY_MAX_SEC for wait in waits[-5:])


async def test_a_ban_is_waited_for(autojump_clock):
    """No request before the time that the exchange names."""
    exchange = Exchange({}, RestLimitedError(is_ban=True, retry_after_sec=7200), RestRefusedError(451, 0, "no service"))
    await check(exchange, "BTCUSDT")
    first, second, third = exchange.asked_at
    assert 7200 == pytest.approx(second - first)
    assert third - second <= 10


async def test_a_fault_that_nobody_expects_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        await check(Exchange({}, ZeroDivisionError()), "BTCUSDT")
