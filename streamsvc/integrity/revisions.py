"""What holds of derived rows, of which one may be written again: the latest revision, and sums of those (pure).

A stored `cvd` is the sum as it was when its minute was written; deltas that were corrected later are not in it. So
readers sum anew. Where the sum begins is what the oldest minute says: its `cvd` without its own `delta`, which is 0
unless older days were removed. With `CVD_RESET=daily` the sum starts over at 0:00 UTC. No file says so, but the first
minute of such a day does: its stored `cvd` is its own `delta`, though the minute before it ended with another sum
than 0. Stored sums are taken of the lowest revision of a minute, since `cvd` and `delta` of that were written together.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsvc.schema import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]
    """Rows of one stream, all revisions of each, in any order; timestamps as int64 ns."""

DAY_NS = 86_400 * 10**9
_EXACT = Context(prec=100)
"""Sums of decimals that float64 holds need no more digits, unless they are 80 powers of ten apart."""


def latest(columns: Columns) -> NDArray[np.int64]:
    """The places of the rows that count, in the order of their time: of each bin the highest revision.

    Of a revision that is there twice, the row that was received first.
    """
    order = np.lexsort((columns["receive_time"], -columns["revision"].astype(np.int64), columns["open_time"]))
    return _first_of_each(columns, order)


def sum_deltas(columns: Columns) -> NDArray[np.float64]:
    """The `cvd` of the rows that `latest` chooses, of all minutes there are: exact decimal sums as float64."""
    order = np.lexsort((columns["receive_time"], columns["revision"], columns["open_time"]))
    first = _first_of_each(columns, order)
    stored, added = columns["cvd"][first], columns["delta"][first]
    starts_over = np.zeros(len(first), np.bool_)
    days = columns["open_time"][first] // DAY_NS
    starts_over[1:] = (days[1:] != days[:-1]) & (stored[1:] == added[1:]) & (stored[:-1] != 0)
    total, sums = Decimal(0), []
    if len(first):
        total = _EXACT.subtract(_decimal(float(stored[0])), _decimal(float(added[0])))
    deltas = columns["delta"][latest(columns)].tolist()
    for delta, is_first in zip(deltas, starts_over.tolist(), strict=True):
        total = _EXACT.add(Decimal(0) if is_first else total, _decimal(delta))
        sums.append(float(total))
    return np.array(sums, np.float64)


def _first_of_each(columns: Columns, order: NDArray[np.int64]) -> NDArray[np.int64]:
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = np.diff(columns["open_time"][order]) != 0
    return order[is_new]


def _decimal(value: float) -> Decimal:
    """The decimal that a float64 was made of, if that had 15 digits or fewer."""
    return Decimal(repr(value))


_TRADES = (Kind.TRADE, Kind.AGG_TRADE)
SOURCES: dict[Kind, tuple[tuple[Kind, ...], ...]] = {
    Kind.CVD_1M: (_TRADES,),
    Kind.BARS_1M: (_TRADES,),
    Kind.OFI_1S: ((Kind.BOOK_TICKER,),),
    Kind.OFI_1M: ((Kind.BOOK_TICKER,),),
    Kind.PRICES_1S: (_TRADES, (Kind.BOOK_TICKER,)),
}
"""What each derived kind is computed of: of each tuple the first kind that is recorded of the symbol."""
