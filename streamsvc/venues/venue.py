"""What the recorder asks of an exchange's market, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamsvc.schema import Kind, Market


@attrs.frozen
class Limits:
    """What the exchange tolerates.

    Attributes:
        streams_per_connection: Streams that one connection may carry.
        url_bytes: The longest URL it takes.
        messages_per_sec: Messages it takes from us on one connection; pings, pongs and requests all count.
        attempts: Connection attempts it takes from one address within `attempts_window_sec`.
        attempts_window_sec: The length of that window, wherever it begins.
    """

    streams_per_connection: int
    url_bytes: int
    messages_per_sec: int
    attempts: int = 300
    attempts_window_sec: int = 300


@attrs.frozen(cache_hash=True)
class Stream:
    """One subscribed stream: a kind of message of one symbol.

    Attributes:
        market: The market.
        kind: The kind of its messages.
        symbol: The symbol in upper case.
        name: What the exchange calls the stream, e.g. `btcusdt@depth@100ms`.
        route: The part of the exchange's URL that serves it, `""` where there are no routes.
        period_ms: The time between two messages of a stream that speaks by the clock, else 0.
    """

    market: Market
    kind: Kind
    symbol: str
    name: str
    route: str = ""
    period_ms: int = 0


class Venue(Protocol):
    """A market of an exchange."""

    @property
    def market(self) -> Market:
        """The market."""

    @property
    def base_url(self) -> str:
        """The WebSocket base URL in force, without path."""

    @property
    def limits(self) -> Limits:
        """What the exchange tolerates."""

    def stream(self, symbol: str, kind: Kind) -> Stream:
        """The stream of a symbol and a kind, at the speed of the settings."""

    def url(self, route: str, streams: Sequence[Stream]) -> str:
        """The URL of a connection that carries these streams from its start, every message with its stream's name."""

    def subscribe(self, request_id: int, streams: Sequence[Stream]) -> str:
        """The request that adds streams to a connection."""

    def unsubscribe(self, request_id: int, streams: Sequence[Stream]) -> str:
        """The request that ends streams of a connection."""

    def other_route(self, stream: Stream) -> Stream | None:
        """The same stream on the next route to try while it is not known which one serves it; None: it is known."""
