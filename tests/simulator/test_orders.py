"""Every order reaches the exchange's method of its name."""

from __future__ import annotations

import json

import pytest

from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.orders import ORDER_NAMES, OrderError, carry_out
from streamsvc.simulator.sources import SyntheticSource

NEEDED = {
    "lag": {"seconds": 1},
    "ping_flood": {"count": 3},
    "garbage": {"kind": "not_json"},
    "send_text": {"text": "x"},
    "fail_replies": {"how": "silent"},
    "delay_rest": {"seconds": 1},
    "fail_rest": {"status": 500},
    "ban": {"seconds": 1},
    "change_symbol": {"symbol": "BTCUSDT"},
    "list_symbol": {"symbol": "NEWUSDT"},
    "delist_symbol": {"symbol": "BTCUSDT"},
    "refuse_upgrades": {"status": 403},
} | {
    name: {"stream": "btcusdt@trade"}
    for name in ("mute", "unmute", "drop", "duplicate", "fragment", "reorder", "corrupt")
}
CONNECTIONS = {"cut", "close", "freeze", "thaw", "lag", "shut_down", "ping_flood", "garbage", "send_text"}


def exchange():
    return Exchange([SyntheticSource(Market.SPOT, {"BTCUSDT": Activity()}, start_us=0)])


@pytest.mark.parametrize("name", ORDER_NAMES)
def test_an_order_is_the_method_of_its_name(name):
    """Orders about connections say how many they met."""
    one = exchange()
    assert hasattr(one, name)
    body = json.dumps({"market": "spot"} | NEEDED.get(name, {})).encode()
    assert (0 if name in CONNECTIONS else None) == carry_out(one, name, body)


@pytest.mark.parametrize("name", NEEDED)
def test_an_order_that_lacks_something_is_refused(name):
    with pytest.raises(OrderError):
        carry_out(exchange(), name, b'{"market":"spot"}')


def test_a_market_that_is_not_there():
    with pytest.raises(OrderError, match="futures"):
        carry_out(exchange(), "cut", b'{"market":"futures"}')


@pytest.mark.parametrize(("name", "symbol"), [("list_symbol", "BTCUSDT"), ("delist_symbol", "NEWUSDT")])
def test_a_symbol_that_is_there_already_or_not_at_all(name, symbol):
    with pytest.raises(OrderError, match=symbol):
        carry_out(exchange(), name, json.dumps({"market": "spot", "symbol": symbol}).encode())
