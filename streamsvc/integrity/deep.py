"""What a deep check reads beside what every check reads: all columns of all rows, and how far the streams have come.

A checksum says that a file is what the sealer wrote; this says that the sealer wrote what it may. A file has the
columns and types of its kind; every value decodes, is finite, and is not negative where the exchange sends none such;
times and ids are none that could not be; a compacted file holds one symbol, in the order of its ids. And the catalogue
agrees about the times in a file and about the last id of every stream, so that rows that are gone from the end of a
stream, where no id behind them shows a hole, are missed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from streamsvc.integrity.day_gaps import Day
from streamsvc.integrity.keys import KEY_COLUMNS
from streamsvc.persistence.compaction_names import is_compacted, may_hold
from streamsvc.persistence.compaction_sort import order_columns
from streamsvc.persistence.parquet import read_coded, read_types
from streamsvc.persistence.tables import ID_COLUMNS, LEVEL_KINDS, SIDES
from streamsvc.schema import COLUMNS, DERIVED_KINDS, SIGNED_COLUMNS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from streamsvc.persistence.catalogue import LastId
    from streamsvc.persistence.manifest import SealedFile
    from streamsvc.persistence.parquet import RowGroup

    Stream = tuple[str, int]
    """A stream of one market and kind: symbol and epoch."""

_MARGIN_NS = 3600 * 10**9
"""Removed days end somewhere; what lies this far behind the oldest day that is left was not removed with them."""


def look_into(path: Path, file: SealedFile) -> Iterator[str]:
    """Read all columns of a file: a sentence for all that is wrong.

    Args:
        path: Where it is.
        file: What the catalogue says of it.

    Raises:
        DamagedError: it cannot be decoded.
        OSError: it cannot be read.
    """
    kind = Kind.from_label(file.kind)
    found, expected = read_types(path), dict(COLUMNS[kind])
    if list(found.items()) != list(expected.items()):
        wrong = dict(found.items() ^ expected.items())
        yield f"its columns are not those of {file.kind} ({', '.join(sorted(wrong)) or 'another order'})"
        if expected.keys() - found.keys():
            return
    values = _Values(kind, path.name)
    for group in read_coded(path, list(expected)):
        values.add(group)
    yield from values.sentences()
    if values.times != (file.first_exchange_ns, file.last_exchange_ns):
        yield "its exchange times begin or end elsewhere than the catalogue says: readers may miss it"


class _Values:
    """The values of a file, row group by row group: how many break which rule.

    Args:
        kind: The kind.
        name: The file's name.
    """

    def __init__(self, kind: Kind, name: str) -> None:
        self._kind = kind
        self._name = name
        self._faults: Counter[str] = Counter()
        self._is_compacted = is_compacted(name)
        self._last_key: tuple[int, ...] | None = None
        self._times: list[int] = []

    @property
    def times(self) -> tuple[int, int] | None:
        """The least and the greatest exchange time; None where there is no row."""
        return (min(self._times), max(self._times)) if self._times else None

    def add(self, group: RowGroup) -> None:
        """Look at rows."""
        times = group.columns["exchange_time"]
        if not len(times):
            return
        self._times += [int(times.min()), int(times.max())]
        for name, dtype in COLUMNS[self._kind].items():
            column = group.columns[name]
            if dtype == "float64":
                self._count(f"{name} is not finite", ~np.isfinite(column))
                if name not in SIGNED_COLUMNS:
                    self._count(f"{name} is negative", column < 0)
            elif dtype == "timestamp":
                self._count(f"{name} lies before 1970", column < 0)
            elif dtype == "string":
                self._count(f"{name} is null", column < 0)
            elif name in ("epoch", ID_COLUMNS.get(self._kind)):
                self._count(f"{name} is negative", column < 0)
        self._look_at_kind(group)
        if self._is_compacted:
            self._look_at_order(group)

    def _look_at_kind(self, group: RowGroup) -> None:
        """What only some kinds have: sides of a book, bins of time."""
        if self._kind in LEVEL_KINDS:
            is_known = np.array([label in SIDES for label in group.labels["side"]], np.bool_)
            self._count("side is neither bid nor ask", ~is_known[group.columns["side"]])
        if self._kind in DERIVED_KINDS:
            opened, stamped = (group.columns[name] for name in ("open_time", "exchange_time"))
            self._count("exchange_time is not open_time", opened != stamped)

    def _look_at_order(self, group: RowGroup) -> None:
        """A compacted file is of one symbol, and each row's key is that of the row before or a later one."""
        labels = group.labels["symbol"]
        is_own = np.array([may_hold(self._name, label) for label in labels], np.bool_)
        self._count("symbol is another than the file's name says", ~is_own[group.columns["symbol"]])
        keys = [group.columns[name].astype(np.int64) for name in order_columns(self._kind)]
        is_before = np.zeros(len(keys[0]) - 1, np.bool_)
        is_equal = ~is_before
        for key in keys:
            is_before |= is_equal & (key[1:] < key[:-1])
            is_equal &= key[1:] == key[:-1]
        first, last = (tuple(int(key[place]) for key in keys) for place in (0, -1))
        self._count("they are not in order", is_before)
        if self._last_key is not None and first < self._last_key:
            self._faults["they are not in order"] += 1
        self._last_key = last

    def _count(self, rule: str, is_broken: NDArray[np.bool_]) -> None:
        if count := int(np.count_nonzero(is_broken)):
            self._faults[rule] += count

    def sentences(self) -> Iterator[str]:
        """What was found."""
        for rule, count in sorted(self._faults.items()):
            yield f"{count:,} rows: {rule}"


def compare_last_ids(
    kind: Kind,
    keys: Mapping[Stream, int],
    before: Iterable[LastId],
    after: Iterable[LastId],
    oldest_date: str,
) -> Iterator[str]:
    """Compare how far the files of a market and kind reach with how far the catalogue says that its streams do.

    Args:
        kind: The kind.
        keys: The greatest value of the first key column in the files, by stream.
        before: What the catalogue said before it listed the files; while a service records, they hold that at least.
        after: What it said behind that; they hold no more.
        oldest_date: The oldest day of the data set. What ended before it may have been removed.
    """
    least, most = ({(last.symbol, last.epoch): last for last in ends} for ends in (before, after))
    for symbol, epoch in sorted(keys.keys() - most.keys()):
        yield f"{kind.label}: the stream {symbol}, epoch {epoch} has files, and is not known"
    removed_ns = Day.of(oldest_date).first_ns + _MARGIN_NS if oldest_date else 0
    for stream, last in sorted(least.items()):
        reached, said, limit = keys.get(stream), _end_of(kind, last), _end_of(kind, most[stream])
        if reached is None:
            if last.last_exchange_ns >= removed_ns:
                yield f"{kind.label}: {stream[0]} was recorded up to {said}, and no file has a row of it"
        elif limit is not None and reached > limit:
            yield f"{kind.label}: the files of {stream[0]} reach {reached}, the stream is said to end at {limit}"
        elif said is not None and reached < said and last.last_exchange_ns >= removed_ns:
            yield f"{kind.label}: the files of {stream[0]} end at {reached}, and it was recorded up to {said}"


def _end_of(kind: Kind, last: LastId) -> int | None:
    """What the catalogue says of the greatest value of the first key column; None where it does not."""
    if kind in ID_COLUMNS:
        return last.last_id
    return last.last_exchange_ns if KEY_COLUMNS[kind][0] == "exchange_time" else None
