"""How strict and how long-lived a market of the simulated exchange is."""

from __future__ import annotations

from typing import Literal

import attrs

from streamsvc.schema import Market

Start = Literal["now", "subscribed", "told"]


@attrs.frozen
class MarketOptions:
    """One market's rules; `default_options` gives the exchange's own.

    Attributes:
        ping_interval_sec: Between the server's pings; 0: none.
        pong_timeout_sec: A ping unanswered this long ends the connection.
        lifetime_sec: After this the server closes a connection.
        shutdown_notice_sec: So long before the end it sends `serverShutdown`.
        streams_max: Streams per connection; one more closes it with 1008.
        messages_per_sec_max: Messages a client may send in any second, control frames included; one more: 1008.
        url_length_max: In characters; longer: HTTP 414.
        attempts_max: Connection attempts per address in any five minutes; one more: HTTP 429.
        queue_max_bytes: Unsent bytes of a connection; more, and its slow reader is thrown out.
        weight_per_min: REST weight per address and minute.
        has_retry_after: Whether 429 and 418 carry `Retry-After`.
        trade_route: The futures route of `@trade`: `public` or `market`.
        start: When the market begins to move: `now`, with the first stream `subscribed`, or when `told`
            (`Exchange.begin`).
    """

    ping_interval_sec: float
    pong_timeout_sec: float
    lifetime_sec: float = 24 * 3600.0
    shutdown_notice_sec: float = 10.0
    streams_max: int = 1024
    messages_per_sec_max: int = 10
    url_length_max: int = 8192
    attempts_max: int = 300
    queue_max_bytes: int = 32 << 20
    weight_per_min: int = 2400
    has_retry_after: bool = True
    trade_route: Literal["public", "market"] = "public"
    start: Start = "now"


_DEFAULTS = {
    Market.SPOT: MarketOptions(
        ping_interval_sec=20.0, pong_timeout_sec=60.0, messages_per_sec_max=5, weight_per_min=6000
    ),
    Market.FUTURES: MarketOptions(ping_interval_sec=180.0, pong_timeout_sec=600.0),
}


def default_options(market: Market) -> MarketOptions:
    """The exchange's own rules; change them with `attrs.evolve`."""
    return _DEFAULTS[market]
