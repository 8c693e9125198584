"""Names of streams, and which futures route serves which of them. Pure."""

from __future__ import annotations

import re
from typing import Literal

import attrs

from streamsvc.schema import Market

Route = Literal["public", "market", "none"]
"""The first part of a futures URL; `none` still serves public data."""

StreamKind = Literal["trade", "aggTrade", "depth", "partial", "bookTicker", "kline", "markPrice", "forceOrder"]

PUBLIC_KINDS = frozenset({"depth", "partial", "bookTicker"})
DEPTH_SPEEDS_MS = {Market.SPOT: (1000, 100), Market.FUTURES: (250, 0, 100, 500)}
"""The first of each is what a name without a speed means."""
PARTIAL_LEVELS = (5, 10, 20)
ALL_SYMBOLS = "!"

_SPOT_NAMES: dict[str, tuple[StreamKind, int]] = {
    "trade": ("trade", 0),
    "aggTrade": ("aggTrade", 0),
    "bookTicker": ("bookTicker", 0),
    "kline_1m": ("kline", 0),
}
_FUTURES_NAMES: dict[str, tuple[StreamKind, int]] = {
    **_SPOT_NAMES,
    "forceOrder": ("forceOrder", 0),
    "markPrice": ("markPrice", 3000),
    "markPrice@1s": ("markPrice", 1000),
}
_PLAIN_NAMES: dict[Market, dict[str, tuple[StreamKind | None, int]]] = {
    Market.SPOT: {**_SPOT_NAMES},
    Market.FUTURES: {**_FUTURES_NAMES},
}
_DEPTH = re.compile(r"depth(?P<levels>\d*)(@(?P<speed>\d+)ms)?")


@attrs.frozen
class Stream:
    """A stream that the exchange knows.

    Attributes:
        market: Where.
        kind: What it carries.
        symbol: In lower case; `ALL_SYMBOLS` for a stream of all of them.
        speed_ms: The width of a window (depth), the interval (mark price); 0 elsewhere or for "at once".
        levels: Of a partial book; 0 elsewhere.
    """

    market: Market
    kind: StreamKind
    symbol: str
    speed_ms: int = 0
    levels: int = 0

    @property
    def canonical(self) -> str:
        """One name for all ways to write the stream: what the ledger and the faults call it."""
        if self.symbol == ALL_SYMBOLS:
            return f"!{self.kind}@arr"
        if self.kind == "depth":
            return f"{self.symbol}@depth@{self.speed_ms}ms"
        if self.kind == "partial":
            return f"{self.symbol}@depth{self.levels}@{self.speed_ms}ms"
        if self.kind == "markPrice":
            return f"{self.symbol}@markPrice" + ("@1s" if self.speed_ms == 1000 else "")
        if self.kind == "kline":
            return f"{self.symbol}@kline_1m"
        return f"{self.symbol}@{self.kind}"

    @property
    def is_chained(self) -> bool:
        """Whether its messages' ids leave no hole between them."""
        return self.kind in ("trade", "aggTrade", "depth")


def parse_stream(market: Market, name: str) -> Stream | None:
    """The stream of a name as a client writes it; None for one that nobody serves (it is accepted and stays silent)."""
    symbol, _, what = name.partition("@")
    if name == "!forceOrder@arr" and market is Market.FUTURES:
        return Stream(market, "forceOrder", ALL_SYMBOLS)
    if not symbol or symbol.lower() != symbol:
        return None
    if what.startswith("depth"):
        return _parse_depth(market, symbol, what)
    kind, speed_ms = _PLAIN_NAMES[market].get(what, (None, 0))
    return Stream(market, kind, symbol, speed_ms) if kind is not None else None


def _parse_depth(market: Market, symbol: str, what: str) -> Stream | None:
    match = _DEPTH.fullmatch(what)
    if match is None:
        return None
    speeds_ms = DEPTH_SPEEDS_MS[market]
    speed_ms = int(match["speed"]) if match["speed"] else speeds_ms[0]
    if speed_ms not in speeds_ms:
        return None
    if not match["levels"]:
        return Stream(market, "depth", symbol, speed_ms)
    levels = int(match["levels"])
    return Stream(market, "partial", symbol, speed_ms, levels) if levels in PARTIAL_LEVELS else None


def is_served(stream: Stream, route: Route, trade_route: Route) -> bool:
    """Whether a connection on this route hears the stream; elsewhere it is accepted and stays silent.

    Args:
        stream: What was asked for.
        route: Where it was asked for; spot has no routes.
        trade_route: The futures route that carries `@trade`, on which public sources disagree.
    """
    if stream.market is Market.SPOT:
        return True
    is_public = trade_route == "public" if stream.kind == "trade" else stream.kind in PUBLIC_KINDS
    return (route != "market") if is_public else (route == "market")
