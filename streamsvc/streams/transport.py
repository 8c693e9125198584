"""One WebSocket connection, from dialling to the closed socket. The only importer of trio-websocket.

What trio-websocket leaves open is closed here: its client never closes the TCP stream, its handshake has no deadline of
its own and waits for ever when the connection ends meanwhile, and it does not tell the peer about a broken protocol.
So the stream is dialled here, bounded here, and closed here whatever happens.
"""

from __future__ import annotations

import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import attrs
import h11
import trio
import wsproto.utilities
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto.frame_protocol import FrameProtocol

from streamsvc.batch import Batch
from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.faults import dial_fault, in_time, one_fault
from streamsvc.streams.nowait import READ_BYTES
from streamsvc.streams.tap import FrameTap
from streamsvc.streams.tls import open_tls

if TYPE_CHECKING:
    import random
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streamsvc.settings import Settings
    from streamsvc.streams.tick import ReadTick

_PROTOCOL_ERRORS = (wsproto.utilities.ProtocolError, h11.ProtocolError)


@attrs.frozen(kw_only=True)
class Wiring:
    """What every connection of a run shares.

    Attributes:
        dial: Connects to a host and a port.
        ssl_context: For `wss` URLs.
        tick: The pause between small reads.
        wall_ns: Wall clock, ns since 1970.
        rng: For the waits between attempts.
        settings: `CONNECT_TIMEOUT_SEC` bounds dialling and all handshakes together, `CLOSE_TIMEOUT_SEC` the closing;
            a message over `MESSAGE_MAX_MB` ends its connection with code 1009, and so does one that takes longer than
            `STREAM_IDLE_SEC` to arrive.
    """

    dial: Callable[[str, int], Awaitable[trio.abc.Stream]]
    ssl_context: ssl.SSLContext
    tick: ReadTick
    wall_ns: Callable[[], int]
    rng: random.Random
    settings: Settings

    def make_tap(self, stream: trio.abc.Stream) -> FrameTap:
        """A tap on an open stream."""
        return FrameTap(
            stream,
            message_bytes_max=self.settings.message_max_bytes,
            message_sec_max=self.settings.stream_idle_sec,
            tick=self.tick,
            wall_ns=self.wall_ns,
        )


@asynccontextmanager
async def open_transport(url: str, wiring: Wiring, left: list[Batch]) -> AsyncIterator[Transport]:
    """Connect to a `ws` or `wss` URL; on leaving, say goodbye within a deadline and close everything.

    Args:
        url: Where to.
        wiring: What all connections share.
        left: On leaving, what was read and not received is added here; at most about `MESSAGE_MAX_MB` of it came
            while we said goodbye.

    Raises:
        ConnectionFaultError: the connection could not be made; or it has ended and the body said so.
    """
    parts = urlsplit(url)
    assert parts.hostname
    deadline = trio.current_time() + wiring.settings.connect_timeout_sec
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    stream = await _dial(wiring, parts.hostname, port, deadline)
    transport: Transport | None = None
    try:
        if parts.scheme == "wss":
            with in_time(deadline, "the TLS handshake"):
                stream = await open_tls(stream, wiring.ssl_context, parts.hostname)
        tap = wiring.make_tap(stream)
        with one_fault(*_PROTOCOL_ERRORS, cause="handshake"):
            async with trio.open_nursery() as nursery:
                with in_time(deadline, "the WebSocket handshake"):
                    resource = urlunsplit(("", "", parts.path or "/", parts.query, ""))
                    websocket = await _shake_hands(nursery, tap, parts.netloc, resource)
                transport = Transport(websocket, tap)
                nursery.start_soon(transport.drain)
                try:
                    yield transport
                finally:
                    nursery.cancel_scope.cancel()
    except ConnectionFaultError as fault:
        # trio-websocket refuses a frame with a close, and may then fail over the frames that follow it.
        if transport is None or fault.cause != "handshake":
            raise
        raise transport.fault() from fault
    finally:
        with trio.move_on_after(2 * wiring.settings.close_timeout_sec, shield=True):
            await _close(stream, transport, wiring.settings, left)


async def _close(stream: trio.abc.Stream, transport: Transport | None, settings: Settings, left: list[Batch]) -> None:
    """Say goodbye where that makes sense, and close the stream, whatever happens on the way."""
    try:
        if transport is not None:
            if (batch := transport.receive_nowait()) is not None:
                left.append(batch)
            with trio.move_on_after(settings.close_timeout_sec, shield=True):
                await transport.say_goodbye(stream, left, settings.message_max_bytes)
    finally:
        with trio.move_on_after(settings.close_timeout_sec, shield=True):
            await stream.aclose()  # It closes also when the deadline cuts it.


