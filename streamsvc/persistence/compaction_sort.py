"""The rows of a day in the order of symbol and id, however large the day: an external sort. Builders only.

Rows are gathered up to `BUFFER_ROWS`, sorted, and written to a spill file as blocks of one symbol each: that is a run.
Then the runs are merged, symbol by symbol. Blocks are so small that one of every run takes `BUFFER_ROWS` together, and
more than one of a run is never held, but for the rows of one key: so memory holds three times `BUFFER_ROWS` at most
(what is held, joined, sorted) beside a row group of the input or the output, whatever the order of the input, up to a
day of a billion rows of one kind and market. Above, blocks do not shrink any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from streamsvc.persistence.compression import compress, decompress
from streamsvc.persistence.tables import ID_COLUMNS, ROW_GROUP_ROWS
from streamsvc.schema import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO

    from numpy.typing import NDArray

    from streamsvc.persistence.parquet import RowGroup
    from streamsvc.schema import Kind

    Columns = dict[str, NDArray[Any]]
    Key = tuple[int, ...]

BUFFER_ROWS = 1_000_000
_BLOCK_ROWS_MAX = 100_000
_BLOCK_ROWS_MIN = 1_000
_DTYPES = {"timestamp": np.int64, "int64": np.int64, "int32": np.int32, "float64": np.float64, "bool": np.bool_}


def order_columns(kind: Kind) -> tuple[str, ...]:
    """The columns by which a symbol's rows are sorted; rows that are equal in them keep their order."""
    return ("epoch", ID_COLUMNS[kind]) if kind in ID_COLUMNS else ("exchange_time",)


@attrs.frozen
class _Block:
    """Sorted rows of one symbol and run in the spill file."""

    run: int
    first: Key
    last: Key
    rows: int
    offset: int
    size_bytes: int


@attrs.frozen
class _Part:
    """Sorted rows in memory."""

    run: int
    first: Key
    last: Key
    columns: Columns


