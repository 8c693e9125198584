"""REST says what the streams say, with the exchange's weights, limits and errors."""

from __future__ import annotations

import attrs
import msgspec
import pytest
from simulator_support import START_NS, synthetic

from streamsvc.schema import Market
from streamsvc.simulator import wire
from streamsvc.simulator.http import Request
from streamsvc.simulator.options import default_options
from streamsvc.simulator.rest import RestApi
from streamsvc.simulator.streams import parse_stream

SPOT, FUTURES = Market
PREFIX = {SPOT: "/api/v3/", FUTURES: "/fapi/v1/"}


class Desk:
    """A market after three minutes, and what it said."""

    def __init__(self, market, **changes):
        self.market = market
        self.now_us = START_NS // 1000
        source = synthetic(market)
        self.sent = {}
        for kind in ("trade", "aggTrade", "kline_1m", "depth@100ms"):
            source.watch(parse_stream(market, f"btcusdt@{kind}"))
        for _ in range(1800):
            self.now_us += 100_000
            for event in source.advance(self.now_us):
                payload = msgspec.json.decode(wire.payload(market, event.body, 1000))
                self.sent.setdefault(event.stream.partition("@")[2], []).append(payload)
        self.api = RestApi(source, attrs.evolve(default_options(market), **changes), lambda: self.now_us)

    def get(self, name, peer="10.0.0.1", headers=None, method="GET", **query):
        query = {key: str(value) for key, value in query.items()}
        return self.api.answer(Request(method, PREFIX[self.market] + name, "", query, headers or {}, b"", peer))

    def json(self, name, **query):
        answer = self.get(name, **query)
        assert 200 == answer.status, answer.body
        return msgspec.json.decode(answer.body)


@pytest.fixture(scope="module", params=list(Market))
def desk(request):
    return Desk(request.param, weight_per_min=1_000_000)


def test_aggregate_trades_from_an_id_are_what_the_stream_sent(desk):
    """`fromId` is inclusive."""
    sent = desk.sent["aggTrade"][100:150]
    rows = desk.json("aggTrades", symbol="BTCUSDT", fromId=sent[0]["a"], limit=50)
    keys = ("a", "p", "q", "f", "l", "T", "m")
    assert [{key: one[key] for key in keys} for one in sent] == [{key: one[key] for key in keys} for one in rows]


def test_aggregate_trades_of_a_time(desk):
    start_ms, end_ms = desk.sent["aggTrade"][50]["T"], desk.sent["aggTrade"][80]["T"]
    rows = desk.json("aggTrades", symbol="BTCUSDT", startTime=start_ms, endTime=end_ms, limit=1000)
    assert [one["a"] for one in desk.sent["aggTrade"] if start_ms <= one["T"] <= end_ms] == [one["a"] for one in rows]


def test_the_newest_come_without_an_id(desk):
    assert desk.sent["aggTrade"][-1]["a"] == desk.json("aggTrades", symbol="BTCUSDT", limit=3)[-1]["a"]
    assert desk.sent["trade"][-1]["t"] == desk.json("trades", symbol="BTCUSDT", limit=3)[-1]["id"]


def test_historical_trades_are_what_the_stream_sent(desk):
    sent = desk.sent["trade"][10:20]
    answer = desk.get(
        "historicalTrades", headers={"x-mbx-apikey": "k"}, symbol="BTCUSDT", fromId=sent[0]["t"], limit=10
    )
    rows = msgspec.json.decode(answer.body)
    expected = [(one["t"], one["p"], one["q"], one["T"], one["m"]) for one in sent]
    assert expected == [(r["id"], r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in rows]


def test_klines_are_what_the_stream_closed(desk):
    sent = [one["k"] for one in desk.sent["kline_1m"] if one["k"]["x"]]
    rows = desk.json("klines", symbol="BTCUSDT", interval="1m", startTime=sent[0]["t"])
    expected = [[k[key] for key in "tohlcvTqnVQ"] for k in sent]
    assert expected == [row[:11] for row in rows[: len(sent)]]
    assert len(sent) + 1 == len(rows)


def test_depth_is_the_book_after_the_last_change(desk):
    book = desk.json("depth", symbol="BTCUSDT", limit=1000)
    assert desk.sent["depth@100ms"][-1]["u"] <= book["lastUpdateId"]
    assert (desk.market is FUTURES) is ("E" in book)
    best = desk.json("depth", symbol="BTCUSDT", limit=5)
    assert (book["bids"][:5], book["asks"][:5]) == (best["bids"], best["asks"])


def test_the_day_ends_with_the_last_trade(desk):
    last = desk.sent["trade"][-1]["t"]
    assert last == desk.json("ticker/24hr", symbol="BTCUSDT")["lastId"]
    assert {"BTCUSDT", "ETHUSDT"} == {row["symbol"] for row in desk.json("ticker/24hr")}


def test_time_and_symbols(desk):
    assert desk.now_us // 1000 == desk.json("time")["serverTime"]
    assert {} == desk.json("ping")
    info = desk.json("exchangeInfo")
    assert ["BTCUSDT", "ETHUSDT"] == [one["symbol"] for one in info["symbols"]]
    assert "REQUEST_WEIGHT" == info["rateLimits"][0]["rateLimitType"]
    for query in ({"symbol": "ETHUSDT"}, {"symbols": '["ETHUSDT"]'}):
        assert ["ETHUSDT"] == [one["symbol"] for one in desk.json("exchangeInfo", **query)["symbols"]]


@pytest.mark.parametrize(
    ("name", "query", "code"),
    [
        ("depth", {}, -1102),
        ("depth", {"symbol": "NOBODY"}, -1121),
        ("aggTrades", {"symbol": "BTCUSDT", "limit": "x"}, -1100),
        ("aggTrades", {"symbol": "BTCUSDT", "limit": "0"}, -1130),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "1"}, -1128),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("exchangeInfo", {"symbol": "NOBODY"}, -1121),
        ("exchangeInfo", {"symbols": "NOBODY"}, -1100),
    ],
)
def test_a_wrong_question_has_its_code(desk, name, query, code):
    answer = desk.get(name, **query)
    assert (400, code) == (answer.status, msgspec.json.decode(answer.body)["code"])


