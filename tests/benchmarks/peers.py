"""Reads a source with another library and prints what that cost as one JSON line.

    python peers.py NAME URL MESSAGES [CA_FILE]

NAME: `trio_websocket`, `websockets` and `picows` receive every message and drop it; `cryptofeed` takes it all the way
to its callback for trades. Nothing is stored. The clock starts with the connection, for cryptofeed with its first
trade. Each runs in an environment of its own, see `environments.py`.
"""

# ruff: noqa: PLC0415 - each environment has only one of these libraries
from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time

SYMBOLS = 100


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
        }
        print(json.dumps(result), flush=True)


def read_trio_websocket(meter: Meter, url: str, context: ssl.SSLContext | None, _count: int) -> None:
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


def read_websockets(meter: Meter, url: str, context: ssl.SSLContext | None, _count: int) -> None:
    """Receive with websockets."""
    from websockets.asyncio import client

    async def read() -> None:
        async with client.connect(url, ssl=context, compression=None) as connection:
            meter.start()
            async for _ in connection:
                meter.messages += 1
            meter.tell()

    asyncio.run(read())


def read_picows(meter: Meter, url: str, context: ssl.SSLContext | None, _count: int) -> None:
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


def read_cryptofeed(meter: Meter, url: str, context: ssl.SSLContext | None, count: int) -> None:
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
        if meter.messages == count:
            meter.tell()
            os._exit(0)  # It would connect again.

    feed = exchanges.Binance(symbols=list(names), channels=[defines.TRADES], callbacks={defines.TRADES: on_trade})
    handler = FeedHandler(config={"log": {"disabled": True}})
    handler.add_feed(feed)
    handler.run()


def main() -> None:
    """Read with the library that is asked for."""
    name, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    context = ssl.create_default_context(cafile=sys.argv[4]) if len(sys.argv) > 4 else None
    globals()[f"read_{name}"](Meter(name), url, context, count)


if __name__ == "__main__":
    main()
