"""What identifies a row of each kind, and what its ids cover, over the columns of one file (pure numpy).

A key is a table of int64 columns: two rows of one symbol with equal keys are the same message (the same level of the
same update, for order books). Kinds without an id follow `binance.md`: the same message twice is markPrice by (symbol,
event time), kline by (symbol, open time, event time), forceOrder by the whole order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from streamsvc.integrity.sequence import IdRange
from streamsvc.schema import Kind, Market

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Columns = Mapping[str, NDArray[Any]]
    """Columns by name: timestamps as int64 ns, strings as arrays of str objects."""

MINUTE_NS = 60_000_000_000

KEY_COLUMNS: dict[Kind, tuple[str, ...]] = {
    Kind.TRADE: ("trade_id",),
    Kind.AGG_TRADE: ("agg_trade_id",),
    Kind.DEPTH: ("final_update_id", "first_update_id", "side", "price"),
    Kind.BOOK_TICKER: ("update_id",),
    Kind.KLINE_1M: ("open_time", "event_time"),
    Kind.MARK_PRICE: ("exchange_time",),
    Kind.FORCE_ORDER: (
        "exchange_time", "event_time", "side", "price", "average_price", "quantity", "filled_quantity",
    ),
}  # fmt: skip
"""The first column orders a stream in time: a file's rows of one symbol lie between its least and its greatest."""

RANGE_COLUMNS: dict[Kind, tuple[str, ...]] = {
    Kind.DEPTH: ("previous_final_update_id",),
    Kind.KLINE_1M: ("is_closed",),
}
"""What is read beside the key to know which ids a row covers."""


@attrs.frozen
class StreamPart:
    """The rows of one stream in one file.

    Attributes:
        rows: Their number.
        duplicates: Keys that come more than once in this file.
        first_key: The least value of the first key column.
        last_key: The greatest.
        ranges: The ids that are covered; empty for kinds whose gaps cannot be seen.
    """

    rows: int
    duplicates: int
    first_key: int
    last_key: int
    ranges: list[IdRange]


def columns_needed(kind: Kind) -> list[str]:
    """The columns that `split_streams` reads of a kind."""
    epoch = ["epoch"] if kind in (Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.BOOK_TICKER) else []
    return ["symbol", *epoch, *KEY_COLUMNS[kind], *RANGE_COLUMNS.get(kind, ())]


def key_table(kind: Kind, columns: Columns) -> NDArray[np.int64]:
    """The key of every row: shape (rows, key columns), int64."""
    return np.stack([_as_int64(columns[name]) for name in KEY_COLUMNS[kind]], axis=1)


def split_streams(kind: Kind, market: Market, columns: Columns) -> dict[tuple[str, int], StreamPart]:
    """What one file holds of each stream, by symbol and epoch."""
    parts: dict[tuple[str, int], StreamPart] = {}
    symbols, codes = np.unique(columns["symbol"].astype(str), return_inverse=True)
    epochs = columns.get("epoch", np.zeros(len(codes), np.int64))
    keys = key_table(kind, columns)
    starts, ends, counted = _covered(kind, market, columns)
    for code, symbol in enumerate(symbols):
        of_symbol = codes == code
        for epoch in np.unique(epochs[of_symbol]):
            rows = np.flatnonzero(of_symbol & (epochs == epoch))
            own = keys[rows]
            parts[str(symbol), int(epoch)] = StreamPart(
                rows=len(rows),
                duplicates=len(own) - len(np.unique(own, axis=0)),
                first_key=int(own[:, 0].min()),
                last_key=int(own[:, 0].max()),
                ranges=_runs(starts[rows][counted[rows]], ends[rows][counted[rows]]),
            )
    return parts


def shared_keys(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many keys two tables have in common."""
    both = np.concatenate([np.unique(one, axis=0), np.unique(other, axis=0)])
    return len(both) - len(np.unique(both, axis=0))


def _covered(
    kind: Kind, market: Market, columns: Columns
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """First and last id that each row covers, and whether it covers any."""
    keys = _as_int64(columns[KEY_COLUMNS[kind][0]])
    every = np.ones(len(keys), np.bool_)
    if kind in (Kind.TRADE, Kind.AGG_TRADE):
        return keys, keys, every
    if kind is Kind.DEPTH and market is Market.SPOT:
        return columns["first_update_id"], keys, every
    if kind is Kind.DEPTH:
        return columns["previous_final_update_id"] + 1, keys, every
    if kind is Kind.KLINE_1M:
        minutes = keys // MINUTE_NS
        return minutes, minutes, columns["is_closed"].astype(np.bool_)
    return keys, keys, ~every


def _runs(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[IdRange]:
    """The disjoint ranges that do not touch, which cover the same ids."""
    if not len(starts):
        return []
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    breaks = np.flatnonzero(starts[1:] > reach[:-1] + 1)
    firsts = starts[np.concatenate([[0], breaks + 1])]
    lasts = reach[np.concatenate([breaks, [len(reach) - 1]])]
    return [IdRange(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]


def _as_int64(column: NDArray[Any]) -> NDArray[np.int64]:
    """The same equalities as int64: floats by their bits, sides by their first letter."""
    if column.dtype.kind == "f":
        return column.astype(np.float64).view(np.int64)
    if column.dtype.kind in "OUT":
        return np.array([ord(text[0]) if text else 0 for text in column], np.int64)
    return column.astype(np.int64)
