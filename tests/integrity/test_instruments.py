"""What is to be recorded of an exchange's symbols, and when it is asked for them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from streamsvc.errors import DecodeError
from streamsvc.integrity.instruments import (
    COLUMNS_TOLD,
    RETRY_MAX_SEC,
    ROWS_A_BLOCK,
    Due,
    Instruments,
    Recorded,
    changed_columns,
    next_look_sec,
)
from streamsvc.rest import RestLimitedError, RestRefusedError, RestUnavailableError
from streamsvc.schema import Market
from streamsvc.venues.binance_rest import parse_exchange_info
from streamsvc.venues.binance_rest_payloads import read_instrument

SPOT, FUTURES = Market.SPOT, Market.FUTURES
DAY_MS = 86_400_000
RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"


def text(status="TRADING", tick="0.01", step="0.001", **more) -> bytes:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": tick},
        {"filterType": "LOT_SIZE", "stepSize": step},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ]
    info = {"status": status, "baseAsset": "BTC", "quoteAsset": "USDT", "filters": filters}
    return json.dumps(info | more).encode()


def told(due: list[Due]) -> list[tuple[str, bool]]:
    return [(one.symbol, one.is_changed) for one in due]


def test_a_symbol_is_due_at_the_start_on_change_and_once_a_day():
    """By the day of the exchange's clock; the same text on the same day is not due again."""
    recorded = Recorded()
    steps = [
        (0, {"A": b"1", "B": b"2"}, [("A", False), ("B", False)]),
        (DAY_MS - 1, {"A": b"1", "B": b"2"}, []),
        (DAY_MS - 1, {"A": b"1", "B": b"3"}, [("B", True)]),
        (DAY_MS, {"A": b"1", "B": b"3"}, [("A", False), ("B", False)]),
        (DAY_MS + 1, {"A": b"1"}, []),
        (DAY_MS + 2, {"A": b"1", "B": b"3"}, []),
        (2 * DAY_MS, {"A": b"1"}, [("A", False)]),
        (2 * DAY_MS + 1, {"A": b"4", "B": b"5"}, [("A", True), ("B", True)]),
    ]
    for time_ms, symbols, expected in steps:
        due = recorded.due(time_ms, symbols)
        assert expected == told(due)
        recorded.take(time_ms, due)


def test_a_symbol_that_was_not_listed_at_midnight_is_due_when_it_comes_back():
    """Else its day would have no row of it."""
    recorded = Recorded()
    recorded.take(0, recorded.due(0, {"A": b"1"}))
    recorded.take(DAY_MS, recorded.due(DAY_MS, {}))
    assert [("A", False)] == told(recorded.due(DAY_MS + 5, {"A": b"1"}))


def test_what_was_not_written_stays_due():
    recorded = Recorded()
    assert told(recorded.due(0, {"A": b"1"})) == told(recorded.due(0, {"A": b"1"}))


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        (text(status="BREAK"), {"status": ["TRADING", "BREAK"]}),
        (text(tick="0.00000100"), {"tick_size": ["0.01", "0.000001"]}),
        (text(step="1", tick="0.1"), {"tick_size": ["0.01", "0.1"], "step_size": ["0.001", "1.0"]}),
        (text(contractType="PERPETUAL"), {"contract_type": ["", "PERPETUAL"]}),
        (text(tick="0.010"), {}),
        (text(onboardDate=1), {}),
        (text(tick="x"), {}),
        (b"{}", {}),
    ],
)
def test_the_columns_that_changed_are_named_with_both_values(now, changes):
    """Another way of writing the same number, another field, or a text that nobody can read, changes none of them."""
    assert changes == changed_columns(text(), now)


def test_every_column_of_the_filters_is_told():
    """Each of them can differ."""
    assert {"status", "contract_type", "tick_size", "step_size", "min_notional"} == set(COLUMNS_TOLD)
    assert {"min_notional": ["5.0", "10.0"]} == changed_columns(text(), text().replace(b'"5"', b'"10"'))


