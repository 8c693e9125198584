"""The quality of a recorded day: what its files hold, joined with the gap ledger and the catalogue. Changes nothing.

Every file of the day is read once for its checksum and once for the few columns that are needed; memory is that of one
row group beside what `quality` keeps of each stream of one market and kind. What is not sealed yet is not looked at.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DamagedError, UsageError
from streamsvc.integrity.day_gaps import Day, DayIds, nothing_recorded, rows_of_day, window_of
from streamsvc.integrity.day_neighbours import Neighbours, ids_around
from streamsvc.integrity.keys import COUNTED_KINDS, KEY_COLUMNS
from streamsvc.integrity.latency_histogram import LatencyHistogram
from streamsvc.integrity.quality import DAY_SECONDS, SECOND_NS, KindNumbers, StreamNumbers, longest_silence
from streamsvc.integrity.quality_results import DayQuality, Recorded, Snapshots, StreamQuality
from streamsvc.integrity.report import Gap, gap_of, unknown_gaps
from streamsvc.integrity.sealed_bytes import require_sealed
from streamsvc.integrity.timeline import cells_of
from streamsvc.persistence.catalogue_quality import QualityCatalogue
from streamsvc.persistence.gap_table import REPAIRED
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.parquet import read_coded
from streamsvc.schema import DERIVED_KINDS, MARKETS_BY_LABEL, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.manifest import SealedFile
    from streamsvc.schema import Market

    Progress = Callable[[int, int], None]
    """Called with the files done and their total."""

_KINDS_BY_LABEL = {kind.label: kind for kind in KEY_COLUMNS}
_DERIVED = frozenset(kind.label for kind in DERIVED_KINDS)
"""What was computed has no latency, and its silence tells nothing that its source's does not."""
_ATTEMPTS = 5
_LOST_BEFORE_NS = 600 * 10**9
"""A gap that ended so long before the day may still be what its first snapshot is for."""


def measure_day(root: Path, date: str, now_ns: int, progress: Progress = lambda _done, _total: None) -> DayQuality:
    """Measure one day.

    Args:
        root: `DATA_DIR`.
        date: The UTC day, e.g. `2024-08-08`.
        now_ns: The time now, in ns since 1970: of a day that is not over, what is still to come is not missing.
        progress: Called with the files done and their total.

    Raises:
        UsageError: it is not a data folder, a newer version wrote it, or nothing was recorded on the day.
        DamagedError: the catalogue is damaged.
        ValueError: the day is none.
    """
    folder = DataFolder(root)
    if not folder.catalogue.is_file():
        raise UsageError(f"{root} is not a data folder of streamsvc: it has no {folder.catalogue.name}")
    with QualityCatalogue.open_to_read(folder.catalogue) as catalogue:
        for _ in range(_ATTEMPTS):
            measuring = _Measuring(folder, catalogue, Day.of(date), now_ns)
            quality = measuring.measure(progress)
            # Else a day was compacted or removed meanwhile.
            if measuring.listed <= {file.path for file in catalogue.sealed_files()}:
                break
    return quality


@attrs.define
class _Stream:
    """A stream of the day on its way to a result."""

    market: Market
    symbol: str
    kind: Kind
    numbers: StreamNumbers = attrs.Factory(StreamNumbers)
    gaps: list[Gap] = attrs.Factory(list)
    repaired: list[Gap] = attrs.Factory(list)
    windows: list[tuple[int, int]] = attrs.Factory(list)
    """From when to when something is missing, in ns."""
    was_before: bool = False


