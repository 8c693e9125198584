"""Reads a source with another library and prints what that cost as one JSON line.

    python peers.py NAME URL MESSAGES [CA_FILE] [--connections N]

NAME: `trio_websocket`, `websockets`, `picows` and `nautilus` receive every message and drop it; `ccxt` takes it all the
way to its trades, `cryptofeed` to its callback for trades, over one connection or, for `paced.py`, over several of one
process. Nothing is stored. The clock starts with the connection, for those that parse and for nautilus with the first
message. Each runs in an environment of its own, see `environments.py`.
"""

# ruff: noqa: PLC0415 - each environment has only one of these libraries
from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import time
from typing import NamedTuple

SYMBOLS = 100


class Wanted(NamedTuple):
    """How many messages come, and over how many connections."""

    messages: int
    connections: int


class Meter:
    """Counts messages, and the wall and CPU time since `start`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages = 0
        self._wall_ns = self._cpu_ns = 0

    def start(self) -> None:
        """Begin to measure."""
        self._wall_ns, self._cpu_ns = time.perf_counter_ns(), time.process_time_ns()

    def tell(self) -> None:
        """Print the result."""
        wall_sec = (time.perf_counter_ns() - self._wall_ns) / 1e9
        cpu_us = (time.process_time_ns() - self._cpu_ns) / 1e3
        result = {
            "name": self.name,
            "messages": self.messages,
            "rate": round(self.messages / wall_sec),
            "cpu_us": round(cpu_us / self.messages, 3),
            "cpu_start_sec": round(self._cpu_ns / 1e9, 2),
        }
        print(json.dumps(result), flush=True)


def read_trio_websocket(meter: Meter, url: str, context: ssl.SSLContext | None, _wanted: Wanted) -> None:
    """Receive with trio-websocket."""
    import trio
    import trio_websocket

    async def read() -> None:
        async with trio_websocket.open_websocket_url(url, ssl_context=context, message_queue_size=1000) as connection:
            meter.start()
            try:
                while True:
                    await connection.get_message()
                    meter.messages += 1
            except trio_websocket.ConnectionClosed:
                meter.tell()

    trio.run(read)


def read_websockets(meter: Meter, url: str, context: ssl.SSLContext | None, _wanted: Wanted) -> None:
    """Receive with websockets."""
    from websockets.asyncio import client

    async def read() -> None:
        async with client.connect(url, ssl=context, compression=None) as connection:
            meter.start()
            async for _ in connection:
                meter.messages += 1
            meter.tell()

    asyncio.run(read())


def read_picows(meter: Meter, url: str, context: ssl.SSLContext | None, _wanted: Wanted) -> None:
    """Receive with picows."""
    import picows

    class Reader(picows.WSListener):
        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.TEXT:
                frame.get_payload_as_bytes()
                meter.messages += 1
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                transport.disconnect()

    async def read() -> None:
        meter.start()
        transport, _ = await picows.ws_connect(Reader, url, ssl_context=context)
        await transport.wait_disconnected()
        meter.tell()

    asyncio.run(read())


def read_cryptofeed(meter: Meter, url: str, context: ssl.SSLContext | None, wanted: Wanted) -> None:
    """Receive with cryptofeed up to its callback.

    It knows its symbols from REST and insists on wss: both are put right where it looks them up.
    """
    from cryptofeed import FeedHandler, connection, defines, exchanges, symbols

    names = {f"SYM{number}-USDT": f"SYM{number}USDT" for number in range(SYMBOLS)}
    about = {"tick_size": dict.fromkeys(names, "0.01"), "instrument_type": dict.fromkeys(names, "spot")}
    symbols.Symbols.set(exchanges.Binance.id, names, about)
    secure_url = "wss://" + url.split("://")[1].rstrip("/")
    exchanges.Binance.websocket_endpoints = [
        connection.WebsocketEndpoint(secure_url, options={"compression": None}),
    ]
    dial = connection.connect

    def dial_ours(address: str, **options: object) -> object:
        if context is not None:
            return dial(address, **options, ssl=context)
        return dial(address.replace("wss://", "ws://", 1), **options)

    connection.connect = dial_ours

    async def on_trade(_trade: object, _receipt_time: float) -> None:
        if not meter.messages:
            meter.start()
        meter.messages += 1
        if meter.messages == wanted.messages:
            meter.tell()
            os._exit(0)  # It would connect again.

    handler = FeedHandler(config={"log": {"disabled": True}})
    for number in range(wanted.connections):
        own = list(names)[number :: wanted.connections]
        handler.add_feed(
            exchanges.Binance(symbols=own, channels=[defines.TRADES], callbacks={defines.TRADES: on_trade})
        )
    handler.run()


def read_ccxt(meter: Meter, url: str, context: ssl.SSLContext | None, wanted: Wanted) -> None:
    """Receive with ccxt up to the trade that its `watch_trades_for_symbols` returns.

    Its markets come from REST, and it asks for streams without the combined form: both are put right here.
    """
    import ccxt.pro

    class Binance(ccxt.pro.binance):  # type: ignore[misc]
        def handle_message(self, client: object, message: dict[str, object]) -> None:
            super().handle_message(client, message.get("data", message))

        def handle_trade(self, client: object, message: object) -> None:
            if not meter.messages:
                meter.start()
            super().handle_trade(client, message)
            meter.messages += 1
            if meter.messages == wanted.messages:
                meter.tell()
                os._exit(0)  # It would connect again.

    async def read() -> None:
        options = {"tradesLimit": 1000, "watchTradesForSymbols": {"name": "aggTrade"}}
        exchange = Binance({"options": options} | ({"cafile": os.environ["SSL_CERT_FILE"]} if context else {}))
        names = [f"SYM{number}" for number in range(SYMBOLS)]
        about = {"quote": "USDT", "type": "spot", "spot": True, "option": False, "contract": False}
        exchange.set_markets(
            [
                exchange.safe_market_structure({"id": f"{name}USDT", "symbol": f"{name}/USDT", "base": name, **about})
                | {"lowercaseId": f"{name.lower()}usdt"}
                for name in names
            ]
        )
        exchange.urls["api"]["ws"]["spot"] = url
        exchange.open()
        while True:
            await exchange.watch_trades_for_symbols([f"{name}/USDT" for name in names])

    asyncio.run(read())


def read_nautilus(meter: Meter, url: str, context: ssl.SSLContext | None, wanted: Wanted) -> None:
    """Receive with the WebSocket client of nautilus_trader; messages come as bytes into a callback."""
    from nautilus_trader.core.nautilus_pyo3 import WebSocketClient, WebSocketConfig

    done = asyncio.Event()

    async def read() -> None:
        loop = asyncio.get_running_loop()

        def on_message(_message: bytes) -> None:
            if not meter.messages:
                meter.start()
            meter.messages += 1
            if meter.messages == wanted.messages:
                meter.tell()
                loop.call_soon_threadsafe(done.set)

        config = WebSocketConfig(url=url, handler=on_message, headers=[])
        client = await WebSocketClient.connect(config)
        await done.wait()
        del client

    if context is not None:
        raise SystemExit("nautilus_trader's client trusts the authorities that it was built with, and no other")
    asyncio.run(read())
    os._exit(0)  # Its threads would connect again.


def main() -> None:
    """Read with the library that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("url")
    parser.add_argument("messages", type=int)
    parser.add_argument("ca_file", nargs="?")
    parser.add_argument("--connections", type=int, default=1)
    args = parser.parse_args()
    context = ssl.create_default_context(cafile=args.ca_file) if args.ca_file else None
    if args.ca_file:
        os.environ["SSL_CERT_FILE"] = args.ca_file  # ccxt takes a file, not a context.
    globals()[f"read_{args.name}"](Meter(args.name), args.url, context, Wanted(args.messages, args.connections))


if __name__ == "__main__":
    main()
