"""How every stream is doing on every connection that carries it, by monotonic time. Pure: the clock is an argument.

A stream is judged on its own: its connection may live and its neighbours flow while it has died. Trades stall after
`TRADE_TIMEOUT`, book kinds after `ORDERBOOK_TIMEOUT`; `forceOrder` never does: there the exchange may say nothing.
With `REDUNDANCY` it is judged once a copy, so that one that is silent is not hidden by another that flows.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

import attrs

from streamsvc.schema import BOOK_KINDS, TRADE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamsvc.schema import Kind, Market
    from streamsvc.venues.venue import Stream


class Verdict(enum.Enum):
    """What a look at a stream finds."""

    OK = "ok"
    SUSPECT = "suspect"
    """Subscribed for a while without a first message: a wrong route is accepted and silent."""
    STALLED = "stalled"
    DISCONNECTED = "disconnected"
    """Its connection is down; the supervisor is at it."""


@attrs.frozen
class Timeouts:
    """When silence counts, in seconds: `TRADE_TIMEOUT`, `ORDERBOOK_TIMEOUT`, `FIRST_MESSAGE_SEC`."""

    trade_sec: float
    book_sec: float
    first_message_sec: float

    def of(self, kind: Kind) -> float | None:
        """The silence after which a stream of the kind is stalled; None: never."""
        if kind in TRADE_KINDS:
            return self.trade_sec
        return self.book_sec if kind in BOOK_KINDS else None


@attrs.define(eq=False)
class StreamHealth:
    """One copy of a stream: its marks. The intake counts, connections say when they are up, the watch takes the rate.

    Attributes:
        stream: The stream, on the route that it was last subscribed on.
        copy: Which of the connections that carry it at once this is about, from 0.
        messages: Messages since the start that were accepted, which another copy had not brought before.
        size_bytes: Their bytes.
        more_rows: Rows that they become beyond one each: an order-book level is a row.
        last_message: Monotonic time of the last message, accepted or not, seconds; None before the first.
        quiet_at: When the exchange said last that it has sent nothing more; the silence counts from then on.
        late_messages: Messages since the start whose receive time lay too far behind their event time.
        latency_ms: How far that was for the last of them.
        subscribed_at: Since when the stream is subscribed, monotonic seconds; None while its connection is down.
        first_subscribed_at: When it was subscribed for the first time.
        connection: The name of its connection; empty before the first subscribing.
        opened: How many connections of this copy are up: two while one takes over.
        messages_per_sec: The rate between the last two looks of the watch.
    """

    stream: Stream
    copy: int = 0
    messages: int = 0
    size_bytes: int = 0
    more_rows: int = 0
    last_message: float | None = None
    quiet_at: float = -math.inf
    late_messages: int = 0
    latency_ms: int = 0
    subscribed_at: float | None = None
    first_subscribed_at: float | None = None
    connection: str = ""
    opened: int = 0
    messages_per_sec: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that the accepted messages become."""
        return self.messages + self.more_rows

    def age_sec(self, now: float) -> float | None:
        """Seconds since the last message, or since the first subscribing if none ever came; None before that."""
        since = self.first_subscribed_at if self.last_message is None else self.last_message
        return None if since is None else now - since

    @property
    def silent_since(self) -> float | None:
        """Since when it says nothing that it should say; None while its connection is down."""
        if self.subscribed_at is None:
            return None
        last_message = -math.inf if self.last_message is None else self.last_message
        return max(self.subscribed_at, self.quiet_at, last_message)

    def verdict(self, now: float, timeouts: Timeouts) -> Verdict:
        """How the stream is doing. The time that its connection was down does not count as its silence."""
        if self.subscribed_at is None or self.silent_since is None:
            return Verdict.DISCONNECTED
        timeout_sec = timeouts.of(self.stream.kind)
        if timeout_sec is None:
            return Verdict.OK
        has_flowed = self.last_message is not None and self.last_message >= self.subscribed_at
        silence_sec = now - self.silent_since
        if silence_sec > timeout_sec:
            return Verdict.STALLED
        if not has_flowed and silence_sec > timeouts.first_message_sec:
            return Verdict.SUSPECT
        return Verdict.OK


def _add(totals: dict[tuple[Market, Kind], tuple[int, int]], slot: StreamHealth) -> None:
    key = slot.stream.market, slot.stream.kind
    messages, size_bytes = totals.get(key, (0, 0))
    totals[key] = messages + slot.messages, size_bytes + slot.size_bytes


class Health:
    """The health of every stream that is recorded, by market and name; streams come and go.

    Args:
        streams: Every stream that may come, each name once a market.
        copies: How many connections carry each at once.
    """

    def __init__(self, streams: Iterable[Stream], copies: int = 1) -> None:
        self.copies = copies
        self._slots = {
            (stream.market, stream.name, copy): StreamHealth(stream, copy)
            for stream in streams
            for copy in range(copies)
        }
        self._ended: dict[tuple[Market, Kind], tuple[int, int]] = {}

    def totals(self) -> dict[tuple[Market, Kind], tuple[int, int]]:
        """Messages and bytes since the start by market and kind, those of streams that have ended included."""
        totals = dict(self._ended)
        for slot in self._slots.values():
            _add(totals, slot)
        return totals

    def add(self, stream: Stream) -> list[StreamHealth]:
        """Another stream may come from now on; returns its copies."""
        added = [StreamHealth(stream, copy) for copy in range(self.copies)]
        self._slots.update(((stream.market, stream.name, slot.copy), slot) for slot in added)
        return added

    def remove(self, stream: Stream) -> list[StreamHealth]:
        """A stream has ended, and no connection carries it any more; returns what was known of its copies."""
        removed = [self._slots.pop((stream.market, stream.name, copy)) for copy in range(self.copies)]
        for slot in removed:
            _add(self._ended, slot)
        return removed

    def slots(self) -> list[StreamHealth]:
        """All copies of all streams, in the order in which the streams were given or added."""
        return list(self._slots.values())

    def streams(self) -> list[Stream]:
        """All streams."""
        return [slot.stream for slot in self._slots.values() if slot.copy == 0]

    def slot(self, market: Market, name: str, copy: int = 0) -> StreamHealth:
        """A copy of the stream of a name; KeyError if it is none of ours."""
        return self._slots[market, name, copy]

    def subscribed(self, streams: Iterable[Stream], now: float, *, connection: str, copy: int = 0) -> None:
        """A connection of this name is up and its streams were asked for."""
        for stream in streams:
            slot = self._slots[stream.market, stream.name, copy]
            slot.stream = stream
            slot.connection = connection
            slot.opened += 1
            slot.subscribed_at = now
            if slot.first_subscribed_at is None:
                slot.first_subscribed_at = now

    def unsubscribed(self, streams: Iterable[Stream], copy: int = 0) -> None:
        """A connection of these streams that was up is gone."""
        for stream in streams:
            slot = self._slots[stream.market, stream.name, copy]
            slot.opened -= 1
            if not slot.opened:
                slot.subscribed_at = None
