"""What we ask of the exchange on an open connection: streams that end and come, and repairs.

A repair is UNSUBSCRIBE, then SUBSCRIBE. One request is under way at a time, so that an error without an id (Binance's
spot errors have none) is known to be about it. A request without an answer, or with an error, is made again a few times
and logged each time.

What the connection should carry may change at any time; what it does carry follows, in as few requests as may be: first
UNSUBSCRIBE, which makes room, then SUBSCRIBE. A stream whose SUBSCRIBE failed for good counts as carried: its silence
is found and repaired like any other. One whose UNSUBSCRIBE failed is recorded on, and asked away again later.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Protocol

import trio

from streamsvc.streams.tap import BUDGET_WINDOW_SEC
from streamsvc.streams.window import SlidingWindow
from streamsvc.venues.binance_heads import DECODE_ERRORS, decode_notice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.streams.transport import Transport
    from streamsvc.venues.venue import Stream, Venue

REPLY_SEC = 10.0
TRIES = 3
PART_RETRY_SEC = 60.0
"""So long an UNSUBSCRIBE that failed for good waits for its next try."""
STREAMS_PER_REQUEST_MAX = 100
_NAMES_LOGGED_MAX = 5
_UNKNOWN_LOGGED_MAX = 10
_TEXT_LOGGED_BYTES = 200
_SHUTDOWN = "serverShutdown"


LINGER_SEC = 2.0
"""So long messages are still expected of a stream after the answer to its UNSUBSCRIBE: some were under way."""


class Pace:
    """Keeps what we send within the messages a second that the exchange takes."""

    def __init__(self, per_sec: int) -> None:
        self._window = SlidingWindow(per_sec, BUDGET_WINDOW_SEC)

    async def wait(self) -> None:
        """Wait until a message may be sent, and count it."""
        await trio.sleep(self._window.reserve(trio.current_time()))


class Carrier(Protocol):
    """Who is told what a connection carries; see `connection.Port`."""

    def joining(self, streams: Sequence[Stream]) -> None:
        """These are about to be asked for: their messages may come from now on."""

    def joined(self, streams: Sequence[Stream]) -> None:
        """These were asked for."""

    def parted(self, streams: Sequence[Stream]) -> None:
        """Of these nothing comes any more."""


class Requests:
    """The changes and repairs of one connection, and what the exchange answers.

    Args:
        plan: What its URL names.
        venue: The market.
        pace: Keeps our messages within what the exchange takes.
        log: Where events go.
        port: Told what is carried beside the streams of the URL.

    Attributes:
        shutdown: Set when the exchange says that it will end the connection.
    """

    def __init__(self, plan: ConnectionPlan, venue: Venue, pace: Pace, log: Any, port: Carrier) -> None:
        self.shutdown = trio.Event()
        self._carried = {stream.name: stream for stream in plan.streams}
        self._wanted = self._carried
        self._venue = venue
        self._pace = pace
        self._log = log
        self._port = port
        self._repairs: dict[str, None] = {}  # In the order of asking.
        self._under_way: frozenset[str] = frozenset()
        self._has_work = trio.Event()
        self._part_at = -math.inf  # Not earlier, after one that failed.
        self._lingering: dict[str, Stream] = {}  # Unsubscribed, until `_linger_until`.
        self._linger_until = math.inf
        self._ids = itertools.count(1)
        self._asked_id = 0
        self._answer = ""
        self._answered = trio.Event()
        self._unknown = 0

    def aim(self, streams: Sequence[Stream]) -> None:
        """The connection should carry these from now on, and no others."""
        self._wanted = {stream.name: stream for stream in streams}
        self._has_work.set()

    def resubscribe(self, name: str) -> bool:
        """Ask for a repair of a stream, by its name; False when it is not here, or a repair is under way."""
        is_here = name in self._carried and name in self._wanted
        if not is_here or name in self._repairs or name in self._under_way:
            return False
        self._repairs[name] = None
        self._has_work.set()
        return True

    async def run(self, transport: Transport) -> None:
        """Make changes and repairs as they are asked for, until cancelled or the connection ends."""
        while True:
            if ended := self._ended(trio.current_time()):
                await self._part(transport, ended)
            elif new := self._new():
                await self._join(transport, new)
            elif repairs := tuple(itertools.islice(self._repairs, STREAMS_PER_REQUEST_MAX)):
                await self._repair(transport, repairs)
            else:
                self._has_work = trio.Event()
                retry_at = self._part_at if self._carried.keys() - self._wanted.keys() else math.inf
                with trio.move_on_at(min(retry_at, self._linger_until)):
                    await self._has_work.wait()
            if trio.current_time() >= self._linger_until:
                self._let_go()

    def _let_go(self) -> None:
        """Nothing is expected any more of what was unsubscribed."""
        self._port.parted(tuple(self._lingering.values()))
        self._lingering.clear()
        self._linger_until = math.inf

    def _ended(self, now: float) -> list[Stream]:
        """What is carried and should not be."""
        if now < self._part_at:
            return []
        ended = (stream for name, stream in self._carried.items() if name not in self._wanted)
        return list(itertools.islice(ended, STREAMS_PER_REQUEST_MAX))

    def _new(self) -> list[Stream]:
        """What should be carried and is not, as far as there is room."""
        room = self._venue.limits.streams_per_connection - len(self._carried)
        new = (stream for name, stream in self._wanted.items() if name not in self._carried)
        return list(itertools.islice(new, max(0, min(room, STREAMS_PER_REQUEST_MAX))))

    async def _part(self, transport: Transport, streams: Sequence[Stream]) -> None:
        if not await self._ask(transport, "UNSUBSCRIBE", self._venue.unsubscribe, streams):
            self._part_at = trio.current_time() + PART_RETRY_SEC
            return
        for stream in streams:
            self._lingering[stream.name] = self._carried.pop(stream.name)
            self._repairs.pop(stream.name, None)
        self._linger_until = trio.current_time() + LINGER_SEC
        self._log.info("streams_unsubscribed", streams=_names(streams), count=len(streams))

    async def _join(self, transport: Transport, streams: Sequence[Stream]) -> None:
        if any(stream.name in self._lingering for stream in streams):
            self._let_go()
        self._port.joining(streams)
        self._carried.update((stream.name, stream) for stream in streams)
        is_done = await self._ask(transport, "SUBSCRIBE", self._venue.subscribe, streams)
        self._port.joined(streams)
        if is_done:
            self._log.info("streams_subscribed", streams=_names(streams), count=len(streams))

    async def _repair(self, transport: Transport, names: Sequence[str]) -> None:
        for name in names:
            del self._repairs[name]
        streams = [self._carried[name] for name in names]
        self._under_way = frozenset(names)
        await self._ask(transport, "UNSUBSCRIBE", self._venue.unsubscribe, streams)
        if await self._ask(transport, "SUBSCRIBE", self._venue.subscribe, streams):
            self._log.info("stream_resubscribed", streams=_names(streams), count=len(streams))
        self._under_way = frozenset()

    async def _ask(
        self,
        transport: Transport,
        method: str,
        make_text: Callable[[int, Sequence[Stream]], str],
        streams: Sequence[Stream],
    ) -> bool:
        """Make a request and wait for its answer; False when it failed for good, which has been logged."""
        for attempt in range(1, TRIES + 1):
            await self._pace.wait()
            self._asked_id, self._answer, self._answered = next(self._ids), "no answer", trio.Event()
            await transport.send(make_text(self._asked_id, streams))
            with trio.move_on_after(REPLY_SEC):
                await self._answered.wait()
            self._asked_id = 0
            if not self._answer:
                return True
            self._log.warning(
                "subscribe_failed",
                method=method,
                detail=self._answer,
                streams=_names(streams),
                count=len(streams),
                attempt_of_request=attempt,
            )
        return False

    def hear(self, text: bytes) -> None:
        """Read what the exchange says about itself: an answer, an error, or that it will shut down."""
        try:
            notice = decode_notice(text)
        except DECODE_ERRORS:
            self._log_unknown(text)
            return
        if _SHUTDOWN in (notice.e, notice.stream.removeprefix("!")):
            self._log.warning("server_shutdown")
            self.shutdown.set()
            return
        is_error = notice.code is not None or notice.error is not None
        is_ours = notice.id == self._asked_id or (notice.id is None and is_error)
        if not self._asked_id or not is_ours:
            self._log_unknown(text)
            return
        self._answer = _readable(text) if is_error else ""
        self._answered.set()

    def _log_unknown(self, text: bytes) -> None:
        self._unknown += 1
        if self._unknown <= _UNKNOWN_LOGGED_MAX:
            self._log.warning("reply_unknown", text=_readable(text), expected_id=self._asked_id)


def _names(streams: Sequence[Stream]) -> list[str]:
    return [stream.name for stream in streams[:_NAMES_LOGGED_MAX]]


def _readable(text: bytes) -> str:
    return text[:_TEXT_LOGGED_BYTES].decode("utf-8", "replace")
