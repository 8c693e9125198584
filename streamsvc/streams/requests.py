"""What we ask of the exchange on an open connection: a repair is UNSUBSCRIBE, then SUBSCRIBE.

One request is under way at a time, so that an error without an id (Binance's spot errors have none) is known to be
about it. A request without an answer, or with an error, is made again a few times and logged each time.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

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
STREAMS_PER_REQUEST_MAX = 100
_NAMES_LOGGED_MAX = 5
_UNKNOWN_LOGGED_MAX = 10
_TEXT_LOGGED_BYTES = 200
_SHUTDOWN = "serverShutdown"


class Pace:
    """Keeps what we send within the messages a second that the exchange takes."""

    def __init__(self, per_sec: int) -> None:
        self._window = SlidingWindow(per_sec, BUDGET_WINDOW_SEC)

    async def wait(self) -> None:
        """Wait until a message may be sent, and count it."""
        await trio.sleep(self._window.reserve(trio.current_time()))


class Requests:
    """The repairs of one connection, and what the exchange answers.

    Attributes:
        shutdown: Set when the exchange says that it will end the connection.
    """

    def __init__(self, plan: ConnectionPlan, venue: Venue, pace: Pace, log: Any) -> None:
        self.shutdown = trio.Event()
        self._streams = {stream.name: stream for stream in plan.streams}
        self._venue = venue
        self._pace = pace
        self._log = log
        self._wanted: dict[Stream, None] = {}  # In the order of asking.
        self._under_way: frozenset[Stream] = frozenset()
        self._has_wanted = trio.Event()
        self._ids = itertools.count(1)
        self._asked_id = 0
        self._answer = ""
        self._answered = trio.Event()
        self._unknown = 0

    def resubscribe(self, name: str) -> bool:
        """Ask for a repair of a stream, by its name; False when it is not here, or a repair is under way."""
        stream = self._streams.get(name)
        if stream is None or stream in self._wanted or stream in self._under_way:
            return False
        self._wanted[stream] = None
        self._has_wanted.set()
        return True

    async def run(self, transport: Transport) -> None:
        """Make repairs as they are asked for, until cancelled or the connection ends."""
        while True:
            await self._has_wanted.wait()
            streams = tuple(itertools.islice(self._wanted, STREAMS_PER_REQUEST_MAX))
            for stream in streams:
                del self._wanted[stream]
            if not self._wanted:
                self._has_wanted = trio.Event()
            self._under_way = frozenset(streams)
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