@pytest.mark.parametrize("time_ms", [0, 1, DAY_MS // 2, DAY_MS - 1_800_000, DAY_MS - 1, 20_000 * DAY_MS + 5])
def test_a_look_comes_within_the_interval_and_soon_after_midnight(time_ms):
    rng = random.Random(1)
    waits = [next_look_sec(time_ms, 3600, rng) for _ in range(1000)]
    midnight_sec = (DAY_MS - time_ms % DAY_MS) / 1000
    if midnight_sec > 3600:
        assert 3240 <= min(waits) < 3300
        assert 3540 < max(waits) <= 3600
    else:
        assert midnight_sec + 1 <= min(waits) < midnight_sec + 5
        assert midnight_sec + 55 < max(waits) <= midnight_sec + 60


@pytest.mark.parametrize(
    ("name", "market", "count"),
    [("exchange-info-spot.txt.gz", SPOT, 1695), ("exchange-info-usdm.txt.gz", FUTURES, 122)],
)
def test_every_symbol_of_a_recorded_answer_is_due_byte_for_byte_and_read(name, market, count):
    """What REST gave goes through as it stands between the symbols' braces."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"the recording {name} is not beside the checkout")
    with gzip.open(path, "rb") as lines:
        body = next(line.split(b" -> ")[1].split(b": ", 1)[1].rstrip(b"\n") for line in lines if b" -> " in line)
    answer = json.loads(body)
    info = parse_exchange_info(body, {one["symbol"] for one in answer["symbols"]})
    due = Recorded().due(info.server_time_ms, info.symbols)
    assert count == len(due)
    assert b",".join(one.raw for one in due) in body
    for one, expected in zip(due, answer["symbols"], strict=True):
        rules = {rule["filterType"]: rule for rule in expected["filters"]}
        read = read_instrument(one.raw)
        least = rules["MIN_NOTIONAL"]["minNotional" if market is SPOT else "notional"]
        assert (one.symbol, read.status) == (expected["symbol"], expected["status"])
        assert (read.tick_size, read.step_size, read.min_notional) == (
            float(rules["PRICE_FILTER"]["tickSize"]),
            float(rules["LOT_SIZE"]["stepSize"]),
            float(least),
        )


class Exchange:
    """Answers after some faults, and the recorder that gets the rows."""

    closed_sec = 0.0

    def __init__(self, body: bytes, *faults: Exception) -> None:
        self.body = body
        self.faults = list(faults)
        self.asked_at: list[float] = []
        self.blocks: list[list[tuple[str, bytes]]] = []
        self.has_room = False

    async def get(self, _request, _urgency) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked_at.append(trio.current_time())
        if self.faults:
            raise self.faults.pop(0)
        return self.body

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        self.has_room = True

    def record_instruments(self, _market, _time_ms, symbols) -> None:
        assert self.has_room, "without waiting for room"
        self.has_room = False
        self.blocks.append(symbols)


class Symbols:
    """Plain names, all recorded."""

    market = SPOT

    def __init__(self, names: tuple[str, ...]) -> None:
        self.meant = self.names = self.recorded = names
        self.heard: list[dict[str, str]] = []
        self.asked = trio.Event()

    def hear(self, statuses: dict[str, str]) -> None:
        self.heard.append(statuses)

    async def wait_asked(self) -> None:
        await self.asked.wait()
        self.asked = trio.Event()


def body_of(*symbols: str) -> bytes:
    infos = [json.loads(text()) | {"symbol": symbol} for symbol in symbols]
    return json.dumps({"serverTime": 5, "symbols": infos}).encode()


async def look(exchange: Exchange, *symbols: str, seconds: float = 10.0, blocking=None) -> list[dict]:
    async def in_line(function, *args):
        await trio.lowlevel.checkpoint()
        return function(*args)

    one = Instruments(
        Symbols(symbols),
        governor=exchange,
        recorder=exchange,
        run_blocking=blocking or in_line,
        interval_sec=3600,
        rng=random.Random(1),
    )
    with capture_logs() as events, trio.move_on_after(seconds):
        await one.run()
    return events


async def test_rows_go_in_blocks_of_bounded_size(autojump_clock):
    """Room is waited for before each."""
    names = [f"S{number}" for number in range(2 * ROWS_A_BLOCK + 1)]
    exchange = Exchange(body_of(*names, "OTHER"))
    await look(exchange, *names)
    assert [ROWS_A_BLOCK, ROWS_A_BLOCK, 1] == [len(block) for block in exchange.blocks]
    assert names == [symbol for block in exchange.blocks for symbol, _ in block]


async def test_rest_that_is_down_is_an_alarm_and_asked_more_and_more_rarely(autojump_clock):
    """Every failed question is told; the waits double up to an hour; in the end the rows come."""
    exchange = Exchange(body_of("A"), *[RestUnavailableError("down") for _ in range(20)])
    events = await look(exchange, "A", seconds=60_000)
    assert [("rest_unavailable", "error", "down")] * 20 == [
        (event["event"], event["log_level"], event["reason"]) for event in events[:20]
    ]
    assert ["symbols_checked", "instruments_recorded"] == [event["event"] for event in events[20:22]]
    waits = [later - earlier for earlier, later in zip(exchange.asked_at, exchange.asked_at[1:], strict=False)][:20]
    assert all(2.5 * 2**number <= wait <= 5 * 2**number for number, wait in enumerate(waits[:8]))
    assert all(RETRY_MAX_SEC / 2 <= wait <= RETRY_MAX_SEC for wait in waits[-5:])


async def test_a_ban_is_waited_for(autojump_clock):
    """No request before the time that the exchange names."""
    exchange = Exchange(
        body_of("A"), RestLimitedError(is_ban=True, retry_after_sec=7200), RestRefusedError(451, 0, "no service")
    )
    await look(exchange, "A", seconds=9000)
    first, second, third = exchange.asked_at[:3]
    assert 7200 == pytest.approx(second - first)
    assert third - second <= 10


@pytest.mark.parametrize("body", [b"", b"[]", b'{"serverTime":1}', body_of("A").replace(b"BTC", b"\xff\xff\xff")])
async def test_an_answer_that_is_not_as_documented_is_asked_for_again(autojump_clock, body):
    exchange = Exchange(body)
    events = await look(exchange, "A", seconds=20)
    assert {"rest_unavailable"} == {event["event"] for event in events}
    assert 2 < len(exchange.asked_at) < 6
    assert [] == exchange.blocks


async def test_a_fault_that_nobody_expects_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        await look(Exchange(b"", ZeroDivisionError()), "A")


async def test_a_large_answer_is_read_off_the_loop(autojump_clock):
    """20 MB take too long for it."""
    functions = []

    async def blocking(function, *args):
        await trio.lowlevel.checkpoint()
        functions.append(function)
        return function(*args)

    await look(Exchange(body_of("A")), "A", blocking=blocking)
    assert [parse_exchange_info] == functions
    with pytest.raises(DecodeError):
        parse_exchange_info(b"", ())
