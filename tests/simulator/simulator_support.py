"""A client of the simulated exchange that shares no code with it, and exchanges under a clock that jumps."""

from __future__ import annotations

import json
from functools import partial

import attrs
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.sources import SyntheticSource

START_NS = 1_786_171_884_000_000_000


class EndedError(Exception):
    """The connection ended without a close frame."""


class Client:
    """A WebSocket client over any stream: wsproto, one message at a time. It answers no ping unless told."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self._events = iter(())
        self._parts = []

    async def open(self, target: str):
        """Ask for the upgrade; gives the event that answers it."""
        await self.stream.send_all(self.protocol.send(Request(host="localhost", target=target)))
        return await self.event()

    async def event(self):
        """The next event, whatever it is."""
        while True:
            event = next(self._events, None)
            if event is not None:
                return event
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError as error:
                raise EndedError from error
            if not data:
                raise EndedError
            self.protocol.receive_data(bytes(data))
            self._events = self.protocol.events()

    async def text(self) -> str:
        """The next whole message; pings in between are passed over."""
        while True:
            event = await self.event()
            if isinstance(event, TextMessage):
                self._parts.append(event.data)
                if event.message_finished:
                    text, self._parts = "".join(self._parts), []
                    return text
            elif isinstance(event, CloseConnection):
                raise EndedError(event.code)

    async def json(self):
        return json.loads(await self.text())

    async def until(self, kind):
        """The next event of a kind."""
        while True:
            event = await self.event()
            if isinstance(event, kind):
                return event

    async def ask(self, **wish):
        """Send a wish, and give the answer to it."""
        await self.send(json.dumps(wish))
        while True:
            answer = await self.json()
            if "result" in answer or "code" in answer:
                return answer

    async def send(self, text: str) -> None:
        await self.stream.send_all(self.protocol.send(TextMessage(data=text)))

    async def pong(self, payload: bytes) -> None:
        await self.stream.send_all(self.protocol.send(Pong(payload=payload)))

    async def ping(self, payload: bytes = b"") -> None:
        await self.stream.send_all(self.protocol.send(Ping(payload=payload)))

    async def close(self) -> None:
        await self.stream.send_all(self.protocol.send(CloseConnection(code=1000)))

    async def http(self, request: str) -> bytes:
        """Send a plain HTTP request and give back all bytes until the end."""
        await self.stream.send_all(request.encode())
        answer = b""
        while data := await self.stream.receive_some(65536):
            answer += data
        return answer


@attrs.define
class Stage:
    """An exchange that runs in a test's nursery, and its clients."""

    exchange: Exchange
    nursery: trio.Nursery

    async def client(self, market: Market, target: str) -> Client:
        """A client whose connection is open."""
        client = self.dial(market)
        answer = await client.open(target)
        assert isinstance(answer, AcceptConnection), answer
        return client

    def dial(self, market: Market, peer: str = "10.0.0.1") -> Client:
        """A client that has not said anything yet."""
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(partial(self.exchange.serve_stream, market, theirs, peer=peer))
        return Client(ours)


def synthetic(market: Market, symbols=None) -> SyntheticSource:
    symbols = symbols or {"BTCUSDT": Activity(20, 40), "ETHUSDT": Activity(5, 10)}
    return SyntheticSource(market, symbols, start_us=START_NS // 1000, seed=7)
