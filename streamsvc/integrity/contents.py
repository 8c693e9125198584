"""The check of one market's and kind's files: each by itself, and then with each other."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import attrs
import numpy as np

from streamsvc.errors import DamagedError
from streamsvc.integrity.day_gaps import DayIds, rows_of_day
from streamsvc.integrity.day_neighbours import ids_around
from streamsvc.integrity.keys import COUNTED_KINDS, StreamPart, columns_needed, shared_keys, split_streams, stream_keys
from streamsvc.integrity.report import Report, StreamCoverage, gap_of, unknown_gaps
from streamsvc.integrity.sealed_bytes import require_sealed
from streamsvc.integrity.sequence import Coverage, IdRange
from streamsvc.persistence.compaction_names import is_compacted
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.schema import DERIVED_KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from streamsvc.integrity.day_gaps import Day
    from streamsvc.integrity.day_neighbours import Neighbours
    from streamsvc.persistence.catalogue import LastId
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.manifest import SealedFile
    from streamsvc.schema import Market

    Stream = tuple[str, int]
    """A stream of one market and kind: symbol and epoch."""

    Look = Callable[[Path, SealedFile], Iterable[str]]
    """Looks deeper into a file: a sentence for all that is wrong; raises DamagedError, OSError."""

_DAY_NS = 86_400_000_000_000
_OF_UPDATES = frozenset({"quarantined", "damage"})
"""Causes whose gaps are single messages that were seen."""


@attrs.define
class _StreamState:
    """A stream as far as its files have been read.

    Attributes:
        rows: Rows so far.
        first_key: The least value of the first key column.
        last_key: The greatest.
        is_overlapping: Whether a file reaches into the keys of those before it, so that a row may stand in both.
        coverage: The ids so far.
    """

    rows: int
    first_key: int
    last_key: int
    is_overlapping: bool = False
    coverage: Coverage = attrs.Factory(Coverage)

    def add(self, part: StreamPart) -> None:
        self.is_overlapping |= part.first_key <= self.last_key and part.last_key >= self.first_key
        self.first_key = min(self.first_key, part.first_key)
        self.last_key = max(self.last_key, part.last_key)
        self.rows += part.rows
        self.coverage.add(part.ranges)


class KindCheck:
    """Checks the files of one market and kind.

    Args:
        root: `DATA_DIR`.
        kind: The kind.
        market: The market.
        ledger: What the gap ledger says is missing of this market and kind.
        report: What is found goes there.
        look: Looks deeper into every file whose bytes are as they were sealed; None: nobody does.
        is_hashed: Whether the bytes of files are compared with their checksums.
    """

    def __init__(  # noqa: PLR0913 - what it joins
        self,
        root: Path,
        kind: Kind,
        market: Market,
        ledger: Iterable[GapRow],
        report: Report,
        *,
        look: Look | None = None,
        is_hashed: bool = True,
    ) -> None:
        self._root = root
        self._look = look
        self._ledger: dict[Stream, list[GapRow]] = {}
        for row in ledger:
            self._ledger.setdefault((row.symbol, row.epoch), []).append(row)
        self._kind = kind
        self._market = market
        self._report = report
        self._is_hashed = is_hashed
        self._columns = [*dict.fromkeys([*columns_needed(kind), "exchange_time"])]
        self._files = 0
        self._sound: list[SealedFile] = []
        self._streams: dict[Stream, _StreamState] = {}

    def add_file(self, file: SealedFile) -> None:
        """Check one file by itself and remember what it holds of each stream."""
        self._files += 1
        self._report.files += 1
        try:
            require_sealed(self._root, file, is_hashed=self._is_hashed)
            for sentence in self._look(self._root / file.path, file) if self._look else ():
                self._report.add_error(f"{file.path}: {sentence}")
            parts = self._parts(file)
        except (DamagedError, OSError) as fault:
            self._report.add_error(f"{file.path}: {fault}")
            return
        self._sound.append(file)
        for stream, part in parts:
            if part.duplicates:
                self._report.add_error(f"{file.path}: {part.duplicates:,} rows of {stream[0]} are there twice")
            if stream in self._streams:
                self._streams[stream].add(part)
            else:
                state = self._streams[stream] = _StreamState(part.rows, part.first_key, part.last_key)
                state.coverage.add(part.ranges)

    def _parts(self, file: SealedFile) -> list[tuple[Stream, StreamPart]]:
        """What a file holds of each stream, in pieces; its rows are counted, and their number and day are right."""
        parts: list[tuple[Stream, StreamPart]] = []
        rows, days = 0, set[int]()
        for columns in self._pieces(file):
            rows += len(columns["symbol"])
            days.update((np.unique(columns["exchange_time"]) // _DAY_NS).tolist())
            parts += split_streams(self._kind, self._market, columns).items()
        if self._kind in DERIVED_KINDS:
            self._report.derived_rows += rows
        else:
            self._report.rows += rows
        _check_rows(file, rows, days)
        return parts

    def _pieces(self, file: SealedFile) -> Iterator[dict[str, NDArray[Any]]]:
        """The columns of a file: whole; of a compacted one, which may hold a day, its ordered row groups."""
        if not is_compacted(PurePosixPath(file.path).name):
            yield self._read(file)
            return
        yield from read_row_groups(self._root / file.path, self._columns)

    def finish(self) -> None:
        """Say what the files hold of every stream, what is missing, and which rows stand in two of them.

        Raises:
            DamagedError, OSError: a file that was sound can no longer be read.
        """
        self.compare_ledger()
        self._report.gaps += [gap_of(row) for rows in self._ledger.values() for row in rows]
        self._tell_the_rest()

    def compare_ledger(self) -> None:
        """Say what the files lack that the ledger does not know, and what it says is missing and is there."""
        for (symbol, epoch), state in sorted(self._streams.items()):
            rows = self._ledger.get((symbol, epoch), [])
            self._tell_contradictions(rows, state.coverage)
            self._tell_unknown(symbol, epoch, rows, state.coverage.gaps())

    def finish_day(self, day: Day, neighbours: Neighbours, last_ids: Collection[LastId]) -> None:
        """The same, where the files are those of one day.

        Args:
            day: The day.
            neighbours: What lies around it.
            last_ids: How far the streams of this market and kind have come.

        Raises:
            DamagedError, OSError: a file that was sound, or one of a neighbouring day, cannot be read.
        """
        own = {stream: state.coverage for stream, state in self._streams.items()}
        ids = ids_around(self._kind, own, neighbours, last_ids)
        for symbol, epoch in sorted(ids.keys() | self._ledger.keys()):
            rows, of_stream = self._ledger.get((symbol, epoch), []), ids.get((symbol, epoch), DayIds())
            self._tell_contradictions(rows, of_stream.own)
            self._tell_unknown(symbol, epoch, rows, of_stream.gaps())
            self._report.gaps += [gap_of(row) for row in rows_of_day(rows, day, of_stream)]
        self._tell_the_rest()

    def _tell_the_rest(self) -> None:
        by_symbol: dict[str, list[_StreamState]] = {}
        for (symbol, _), state in sorted(self._streams.items()):
            by_symbol.setdefault(symbol, []).append(state)
        counts = Counter(
            gap.symbol for gap in self._report.gaps if (gap.market, gap.kind) == (self._market.label, self._kind.label)
        )
        for symbol, epochs in by_symbol.items():
            self._report_stream(symbol, epochs, counts[symbol])
        self._find_shared({stream for stream, state in self._streams.items() if state.is_overlapping})

    @property
    def is_all_sound(self) -> bool:
        """Whether every file that was added could be read and is what was sealed."""
        return self._files == len(self._sound)

    def last_keys(self) -> dict[Stream, int]:
        """The greatest value of the first key column of every stream, as far as files have been added."""
        return {stream: state.last_key for stream, state in self._streams.items()}

    def _report_stream(self, symbol: str, epochs: list[_StreamState], gaps: int) -> None:
        if self._kind in DERIVED_KINDS:
            return
        rows = sum(state.rows for state in epochs)
        count = gaps if gaps or self._kind in COUNTED_KINDS else None
        self._report.coverage.append(
            StreamCoverage(
                self._market.label, symbol, self._kind.label, rows, epochs[0].first_key, epochs[-1].last_key, count
            )
        )

    def _tell_contradictions(self, rows: Iterable[GapRow], coverage: Coverage) -> None:
        """What the ledger says is missing must not be there."""
        for row in rows:
            if self._is_there(coverage, row):
                self._report.add_error(
                    f"ledger: {row.market} {row.symbol} {row.kind} {row.first_id} to {row.last_id} are said to be "
                    "missing, and are there"
                )

    def _tell_unknown(self, symbol: str, epoch: int, rows: Iterable[GapRow], gaps: Iterable[IdRange]) -> None:
        """Every missing id must be in the ledger."""
        self._report.gaps += unknown_gaps((self._market, symbol, self._kind), epoch, rows, gaps)

    def _is_there(self, coverage: Coverage, row: GapRow) -> bool:
        """Whether what is said to be missing is there; of a lost update, another connection's may cover a part."""
        if self._kind is Kind.DEPTH and row.cause in _OF_UPDATES:
            return not coverage.lacking(IdRange(row.first_id, row.last_id))
        return coverage.touches(row.first_id, row.last_id)

    def _find_shared(self, streams: set[Stream]) -> None:
        """Find rows that stand in two files. Only for streams whose files overlap, and few do, are files read again."""
        spans: dict[Stream, list[tuple[int, int, int]]] = {stream: [] for stream in sorted(streams)}
        for place, file in enumerate(self._sound if spans else ()):
            for stream, part in split_streams(self._kind, self._market, self._read(file)).items():
                if stream in spans:
                    spans[stream].append((part.first_key, part.last_key, place))
        for stream, of_stream in spans.items():
            of_stream.sort()
            for index, (_, last, place) in enumerate(of_stream):
                for other_first, other_last, other_place in of_stream[index + 1 :]:
                    if other_first > last:
                        break
                    self._compare(stream, place, other_place, other_first, min(last, other_last))

    def _compare(self, stream: Stream, place: int, other_place: int, first: int, last: int) -> None:
        files = self._sound[place], self._sound[other_place]
        tables = [stream_keys(self._kind, self._read(file), *stream, first=first, last=last) for file in files]
        if count := shared_keys(*tables):
            self._report.add_error(f"{files[0].path}, {files[1].path}: {count:,} rows of {stream[0]} are in both files")

    def _read(self, file: SealedFile) -> dict[str, NDArray[Any]]:
        groups = list(read_row_groups(self._root / file.path, self._columns))
        if not groups:
            raise DamagedError("it has no rows")
        # Each column leaves the groups as it is joined, so that the file is in memory once.
        return {name: np.concatenate([group.pop(name) for group in groups]) for name in self._columns}


def _check_rows(file: SealedFile, rows: int, of_days: set[int]) -> None:
    if rows != file.rows:
        raise DamagedError(f"it has {rows:,} rows, the catalogue says {file.rows:,}")
    days = [str(np.datetime64(day, "D")) for day in sorted(of_days)]
    if days != [file.date]:
        raise DamagedError(f"it holds rows of {', '.join(days)}, not of {file.date} alone")
