"""The synthetic market: prices, books, trades and candles agree with each other."""

from __future__ import annotations

import itertools
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.schema import Market
from streamsvc.simulator import wire
from streamsvc.simulator.market import Activity
from streamsvc.simulator.sources import SyntheticSource
from streamsvc.simulator.streams import parse_stream

START_US = 1_786_171_884_000_000
KINDS = {
    Market.SPOT: ("trade", "aggTrade", "depth@100ms", "depth", "bookTicker", "kline_1m", "depth5@100ms"),
    Market.FUTURES: (
        "trade",
        "aggTrade",
        "depth@0ms",
        "depth@100ms",
        "depth@500ms",
        "bookTicker",
        "kline_1m",
        "markPrice@1s",
        "forceOrder",
    ),
}


def opened(market, seed, trades=30.0, quotes=60.0, kinds=None):
    source = SyntheticSource(
        market, {"BTCUSDT": Activity(trades, quotes)}, start_us=START_US, seed=seed, history_trades_max=100_000
    )
    for kind in KINDS[market] if kinds is None else kinds:
        source.watch(parse_stream(market, f"btcusdt@{kind}"))
    return source


def played(source, seconds, step_us=10_000):
    """Everything that is sent in that time, as (name of the kind, payload)."""
    sent = []
    for now_us in range(START_US, START_US + int(seconds * 1e6) + 1, step_us):
        for event in source.advance(now_us):
            kind = event.stream.partition("@")[2]
            sent.append((kind, msgspec.json.decode(wire.payload(source.market, event.body, wire.MILLISECOND))))
    return sent


def only(sent, kind):
    return [payload for one, payload in sent if one == kind]


markets = st.sampled_from(list(Market))
seeds = st.integers(0, 10_000)


@settings(max_examples=15, deadline=None)
@given(markets, seeds, st.sampled_from([0.5, 3.0, 7.35]), st.sampled_from(["depth@100ms", "last"]))
def test_a_book_after_its_diffs_is_the_next_snapshot(market, seed, seconds, kind):
    """Quantities are absolute, 0 deletes: snapshot plus diffs is the book at the last diff."""
    kind = KINDS[market][2] if kind == "last" else kind
    source = opened(market, seed)
    history = source.histories()["BTCUSDT"]
    first = history.books.snapshot(5000)
    book = {"b": dict(first.bids), "a": dict(first.asks)}
    sent = played(source, seconds)
    # No more orders: the window that is still open ends, and the last diff tells the rest.
    source._markets["BTCUSDT"].next_order_us = 1 << 61
    sent += played(source, seconds + 1)
    for diff in only(sent, kind):
        for side in ("b", "a"):
            book[side].update(diff[side])
    book = {side: {p: q for p, q in levels.items() if Decimal(q)} for side, levels in book.items()}
    last = history.books.snapshot(5000)
    assert {"b": dict(last.bids), "a": dict(last.asks)} == book
    assert Decimal(last.bids[0][0]) < Decimal(last.asks[0][0])


@settings(max_examples=15, deadline=None)
@given(markets, seeds)
def test_ids_chain(market, seed):
    """Trades and aggregate trades by one; depth by the market's own rule; bookTicker never falls."""
    sent = played(opened(market, seed), 5)
    for kind, field in (("trade", "t"), ("aggTrade", "a")):
        ids = [payload[field] for payload in only(sent, kind)]
        assert list(range(ids[0], ids[0] + len(ids))) == ids
    for kind in (one for one in KINDS[market] if one.startswith("depth") and "5@" not in one):
        name = kind if "@" in kind else "depth@1000ms"
        diffs = only(sent, name)
        assert len(diffs) > 3
        for before, after in itertools.pairwise(diffs):
            assert after["U"] <= after["u"]
            if market is Market.SPOT:
                assert before["u"] + 1 == after["U"]
            else:
                assert before["u"] == after["pu"] < after["U"]
    updates = [payload["u"] for payload in only(sent, "bookTicker")]
    assert sorted(updates) == updates


@settings(max_examples=15, deadline=None)
@given(markets, seeds)
def test_a_trade_happens_at_the_touch_and_takes_what_it_shows(market, seed):
    """The maker's side of the last bookTicker has the trade's price, and at least its quantity."""
    sent = played(opened(market, seed), 5)
    touch = None
    consumed = Decimal(0)
    checked = 0
    for kind, payload in sent:
        if kind == "bookTicker":
            touch, consumed = payload, Decimal(0)
        elif kind == "trade" and touch is not None and Decimal(payload["p"]):
            price, quantity = ("b", "B") if payload["m"] else ("a", "A")
            consumed += Decimal(payload["q"])
            assert touch[price] == payload["p"]
            assert consumed <= Decimal(touch[quantity])
            checked += 1
    assert checked > 20


