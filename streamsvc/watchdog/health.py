"""How every stream is doing, by monotonic time. Pure: the clock is an argument.

A stream is judged on its own: its connection may live and its neighbours flow while it has died. Trades stall after
`TRADE_TIMEOUT`, book kinds after `ORDERBOOK_TIMEOUT`; `forceOrder` never does: there the exchange may say nothing.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

import attrs

from streamsvc.schema import BOOK_KINDS, TRADE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    """One stream's marks. The intake counts, connections say when they are up, the watch takes the rate.

    Attributes:
        stream: The stream, on the route that it was last subscribed on.
        messages: Accepted messages since the start.
        more_rows: Rows that they become beyond one each: an order-book level is a row.
        last_message: Monotonic time of the last one, seconds; None before the first.
        quiet_at: When the exchange said last that it has sent nothing more; the silence counts from then on.
        late_messages: Messages since the start whose receive time lay too far behind their event time.
        latency_ms: How far that was for the last of them.
        subscribed_at: Since when the stream is subscribed, monotonic seconds; None while its connection is down.
        first_subscribed_at: When it was subscribed for the first time.
        connection: The same text for streams that share a connection; empty before the first subscribing.
        messages_per_sec: The rate between the last two looks of the watch.
    """

    stream: Stream
    messages: int = 0
    more_rows: int = 0
    last_message: float | None = None
    quiet_at: float = -math.inf
    late_messages: int = 0
    latency_ms: int = 0
    subscribed_at: float | None = None
    first_subscribed_at: float | None = None
    connection: str = ""
    messages_per_sec: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that the accepted messages become."""
        return self.messages + self.more_rows

    def age_sec(self, now: float) -> float | None:
        """Seconds since the last message, or since the first subscribing if none ever came; None before that."""
        since = self.first_subscribed_at if self.last_message is None else self.last_message
        return None if since is None else now - since

    def verdict(self, now: float, timeouts: Timeouts) -> Verdict:
        """How the stream is doing. The time that its connection was down does not count as its silence."""
        if self.subscribed_at is None:
            return Verdict.DISCONNECTED
        timeout_sec = timeouts.of(self.stream.kind)
        if timeout_sec is None:
            return Verdict.OK
        has_flowed = self.last_message is not None and self.last_message >= self.subscribed_at
        since = self.last_message if has_flowed and self.last_message is not None else self.subscribed_at
        silence_sec = now - max(since, self.quiet_at)
        if silence_sec > timeout_sec:
            return Verdict.STALLED
        if not has_flowed and silence_sec > timeouts.first_message_sec:
            return Verdict.SUSPECT
        return Verdict.OK


class Health:
    """The health of every stream that is recorded, by market and name.

    Args:
        streams: Every stream that may come, each name once a market.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._slots = {(stream.market, stream.name): StreamHealth(stream) for stream in streams}

    def slots(self) -> list[StreamHealth]:
        """All streams, in the order they were given."""
        return list(self._slots.values())

    def slot(self, market: Market, name: str) -> StreamHealth:
        """The stream of a name; KeyError if it is none of ours."""
        return self._slots[market, name]

    def subscribed(self, streams: Sequence[Stream], now: float) -> None:
        """A connection is up and its streams were asked for; streams named together share it."""
        if not streams:
            return
        connection = f"{streams[0].market.label}/{streams[0].name}"
        for stream in streams:
            slot = self._slots[stream.market, stream.name]
            slot.stream = stream
            slot.connection = connection
            slot.subscribed_at = now
            if slot.first_subscribed_at is None:
                slot.first_subscribed_at = now

    def unsubscribed(self, streams: Iterable[Stream]) -> None:
        """The connection of these streams is gone, or was never made."""
        for stream in streams:
            self._slots[stream.market, stream.name].subscribed_at = None
