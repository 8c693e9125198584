"""What the exchange says of its symbols, recorded while recording: at the start, on change, once a day."""

from __future__ import annotations

import json

import pytest
import trio
from clocked_world import START_NS

from streamsvc import dataset
from streamsvc.rest import RestUnavailableError
from streamsvc.schema import Kind, Market
from streamsvc.simulator.instruments import changed_info, default_instrument, symbol_info
from streamsvc.simulator.market import Activity

SPOT, FUTURES = Market.SPOT, Market.FUTURES
SLOW = Activity(trades_per_sec=0.01, quotes_per_sec=0.01)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
DAY_NS = 86_400 * 10**9
TO_MIDNIGHT_SEC = (DAY_NS - START_NS % DAY_NS) / 1e9


def recorded(world, symbol, market=SPOT):
    """The rows of a symbol: seconds after the world's beginning, and what they say."""
    rows = dataset.load(world.folder, "instrument", symbol, 0, START_NS + 100 * DAY_NS, market=market.label)
    return [((row.exchange_time.value - START_NS) / 1e9, row) for row in rows.itertuples()]


def asked_at(world):
    return [at for at, _, path, _ in world.requests if path.endswith("/exchangeInfo")]


@pytest.fixture
async def exchange(world):
    """One with REST and two symbols, of which little is heard."""
    world.has_rest = True
    return await world.open_exchange(activity=SLOW, symbols=SYMBOLS)


@pytest.fixture
def record(world):
    """Records trades of both symbols."""
    return lambda **changes: world.recording(spot_symbols=SYMBOLS, spot_kinds=(Kind.TRADE,), **changes)


@pytest.mark.parametrize("market", list(Market))
async def test_every_recorded_symbol_has_a_row_at_the_start(world, market):
    """As the exchange sent it, byte for byte; one request serves rows and check; symbols not recorded have none."""
    world.has_rest = True
    await world.open_exchange(activity=SLOW, symbols=(*SYMBOLS, "BNBUSDT"), markets=(market,))
    names = {"spot_symbols": ()} | {f"{market.label}_symbols": SYMBOLS, f"{market.label}_kinds": (Kind.TRADE,)}
    async with world.recording(**names):
        await trio.sleep(600)
    for symbol in SYMBOLS:
        ((seconds, row),) = recorded(world, symbol, market)
        info = symbol_info(market, default_instrument(market, symbol))
        assert 0 <= seconds < 1
        assert json.dumps(info, separators=(",", ":")) == row.raw
        assert (info["filters"][0]["tickSize"], info["filters"][1]["stepSize"]) == (
            f"{row.tick_size:.{info['filters'][0]['tickSize'].count('0')}f}",
            f"{row.step_size:.{info['filters'][1]['stepSize'].count('0')}f}",
        )
        assert ("TRADING", 5.0, info.get("contractType", "")) == (row.status, row.min_notional, row.contract_type)
    assert 1 == len(asked_at(world))
    assert 1 == len(world.log.events("symbols_checked"))
    with pytest.raises(dataset.UsageError):
        recorded(world, "BNBUSDT", market)
    world.verify()


@pytest.mark.parametrize("wall_step_sec", [0, -7200])
async def test_every_utc_day_begins_with_a_row_of_each_symbol(world, record, wall_step_sec):
    """What did not change is written once a day, by the exchange's day; between two rows only looks are taken."""
    world.has_rest = True
    world.begin_later(TO_MIDNIGHT_SEC - 1.4 * 3600)
    world.wall_step_ns = wall_step_sec * 10**9
    await world.open_exchange(activity=SLOW, symbols=SYMBOLS)
    async with record():
        await trio.sleep(5 * 3600)
    for symbol in SYMBOLS:
        (_, row), (seconds, again) = recorded(world, symbol)
        assert 0 <= seconds - TO_MIDNIGHT_SEC <= 61
        assert row.raw == again.raw
    looks = asked_at(world)
    assert 6 <= len(looks) <= 12  # Some because a symbol has said nothing for long.
    assert [] == world.log.events("instrument_changed")


async def test_a_tick_size_that_changes_is_a_row_and_an_event(world, exchange, record):
    """The other symbol has no second row, and the row stands under the text that was sent."""
    async with record(instruments_interval_sec=600):
        await trio.sleep(1000)
        exchange.change_symbol(SPOT, "ETHUSDT", tick_size="0.10000000")
        await trio.sleep(3000)
    (event,) = world.log.events("instrument_changed")
    assert ("spot", "ETHUSDT", {"tick_size": ["0.01", "0.1"]}, "warning") == (
        event["market"],
        event["symbol"],
        event["changes"],
        event["level"],
    )
    (_, first), (seconds, second) = recorded(world, "ETHUSDT")
    assert 1000 < seconds <= 1600
    assert (0.01, 0.1) == (first.tick_size, second.tick_size)
    changed = changed_info(symbol_info(SPOT, default_instrument(SPOT, "ETHUSDT")), tick_size="0.10000000")
    assert json.dumps(changed, separators=(",", ":")) == second.raw
    assert 1 == len(recorded(world, "BTCUSDT"))


async def test_a_symbol_that_is_halted_in_mid_run_is_told(world, exchange, record):
    """Once, and its status is in the rows."""
    async with record(instruments_interval_sec=600):
        await trio.sleep(1000)
        exchange.change_symbol(SPOT, "BTCUSDT", status="BREAK")
        await trio.sleep(3000)
    assert [["BTCUSDT"]] == [event["symbols"] for event in world.log.events("symbol_not_trading")]
    assert ["TRADING", "BREAK"] == [row.status for _, row in recorded(world, "BTCUSDT")]


async def test_without_an_answer_at_the_start_recording_goes_on(world, exchange, record):
    """It is asked more and more rarely, and the rows come with the first answer."""
    del exchange
    world.rest_fault = RestUnavailableError("down")
    async with record() as recording:
        await trio.sleep(1800)
        assert recording.live.intake.counts.accepted > 10
        world.rest_fault = None
        await trio.sleep(3600)
    assert 7 <= len(world.log.events("rest_unavailable", level="error")) <= 11
    for symbol in SYMBOLS:
        ((seconds, _),) = recorded(world, symbol)
        assert 1800 <= seconds <= 3600


async def test_an_answer_that_nobody_can_read_is_asked_for_again(world, exchange, record):
    exchange.fail_rest(SPOT, 200, b'{"symbols":[', path="exchangeInfo", count=2)
    async with record():
        await trio.sleep(600)
    assert 2 == len(world.log.events("rest_unavailable"))
    assert 1 == len(recorded(world, "BTCUSDT"))


async def test_a_restart_records_every_symbol_again(world, exchange, record):
    """It does not know what the run before it has recorded, and a change meanwhile is in the rows."""
    async with record():
        await trio.sleep(600)
    exchange.change_symbol(SPOT, "ETHUSDT", tick_size="0.10000000")
    async with record():
        await trio.sleep(600)
    assert [0.01, 0.1] == [row.tick_size for _, row in recorded(world, "ETHUSDT")]
    assert [0.01, 0.01] == [row.tick_size for _, row in recorded(world, "BTCUSDT")]
    world.verify()