class _Measuring:
    def __init__(self, folder: DataFolder, catalogue: QualityCatalogue, day: Day, now_ns: int) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._day = day
        self._now_ns = now_ns
        self._ledger = catalogue.gaps()
        self._last_ids = catalogue.last_ids()
        self._files = [file for file in catalogue.sealed_files() if file.kind not in _DERIVED]
        self._errors: list[str] = []
        self._latency = LatencyHistogram()
        self.listed = {file.path for file in self._files}

    def measure(self, progress: Progress) -> DayQuality:
        own = [file for file in self._files if file.date == self._day.date]
        streams: list[_Stream] = []
        done = 0
        of_kinds = {place: list(group) for place, group in groupby(sorted(self._files, key=_place), key=_place)}
        for kind, market in sorted(of_kinds.keys() | set(map(_place, self._ledger))):
            if kind not in _KINDS_BY_LABEL or market not in MARKETS_BY_LABEL:
                continue
            numbers = KindNumbers(MARKETS_BY_LABEL[market], _KINDS_BY_LABEL[kind], self._day)
            of_kind = of_kinds.get((kind, market), [])
            for file in of_kind:
                if file.date == self._day.date:
                    self._read(file, numbers)
                    done += 1
                    progress(done, len(own))
            streams += self._join(MARKETS_BY_LABEL[market], _KINDS_BY_LABEL[kind], numbers, of_kind)
        if not (streams or self._errors):
            raise UsageError(nothing_recorded(self._day, self._files))
        return self._finish(streams, len(own))

    def _read(self, file: SealedFile, numbers: KindNumbers) -> None:
        try:
            require_sealed(self._folder.root, file)
            for group in read_coded(self._folder.root / file.path, numbers.columns):
                numbers.add(group)
        except (DamagedError, OSError) as fault:
            self._errors.append(f"{file.path}: {fault}")

    def _join(self, market: Market, kind: Kind, numbers: KindNumbers, files: list[SealedFile]) -> list[_Stream]:
        """The streams of a market and kind with their gaps, as far as they are of the day."""
        own = {(symbol, epoch): ids for symbol, each in numbers.streams.items() for epoch, ids in each.coverage.items()}
        last_ids = [last for last in self._last_ids if (last.kind, last.market) == (kind, market)]
        ids: dict[tuple[str, int], DayIds] = {stream: DayIds(coverage) for stream, coverage in own.items()}
        try:
            ids = ids_around(kind, own, Neighbours(self._folder.root, kind, market, files, self._day), last_ids)
        except (DamagedError, OSError) as fault:
            self._errors.append(str(fault))
        streams = {symbol: _Stream(market, symbol, kind, each) for symbol, each in numbers.streams.items()}
        rows = self._rows_of(market, kind)
        is_chained = kind in COUNTED_KINDS
        for symbol, epoch in sorted(ids.keys() | rows.keys()):
            of_stream, around = rows.get((symbol, epoch), []), ids.get((symbol, epoch), DayIds())
            open_rows = [row for row in of_stream if row.status != REPAIRED]
            of_day = rows_of_day(open_rows, self._day, around)
            unknown = unknown_gaps((market, symbol, kind), epoch, open_rows, around.gaps()) if is_chained else []
            repaired = [row for row in of_stream if row.status == REPAIRED and self._day.touches(*window_of(row))]
            if not (of_day or unknown or repaired or symbol in streams):
                continue
            stream = streams.setdefault(symbol, _Stream(market, symbol, kind))
            stream.gaps += [*map(gap_of, of_day), *unknown]
            stream.repaired += map(gap_of, repaired)
            stream.windows += map(window_of, of_day)
            stream.was_before |= bool(around.before.ranges)
        for stream in streams.values():
            if not is_chained:
                stream.was_before = any(file.date < self._day.date for file in files)
            self._latency.add_all(stream.numbers.latency)
        return list(streams.values())

    def _rows_of(self, market: Market, kind: Kind) -> dict[tuple[str, int], list[GapRow]]:
        found: dict[tuple[str, int], list[GapRow]] = {}
        for row in self._ledger:
            if (row.market, row.kind) == (market.label, kind.label):
                found.setdefault((row.symbol, row.epoch), []).append(row)
        return found

    def _finish(self, streams: list[_Stream], files: int) -> DayQuality:
        span = self._day.first_ns, self._day.end_ns
        recorded = self._recorded(streams)
        of_streams = self._catalogue.quarantined_of_streams(span)
        results = [self._result(stream, recorded, of_streams) for stream in streams]
        results.sort(key=lambda one: (MARKETS_BY_LABEL[one.market], one.symbol, Kind.from_label(one.kind)))
        unsealed = len(self._folder.segments()) if self._folder.journal.is_dir() else 0
        return DayQuality(
            date=self._day.date,
            files=files,
            recorded=recorded,
            streams=results,
            latency=self._latency.summary(),
            quarantined=self._catalogue.quarantined_between(span),
            unsealed_segments=unsealed,
            errors=self._errors,
        )

    def _recorded(self, streams: list[_Stream]) -> Recorded:
        """From when to when the day was recorded: to its edges where there is data beyond them."""
        seen = [stream.numbers for stream in streams if stream.numbers.messages]
        begin, end = self._day.first_ns, self._day.end_ns
        if not any(file.date < self._day.date for file in self._files) and seen:
            begin = min(numbers.first_ns for numbers in seen)
        if not any(file.date > self._day.date for file in self._files) and seen:
            end = max(numbers.last_ns for numbers in seen)
        # What is still to come, or waits in the journal, is not missing.
        is_over = self._now_ns >= self._day.end_ns and not self._has_unsealed()
        return Recorded(begin, end, self._day.end_ns if is_over else end)

    def _has_unsealed(self) -> bool:
        return self._folder.journal.is_dir() and bool(self._folder.segments())

    def _result(
        self, stream: _Stream, recorded: Recorded, quarantined: dict[tuple[str, str, str], int]
    ) -> StreamQuality:
        numbers, kind = stream.numbers, stream.kind
        has_rows = bool(numbers.messages)
        begin_ns = recorded.first_ns if stream.was_before or not has_rows else max(numbers.first_ns, recorded.first_ns)
        tail = [(recorded.last_ns, recorded.due_ns)] if recorded.due_ns > recorded.last_ns else []
        windows = _union([*stream.windows, *tail], begin_ns, recorded.due_ns)
        missing_ns = sum(last - first for first, last in windows)
        begin, end = self._second(begin_ns), max(-(-(recorded.last_ns - self._day.first_ns) // SECOND_NS), 0)
        silent_from, silence = longest_silence(numbers.seconds, min(begin, end), min(end, DAY_SECONDS))
        is_chained = kind in COUNTED_KINDS
        present = sum(part.last - part.first + 1 for ids in numbers.coverage.values() for part in ids.ranges)
        missing = sum(gap.ids or 0 for gap in stream.gaps if gap.is_loss)
        return StreamQuality(
            market=stream.market.label,
            symbol=stream.symbol,
            kind=kind.label,
            rows=numbers.rows,
            messages=numbers.messages,
            backfilled=numbers.backfilled,
            quarantined=quarantined.get((stream.market.label, stream.symbol, kind.label), 0),
            first_time_ns=numbers.first_ns if has_rows else None,
            last_time_ns=numbers.last_ns if has_rows else None,
            ids_present=present if is_chained else None,
            ids_missing=missing if is_chained else None,
            time_due_ns=max(recorded.due_ns - begin_ns, 0),
            time_missing_ns=missing_ns,
            gaps=stream.gaps,
            repaired=len(stream.repaired),
            repaired_ids=sum(gap.ids or 0 for gap in stream.repaired),
            silence_sec=silence,
            silence_from_ns=self._day.first_ns + silent_from * SECOND_NS,
            latency=numbers.latency.summary(),
            snapshots=self._snapshots(stream) if kind is Kind.DEPTH_SNAPSHOT else None,
            cells=cells_of(
                numbers.seconds,
                (begin, end),
                [((first - self._day.first_ns) / SECOND_NS, (last - self._day.first_ns) / SECOND_NS)
                 for first, last in windows],
            ),
        )  # fmt: skip

    def _second(self, time_ns: int) -> int:
        return min(max((time_ns - self._day.first_ns) // SECOND_NS, 0), DAY_SECONDS)

    def _snapshots(self, stream: _Stream) -> Snapshots:
        """What each of a book's snapshots was for, by the gaps of its updates.

        One is for a gap that ended between the snapshot before it and itself. The times are of two clocks.
        """
        rows = [
            row for row in self._ledger
            if (row.market, row.kind, row.symbol) == (stream.market.label, Kind.DEPTH.label, stream.symbol)
        ]  # fmt: skip
        ends = [window_of(row)[1] for row in rows]
        before = self._day.first_ns - _LOST_BEFORE_NS
        reasons: Counter[str] = Counter()
        for place, received_ns in enumerate(sorted(stream.numbers.snapshots)):
            if any(before < end <= received_ns for end in ends):
                reasons["gap"] += 1
            else:
                reasons["interval" if place or stream.was_before else "start"] += 1
            before = received_ns
        return Snapshots(after_gap=reasons["gap"], at_start=reasons["start"], by_interval=reasons["interval"])


def _place(of: SealedFile | GapRow) -> tuple[str, str]:
    return of.kind, of.market


def _union(windows: Iterable[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """The windows within a time, disjoint and ascending."""
    found: list[tuple[int, int]] = []
    for first, last in sorted((max(first, begin), min(last, end)) for first, last in windows):
        if last < first:
            continue
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found
