"""The rows of one market and kind of a segment, gathered as columns and cut into row groups. Sealers only.

An order book's levels are kept as they came, sixteen bytes each, and become rows when their row group is written: the
memory of a sealer is bounded by its segment.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from streamsvc.persistence.decoding import DAY_NS, Chunk
from streamsvc.persistence.manifest import StreamRange
from streamsvc.schema import COLUMNS, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROW_GROUP_ROWS = 200_000
MINUTE_NS = 60_000_000_000
SIDES = ("", "bid", "ask")
ID_COLUMNS = {
    Kind.TRADE: "trade_id",
    Kind.AGG_TRADE: "agg_trade_id",
    Kind.DEPTH: "final_update_id",
    Kind.BOOK_TICKER: "update_id",
    Kind.DEPTH_SNAPSHOT: "last_update_id",
}
"""The column with the id by which a stream's place is known."""

LEVEL_KINDS = frozenset({Kind.DEPTH, Kind.DEPTH_SNAPSHOT})
"""Kinds of which every order-book level is a row."""

_DTYPES = {"timestamp": np.int64, "int64": np.int64, "int32": np.int32, "float64": np.float64, "bool": np.bool_}


@attrs.frozen
class DayTable:
    """The messages of one UTC day, in the order of the journal.

    Attributes:
        date: The day, e.g. `2024-08-08`.
        columns: One value a message, strings as codes.
        rows_each: How many rows each message becomes.
        levels: Of order books: price and quantity of all levels; else None.
        side_counts: Of order books: bids and asks of each message, one after the other; else None.
    """

    date: str
    columns: dict[str, NDArray[Any]]
    rows_each: NDArray[np.int64]
    levels: NDArray[np.float64] | None
    side_counts: NDArray[np.int64] | None

    @property
    def rows(self) -> int:
        """Rows of the day."""
        return int(self.rows_each.sum())


