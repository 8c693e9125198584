"""Names of streams and routes."""

from __future__ import annotations

import pytest

from streamsvc.schema import Market
from streamsvc.simulator.streams import is_served, parse_stream

SPOT, FUTURES = Market


@pytest.mark.parametrize(
    ("market", "name", "canonical"),
    [
        (SPOT, "btcusdt@trade", "btcusdt@trade"),
        (SPOT, "btcusdt@depth", "btcusdt@depth@1000ms"),
        (SPOT, "btcusdt@depth@100ms", "btcusdt@depth@100ms"),
        (SPOT, "btcusdt@depth20@100ms", "btcusdt@depth20@100ms"),
        (SPOT, "btcusdt@kline_1m", "btcusdt@kline_1m"),
        (FUTURES, "btcusdt@depth", "btcusdt@depth@250ms"),
        (FUTURES, "btcusdt@depth@0ms", "btcusdt@depth@0ms"),
        (FUTURES, "btcusdt@markPrice", "btcusdt@markPrice"),
        (FUTURES, "btcusdt@markPrice@1s", "btcusdt@markPrice@1s"),
        (FUTURES, "!forceOrder@arr", "!forceOrder@arr"),
        (SPOT, "币安usdt@aggTrade", "币安usdt@aggTrade"),
    ],
)
def test_a_known_name_has_one_canonical_form(market, name, canonical):
    assert canonical == parse_stream(market, name).canonical


@pytest.mark.parametrize(
    ("market", "name"),
    [
        (SPOT, ""),
        (SPOT, "btcusdt"),
        (SPOT, "@trade"),
        (SPOT, "BTCUSDT@trade"),
        (SPOT, "btcusdt@markPrice"),
        (SPOT, "btcusdt@depth@250ms"),
        (SPOT, "btcusdt@depth7"),
        (SPOT, "btcusdt@depthx"),
        (FUTURES, "btcusdt@nothing"),
        (SPOT, "!forceOrder@arr"),
    ],
)
def test_an_unknown_name_is_nobodys(market, name):
    assert parse_stream(market, name) is None


@pytest.mark.parametrize(
    ("kind", "routes"),
    [
        ("bookTicker", {"public", "none"}),
        ("depth@100ms", {"public", "none"}),
        ("depth5", {"public", "none"}),
        ("aggTrade", {"market"}),
        ("markPrice@1s", {"market"}),
        ("kline_1m", {"market"}),
        ("forceOrder", {"market"}),
    ],
)
def test_a_futures_stream_is_served_on_its_route_and_public_ones_on_none(kind, routes):
    stream = parse_stream(FUTURES, f"btcusdt@{kind}")
    assert routes == {route for route in ("public", "market", "none") if is_served(stream, route, "public")}


def test_futures_trades_lie_where_the_option_says():
    stream = parse_stream(FUTURES, "btcusdt@trade")
    assert [True, False] == [is_served(stream, route, "public") for route in ("public", "market")]
    assert [False, True] == [is_served(stream, route, "market") for route in ("public", "market")]


def test_spot_has_no_routes():
    stream = parse_stream(SPOT, "btcusdt@kline_1m")
    assert is_served(stream, "none", "market")
