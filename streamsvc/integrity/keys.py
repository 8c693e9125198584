"""What identifies a row of each kind, and what its ids cover, over the columns of one file (pure numpy).

A key is a row of int64 numbers: two rows of one stream with equal keys are the same message (the same level of the same
update, for order books), whichever connection brought it. Kinds without an id follow `binance.md`: the same message
twice is markPrice by (symbol, event time), kline by (symbol, open time, event time), forceOrder by its whole order.
What a connection itself stamps (`receive_time`, and spot's `exchange_time` of a bookTicker) is in no key of a stream. A
snapshot of an order book is identified by when it was fetched as well: two of a quiet book have the same update id. A
derived row is identified by its time bin, whose beginning is its `exchange_time`, and its revision: a later revision is
another row.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from streamsvc.integrity.sequence import IdRange
from streamsvc.schema import COLUMNS, DERIVED_KINDS, Kind, Market

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
    Kind.KLINE_1M: ("event_time", "open_time"),
    Kind.MARK_PRICE: ("exchange_time",),
    Kind.FORCE_ORDER: (
        "exchange_time",
        "side",
        "order_type",
        "time_in_force",
        "price",
        "average_price",
        "quantity",
        "filled_quantity",
        "status",
    ),
    Kind.DEPTH_SNAPSHOT: ("last_update_id", "receive_time", "side", "price"),
    Kind.INSTRUMENT: ("exchange_time",),
    **dict.fromkeys(DERIVED_KINDS, ("exchange_time", "revision")),
}
"""The first column grows along a stream, so that files of one stream that follow each other do not overlap in it."""

COUNTED_KINDS = frozenset({Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.KLINE_1M})
"""The kinds of which a missing message can be seen."""

_RANGE_COLUMNS: dict[Kind, tuple[str, ...]] = {
    Kind.DEPTH: ("previous_final_update_id",),
    Kind.KLINE_1M: ("is_closed",),
}
"""What is read beside the key to know which ids a row covers."""


@attrs.frozen
class StreamPart:
    """The rows of one stream in one file.

    Attributes:
        rows: Their number.
        duplicates: Rows whose key another row before them has.
        first_key: The least value of the first key column.
        last_key: The greatest.
        ranges: The ids that are covered, disjoint and ascending; empty for kinds whose gaps cannot be seen.
    """

    rows: int
    duplicates: int
    first_key: int
    last_key: int
    ranges: list[IdRange]


def columns_needed(kind: Kind) -> list[str]:
    """The columns that the functions here read of a kind."""
    epoch = ["epoch"] if "epoch" in COLUMNS[kind] else []
    return ["symbol", *epoch, *KEY_COLUMNS[kind], *_RANGE_COLUMNS.get(kind, ())]


def split_streams(kind: Kind, market: Market, columns: Columns) -> dict[tuple[str, int], StreamPart]:
    """What one file holds of each stream, by symbol and epoch. The file has at least one row."""
    symbols, codes = _codes(columns["symbol"])
    epochs = _epochs(columns, len(codes))
    keys = [_as_int64(columns[name]) for name in KEY_COLUMNS[kind]]
    order = np.lexsort((*reversed(keys), epochs, codes))
    is_same_stream = _repeats(codes[order]) & _repeats(epochs[order])
    is_same_row = is_same_stream.copy()
    for key in keys:
        is_same_row &= _repeats(key[order])
    starts, ends, counted = covered_by_rows(kind, market, columns)
    places = np.flatnonzero(~is_same_stream)
    parts: dict[tuple[str, int], StreamPart] = {}
    for begin, end in zip(places.tolist(), [*places[1:].tolist(), len(order)], strict=True):
        rows = order[begin:end]
        own = rows[counted[rows]]
        parts[symbols[codes[rows[0]]], int(epochs[rows[0]])] = StreamPart(
            rows=len(rows),
            duplicates=int(is_same_row[begin:end].sum()),
            first_key=int(keys[0][rows[0]]),
            last_key=int(keys[0][rows[-1]]),
            ranges=runs(starts[own], ends[own]),
        )
    return parts


def stream_keys(  # noqa: PLR0913 - what to choose, and from where
    kind: Kind, columns: Columns, symbol: str, epoch: int, *, first: int, last: int
) -> NDArray[np.int64]:
    """The keys of one stream's rows between two values of the first key column: shape (rows, key columns)."""
    order_key = _as_int64(columns[KEY_COLUMNS[kind][0]])
    chosen = (columns["symbol"] == symbol) & (_epochs(columns, len(order_key)) == epoch)
    chosen &= (first <= order_key) & (order_key <= last)
    return np.stack([_as_int64(columns[name][chosen]) for name in KEY_COLUMNS[kind]], axis=1)


def shared_keys(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many keys two tables have in common."""
    both = np.concatenate([np.unique(one, axis=0), np.unique(other, axis=0)])
    return len(both) - len(np.unique(both, axis=0))


def covered_by_rows(
    kind: Kind, market: Market, columns: Columns
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """First and last id that each row covers, and whether it covers any."""
    every = np.ones(len(columns["symbol"]), np.bool_)
    if kind is Kind.DEPTH:
        ends = columns["final_update_id"]
        starts = columns["first_update_id"] if market is Market.SPOT else columns["previous_final_update_id"] + 1
        # An update whose ids are the wrong way round covers its last id alone.
        return np.minimum(starts, ends), ends, every
    if kind is Kind.KLINE_1M:
        minutes = columns["open_time"] // MINUTE_NS
        return minutes, minutes, columns["is_closed"].astype(np.bool_)
    ids = _as_int64(columns[KEY_COLUMNS[kind][0]])
    return ids, ids, every if kind in (Kind.TRADE, Kind.AGG_TRADE) else ~every


def runs(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[IdRange]:
    """The disjoint ranges that do not touch, which cover the same ids."""
    if not len(starts):
        return []
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    breaks = np.flatnonzero(starts[1:] > reach[:-1] + 1)
    firsts = starts[np.concatenate([[0], breaks + 1])]
    lasts = reach[np.concatenate([breaks, [len(reach) - 1]])]
    return [IdRange(first, last) for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]


def _repeats(sorted_values: NDArray[Any]) -> NDArray[np.bool_]:
    """For each value, whether it equals the one before."""
    repeats = np.zeros(len(sorted_values), np.bool_)
    repeats[1:] = sorted_values[1:] == sorted_values[:-1]
    return repeats


def _epochs(columns: Columns, rows: int) -> NDArray[Any]:
    """Kinds without ids have no epoch: their rows belong to one."""
    return columns.get("epoch", np.zeros(rows, np.int32))


def _codes(texts: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """The different texts, and for each row the place of its text among them."""
    places: dict[str, int] = {}
    codes = np.fromiter((places.setdefault(text, len(places)) for text in texts), np.int64, len(texts))
    return list(places), codes


def _as_int64(column: NDArray[Any]) -> NDArray[np.int64]:
    """The same equalities as int64, in every file the same: floats by their bits, texts by a hash."""
    if column.dtype.kind == "f":
        return column.astype(np.float64).view(np.int64)
    if column.dtype == object:
        texts, codes = _codes(column)
        hashes = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True) for text in texts]
        return np.array(hashes, np.int64)[codes]
    return column.astype(np.int64)
