"""The check of a data folder: files, checksums, rows, ids without holes, nothing twice. Changes nothing.

Works while the service records: what is published meanwhile is left to the next check. Memory is bounded by the
largest file, beside about a kilobyte for each file's entry in the catalogue and what every stream's gaps take.

Every file's bytes are read and compared with their checksum, and the columns are decoded that identify a row. With a
day the same is done for the files of that day alone, so that what was recorded yesterday can be checked every day, and
the files beside it are asked for the ids around midnight (see `day_gaps`, `day_neighbours`). A deep check reads
everything again: see `deep`.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DamagedError, UsageError
from streamsvc.integrity.contents import KindCheck
from streamsvc.integrity.day_gaps import Day, DayIds, nothing_recorded, rows_of_day, window_of
from streamsvc.integrity.day_neighbours import Neighbours
from streamsvc.integrity.deep import compare_last_ids, look_into
from streamsvc.integrity.deep_texts import check_archive, check_quarantine, check_segments, is_of_day
from streamsvc.integrity.keys import KEY_COLUMNS
from streamsvc.integrity.report import Report, gap_of
from streamsvc.persistence.catalogue_quality import QualityCatalogue
from streamsvc.persistence.gap_table import REPAIRED
from streamsvc.persistence.layout import JOURNAL_SUFFIX, DataFolder
from streamsvc.schema import MARKETS_BY_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from streamsvc.persistence.catalogue import LastId
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.manifest import SealedFile

    Progress = Callable[[int, int], None]
    """Called with the files done and their total."""

_KINDS_BY_LABEL = {kind.label: kind for kind in KEY_COLUMNS}
_ATTEMPTS = 5
"""How often the check begins again where days are compacted or removed beside it: an hour lies between two rounds."""

_TORN = frozenset({"torn_tail", "zero_tail"})
"""Damage of a journal that a kill or a power cut in the middle of a write leaves: nothing whole is in it."""


def verify_folder(
    root: Path,
    progress: Progress = lambda _done, _total: None,
    *,
    day: str | None = None,
    is_deep: bool = False,
) -> Report:
    """Check everything below a data folder, or one day.

    Args:
        root: `DATA_DIR`.
        progress: Called with the files done and their total.
        day: A UTC day, e.g. `2024-08-08`: its files, the gaps that touch it, its coverage, and what was received in it
            of journal and quarantine; nothing else counts. None: all days.
        is_deep: Whether everything is read again: see `deep`. With a day, journal and quarantine that still wait are
            left out, since they belong to no day.

    Raises:
        UsageError: it is not a data folder, a newer version wrote it, its catalogue cannot be opened, or nothing was
            recorded on the day.
        ValueError: the day is none.
    """
    check = _Check(DataFolder(root), progress, None if day is None else Day.of(day), is_deep)
    for _ in range(_ATTEMPTS):
        report = Report(day=day, is_deep=is_deep)
        try:
            is_whole = check.data_set(report)
        except (DamagedError, OSError) as fault:
            report.add_error(str(fault))
            break
        if is_whole:
            break
    report.sort()
    check.journal(report)
    return report


@attrs.frozen
class _Check:
    """What is checked, and how.

    Attributes:
        folder: The data folder.
        progress: Called with the files done and their total.
        day: The day; None: all.
        is_deep: Whether everything is read again.
    """

    folder: DataFolder
    progress: Progress
    day: Day | None
    is_deep: bool

    def data_set(self, report: Report) -> bool:
        """Check the data set; returns whether all that was listed at the beginning is listed still.

        Else a day was compacted or removed meanwhile, and what was found holds for no moment.
        """
        # The publisher renames files before it commits them, so the disk is looked at first.
        on_disk = _files_on_disk(self.folder, self.day)
        _require_catalogue(self.folder)
        with QualityCatalogue.open_to_read(self.folder.catalogue) as catalogue:
            if self.is_deep:
                for fault in catalogue.faults():
                    report.add_error(f"{self.folder.catalogue.name}: {fault}")
            # While the service records, the files hold what the first of two looks says, and no more than the second.
            before = catalogue.last_ids()
            files, ledger = catalogue.sealed_files(), catalogue.gaps()
            ends = before, catalogue.last_ids()
            missing = [row for row in ledger if row.status != REPAIRED]
            self._check_kinds(files, missing, ends, report)
            self._count_repaired(ledger, report)
            for path in _unknown(self.folder, on_disk, catalogue):
                report.add_error(f"{path}: the catalogue does not know it")
            self._tell_damage(catalogue, report)
            if self.day is not None and not (report.files or report.gaps or report.errors or report.repaired):
                raise UsageError(nothing_recorded(self.day, files))
            return {file.path for file in files} <= {file.path for file in catalogue.sealed_files()}

    def _check_kinds(
        self, files: list[SealedFile], missing: list[GapRow], ends: tuple[list[LastId], list[LastId]], report: Report
    ) -> None:
        """Check all files, one market and kind after the other, in the order of their days and segments."""
        total, done = sum(map(self._is_own, files)), 0
        oldest_date = min((file.date for file in files), default="")
        for (kind, market), of_kind, rows in _by_kind(files, missing, ends[0] if self.is_deep else ()):
            own = list(filter(self._is_own, of_kind))
            if kind not in _KINDS_BY_LABEL or market not in MARKETS_BY_LABEL:
                self._tell_unknown_kind(kind, market, len(own), rows, report)
                done += len(own)
                continue
            place = _KINDS_BY_LABEL[kind], MARKETS_BY_LABEL[market]
            check = KindCheck(self.folder.root, *place, rows, report, look=look_into if self.is_deep else None)
            for file in own:
                check.add_file(file)
                done += 1
                self.progress(done, total)
            before, after = ([last for last in each if (last.kind, last.market) == place] for each in ends)
            try:
                if self.day is not None:
                    beside = Neighbours(self.folder.root, *place, of_kind, self.day)
                    check.finish_day(self.day, beside, after)
                    continue
                check.finish()
            except (DamagedError, OSError) as fault:
                report.add_error(str(fault))
            if self.is_deep and check.is_all_sound:
                for sentence in compare_last_ids(place[0], check.last_keys(), before, after, oldest_date):
                    report.add_error(f"catalogue: {market} {sentence}")

    def _tell_unknown_kind(self, kind: str, market: str, files: int, rows: list[GapRow], report: Report) -> None:
        if files:
            report.add_error(f"{files:,} files are of {market} {kind}, which this version does not know")
        of_day = rows if self.day is None else rows_of_day(rows, self.day, DayIds())
        report.gaps += [gap_of(row) for row in of_day]

    def _is_own(self, file: SealedFile) -> bool:
        return self.day is None or file.date == self.day.date

    def _count_repaired(self, ledger: list[GapRow], report: Report) -> None:
        for row in ledger:
            if row.status == REPAIRED and (self.day is None or self.day.touches(*window_of(row))):
                report.add_repaired(row)

    def _tell_damage(self, catalogue: QualityCatalogue, report: Report) -> None:
        if self.day is None:
            damage, report.quarantined = catalogue.damage(), catalogue.quarantined_messages()
        else:
            span = self.day.first_ns, self.day.end_ns
            damage = catalogue.damage_between(span)
            report.quarantined = sum(catalogue.quarantined_between(span).values())
        for reason, size_bytes in sorted(damage.items()):
            if reason in _TORN:
                report.torn_bytes += size_bytes
            else:
                report.add_error(f"journal: {size_bytes:,} bytes held no whole frame ({reason})")

    def journal(self, report: Report) -> None:
        """Tell what was set aside, and what waits."""
        folder = self.folder
        if folder.failed.is_dir():
            for name in folder.failed_segments():
                path = folder.failed / f"{name}{JOURNAL_SUFFIX}"
                if self.day is None or is_of_day(path, name, self.day):
                    report.add_error(f"journal/failed/{path.name}: it could not be sealed")
        if folder.journal.is_dir():
            report.unsealed_segments = len(folder.segments())
        if self.is_deep and self.day is None:
            check_segments(folder, report)
            check_archive(folder, report)
            check_quarantine(folder, report)


def _by_kind(
    files: list[SealedFile], missing: list[GapRow], streams: Iterable[LastId]
) -> Iterator[tuple[tuple[str, str], list[SealedFile], list[GapRow]]]:
    """The files and the rows of the ledger of each kind and market that has any, or one of the streams."""
    of_kinds = {place: list(group) for place, group in groupby(sorted(files, key=_place), key=_place)}
    places = of_kinds.keys() | {_place(row) for row in missing}
    places |= {(last.kind.label, last.market.label) for last in streams}
    for place in sorted(places):
        yield place, of_kinds.get(place, []), [row for row in missing if _place(row) == place]


def _place(of: SealedFile | GapRow) -> tuple[str, str]:
    return of.kind, of.market


def _require_catalogue(folder: DataFolder) -> None:
    name = folder.catalogue.name
    if folder.catalogue.is_file():
        return
    if folder.parquet.is_dir() or folder.journal.is_dir():
        raise DamagedError(
            f"{name}: it is not there, and it alone says what the files must hold; "
            "`streamsvc run` makes a new one of them"
        )
    raise UsageError(f"{folder.root} is not a data folder of streamsvc: it has neither {name}, parquet/ nor journal/")


def _files_on_disk(folder: DataFolder, day: Day | None) -> set[str]:
    """Everything under `parquet/`, or a day's folders there, that is not a folder.

    A reader's `**` would find it, and follow links.
    """
    tops = [folder.parquet] if day is None else folder.parquet.glob(f"*/*/date={day.date}")
    return {
        path.relative_to(folder.root).as_posix()
        for top in tops
        for path in top.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def _unknown(folder: DataFolder, on_disk: set[str], catalogue: QualityCatalogue) -> list[str]:
    """What lies under `parquet/`, is not in the catalogue, and is not about to be.

    A segment is removed after the commit of its files. So where it is still there, they may be committed next; and
    where it is gone, the catalogue knows them by now.
    """
    unknown = on_disk - {file.path for file in catalogue.sealed_files()}
    in_hand = {f"{name}.parquet" for name in folder.segments()} if unknown and folder.journal.is_dir() else set()
    foreign = sorted(path for path in unknown if PurePosixPath(path).name not in in_hand)
    return [
        path
        for path in foreign
        # A day that was compacted or removed since took its files with it.
        if os.path.lexists(folder.root / path) and not (path.isascii() and catalogue.has_file(path))
    ]
