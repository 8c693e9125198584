"""Minutes of trades: what closes them, what corrects them, what they add up to."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.analytics.minute import MINUTE_MS, Begin, KnownHole, Minute
from streamsvc.analytics.trades import DAY_MS, KEPT_MINUTES, TradeMinutes
from streamsvc.venues.binance_live import LiveTrade

START_MS = 20_000 * DAY_MS + 600 * MINUTE_MS
GRACE_MS = 2_000


def trade(number, minute=0.0, quantity="1", *, price="10", sells=False, is_market=True):
    """A trade so many minutes after the start."""
    return LiveTrade(
        "BTCUSDT", number, Decimal(price), Decimal(quantity), START_MS + round(minute * MINUTE_MS), sells, is_market
    )


def begun(reset="never", begin=None):
    minutes = TradeMinutes("BTCUSDT", reset)
    minutes.begin(begin)
    return minutes


def close(minutes, minute):
    """Rows when the exchange's time is so many minutes after the start: minute, delta, cvd, complete, revision."""
    now_ms = START_MS + round(minute * MINUTE_MS)
    return [summary(cvd) for cvd, _ in minutes.close(now_ms, now_ms - GRACE_MS)]


def summary(cvd):
    return (cvd.open_ms - START_MS) // MINUTE_MS, cvd.delta, cvd.cvd, cvd.is_complete, cvd.revision


def test_a_minute_closes_when_the_time_has_passed_its_end_by_the_grace():
    minutes = begun()
    minutes.add(trade(1, 0.5, "2"), 0)
    assert [] == close(minutes, 1.03)
    assert [(0, 2, 2, False, 0)] == close(minutes, 1.04)
    assert [] == close(minutes, 1.9)


def test_the_first_minute_is_not_complete_since_its_beginning_is_not_known():
    minutes = begun()
    for number in range(3):
        minutes.add(trade(number, number + 0.5), 0)
    assert [False, True, True] == [row[3] for row in close(minutes, 3.5)]


def test_takers_who_sell_count_negative():
    """The buyer was the maker: the taker sold."""
    minutes = begun()
    minutes.add(trade(1, 0.1, "3"), 0)
    minutes.add(trade(2, 0.2, "5", sells=True), 0)
    ((cvd, bar),) = minutes.close(START_MS + 2 * MINUTE_MS, START_MS + MINUTE_MS)
    assert (3, 5, -2, -2, 2) == (cvd.buy_quantity, cvd.sell_quantity, cvd.delta, cvd.cvd, cvd.trade_count)
    assert (8, 3, 80) == (bar.volume, bar.taker_buy_volume, bar.quote_volume)


def test_a_trade_that_is_none_takes_an_id_and_nothing_else():
    """Futures rows whose type is not MARKET."""
    minutes = begun()
    for number, is_market in enumerate([True, True, False, True]):
        minutes.add(trade(number, 0.4 * number, "0" if not is_market else "1", is_market=is_market), 0)
    assert [(0, 2, 2, False, 0), (1, 1, 3, True, 0)] == close(minutes, 2.1)


def test_a_bar_has_the_prices_in_the_order_of_ids_whatever_the_order_of_arrival():
    minutes = begun()
    for number, price in ((2, "12"), (1, "11"), (4, "9"), (3, "15")):
        minutes.add(trade(number, 0.1 * number, price=price), 0)
    ((_, bar),) = minutes.close(START_MS + 2 * MINUTE_MS, START_MS + MINUTE_MS)
    assert [11, 15, 9, 9] == [bar.open, bar.high, bar.low, bar.close]


def test_a_minute_without_trades_repeats_the_last_close():
    """As the exchange's own candle does."""
    minutes = begun()
    minutes.add(trade(1, 0.1, price="7"), 0)
    minutes.add(trade(2, 2.1, price="8"), 0)
    rows = minutes.close(START_MS + 3 * MINUTE_MS + GRACE_MS, START_MS + 3 * MINUTE_MS)
    assert [7, 7, 8] == [bar.close for _, bar in rows]
    assert [(7, 7, 7, 0, 0)] == [(bar.open, bar.high, bar.low, bar.volume, bar.trade_count) for _, bar in rows[1:2]]
    assert [False, True, True] == [cvd.is_complete for cvd, _ in rows]


def test_a_skipped_id_makes_its_minutes_incomplete_until_it_comes():
    """Then they are written again, and the running sum of those that follow goes on from the corrected one."""
    minutes = begun()
    minutes.add(trade(1, -0.5), 0)
    minutes.add(trade(2, 0.1), 0)
    minutes.add(trade(4, 1.1), 0)
    assert [(-1, 1, 1, False, 0), (0, 1, 2, False, 0), (1, 1, 3, False, 0)] == close(minutes, 2.1)
    minutes.add(trade(3, 0.9, "5"), 0)
    assert [(0, 6, 7, True, 1), (1, 1, 8, True, 1)] == close(minutes, 2.5)
    minutes.add(trade(5, 2.6), 0)
    assert [(2, 1, 9, True, 0)] == close(minutes, 3.1)


def test_a_minute_wholly_in_a_hole_is_written_when_its_trades_come():
    """Nobody can say that nothing was traded in it."""
    minutes = begun()
    minutes.add(trade(1, -1), 0)
    minutes.add(trade(2, 0.5), 0)
    minutes.add(trade(9, 3.5), 0)
    assert [-1, 0, 3] == [row[0] for row in close(minutes, 4.1)]
    minutes.add(trade(5, 2.5, "4"), 0)
    assert [] == close(minutes, 4.15)
    assert [(2, 4, 6, False, 0)] == close(minutes, 4.4)
    assert 7 == minutes.cvd


