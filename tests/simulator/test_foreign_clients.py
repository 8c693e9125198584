"""Client libraries written by others work against the simulated exchange, each in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from functools import partial

import pytest
import trio

from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.serve import serve
from streamsvc.simulator.sources import SyntheticSource
from streamsvc.simulator.streams import parse_stream

SPOT, FUTURES = Market
SYMBOLS = {"BTCUSDT": Activity(40, 80), "ETHUSDT": Activity(5, 10)}
TIMEOUT_SEC = 40

needs_ccxt = pytest.mark.skipif(importlib.util.find_spec("ccxt") is None, reason="ccxt is not installed")
needs_python_binance = pytest.mark.skipif(
    importlib.util.find_spec("binance") is None, reason="python-binance is not installed"
)

CCXT = """
import asyncio, json, sys
import ccxt.pro

market, ws, rest = sys.argv[1:]

async def main():
    kind = ccxt.pro.binance if market == "spot" else ccxt.pro.binanceusdm
    exchange = kind({"options": {"fetchMarkets": {"types": ["spot" if market == "spot" else "linear"]}}})
    api = exchange.urls["api"]
    api["ws"]["spot" if market == "spot" else "linear"] = ws + "/ws"
    api["public" if market == "spot" else "fapiPublic"] = rest + ("/api/v3" if market == "spot" else "/fapi/v1")
    symbol = "BTC/USDT" if market == "spot" else "BTC/USDT:USDT"
    trades = {}
    while len(trades) < 30:
        for trade in await exchange.watch_trades(symbol):
            trades[trade["id"]] = [trade["price"], trade["amount"], trade["side"], trade["timestamp"]]
    for _ in range(20):
        book = await exchange.watch_order_book(symbol)
    found = {"trades": trades, "nonce": book["nonce"], "bids": book["bids"][:10], "asks": book["asks"][:10]}
    await exchange.close()
    print(json.dumps(found))

asyncio.run(main())
"""

PYTHON_BINANCE = """
import asyncio, json, sys
from binance import AsyncClient, BinanceSocketManager

spot_ws, spot_rest, futures_ws, futures_rest = sys.argv[1:]

class Client(AsyncClient):
    API_URL = spot_rest + "/api"
    FUTURES_URL = futures_rest + "/fapi"

class Manager(BinanceSocketManager):
    STREAM_URL = spot_ws + "/"
    FSTREAM_URL = futures_ws + "/"

async def collect(socket, count):
    async with socket as stream:
        return [await stream.recv() for _ in range(count)]

async def main():
    client = await Client.create()
    manager = Manager(client)
    found = {
        "trade": await collect(manager.trade_socket("BTCUSDT"), 10),
        "depth": await collect(manager.depth_socket("BTCUSDT", interval=100), 5),
        "both": await collect(manager.multiplex_socket(["btcusdt@bookTicker", "btcusdt@aggTrade"]), 10),
        "futures": await collect(manager.futures_multiplex_socket(["btcusdt@aggTrade"]), 5),
        "info": [one["symbol"] for one in (await client.get_exchange_info())["symbols"]],
        "book": await client.get_order_book(symbol="BTCUSDT", limit=5),
        "klines": await client.get_klines(symbol="BTCUSDT", interval="1m"),
        "aggregate": await client.get_aggregate_trades(symbol="BTCUSDT", limit=3),
        "futures_book": await client.futures_order_book(symbol="BTCUSDT", limit=5),
    }
    await client.close_connection()
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture
async def opened(nursery):
    """An exchange of both markets on real sockets: it, its settings, and a market each of the same making."""
    start_us = time.time_ns() // 1000

    def sources():
        return [SyntheticSource(market, SYMBOLS, start_us=start_us) for market in Market]

    exchange = Exchange(sources(), is_logging=True)
    addresses = await nursery.start(partial(serve, exchange))
    return exchange, addresses.settings, {source.market: (source, start_us) for source in sources()}


async def run(script, *arguments):
    with trio.fail_after(TIMEOUT_SEC):
        result = await trio.run_process([sys.executable, "-c", script, *arguments], capture_stdout=True)
    return json.loads(result.stdout)


def book_at(source, start_us, update_id):
    """The top of a market's book after an update: the market is made again from its seed."""
    source.watch(parse_stream(source.market, "btcusdt@depth@100ms"))
    for window_us in range(start_us - start_us % 100_000, start_us + TIMEOUT_SEC * 1_000_000, 100_000):
        for event in source.advance(window_us):
            if event.last_id == update_id:
                return source.histories()["BTCUSDT"].books.snapshot(10)
    return pytest.fail("no update has this id")


def numbers(levels):
    return [[float(text) for text in level[:2]] for level in levels]


@needs_ccxt
@pytest.mark.parametrize("market", list(Market))
async def test_ccxt_watches_trades_and_the_order_book(opened, market):
    """Its trades are those that were sent; its book is the market's at the same update."""
    exchange, settings, twins = opened
    urls = [settings[f"BINANCE_{market.name}_{what}_URL"] for what in ("WS", "REST")]
    found = await run(CCXT, market.label, *urls)
    sent = [json.loads(data) for where, name, data in exchange.ledger.log if (where, name) == (market, "btcusdt@trade")]
    rows = {
        str(t["t"]): [float(t["p"]), float(t["q"]), "sell" if t["m"] else "buy", t["T"]]
        for t in sent
        if t.get("X", "MARKET") == "MARKET"
    }
    assert {number: rows[number] for number in found["trades"]} == found["trades"]
    book = book_at(*twins[market], found["nonce"])
    assert (numbers(book.bids), numbers(book.asks)) == (numbers(found["bids"]), numbers(found["asks"]))


@needs_python_binance
async def test_python_binance_reads_streams_and_rest(opened):
    _, settings, _ = opened
    urls = [settings[f"BINANCE_{market.name}_{what}_URL"] for market in Market for what in ("WS", "REST")]
    found = await run(PYTHON_BINANCE, *urls)
    ids = [trade["t"] for trade in found["trade"]]
    assert list(range(ids[0], ids[0] + 10)) == ids
    assert {"depthUpdate"} == {update["e"] for update in found["depth"]}
    assert {"btcusdt@bookTicker", "btcusdt@aggTrade"} >= {message["stream"] for message in found["both"]}
    assert {"aggTrade"} == {message["data"]["e"] for message in found["futures"]}
    assert list(SYMBOLS) == found["info"]
    assert (5, 5) == (len(found["book"]["bids"]), len(found["futures_book"]["asks"]))
    assert (12, 3) == (len(found["klines"][0]), len(found["aggregate"]))