async def _dial(wiring: Wiring, host: str, port: int, deadline: float) -> trio.abc.Stream:
    try:
        with in_time(deadline, "connecting"):
            return await wiring.dial(host, port)
    except OSError as error:
        raise dial_fault(error) from error


async def _shake_hands(nursery: trio.Nursery, tap: FrameTap, host: str, resource: str) -> WebSocketConnection:
    with tap.opening:
        # No data message reaches trio-websocket but one that breaks the protocol or the limit: whatever it gets of that
        # is too long for it, so it holds none of it in memory and closes with 1009.
        stream: Any = tap  # It takes any stream, whatever its annotation says.
        return await wrap_client_stream(nursery, stream, host, resource, message_queue_size=1, max_message_size=0)
    raise tap.fault or ConnectionFaultError("handshake", "the connection ended within the handshake")


class Transport:
    """An open connection; `open_transport` makes it and closes it."""

    def __init__(self, websocket: WebSocketConnection, tap: FrameTap) -> None:
        self._websocket = websocket
        self._tap = tap

    @property
    def reading_since(self) -> float:
        """When the read under way began, `trio.current_time()`; infinite while we do not read."""
        return self._tap.reading_since

    @property
    def is_held(self) -> bool:
        """Whether we do not read because what was read has not been received."""
        return self._tap.slot.is_full

    @property
    def pings_dropped(self) -> int:
        """Pings that were not answered because there were too many."""
        return self._tap.splitter.pings_dropped

    def deliver_to(self, take: Callable[[Batch], bool]) -> None:
        """Have batches taken as they are read; those that `take` says False to are left for `receive`."""
        self._tap.deliver = take

    async def receive(self) -> Batch:
        """The data messages of the next read that brought any, of those that were not delivered.

        Raises:
            ConnectionFaultError: the connection has ended, and everything before that has been delivered.
        """
        try:
            return await self._tap.slot.take()
        except trio.EndOfChannel:
            raise self.fault() from None

    def receive_nowait(self) -> Batch | None:
        """What has been read and not been received."""
        return self._tap.slot.take_nowait()

    async def send(self, text: str) -> None:
        """Send a text message.

        Raises:
            ConnectionFaultError: the connection has ended.
        """
        try:
            await self._websocket.send_message(text)
        except ConnectionClosed:
            raise self.fault() from None

    async def ping(self) -> None:
        """Send a ping and wait for its pong, for ever if need be: the caller has a deadline.

        Raises:
            ConnectionFaultError: the connection has ended.
        """
        try:
            await self._websocket.ping()
        except ConnectionClosed:
            raise self.fault() from None

    async def drain(self) -> None:
        """Take from trio-websocket what it takes for messages, so that its reader never waits; see its end."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._websocket.get_message()
        self._tap.end()

    async def say_goodbye(self, stream: trio.abc.Stream, left: list[Batch], left_bytes_max: int) -> None:
        """Send the close frame that is still owed, and read on until the peer's, which would otherwise be reset.

        Call it when nobody else reads or sends any more, with a deadline.

        Args:
            stream: What the tap reads from.
            left: The messages that come before it are added here.
            left_bytes_max: So many bytes of them, then nothing more is read.
        """
        splitter = self._tap.splitter
        if self._tap.fault is not None or splitter.is_closed:
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, ConnectionFaultError):
            reason = self._websocket.closed
            if reason is None:
                await self._tap.send_all(_close_frame(1000))
            elif reason.code != 1009:  # A message too long is the one violation of which trio-websocket tells the peer.
                await self._tap.send_all(_close_frame(reason.code))
            left_bytes = 0
            while not splitter.is_closed and left_bytes < left_bytes_max:
                chunk = await stream.receive_some(READ_BYTES)
                if not chunk:
                    break
                messages, _ = splitter.feed(bytes(chunk))
                if messages:
                    batch = Batch(messages, self._tap.wall_ns(), sum(map(len, messages)))
                    left.append(batch)
                    left_bytes += batch.size_bytes

    def fault(self) -> ConnectionFaultError:
        """Why the connection has ended."""
        if self._tap.fault is not None:
            return self._tap.fault
        reason = self._websocket.closed
        if reason is None:
            return ConnectionFaultError("closed", "the connection is closed")
        if self._tap.splitter.violation:
            return ConnectionFaultError("protocol", self._tap.splitter.violation, status=reason.code)
        text = f"the exchange closed the connection: {reason.code} {reason.reason or ''}"
        return ConnectionFaultError("closed", text.rstrip(), status=reason.code)


def _close_frame(code: int) -> bytes:
    return bytes(FrameProtocol(client=True, extensions=[]).close(code))
