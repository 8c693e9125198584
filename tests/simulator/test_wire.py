"""Payloads are to the letter what the exchange documents."""

from __future__ import annotations

import pytest

from streamsvc.schema import Market
from streamsvc.simulator import events
from streamsvc.simulator.wire import MICROSECOND, MILLISECOND, combined, payload

SPOT, FUTURES = Market
T_US = 1_672_515_782_136_000
TRADE = events.Trade("BNBBTC", 12345, "0.001", "100", T_US, True)
AGG_TRADE = events.AggTrade("BNBBTC", 12345, "0.001", "100", 100, 105, T_US, True)
DEPTH = events.DepthUpdate("BNBBTC", 157, 160, 149, T_US - 1000, T_US, [("0.0024", "10")], [("0.0026", "100")])
PARTIAL = events.PartialDepth("BNBBTC", 160, 149, T_US, T_US, [("0.0024", "10")], [("0.0026", "100")])
TICKER = events.BookTicker("BNBUSDT", 400900217, "25.35", "31.21", "25.36", "40.66", T_US)
KLINE = events.Kline(
    "BNBBTC", 1_672_515_780_000_000, 100, 200, "0.0010", "0.0025", "0.0015", "0.0020", "1000", "1.0", 100, "500",
    "0.5", False, T_US,
)  # fmt: skip
MARK = events.MarkPrice("BTCUSDT", "64991.37", "64980.01", "65016.05", "0.00003936", T_US + 1000, T_US)
FORCE = events.ForceOrder("STGUSDT", "SELL", "5", "0.1336", "0.1355", T_US - 1000, T_US)

SPOT_KLINE = (
    b'{"e":"kline","E":1672515782136,"s":"BNBBTC","k":{"t":1672515780000,"T":1672515839999,"s":"BNBBTC","i":"1m",'
    b'"f":100,"L":200,"o":"0.0010","c":"0.0020","h":"0.0025","l":"0.0015","v":"1000","n":100,"x":false,"q":"1.0",'
    b'"V":"500","Q":"0.5","B":"0"}}'
)


@pytest.mark.parametrize(
    ("market", "body", "text"),
    [
        (
            SPOT,
            TRADE,
            (
                b'{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,'
                b'"m":true,"M":true}'
            ),
        ),
        (
            SPOT,
            AGG_TRADE,
            (
                b'{"e":"aggTrade","E":1672515782136,"s":"BNBBTC","a":12345,"p":"0.001","q":"100","f":100,"l":105,'
                b'"T":1672515782136,"m":true,"M":true}'
            ),
        ),
        (
            SPOT,
            TICKER,
            b'{"u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}',
        ),
        (
            SPOT,
            DEPTH,
            (
                b'{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],'
                b'"a":[["0.0026","100"]]}'
            ),
        ),
        (
            SPOT,
            PARTIAL,
            b'{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}',
        ),
        (SPOT, KLINE, SPOT_KLINE),
        (
            FUTURES,
            TRADE,
            (
                b'{"e":"trade","E":1672515782136,"T":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",'
                b'"X":"MARKET","m":true}'
            ),
        ),
        (
            FUTURES,
            AGG_TRADE,
            (
                b'{"e":"aggTrade","E":1672515782136,"a":12345,"s":"BNBBTC","p":"0.001","q":"100","nq":"100","f":100,'
                b'"l":105,"T":1672515782136,"m":true,"st":1}'
            ),
        ),
        (
            FUTURES,
            DEPTH,
            (
                b'{"e":"depthUpdate","E":1672515782136,"T":1672515782135,"s":"BNBBTC","ps":"BNBBTC","st":1,"U":157,'
                b'"u":160,"pu":149,"b":[["0.0024","10"]],"a":[["0.0026","100"]]}'
            ),
        ),
        (
            FUTURES,
            TICKER,
            (
                b'{"e":"bookTicker","u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66",'
                b'"T":1672515782136,"E":1672515782136,"st":1}'
            ),
        ),
        (
            FUTURES,
            MARK,
            (
                b'{"e":"markPriceUpdate","E":1672515782136,"s":"BTCUSDT","p":"64991.37","ap":"64991.37","P":"64980.01",'
                b'"i":"65016.05","r":"0.00003936","T":1672515782137,"st":1}'
            ),
        ),
        (
            FUTURES,
            FORCE,
            (
                b'{"e":"forceOrder","E":1672515782136,"o":{"s":"STGUSDT","S":"SELL","o":"LIMIT","f":"IOC","q":"5",'
                b'"p":"0.1336","ap":"0.1355","X":"FILLED","l":"5","z":"5","T":1672515782135,"ps":"STGUSDT","st":1}}'
            ),
        ),
    ],
)
def test_a_payload_in_milliseconds(market, body, text):
    assert text == payload(market, body, MILLISECOND)


def test_microseconds_change_every_time():
    """A candle's close is its last microsecond."""
    assert b'"E":1672515782136000,' in payload(SPOT, TRADE, MICROSECOND)
    assert b'"T":1672515782136000,' in payload(SPOT, TRADE, MICROSECOND)
    assert b'"t":1672515780000000,"T":1672515839999999,' in payload(SPOT, KLINE, MICROSECOND)


def test_the_envelope_names_the_stream():
    assert b'{"stream":"bnbbtc@trade","data":{}}' == combined("bnbbtc@trade", b"{}")