@settings(max_examples=10, deadline=None)
@given(markets, seeds)
def test_candles_are_the_trades(market, seed):
    """Every closed candle is what its minute's trades make, and each minute has one."""
    sent = played(opened(market, seed, trades=4, quotes=6), 200, step_us=50_000)
    trades = [t for t in only(sent, "trade") if t.get("X", "MARKET") == "MARKET"]
    closed = [payload["k"] for payload in only(sent, "kline_1m") if payload["k"]["x"]]
    assert 3 <= len(closed)
    for before, after in itertools.pairwise(closed):
        assert before["t"] + 60_000 == after["t"]
    for k in closed:
        inside = [t for t in trades if k["t"] <= t["T"] <= k["T"]]
        prices = [Decimal(t["p"]) for t in inside]
        volume = sum(Decimal(t["q"]) for t in inside)
        assert len(inside) == k["n"]
        assert (inside[0]["t"], inside[-1]["t"]) == (k["f"], k["L"])
        assert (prices[0], max(prices), min(prices), prices[-1]) == tuple(Decimal(k[x]) for x in "ohlc")
        assert volume == Decimal(k["v"])
        assert sum(Decimal(t["q"]) * Decimal(t["p"]) for t in inside) == Decimal(k["q"])
        bought = [t for t in inside if not t["m"]]
        assert sum(Decimal(t["q"]) for t in bought) == Decimal(k["V"])
        assert sum(Decimal(t["q"]) * Decimal(t["p"]) for t in bought) == Decimal(k["Q"])


@settings(max_examples=15, deadline=None)
@given(markets, seeds)
def test_an_aggregate_trade_groups_trades_of_one_price_and_side(market, seed):
    """Quantity is the sum, ids are the ends, and every market trade is in exactly one."""
    sent = played(opened(market, seed), 5)
    trades = {t["t"]: t for t in only(sent, "trade")}
    grouped = set()
    for group in only(sent, "aggTrade"):
        inside = [trades[number] for number in range(group["f"], group["l"] + 1)]
        grouped |= set(range(group["f"], group["l"] + 1))
        assert {(group["p"], group["m"], group["T"])} == {(t["p"], t["m"], t["T"]) for t in inside}
        assert Decimal(group["q"]) == sum(Decimal(t["q"]) for t in inside)
    assert {number for number, t in trades.items() if t.get("X", "MARKET") == "MARKET"} == grouped


@settings(max_examples=8, deadline=None)
@given(markets, seeds, st.sampled_from([1_000, 10_000, 333_333]))
def test_the_same_seed_gives_the_same_market_whatever_is_watched_and_however_it_is_stepped(market, seed, step_us):
    """Neither watching nor the caller's ticks change what happens."""
    everything = played(opened(market, seed), 3)
    some = played(opened(market, seed, kinds=["trade"]), 3, step_us)
    last = some[-1][1]["t"]
    assert [t for t in only(everything, "trade") if t["t"] <= last] == only(some, "trade")


@given(markets)
@settings(max_examples=2, deadline=None)
def test_another_seed_gives_another_market(market):
    """A seed is not decoration."""
    assert only(played(opened(market, 1), 2), "trade") != only(played(opened(market, 2), 2), "trade")


@given(st.sampled_from([2.0, 20.0, 200.0]))
@settings(max_examples=3, deadline=None)
def test_activity_is_kept_about(rate):
    """Trades per second are within a third of what was asked."""
    seconds = 600 / rate
    trades = only(played(opened(Market.SPOT, 3, trades=rate, quotes=rate, kinds=["trade"]), seconds), "trade")
    assert 400 < len(trades) < 800


def test_a_quiet_symbol_still_closes_its_candle():
    """A minute without a trade has a candle, at the last close, with ids -1."""
    source = opened(Market.SPOT, 1, trades=1e-6, quotes=1e-6, kinds=["kline_1m"])
    first, second = (payload["k"] for payload in only(played(source, 130, 500_000), "kline_1m")[:2])
    assert [True, True] == [first["x"], second["x"]]
    assert (-1, -1, 0, first["c"]) == (second["f"], second["L"], second["n"], second["o"])


def test_liquidations_are_told_at_most_once_a_second():
    """The exchange samples them."""
    sent = only(played(opened(Market.FUTURES, 5, trades=3000, quotes=100, kinds=["forceOrder"]), 6), "forceOrder")
    times = [payload["o"]["T"] for payload in sent]
    assert len(times) >= 3
    assert all(after - before >= 1000 for before, after in itertools.pairwise(times))


def test_futures_trades_hold_rows_without_price():
    """`NA` rows consume trade ids and stay out of candles and aggregate trades."""
    source = opened(Market.FUTURES, 5, trades=2000, quotes=100, kinds=["trade"])
    odd = [t for t in only(played(source, 3), "trade") if t["X"] != "MARKET"]
    assert odd
    assert {("NA", "0", "0")} == {(t["X"], t["p"], t["q"]) for t in odd}