def test_what_only_the_futures_refuse():
    """Aggregate trades older than 48 hours, trades without a key, odd limits of depth."""
    desk = Desk(FUTURES)
    old_ms = desk.now_us // 1000 - 48 * 3600 * 1000 - 1000
    for name, query, status, code in (
        ("aggTrades", {"startTime": old_ms}, 400, -4166),
        ("historicalTrades", {}, 401, -2014),
        ("depth", {"limit": 7}, 400, -4021),
    ):
        answer = desk.get(name, symbol="BTCUSDT", **query)
        assert (status, code) == (answer.status, msgspec.json.decode(answer.body)["code"])


@pytest.mark.parametrize(
    ("market", "name", "query", "weight"),
    [
        (SPOT, "depth", {"symbol": "BTCUSDT", "limit": 100}, 5),
        (SPOT, "depth", {"symbol": "BTCUSDT", "limit": 500}, 25),
        (SPOT, "depth", {"symbol": "BTCUSDT", "limit": 1000}, 50),
        (SPOT, "depth", {"symbol": "BTCUSDT", "limit": 5000}, 250),
        (SPOT, "aggTrades", {"symbol": "BTCUSDT"}, 4),
        (SPOT, "ticker/24hr", {"symbol": "BTCUSDT"}, 2),
        (SPOT, "ticker/24hr", {}, 80),
        (SPOT, "trades", {"symbol": "BTCUSDT"}, 25),
        (SPOT, "historicalTrades", {"symbol": "BTCUSDT"}, 25),
        (SPOT, "klines", {"symbol": "BTCUSDT", "interval": "1m"}, 2),
        (SPOT, "exchangeInfo", {}, 20),
        (FUTURES, "depth", {"symbol": "BTCUSDT", "limit": 50}, 2),
        (FUTURES, "depth", {"symbol": "BTCUSDT", "limit": 100}, 5),
        (FUTURES, "depth", {"symbol": "BTCUSDT"}, 10),
        (FUTURES, "depth", {"symbol": "BTCUSDT", "limit": 1000}, 20),
        (FUTURES, "aggTrades", {"symbol": "BTCUSDT"}, 20),
        (FUTURES, "trades", {"symbol": "BTCUSDT"}, 5),
        (FUTURES, "historicalTrades", {"symbol": "BTCUSDT"}, 200),
        (FUTURES, "exchangeInfo", {}, 1),
        (FUTURES, "ticker/24hr", {}, 40),
    ],
)
def test_a_request_has_its_weight(market, name, query, weight):
    desk = Desk.__new__(Desk)
    desk.market, desk.now_us = market, START_NS // 1000
    desk.api = RestApi(synthetic(market), default_options(market), lambda: desk.now_us)
    answer = desk.get(name, **query)
    assert str(weight) == dict(answer.headers)["X-MBX-USED-WEIGHT-1M"]


def test_too_much_weight_is_429_and_going_on_is_418():
    """Both say how long to stay away; another address is not concerned."""
    desk = Desk(SPOT, weight_per_min=100)
    statuses = [desk.get("trades", symbol="BTCUSDT").status for _ in range(20)]
    assert [200] * 4 + [429] * 10 + [418] * 6 == statuses
    banned = desk.get("ping")
    assert ("120", -1003) == (
        str(int(dict(banned.headers)["Retry-After"]) - 1),
        msgspec.json.decode(banned.body)["code"],
    )
    assert 200 == desk.get("ping", peer="10.0.0.2").status
    desk.now_us += 121_000_000
    assert 200 == desk.get("ping").status


def test_retry_after_may_be_missing():
    desk = Desk(FUTURES, weight_per_min=0, has_retry_after=False)
    answer = desk.get("ping")
    assert (429, False) == (answer.status, "Retry-After" in dict(answer.headers))


def test_what_is_not_there_is_404(desk):
    assert 404 == desk.get("nothing").status
    assert 405 == desk.get("ping", method="POST").status