class DaySort:
    """Sorts the rows of one kind.

    Args:
        kind: The kind.
        spill: A file of its own, open for writing and reading; the caller closes and removes it.
        rows_expected: How many rows will come, which decides how small blocks are.

    Attributes:
        rows: How many rows have come.
    """

    def __init__(self, kind: Kind, spill: IO[bytes], rows_expected: int) -> None:
        self.rows = 0
        self._spill = spill
        self._spilled_bytes = 0
        self._dtypes = {name: np.dtype(_DTYPES.get(dtype, np.int32)) for name, dtype in COLUMNS[kind].items()}
        self._keys = order_columns(kind)
        runs = rows_expected // BUFFER_ROWS + 1
        self._block_rows = min(max(BUFFER_ROWS // runs, _BLOCK_ROWS_MIN), _BLOCK_ROWS_MAX)
        self._buffer: list[Columns] = []
        self._buffered = 0
        self._runs = 0
        self._texts = {name: dict[str, int]() for name, dtype in COLUMNS[kind].items() if dtype == "string"}
        self._used: dict[int, dict[str, set[int]]] = {}
        self._blocks: dict[int, list[_Block]] = {}

    def add(self, group: RowGroup) -> None:
        """Add rows, with all columns of the kind."""
        columns = {name: group.columns[name].astype(dtype, copy=False) for name, dtype in self._dtypes.items()}
        for name, texts in self._texts.items():
            places = [texts.setdefault(text, len(texts)) for text in group.labels[name]]
            columns[name] = np.array(places, np.int32)[columns[name]]
        self._buffer.append(columns)
        count = len(columns["symbol"])
        self.rows += count
        self._buffered += count
        if self._buffered >= BUFFER_ROWS:
            self._end_run()

    def symbols(self) -> list[str]:
        """The symbols of the rows so far, in order."""
        if self._buffered:
            self._end_run()
        texts = list(self._texts["symbol"])
        return sorted(texts[code] for code in self._blocks)

    def texts_of(self, symbol: str) -> dict[str, list[str]]:
        """For each string column the texts of a symbol's rows, in order."""
        used = self._used[self._texts["symbol"][symbol]]
        return {name: sorted(self._known(name, codes)) for name, codes in used.items()}

    def row_groups(self, symbol: str) -> Iterator[Columns]:
        """A symbol's rows in order, about `ROW_GROUP_ROWS` at a time; strings as codes into `texts_of`."""
        recode = {}
        for name, labels in self.texts_of(symbol).items():
            recode[name] = np.zeros(len(self._texts[name]), np.int32)
            recode[name][[self._texts[name][label] for label in labels]] = np.arange(len(labels), dtype=np.int32)
        for group in _regrouped(self._merged(self._texts["symbol"][symbol]), self._keys):
            for name, places in recode.items():
                group[name] = places[group[name]]
            yield group

    def _known(self, name: str, codes: set[int]) -> Iterator[str]:
        return (text for text, code in self._texts[name].items() if code in codes)

    def _end_run(self) -> None:
        """Sort what is gathered and write it as one run."""
        # Each column leaves the parts as it is joined, so that the rows are in memory once.
        columns = {name: np.concatenate([part.pop(name) for part in self._buffer]) for name in self._dtypes}
        self._buffer, self._buffered = [], 0
        order = np.lexsort((*(columns[name] for name in reversed(self._keys)), columns["symbol"]))
        begins = np.flatnonzero(np.diff(columns["symbol"][order], prepend=-1)).tolist()
        for begin, end in zip(begins, [*begins[1:], len(order)], strict=True):
            for cut in range(begin, end, self._block_rows):
                chosen = order[cut : min(cut + self._block_rows, end)]
                self._write({name: column[chosen] for name, column in columns.items()})
        self._runs += 1

    def _write(self, rows: Columns) -> None:
        data = compress(b"".join(rows[name].tobytes() for name in self._dtypes))
        self._spill.write(data)
        count = len(rows["symbol"])
        symbol = int(rows["symbol"][0])
        block = _Block(self._runs, self._key(rows, 0), self._key(rows, -1), count, self._spilled_bytes, len(data))
        self._spilled_bytes += len(data)
        self._blocks.setdefault(symbol, []).append(block)
        used = self._used.setdefault(symbol, {name: set() for name in self._texts})
        for name, codes in used.items():
            codes.update(np.unique(rows[name]).tolist())

    def _read(self, block: _Block) -> _Part:
        self._spill.seek(block.offset)
        data = decompress(self._spill.read(block.size_bytes))
        columns, offset = {}, 0
        for name, dtype in self._dtypes.items():
            columns[name] = np.frombuffer(data, dtype, block.rows, offset)
            offset += block.rows * dtype.itemsize
        return _Part(block.run, block.first, block.last, columns)

    def _key(self, columns: Columns, row: int) -> Key:
        return tuple(int(columns[name][row]) for name in self._keys)

    def _merged(self, symbol: int) -> Iterator[Columns]:
        """The rows of a symbol in order, in pieces of any size.

        Blocks are taken by their first keys. Nothing that is still to come lies before the block that comes next: what
        is held and lies before it is done. What is equal stays held, so that equal keys of all runs come together.
        """
        held: list[_Part] = []
        for block in sorted(self._blocks[symbol], key=lambda block: (block.first, block.run)):
            done = [part for part in held if part.last < block.first]
            rest = [part for part in held if part.last >= block.first]
            held = []
            for part in rest:
                before, after = self._split(part, block.first)
                done += before
                held += after
            if done:
                yield self._joined(done)
            held.append(self._read(block))
        yield self._joined(held)

    def _split(self, part: _Part, key: Key) -> tuple[list[_Part], list[_Part]]:
        """The rows of a part before a key, and the others."""
        if part.first >= key:
            return [], [part]
        is_before = np.zeros(len(part.columns["symbol"]), np.bool_)
        is_equal = ~is_before
        for name, value in zip(self._keys, key, strict=True):
            is_before |= is_equal & (part.columns[name] < value)
            is_equal &= part.columns[name] == value
        count = int(is_before.sum())
        before = {name: column[:count] for name, column in part.columns.items()}
        after = {name: column[count:] for name, column in part.columns.items()}
        return (
            [_Part(part.run, part.first, self._key(before, -1), before)],
            [_Part(part.run, self._key(after, 0), part.last, after)],
        )

    def _joined(self, parts: list[_Part]) -> Columns:
        """The rows of parts in order; rows with equal keys in the order of the runs."""
        if len(parts) == 1:
            return parts[0].columns
        parts.sort(key=lambda part: part.run)
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in self._dtypes}
        order = np.lexsort([columns[name] for name in reversed(self._keys)])
        return {name: column[order] for name, column in columns.items()}


def _regrouped(pieces: Iterable[Columns], keys: Sequence[str]) -> Iterator[Columns]:
    """The same rows, at least `ROW_GROUP_ROWS` at a time, and no more than it takes to end with a key's last row.

    So an order book's update is in one row group, and whoever checks a file by its row groups sees no overlap. Every
    piece ends with its last key's last row.
    """
    gathered: list[Columns] = []
    rows = 0
    for piece in pieces:
        gathered.append(piece)
        rows += len(piece["symbol"])
        if rows >= ROW_GROUP_ROWS:
            columns = {name: np.concatenate([part[name] for part in gathered]) for name in piece}
            is_last = np.logical_or.reduce([columns[name][1:] != columns[name][:-1] for name in keys])
            ends = np.append(np.flatnonzero(is_last) + 1, rows)
            begin = 0
            while rows - begin >= ROW_GROUP_ROWS:
                end = int(ends[np.searchsorted(ends, begin + ROW_GROUP_ROWS)])
                yield {name: column[begin:end] for name, column in columns.items()}
                begin = end
            gathered = [{name: column[begin:] for name, column in columns.items()}]
            rows -= begin
    if rows:
        yield {name: np.concatenate([part[name] for part in gathered]) for name in gathered[0]}
