"""Binance spot: names of streams, URL, limits (the exchange's "WebSocket Streams" page of July 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_requests import combined_path, request
from streamsvc.venues.venue import Limits, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUFFIXES = {
    Kind.TRADE: "trade",
    Kind.AGG_TRADE: "aggTrade",
    Kind.BOOK_TICKER: "bookTicker",
    Kind.KLINE_1M: "kline_1m",
}


@attrs.frozen
class BinanceSpot:
    """Binance's spot market.

    Attributes:
        base_url: The WebSocket base URL, without path.
        depth_ms: The speed asked of the order-book diffs, 100 or 1000; the exchange's default needs no suffix.
    """

    base_url: str
    depth_ms: int = 100
    market: Market = Market.SPOT
    limits: Limits = Limits(streams_per_connection=1024, url_bytes=8000, messages_per_sec=5)

    def stream(self, symbol: str, kind: Kind) -> Stream:
        """The stream of a symbol and a kind."""
        if kind is Kind.DEPTH:
            suffix = "depth" if self.depth_ms == 1000 else f"depth@{self.depth_ms}ms"
        else:
            suffix = _SUFFIXES[kind]
        return Stream(self.market, kind, symbol, f"{symbol.lower()}@{suffix}")

    def url(self, route: str, streams: Sequence[Stream]) -> str:
        """The URL of the combined form; spot has no routes."""
        assert not route
        return f"{self.base_url}/{combined_path(streams)}"

    def subscribe(self, request_id: int, streams: Sequence[Stream]) -> str:
        """The request that adds streams."""
        return request("SUBSCRIBE", request_id, streams)

    def unsubscribe(self, request_id: int, streams: Sequence[Stream]) -> str:
        """The request that ends streams."""
        return request("UNSUBSCRIBE", request_id, streams)

    def other_route(self, stream: Stream) -> Stream | None:
        """None: spot has no routes."""
        del stream
        return None
