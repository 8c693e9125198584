"""What REST answers from: the last trades, candles and the book of one symbol, bounded. Pure.

It is filled where the streams' messages are made, so that both say the same.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.simulator.events import AggTrade, Kline, Levels, Trade

KLINES_MAX = 1500
_T = TypeVar("_T")


@attrs.frozen
class Snapshot:
    """A book at one moment.

    Attributes:
        last_update_id: The last change it holds.
        time_us: When that was.
        bids: Best first.
        asks: Best first.
        text: The recorded answer, where it was asked for whole and nothing has changed since.
    """

    last_update_id: int
    time_us: int
    bids: Levels
    asks: Levels
    text: bytes | None = None


class Books(Protocol):
    """Whoever keeps a symbol's book."""

    def snapshot(self, limit: int) -> Snapshot | None:
        """The best `limit` levels a side; None while there is no book."""

    def current_kline(self) -> Kline | None:
        """The candle that is still open, if there is one."""


class History:
    """The past of one symbol.

    Attributes:
        symbol: In upper case.
        trades: Oldest first, ids in a row.
        agg_trades: Oldest first, ids in a row.
        klines: Closed candles, oldest first.
        books: The present.
    """

    def __init__(self, symbol: str, trades_max: int, books: Books) -> None:
        self.symbol = symbol
        self.trades: deque[Trade] = deque(maxlen=trades_max)
        self.agg_trades: deque[AggTrade] = deque(maxlen=trades_max)
        self.klines: deque[Kline] = deque(maxlen=KLINES_MAX)
        self.books = books

    def trades_from(self, trade_id: int, limit: int) -> list[Trade]:
        """Up to `limit` trades with that id or a higher one, oldest first."""
        if not self.trades:
            return []
        start = max(0, trade_id - self.trades[0].trade_id)
        return list(islice(self.trades, start, start + limit))

    def last_trades(self, limit: int) -> list[Trade]:
        """The newest `limit` trades, oldest first."""
        return _last(self.trades, limit)

    def agg_trades_from(self, agg_trade_id: int, limit: int) -> list[AggTrade]:
        """Up to `limit` aggregate trades with that id or a higher one, oldest first."""
        if not self.agg_trades:
            return []
        start = max(0, agg_trade_id - self.agg_trades[0].agg_trade_id)
        return list(islice(self.agg_trades, start, start + limit))

    def agg_trades_between(self, start_us: int, end_us: int, limit: int) -> list[AggTrade]:
        """Up to `limit` aggregate trades in a time span, both ends included, oldest first."""
        found: Iterator[AggTrade] = (trade for trade in self.agg_trades if start_us <= trade.time_us <= end_us)
        return list(islice(found, limit))

    def last_agg_trades(self, limit: int) -> list[AggTrade]:
        """The newest `limit` aggregate trades, oldest first."""
        return _last(self.agg_trades, limit)

    def klines_between(self, start_us: int, end_us: int, limit: int | None) -> list[Kline]:
        """Candles that open in a time span, the open one included, oldest first; the first `limit` of them."""
        return list(islice((kline for kline in self._all_klines() if start_us <= kline.open_us <= end_us), limit))

    def _all_klines(self) -> Iterator[Kline]:
        yield from self.klines
        current = self.books.current_kline()
        if current is not None:
            yield current


def _last(items: deque[_T], limit: int) -> list[_T]:
    return list(islice(items, max(0, len(items) - limit), None))
