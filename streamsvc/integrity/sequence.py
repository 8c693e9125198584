"""What "no gap" means, kind by kind (pure).

Every message that the exchange counts covers a closed range of ids, and a stream without gaps is one range:

| kind | covers | source of the rule |
|---|---|---|
| trade, aggTrade | id … id | the id grows by exactly one a symbol |
| spot depth | `U` … `u` | each `U` is the previous `u` + 1; a second connection may cut the windows otherwise |
| futures depth | `pu` + 1 … `u` | each `pu` is the previous `u`; `U` > `pu` + 1 is normal |
| kline_1m | the minute it opened, closed candles only | one closed candle a minute |

The update ids of bookTicker never fall, but their gaps cannot be seen; the other kinds have no ids.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

import attrs

from streamsvc.schema import Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterable


_MINUTE_MS = 60_000


@attrs.frozen(order=True)
class IdRange:
    """A closed range of ids."""

    first: int
    last: int


def covered(market: Market, kind: Kind, head: Any) -> tuple[int, int]:
    """The first and the last id that a message of a stream covers.

    Args:
        market: Its market.
        kind: `trade`, `aggTrade`, `depth`, or `kline_1m` of a closed candle.
        head: The message, with the attributes of the heads in `venues.binance_heads`.
    """
    if kind is Kind.KLINE_1M:
        return head.k.t // _MINUTE_MS, head.k.t // _MINUTE_MS
    if kind is not Kind.DEPTH:
        return head.id, head.id
    return (head.U if market is Market.SPOT else head.pu + 1), head.u


class Coverage:
    """Which ids of one stream are there: disjoint ranges that never touch, however many pieces they came in.

    Pieces may overlap: two connections can cut the same order-book updates into different windows. Memory grows with
    the number of gaps, not of ids, and a piece that continues the stream costs nothing of what lies before.
    """

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, pieces: Iterable[IdRange]) -> None:
        """Add pieces, in any order."""
        firsts, lasts = self._firsts, self._lasts
        for piece in pieces:
            # The ranges from `begin` to before `end` overlap the piece or touch it: all of them become one.
            begin = bisect_left(lasts, piece.first - 1)
            end = bisect_right(firsts, piece.last + 1)
            first = min(piece.first, firsts[begin]) if begin < end else piece.first
            last = max(piece.last, lasts[end - 1]) if begin < end else piece.last
            firsts[begin:end] = [first]
            lasts[begin:end] = [last]

    def touches(self, first: int, last: int) -> bool:
        """Whether any id of a range is there."""
        return bisect_left(self._lasts, first) < bisect_right(self._firsts, last)

    def lacking(self, within: IdRange) -> list[IdRange]:
        """What of a range is not there, ascending."""
        begin, end = bisect_left(self._lasts, within.first), bisect_right(self._firsts, within.last)
        lasts = [within.first - 1, *self._lasts[begin:end]]
        firsts = [*self._firsts[begin:end], within.last + 1]
        return [IdRange(last + 1, first - 1) for last, first in zip(lasts, firsts, strict=True) if last + 1 < first]

    @property
    def ranges(self) -> tuple[IdRange, ...]:
        """What is covered, ascending."""
        return tuple(map(IdRange, self._firsts, self._lasts))

    def gaps(self) -> list[IdRange]:
        """What is missing between the first and the last id that are there, ascending."""
        return [IdRange(last + 1, first - 1) for last, first in zip(self._lasts, self._firsts[1:], strict=False)]
