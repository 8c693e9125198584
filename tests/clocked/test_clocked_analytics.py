"""What is derived beside the recording: over cuts, repairs, restarts and two connections it is what the files say."""

import errno
from collections import defaultdict
from decimal import Context, Decimal

import msgspec
import pytest
import trio

from streamsvc import dataset
from streamsvc.analytics.replay import replay
from streamsvc.schema import DERIVED_KINDS, Kind, Market

SPOT, FUTURES = Market.SPOT, Market.FUTURES
EVERY = (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER, Kind.KLINE_1M)
BOTH = {
    "spot_kinds": EVERY,
    "futures_symbols": ("BTCUSDT",),
    "futures_kinds": EVERY,
    "parquet_rotate_sec": 20,
}
FEW = {"spot_kinds": (Kind.TRADE, Kind.BOOK_TICKER), "parquet_rotate_sec": 20}
START, END = "2026-01-01", "2027-01-01"
ROUNDED = Context(prec=15)
MINUTE_NS = 60_000_000_000


def stored(world, kind, market):
    frame = dataset.load(world.folder, kind.label, "BTCUSDT", START, END, market=market.label)
    columns = [name for name in frame.columns if name not in ("symbol", "receive_time", "exchange_time", "revision")]
    rows = zip(*(frame[name].tolist() for name in columns), strict=True)
    return {row[columns.index("open_time")].value // 10**6: dict(zip(columns, row, strict=True)) for row in rows}


def replayed(world, market):
    """The latest rows of each kind, from the files alone."""
    rows = defaultdict(dict)
    for kind, row in replay(world.folder, market, "BTCUSDT", START, END):
        rows[kind][row.open_ms] = row
    return rows


def same(row, values):
    for name, value in values.items():
        if name != "open_time":
            expected = getattr(row, name)
            if isinstance(expected, Decimal):
                expected = float(ROUNDED.plus(expected))
            assert expected == value, (row, name)


def assert_trades_add_up(world, market, kind=Kind.TRADE):
    """Every minute has the delta of its trades, and the running sum is that of all before."""
    trades = dataset.load(world.folder, kind.label, "BTCUSDT", START, END, market=market.label)
    deltas, counts = defaultdict(Decimal), defaultdict(int)
    for time, quantity, is_sold in zip(
        trades["exchange_time"], trades["quantity"], trades["is_buyer_maker"], strict=True
    ):
        open_ms = time.value // MINUTE_NS * 60_000
        deltas[open_ms] += Decimal(repr(quantity)) * (-1 if is_sold else 1)
        counts[open_ms] += 1
    rows, total = stored(world, Kind.CVD_1M, market), Decimal(0)
    assert set(deltas) <= set(rows)
    for open_ms, row in rows.items():
        total += deltas[open_ms]
        assert (float(deltas[open_ms]), counts[open_ms], float(total)) == (
            row["delta"],
            row["trade_count"],
            row["cvd"],
        ), open_ms
    return rows


@pytest.mark.parametrize("market", Market, ids=lambda market: market.label)
async def test_what_is_derived_live_is_what_the_files_say(world, market):
    """Every row of every kind, in one run with trades that were dropped and fetched again."""
    world.has_rest = True
    exchange = await world.open_exchange(markets=tuple(Market))
    async with world.recording(**BOTH) as recording:
        await trio.sleep(150)
        exchange.drop(market, "btcusdt@trade", 5)
        await trio.sleep(150)
    world.verify()
    rows = replayed(world, market)
    assert set(DERIVED_KINDS) == set(rows)
    for kind in DERIVED_KINDS:
        live = stored(world, kind, market)
        assert set(live) == set(rows[kind])
        for open_ms, values in live.items():
            same(rows[kind][open_ms], values)
    minutes = assert_trades_add_up(world, market)
    assert [False, *[True] * (len(minutes) - 2), False] == [row["is_complete"] for row in minutes.values()]
    assert {SPOT: 0, FUTURES: 0} == recording.live.analytics.mismatches


async def test_a_sum_that_starts_over_every_day(world):
    """Over midnight, over a restart, and over a correction of yesterday's minutes."""
    world.begin_later(17 * 3600 + 5 * 60)
    world.has_rest = True
    exchange = await world.open_exchange(markets=tuple(Market))
    async with world.recording(**BOTH, cvd_reset="daily"):
        await trio.sleep(130)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await trio.sleep(230)
    async with world.recording(**BOTH, cvd_reset="daily"):
        await trio.sleep(200)
    rows, total, day = stored(world, Kind.CVD_1M, SPOT), Decimal(0), None
    days = {open_ms // 86_400_000 for open_ms in rows}
    assert 2 == len(days)
    for open_ms, row in rows.items():
        total = (total if day == open_ms // 86_400_000 else Decimal(0)) + Decimal(repr(row["delta"]))
        day = open_ms // 86_400_000
        assert float(total) == row["cvd"]


@pytest.mark.parametrize("redundancy", [1, 2])
async def test_runs_that_follow_each_other_go_on_with_one_sum(world, redundancy):
    """What was traded between them is fetched, and the minutes that it belongs to are written again."""
    world.has_rest = True
    await world.open_exchange(markets=tuple(Market))
    for _ in range(3):
        async with world.recording(**BOTH, redundancy=redundancy):
            await trio.sleep(100)
        await trio.sleep(45)
    async with world.recording(**BOTH, redundancy=redundancy):
        await trio.sleep(300)
    world.verify()
    for market in Market:
        minutes = assert_trades_add_up(world, market)
        assert [False, *[True] * (len(minutes) - 2), False] == [row["is_complete"] for row in minutes.values()]


async def test_a_gap_that_is_older_than_memory_is_mended_from_the_files(world):
    """REST is down for long; what it brings then changes minutes that nobody holds any more."""
    exchange = await world.open_exchange(markets=(SPOT,))
    async with world.recording(**FEW):
        await trio.sleep(90)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await trio.sleep(1080)
        world.has_rest = True
        await world.log.wait("analytics_corrected")
        await trio.sleep(60)
    world.verify()
    minutes = assert_trades_add_up(world, SPOT)
    assert [False, *[True] * (len(minutes) - 2), False] == [row["is_complete"] for row in minutes.values()]


async def test_a_run_that_was_killed(world):
    """Minutes that it had not written are made of the trades that are recorded."""
    world.has_rest = True
    await world.open_exchange(markets=tuple(Market))
    is_eio = pytest.RaisesExc(OSError, check=lambda fault: fault.errno == errno.EIO)
    with pytest.RaisesGroup(is_eio, flatten_subgroups=True):
        async with world.recording(**BOTH):
            await trio.sleep(130)
            world.files.fail("write", errno.EIO, times=10**9)
            await trio.sleep(60)
    world.files.fail("write", 0, times=0)
    async with world.recording(**BOTH):
        await trio.sleep(400)
    world.verify()
    for market in Market:
        assert_trades_add_up(world, market)


async def test_a_run_that_ends_before_it_has_corrected_what_was_fetched(world):
    """The next one finds that out from the files."""
    exchange = await world.open_exchange(markets=(SPOT,))
    async with world.recording(**FEW):
        await trio.sleep(90)
        exchange.drop(SPOT, "btcusdt@trade", 5)
        await trio.sleep(1080)
        world.has_rest = True
        await world.log.wait("backfilled")
    assert [] == world.log.events("analytics_corrected")
    async with world.recording(**FEW):
        await world.log.wait("analytics_corrected")
        await trio.sleep(90)
    world.verify()
    minutes = assert_trades_add_up(world, SPOT)
    assert [False, *[True] * (len(minutes) - 2), False] == [row["is_complete"] for row in minutes.values()]


async def test_aggregates_where_trades_are_not_recorded(world):
    world.has_rest = True
    await world.open_exchange(markets=tuple(Market))
    async with world.recording(spot_kinds=(Kind.AGG_TRADE,), parquet_rotate_sec=20):
        await trio.sleep(200)
    assert_trades_add_up(world, SPOT, Kind.AGG_TRADE)


async def test_files_that_cannot_be_read_hold_up_nothing(world):
    """It is said and tried again; messages are recorded meanwhile, and minutes wait."""
    world.has_rest = True
    await world.open_exchange(markets=tuple(Market))
    async with world.recording(**BOTH):
        await trio.sleep(100)
    (path, *_) = sorted((world.folder / "parquet" / "cvd_1m").rglob("*.parquet"))
    content = path.read_bytes()
    path.write_bytes(b"damaged")
    async with world.recording(**BOTH):
        await trio.sleep(100)
        assert 2 == len(world.log.events("analytics_unread"))
        path.write_bytes(content)
        await trio.sleep(100)
    assert_trades_add_up(world, SPOT)


async def test_a_candle_that_says_something_else(world):
    """Told once, with both figures, and counted."""
    world.has_rest = True
    await world.open_exchange(markets=tuple(Market))
    async with world.recording(**BOTH) as recording:
        await trio.sleep(70)
        analytics = recording.live.analytics
        bitcoin = analytics.symbol(SPOT, "BTCUSDT")
        take = bitcoin.take_candle
        bitcoin.take_candle = lambda candle: take(msgspec.structs.replace(candle, volume=candle.volume + 1))
        await trio.sleep(180)
        assert 2 <= analytics.mismatches[SPOT] == len(world.log.events("cvd_mismatch"))
        assert 0 == analytics.mismatches[FUTURES]
