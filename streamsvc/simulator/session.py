"""One WebSocket connection: its queue, its subscriptions, its pings, its end."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from streamsvc.simulator import requests
from streamsvc.simulator.frames import (
    CLOSE,
    CONTROL_PAYLOAD_MAX,
    PING,
    PONG,
    TEXT,
    ClientFrameError,
    ClientFrames,
    ClientMessage,
    close_frame,
    frame,
)
from streamsvc.simulator.hub import Channel, Form, Hub
from streamsvc.simulator.outbox import Outbox
from streamsvc.simulator.transport import CLOSE_TIMEOUT_SEC, PeerGoneError, Transport
from streamsvc.simulator.wire import combined

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamsvc.simulator.ledger import Cause, StreamRecord
    from streamsvc.simulator.requests import Endpoint

CutMode = Literal["rst", "fin"]
_NOTICE = '{{"e":"serverShutdown","E":{}}}'


@attrs.frozen
class SessionInfo:
    """A look at a connection."""

    connection: int
    market: str
    peer: str
    target: str
    streams: tuple[str, ...]
    queued_bytes: int
    is_frozen: bool


class Session:
    """A connection after its upgrade.

    Args:
        hub: Its market.
        transport: Its bytes; whoever calls `run` closes them.
        endpoint: What its URL said.
        connection: Its number.
        peer: The client's address.
        now_us: The exchange's clock.
    """

    def __init__(  # noqa: PLR0913 - what a connection is made of
        self,
        hub: Hub,
        transport: Transport,
        endpoint: Endpoint,
        *,
        connection: int,
        peer: str,
        now_us: Callable[[], int],
    ) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.is_frozen = False
        self.lag_sec = 0.0
        self.muted: set[StreamRecord] = set()
        self.ended = trio.Event()
        self._hub = hub
        self._transport = transport
        self._peer = peer
        self._now_us = now_us
        self._subscriptions: dict[str, tuple[Form, Channel | None]] = {}
        self._outbox = Outbox()
        self._wakeup = trio.Event()
        self._pings: dict[bytes, float] = {}
        self._received_at: deque[float] = deque(maxlen=hub.options.messages_per_sec_max)
        self._is_closing = False
        self._is_last = False
        self._cut_mode: CutMode | None = None
        self._is_combined = endpoint.is_combined
        self._scope = trio.CancelScope()
        self._end_at = math.inf
        self._alarm = trio.Event()

    async def run(self, send_head: Callable[[], Awaitable[None]], early: bytes) -> None:
        """Serve the connection until it ends; a cut has then been made, anything else is left to the caller's close.

        Args:
            send_head: Answers the upgrade request.
            early: Bytes that came right behind the upgrade request.
        """
        hub = self._hub
        hub.sessions[self.connection] = self
        self._end_at = trio.current_time() + hub.options.lifetime_sec
        try:
            with self._scope:
                await send_head()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._keep_alive)
                    self._subscribe(self.endpoint.names)
                    await self._receive(early)
                    self._scope.cancel()
        finally:
            del hub.sessions[self.connection]
            self._unsubscribe(tuple(self._subscriptions))
            self._write_off()
            hub.note_drained()
            self.ended.set()
        await self._end()

    @property
    def queued_bytes(self) -> int:
        """Not sent yet."""
        return self._outbox.queued_bytes

    def info(self) -> SessionInfo:
        """A look at the connection."""
        return SessionInfo(
            self.connection,
            self._hub.market.label,
            self._peer,
            self.endpoint.target,
            tuple(self._subscriptions),
            self.queued_bytes,
            self.is_frozen,
        )

    def hears(self, channel: Channel) -> bool:
        """Whether it is subscribed to a stream."""
        return any(heard is channel for _form, heard in self._subscriptions.values())

    def put(self, framed: bytes, record: StreamRecord, first_id: int, last_id: int) -> None:
        """Queue a message of a stream."""
        if self.is_frozen or self._is_closing or record in self.muted:
            cause: Cause = "freeze" if self.is_frozen else "cut" if self._is_closing else "mute"
            self._hub.ledger.add_withheld(record, cause, first_id, last_id, connection=self.connection)
            return
        self._outbox.add(framed).note(record, first_id, last_id)

    def put_frame(self, framed: bytes) -> None:
        """Queue bytes that belong to no stream, and send them soon."""
        if not self._is_closing:
            self._outbox.add(framed)
            self._wakeup.set()

    def wake(self) -> None:
        """Send what is queued; throw the client out if that is too much."""
        if self.queued_bytes > self._hub.options.queue_max_bytes:
            self.cut("rst")
        elif not self.is_frozen:
            self._wakeup.set()

    def cut(self, mode: CutMode) -> None:
        """End the connection without a close frame."""
        self._cut_mode = mode
        self._scope.cancel()

    def close(self, code: int, reason: str = "") -> None:
        """Send what is queued and a close frame, then wait a little for the client's."""
        if self._is_closing:
            return
        self.put_frame(close_frame(code, reason))
        self._is_closing = True
        self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_SEC

    def freeze(self) -> None:
        """Say nothing any more, not even pongs; what is meant for the client is withheld."""
        self.is_frozen = True

    def thaw(self) -> None:
        """End that."""
        self.is_frozen = False
        self._wakeup.set()

    def give_notice(self) -> None:
        """Say that the server is about to go."""
        text = _NOTICE.format(self._now_us() // self.endpoint.unit_us).encode()
        self.put_frame(frame(combined("!serverShutdown", text) if self._is_combined else text))

    def shut_down(self, after_sec: float) -> None:
        """Give notice now, and close after a while."""
        self.give_notice()
        self._end_at = trio.current_time() + after_sec
        self._alarm.set()

    async def _send(self) -> None:
        while True:
            while self.is_frozen or (batch := self._outbox.take()) is None:
                if self._is_last:
                    self._scope.cancel()
                await self._wakeup.wait()
                self._wakeup = trio.Event()
            if self.lag_sec:
                await trio.sleep(self.lag_sec)
            try:
                await self._transport.send(batch.frames)
            except PeerGoneError:
                self._scope.cancel()
                await trio.sleep_forever()
            self._outbox.sent(batch)
            self._hub.note_drained()

    async def _keep_alive(self) -> None:
        """Ping, look for overdue pongs, and end the connection when its time has come."""
        options = self._hub.options
        now = trio.current_time()
        next_ping = now + options.ping_interval_sec if options.ping_interval_sec else math.inf
        notice_at = self._end_at - options.shutdown_notice_sec
        while True:
            overdue_at = next(iter(self._pings.values()), math.inf) + options.pong_timeout_sec
            # A shutdown on command moves the end forward and wakes us.
            with trio.move_on_at(min(next_ping, notice_at, self._end_at, overdue_at)):
                await self._alarm.wait()
                self._alarm = trio.Event()
            now = trio.current_time()
            if now >= self._end_at:
                self.close(1001, "the connection has reached its age")
                return
            if next(iter(self._pings.values()), math.inf) + options.pong_timeout_sec <= now:
                self.close(1008, "pong timeout")
                return
            if now >= notice_at:
                notice_at = math.inf
                self.give_notice()
            if now >= next_ping:
                next_ping = now + options.ping_interval_sec
                if not self.is_frozen:
                    self._ping(now)

    def _ping(self, now: float) -> None:
        text = str(self._now_us() // 1000).encode()
        self._pings.setdefault(text, now)
        self.put_frame(frame(text, PING))

    async def _receive(self, early: bytes) -> None:
        """Read what the client says until it says goodbye or leaves."""
        client = ClientFrames()
        data = early
        while True:
            try:
                messages = client.feed(data)
            except ClientFrameError as error:
                self.close(error.code, error.reason)
                await trio.sleep_forever()
            for message in messages:
                if not self.is_frozen and self._take(message):
                    return
            data = await self._transport.receive()
            if not data:
                return

    def _take(self, message: ClientMessage) -> bool:
        """Answer one message; True if it was the client's goodbye, and ours was said before."""
        if message.opcode == CLOSE:
            if self._is_closing:
                return True
            self.put_frame(frame(message.payload[:CONTROL_PAYLOAD_MAX], CLOSE))
            self._is_closing = self._is_last = True
            self._scope.deadline = trio.current_time() + CLOSE_TIMEOUT_SEC
            return False
        if self._is_closing or self._is_over_rate():
            return False
        if message.opcode == PING:
            self.put_frame(frame(message.payload, PONG))
        elif message.opcode == PONG:
            self._take_pong(message.payload)
        elif message.opcode == TEXT:
            self._take_text(message.payload)
        return False

    def _is_over_rate(self) -> bool:
        """Whether this message is one too many within a second; the connection then ends with 1008."""
        now = trio.current_time()
        times = self._received_at
        if len(times) == times.maxlen and now - times[0] < 1.0:
            self.close(1008, "Too many requests")
            return True
        times.append(now)
        return False

    def _take_pong(self, payload: bytes) -> None:
        """A pong answers its ping and those before it; an unsolicited one answers none."""
        if payload in self._pings:
            for sent in list(self._pings):
                del self._pings[sent]
                if sent == payload:
                    return

    def _take_text(self, text: bytes) -> None:
        try:
            control = requests.parse_control(text)
        except requests.InvalidRequestError as error:
            self._reply(error.reply)
            return
        fault = self._hub.take_reply_fault()
        if fault == "error":
            self._reply(b'{"code":2,"msg":"Invalid request: refused on command"}')
            return
        result: object = None
        if control.method == "SUBSCRIBE":
            self._subscribe(control.params)
        elif control.method == "UNSUBSCRIBE":
            self._unsubscribe(control.params)
        elif control.method == "LIST_SUBSCRIPTIONS":
            result = list(self._subscriptions)
        elif control.method == "SET_PROPERTY" and control.params[:1] == ("combined",):
            self._set_combined(control.params[-1] is True)
        elif control.method == "GET_PROPERTY":
            result = self._is_combined
        if fault == "wrong_id":
            self._reply(requests.result_reply(result, 987_654_321))
        elif fault != "silent":
            self._reply(requests.result_reply(result, control.request_id))

    def _reply(self, text: bytes) -> None:
        # Whatever was published before goes first: frames leave in the order of the queue.
        self.put_frame(frame(text))

    def _subscribe(self, names: tuple[str, ...]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._subscriptions]
        if len(self._subscriptions) + len(new) > self._hub.options.streams_max:
            self.close(1008, "Too many streams")
            return
        for name in new:
            form = Form(name, self._is_combined, self.endpoint.unit_us)
            self._subscriptions[name] = form, self._hub.subscribe(self, name, self.endpoint.route, form)

    def _unsubscribe(self, names: tuple[str, ...]) -> None:
        for name in names:
            form, channel = self._subscriptions.pop(name, (None, None))
            if form is not None and channel is not None:
                self._hub.unsubscribe(self, form, channel)

    def ask_again(self) -> None:
        """Hear what there was not when it was asked for, if there is now."""
        for name, (form, channel) in self._subscriptions.items():
            if channel is None:
                self._subscriptions[name] = form, self._hub.subscribe(self, name, self.endpoint.route, form)

    def _set_combined(self, is_combined: bool) -> None:
        """Change the form of every stream, as the exchange does."""
        names = tuple(self._subscriptions)
        self._unsubscribe(names)
        self._is_combined = is_combined
        self._subscribe(names)

    def _write_off(self) -> None:
        """What lies in the queue will not be sent any more."""
        for account in self._outbox.write_off():
            self._hub.ledger.add_withheld(
                account.record,
                "cut",
                account.first_id,
                account.last_id,
                count=account.count,
                connection=self.connection,
            )

    async def _end(self) -> None:
        if self._cut_mode == "rst":
            self._transport.abort()
        elif self._cut_mode == "fin":
            with trio.move_on_after(CLOSE_TIMEOUT_SEC):
                await self._linger()

    async def _linger(self) -> None:
        """After a FIN, wait for the client's, so that the kernel does not turn ours into a RST."""
        try:
            await self._transport.send_eof()
        except PeerGoneError:
            return
        while await self._transport.receive():
            pass
