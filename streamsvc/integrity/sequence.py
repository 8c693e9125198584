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

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable


@attrs.frozen(order=True)
class IdRange:
    """A closed range of ids."""

    first: int
    last: int


class Coverage:
    """Which ids of one stream are there: disjoint ranges that never touch, however many pieces they came in.

    Ranges may overlap: two connections can cut the same order-book updates into different windows. Memory grows with
    the number of gaps, not of ids.
    """

    def __init__(self) -> None:
        self._ranges: list[IdRange] = []

    def add(self, ranges: Iterable[IdRange]) -> None:
        """Add ranges, in any order."""
        merged: list[IdRange] = []
        for piece in sorted([*self._ranges, *ranges]):
            if merged and piece.first <= merged[-1].last + 1:
                if piece.last > merged[-1].last:
                    merged[-1] = IdRange(merged[-1].first, piece.last)
            else:
                merged.append(piece)
        self._ranges = merged

    @property
    def ranges(self) -> tuple[IdRange, ...]:
        """What is covered, ascending."""
        return tuple(self._ranges)

    def gaps(self) -> list[IdRange]:
        """What is missing between the first and the last id that are there, ascending."""
        return [
            IdRange(before.last + 1, after.first - 1)
            for before, after in zip(self._ranges, self._ranges[1:], strict=False)
        ]