def test_what_comes_late_is_written_again_when_nothing_more_comes():
    minutes = begun()
    minutes.add(trade(1, -1), 0)
    minutes.add(trade(5, 0.5), 0)
    close(minutes, 1.1)
    for number in (2, 3):
        minutes.add(trade(number, 0.1), 0)
        assert [] == close(minutes, 1.2)
    assert [(0, 3, 4, False, 1)] == close(minutes, 1.4)


def test_a_minute_older_than_memory_is_left_to_the_files():
    minutes = begun()
    minutes.add(trade(1), 0)
    minutes.add(trade(9, 30), 0)
    close(minutes, 31)
    minutes.add(trade(3, 30 - KEPT_MINUTES - 1), 0)
    assert {START_MS + (29 - KEPT_MINUTES) * MINUTE_MS} == minutes.stale
    assert [] == close(minutes, 32)[1:]
    for number in (2, *range(4, 9)):
        minutes.add(trade(number, 29), 0)
    assert {START_MS + minute * MINUTE_MS for minute in range(31 - KEPT_MINUTES)} <= minutes.stale


def test_a_sum_that_starts_over_at_midnight():
    minutes = TradeMinutes("BTCUSDT", "daily")
    minutes.begin(None)
    midnight = 1440 - 600
    for number, minute in enumerate((midnight - 1, midnight, midnight + 1)):
        minutes.add(trade(number, minute), 0)
    assert [1, 1, 2] == [row[2] for row in close(minutes, midnight + 2.1)]


def test_ids_that_start_over_leave_no_hole():
    minutes = begun()
    minutes.add(trade(1_000_000, 0.1), 0)
    minutes.add(trade(1, 1.1), 1)
    minutes.add(trade(2, 2.1), 1)
    assert [False, False, True] == [row[3] for row in close(minutes, 3.1)]


def test_what_is_open_at_the_end_is_written_as_incomplete():
    minutes = begun()
    minutes.add(trade(1, -1), 0)
    minutes.add(trade(2, 0.1), 0)
    close(minutes, 0.5)
    assert [(0, 1, 2, False, 0)] == [summary(cvd) for cvd, _ in minutes.finish()]


def recorded_minute(minute, count, *, revision=1):
    """A minute of an earlier run with so many trades, the first with id 1."""
    made = Minute(START_MS + minute * MINUTE_MS)
    for number in range(1, count + 1):
        made.add(trade(number, minute + 0.01))
    made.written, made.revision = (made.delta, count, False), revision
    return made


def begin_of(count, *, holes=()):
    """An earlier run that was stopped in its minute 0, after ids 1 to `count`."""
    return Begin(0, count, START_MS + 1000, Decimal(100), START_MS - MINUTE_MS, (recorded_minute(0, count),), holes)


def test_a_run_goes_on_in_the_minute_in_which_another_one_ended():
    minutes = begun(begin=begin_of(3))
    minutes.add(trade(4, 0.9), 0)
    assert [(0, 4, 104, True, 1)] == close(minutes, 1.1)


@pytest.mark.parametrize("is_early", [False, True], ids=["mended later", "mended before the run could begin"])
def test_what_was_traded_between_two_runs_is_a_hole_until_it_is_fetched(is_early):
    minutes = TradeMinutes("BTCUSDT", "never")
    minutes.add(trade(6, 0.9), 0)
    fetched = [trade(4, 0.3), trade(5, 0.4)]
    if is_early:
        for one in fetched:
            minutes.add(one, 0)
    minutes.begin(begin_of(3))
    if not is_early:
        assert [(0, 4, 104, False, 1)] == close(minutes, 1.1)
        for one in fetched:
            minutes.add(one, 0)
    assert [(0, 6, 106, True, 1 if is_early else 2)] == close(minutes, 1.2)


def test_what_an_earlier_run_missed_may_still_come():
    hole = KnownHole(2, 2, START_MS + 10, START_MS + 20)
    minutes = begun(begin=begin_of(3, holes=(hole,)))
    minutes.add(trade(4, 0.9), 0)
    assert [False] == [row[3] for row in close(minutes, 1.1)]
    minutes.add(trade(2, 0.01), 0)
    assert [(0, 5, 105, True, 2)] == close(minutes, 1.2)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(-5, 5)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
    st.integers(1, 7),
)
def test_the_latest_rows_are_the_trades_whatever_the_order_and_the_batches(steps, rng, batch):
    """Ids that come late by minutes and closing at any moment: the last revision of each minute adds up."""
    trades, second = [], 0
    for number, (wait_sec, amount) in enumerate(steps):
        second += wait_sec % 40
        trades.append(trade(number, second / 60, str(abs(amount)), sells=amount < 0))
    ordered = sorted(trades, key=lambda one: one.id + rng.random() * 6)
    minutes, rows, now_ms = begun(), {}, 0
    for place, one in enumerate(ordered):
        minutes.add(one, 0)
        now_ms = max(now_ms, one.time_ms)
        if place % batch == 0:
            rows |= {cvd.open_ms: cvd for cvd, _ in minutes.close(now_ms, now_ms - GRACE_MS)}
    rows |= {cvd.open_ms: cvd for cvd, _ in minutes.finish()}
    expected = {}
    for one in trades:
        open_ms = one.time_ms // MINUTE_MS * MINUTE_MS
        expected[open_ms] = expected.get(open_ms, 0) + (-one.quantity if one.is_buyer_maker else one.quantity)
    kept = {open_ms: delta for open_ms, delta in expected.items() if open_ms not in minutes.stale}
    assert kept == {open_ms: cvd.delta for open_ms, cvd in rows.items() if open_ms in kept}
    assert sum(cvd.delta for cvd in rows.values()) == minutes.cvd
