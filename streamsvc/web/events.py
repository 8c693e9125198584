"""Server-sent events of one symbol, for the live page: its windows at once, then what is new in them each second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import trio
from starlette.responses import JSONResponse, Response, StreamingResponse

from streamsvc.schema import MARKETS_BY_LABEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from streamsvc.analytics.symbol import SymbolAnalytics
    from streamsvc.schema import Market
    from streamsvc.web.status import Watched

STREAMS_MAX = 20
EVERY_SEC = 1.0


class EventStreams:
    """Makes streams, a bounded number at once.

    Args:
        watched: The recorder.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._open = 0

    async def open(self, request: Request) -> Response:
        """`/events?market=spot&symbol=BTCUSDT`."""
        label, symbol = request.query_params.get("market", ""), request.query_params.get("symbol", "")
        market = MARKETS_BY_LABEL.get(label)
        if market is None or not symbol:
            return JSONResponse({"error": "say market=spot or market=futures, and symbol=..."}, 400)
        if not self._is_recorded(market, symbol):
            return JSONResponse({"error": f"{symbol[:60]} is not recorded in {label}"}, 404)
        if self._open >= STREAMS_MAX:
            return JSONResponse({"error": "too many pages are open; close one"}, 503, headers={"retry-after": "10"})
        return StreamingResponse(self._events(market, symbol), media_type="text/event-stream")

    def _is_recorded(self, market: Market, symbol: str) -> bool:
        streams = self._watched.live.health.streams()
        return any((stream.market, stream.symbol) == (market, symbol) for stream in streams)

    async def _events(self, market: Market, symbol: str) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            told: dict[str, int] = {}
            name = b"window"
            while self._is_recorded(market, symbol):
                of_symbol = self._watched.live.analytics.symbol(market, symbol)
                found = {} if of_symbol is None else _points(of_symbol, told)
                yield b"event: %b\ndata: %b\n\n" % (name, orjson.dumps(found)) if found else b": nothing new\n\n"
                name = b"points" if found else name
                await trio.sleep(EVERY_SEC)
        finally:
            self._open -= 1


def _points(of_symbol: SymbolAnalytics, told: dict[str, int]) -> dict[str, Any]:
    """The rows that have come since the last time, by kind, and what is known now; `told` is brought up to date."""
    found: dict[str, Any] = {}
    for kind, window in of_symbol.windows.items():
        fresh = window.changed - told.get(kind.label, 0)
        told[kind.label] = window.changed
        # A row that was corrected may stand further back; then a few more are told again.
        if fresh:
            found[kind.label] = list(window.rows(fresh if window.changed == window.added else fresh + KEPT_BACK))
    quote = of_symbol.quotes.last
    found["cvd"] = str(of_symbol.trades.cvd)
    found["last_price"] = None if of_symbol.trades.last_price is None else str(of_symbol.trades.last_price)
    for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity"):
        found[name] = None if quote is None else str(getattr(quote, name))
    return found


KEPT_BACK = 15
"""So many minutes can be corrected."""