class Table:
    """What a segment holds of one market and kind.

    Attributes:
        labels: For each string column, the values so far and their codes.
    """

    def __init__(self, market: Market, kind: Kind) -> None:
        self.market = market
        self.kind = kind
        self._chunks: list[dict[str, NDArray[Any]]] = []
        self._levels: list[NDArray[np.float64]] = []
        self.labels: dict[str, dict[str, int]] = {}

    def add(self, chunk: Chunk, received_ns: NDArray[np.int64], epochs: NDArray[np.int32]) -> None:
        """Add decoded messages with their time of receipt and their epochs."""
        columns: dict[str, NDArray[Any]] = {"receive_time": received_ns, "epoch": epochs}
        for name, values in chunk.columns.items():
            columns[name] = values if isinstance(values, np.ndarray) else self._codes(name, values)
        columns.setdefault("exchange_time", received_ns)
        if chunk.levels is not None and chunk.bid_counts is not None and chunk.ask_counts is not None:
            self._levels.append(chunk.levels)
            columns["bids"], columns["asks"] = chunk.bid_counts, chunk.ask_counts
        self._chunks.append(columns)

    def _codes(self, name: str, values: list[str]) -> NDArray[np.int32]:
        labels = self.labels.setdefault(name, {})
        try:
            return np.fromiter(map(labels.__getitem__, values), np.int32, len(values))
        except KeyError:
            pass
        return np.fromiter([labels.setdefault(value, len(labels)) for value in values], np.int32, len(values))

    def finish(self) -> tuple[list[StreamRange], list[DayTable]]:
        """What was gathered, by stream and by day; the table is empty afterwards."""
        names = {name for chunk in self._chunks for name in chunk}
        lengths = [len(chunk["receive_time"]) for chunk in self._chunks]
        columns = {name: self._joined(name, lengths) for name in sorted(names)}
        levels = np.concatenate(self._levels) if self._levels else None
        self._chunks, self._levels = [], []
        if not sum(lengths):
            return [], []
        return self._streams(columns), list(self._days(columns, levels))

    def _joined(self, name: str, lengths: list[int]) -> NDArray[Any]:
        """A column of all chunks; what only those of another source bring is zero, false or empty."""
        parts = []
        for chunk, length in zip(self._chunks, lengths, strict=True):
            # Each column leaves the chunks as it is joined, so that the table is in memory once.
            part = chunk.pop(name, None)
            parts.append(self._absent(name, length) if part is None else part)
        return np.concatenate(parts)

    def _absent(self, name: str, length: int) -> NDArray[Any]:
        dtype = COLUMNS[self.kind][name]
        if dtype == "string":
            return self._codes(name, [""] * length)
        return np.zeros(length, _DTYPES[dtype])

    def _streams(self, columns: dict[str, NDArray[Any]]) -> list[StreamRange]:
        symbols = list(self.labels["symbol"])
        keys = columns["epoch"].astype(np.int64) * len(symbols) + columns["symbol"]
        unique, index = np.unique(keys, return_inverse=True)
        first_ids, last_ids = self._ends(columns, index, len(unique))
        exchange_ns = _greatest(columns["exchange_time"], index, len(unique))
        received_ns = _greatest(columns["receive_time"], index, len(unique))
        messages = np.bincount(index, minlength=len(unique)).tolist()
        return [
            StreamRange(
                market=self.market,
                kind=self.kind,
                symbol=symbols[int(key) % len(symbols)],
                epoch=int(key) // len(symbols),
                messages=messages[place],
                first_id=first_ids[place],
                last_id=last_ids[place],
                last_exchange_ns=exchange_ns[place],
                last_received_ns=received_ns[place],
            )
            for place, key in enumerate(unique)
        ]

    def _ends(
        self, columns: dict[str, NDArray[Any]], index: NDArray[np.intp], size: int
    ) -> tuple[list[int | None], list[int | None]]:
        """The least and the greatest id of each stream; None where it has none."""
        if self.kind is Kind.KLINE_1M:  # Closed candles chain, by their minute.
            is_closed = columns["is_closed"].astype(np.bool_)
            ids, index = columns["open_time"][is_closed] // MINUTE_NS, index[is_closed]
        elif self.kind in ID_COLUMNS:
            ids = columns[ID_COLUMNS[self.kind]]
        else:
            return [None] * size, [None] * size
        counts = np.bincount(index, minlength=size).tolist()
        least, greatest = _least(ids, index, size), _greatest(ids, index, size)
        return (
            [value if count else None for value, count in zip(least, counts, strict=True)],
            [value if count else None for value, count in zip(greatest, counts, strict=True)],
        )

    def _days(self, columns: dict[str, NDArray[Any]], levels: NDArray[np.float64] | None) -> Iterator[DayTable]:
        bids, asks = columns.pop("bids", None), columns.pop("asks", None)
        days = columns["exchange_time"] // DAY_NS
        for day in np.unique(days).tolist():
            chosen = days == day
            side_counts = None
            rows_each = np.ones(int(chosen.sum()), np.int64)
            own_levels = levels
            if bids is not None and asks is not None and levels is not None:
                side_counts = np.stack([bids[chosen], asks[chosen]], axis=1).ravel()
                rows_each = np.maximum(bids[chosen] + asks[chosen], 1)
                own_levels = levels if chosen.all() else levels[np.repeat(chosen, bids + asks)]
            own = columns if chosen.all() else {name: column[chosen] for name, column in columns.items()}
            date = datetime.fromtimestamp(day * DAY_NS // 10**9, UTC).date().isoformat()
            yield DayTable(date, own, rows_each, own_levels, side_counts)

    def categories(self) -> dict[str, list[str]]:
        """The values of each string column in order, the same for every file of the segment."""
        found = {name: sorted(self.labels.get(name, ())) or [""] for name in self._string_columns()}
        if self.kind in LEVEL_KINDS:
            found["side"] = list(SIDES)
        return found

    def _string_columns(self) -> list[str]:
        return [name for name, dtype in COLUMNS[self.kind].items() if dtype == "string"]

    def row_groups(self, day: DayTable) -> Iterator[dict[str, NDArray[Any]]]:
        """The rows of a day as `parquet.write_file` wants them, about `ROW_GROUP_ROWS` at a time."""
        recode = {}
        for name, labels in self.labels.items():
            places = {value: place for place, value in enumerate(sorted(labels))}
            recode[name] = np.array([places[value] for value in labels], np.int32)
        ends = np.cumsum(day.rows_each)
        first = 0
        first_level = 0
        while first < len(ends):
            done_rows = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done_rows + ROW_GROUP_ROWS, side="right")))
            cut = slice(first, last)
            group = {name: column[cut] for name, column in day.columns.items()}
            for name, codes in recode.items():
                group[name] = codes[group[name]]
            if day.side_counts is not None and day.levels is not None:
                counts = day.side_counts[2 * first : 2 * last]
                levels = day.levels[first_level : first_level + int(counts.sum())]
                first_level += len(levels)
                group = _with_levels(group, day.rows_each[cut], counts, levels)
            yield self._complete(group)
            first = last

    def _complete(self, group: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All columns of the schema; what a message does not bring is zero, false or empty."""
        length = len(group["receive_time"])
        zeros = {name: _DTYPES.get(dtype, np.int32) for name, dtype in COLUMNS[self.kind].items() if name not in group}
        return group | {name: np.zeros(length, dtype) for name, dtype in zeros.items()}


def _with_levels(
    group: dict[str, NDArray[Any]],
    rows_each: NDArray[np.int64],
    side_counts: NDArray[np.int64],
    levels: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """A row for each level; a message without levels keeps one row with an empty side and zeros."""
    group = {name: np.repeat(column, rows_each) for name, column in group.items()}
    is_level = np.repeat(side_counts[0::2] + side_counts[1::2] > 0, rows_each)
    side = np.zeros(len(is_level), np.int32)
    side[is_level] = np.repeat(np.tile(np.array([1, 2], np.int32), len(rows_each)), side_counts)
    values = np.zeros((len(is_level), 2))
    values[is_level] = levels
    group["side"], group["price"], group["quantity"] = side, values[:, 0].copy(), values[:, 1].copy()
    return group


def _least(values: NDArray[np.int64], index: NDArray[np.intp], size: int) -> list[Any]:
    out = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(out, index, values)
    return out.tolist()


def _greatest(values: NDArray[np.int64], index: NDArray[np.intp], size: int) -> list[Any]:
    out = np.full(size, np.iinfo(np.int64).min)
    np.maximum.at(out, index, values)
    return out.tolist()
