"""Binance USD-M futures: names of streams, routes, URL, limits (the exchange's documents of August 2026).

A stream asked for on a route that does not serve it is accepted and then stays silent, so each stream knows its route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_requests import combined_path, request
from streamsvc.venues.venue import Limits, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLACES = {
    Kind.AGG_TRADE: ("market", "aggTrade"),
    Kind.BOOK_TICKER: ("public", "bookTicker"),
    Kind.KLINE_1M: ("market", "kline_1m"),
    Kind.FORCE_ORDER: ("market", "forceOrder"),
}
_OTHER_ROUTE = {"public": "market", "market": "public"}


@attrs.frozen
class BinanceFutures:
    """Binance's USD-M futures market.

    Attributes:
        base_url: The WebSocket base URL, without path.
        depth_ms: The speed asked of the order-book diffs: 0, 100, 250 or 500; 250 is the exchange's default.
        mark_price_sec: The speed asked of the mark price: 1 or 3; 3 is the exchange's default.
        trade_route: The route of `trade`, which the documents leave open; `auto` begins with `public`.
    """

    base_url: str
    depth_ms: int = 100
    mark_price_sec: int = 1
    trade_route: Literal["auto", "public", "market"] = "auto"
    market: Market = Market.FUTURES
    # The documents say 1024 streams; several clients met a limit of 200.
    limits: Limits = Limits(streams_per_connection=200, url_bytes=8000, messages_per_sec=10)

    def stream(self, symbol: str, kind: Kind) -> Stream:
        """The stream of a symbol and a kind, on its route."""
        route, suffix = self._place(kind)
        period_ms = 1000 * self.mark_price_sec if kind is Kind.MARK_PRICE else 0
        return Stream(self.market, kind, symbol, f"{symbol.lower()}@{suffix}", route, period_ms)

    def _place(self, kind: Kind) -> tuple[str, str]:
        if kind is Kind.DEPTH:
            return "public", "depth" if self.depth_ms == 250 else f"depth@{self.depth_ms}ms"
        if kind is Kind.MARK_PRICE:
            return "market", "markPrice@1s" if self.mark_price_sec == 1 else "markPrice"
        if kind is Kind.TRADE:
            return "public" if self.trade_route == "auto" else self.trade_route, "trade"
        return _PLACES[kind]

    def url(self, route: str, streams: Sequence[Stream]) -> str:
        """The URL of the combined form on a route."""
        return f"{self.base_url}/{route}/{combined_path(streams)}"

    def subscribe(self, request_id: int, streams: Sequence[Stream]) -> str:
        """The request that adds streams."""
        return request("SUBSCRIBE", request_id, streams)

    def unsubscribe(self, request_id: int, streams: Sequence[Stream]) -> str:
        """The request that ends streams."""
        return request("UNSUBSCRIBE", request_id, streams)

    def other_route(self, stream: Stream) -> Stream | None:
        """`trade` on the other route where the settings leave the route open."""
        if stream.kind is not Kind.TRADE or self.trade_route != "auto":
            return None
        return attrs.evolve(stream, route=_OTHER_ROUTE[stream.route])
