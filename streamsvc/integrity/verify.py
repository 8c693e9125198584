"""The check of a data folder: files, checksums, rows, ids without holes, nothing twice. Changes nothing.

Works while the service records: what is published meanwhile is left to the next check. Memory is bounded by the
largest file, beside about a kilobyte for each file's entry in the catalogue and what every stream's gaps take.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from streamsvc.errors import DamagedError, UsageError
from streamsvc.integrity.contents import KindCheck
from streamsvc.integrity.keys import KEY_COLUMNS
from streamsvc.integrity.report import Gap, Report
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import JOURNAL_SUFFIX, DataFolder
from streamsvc.schema import MARKETS_BY_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.manifest import SealedFile

    Progress = Callable[[int, int], None]
    """Called with the files done and their total."""

_KINDS_BY_LABEL = {kind.label: kind for kind in KEY_COLUMNS}
_ATTEMPTS = 5
"""How often the check begins again where days are compacted or removed beside it: an hour lies between two rounds."""

_TORN = frozenset({"torn_tail", "zero_tail"})
"""Damage of a journal that a kill or a power cut in the middle of a write leaves: nothing whole is in it."""


def verify_folder(root: Path, progress: Progress = lambda _done, _total: None) -> Report:
    """Check everything below a data folder.

    Args:
        root: `DATA_DIR`.
        progress: Called with the files done and their total.

    Raises:
        UsageError: it is not a data folder, a newer version wrote it, or its catalogue cannot be opened.
    """
    folder = DataFolder(root)
    for _ in range(_ATTEMPTS):
        report = Report()
        try:
            is_whole = _check_data_set(folder, report, progress)
        except (DamagedError, OSError) as fault:
            report.add_error(str(fault))
            break
        if is_whole:
            break
    report.sort()
    if folder.failed.is_dir():
        for name in folder.failed_segments():
            report.add_error(f"journal/failed/{name}{JOURNAL_SUFFIX}: it could not be sealed")
    if folder.journal.is_dir():
        report.unsealed_segments = len(folder.segments())
    return report


def _check_data_set(folder: DataFolder, report: Report, progress: Progress) -> bool:
    """Check the data set; returns whether all that was listed at the beginning is listed still.

    Else a day was compacted or removed meanwhile, and what was found holds for no moment.
    """
    # The publisher renames files before it commits them, so the disk is looked at first.
    on_disk = _files_on_disk(folder)
    _require_catalogue(folder)
    with Catalogue.open_to_read(folder.catalogue) as catalogue:
        ledger = [row for row in catalogue.gaps() if row.status != "repaired"]
        report.gaps += [_gap_of(row) for row in ledger]
        files = catalogue.sealed_files()
        try:
            _check_files(folder, files, ledger, report, progress)
        except (DamagedError, OSError) as fault:
            report.add_error(str(fault))
        for path in _unknown(folder, on_disk, catalogue):
            report.add_error(f"{path}: the catalogue does not know it")
        report.quarantined = catalogue.quarantined_messages()
        for reason, size_bytes in sorted(catalogue.damage().items()):
            if reason in _TORN:
                report.torn_bytes += size_bytes
            else:
                report.add_error(f"journal: {size_bytes:,} bytes held no whole frame ({reason})")
        return {file.path for file in files} <= {file.path for file in catalogue.sealed_files()}


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


def _gap_of(row: GapRow) -> Gap:
    return Gap(
        market=row.market,
        symbol=row.symbol,
        kind=row.kind,
        epoch=row.epoch,
        first_missing_id=row.first_id,
        last_missing_id=row.last_id,
        status=row.status,
        cause=row.cause,
        reason=row.reason,
        connection=row.connection,
        first_time_ns=row.first_time_ns,
        last_time_ns=row.last_time_ns,
        opened_ns=row.opened_ns,
    )


def _check_files(
    folder: DataFolder, files: list[SealedFile], ledger: list[GapRow], report: Report, progress: Progress
) -> None:
    """Check all files, one market and kind after the other, in the order of their days and segments."""
    done = 0
    for (kind, market), group in groupby(sorted(files, key=_place), key=_place):
        of_kind = list(group)
        if kind not in _KINDS_BY_LABEL or market not in MARKETS_BY_LABEL:
            report.add_error(f"{len(of_kind):,} files are of {market} {kind}, which this version does not know")
            done += len(of_kind)
            continue
        own = [row for row in ledger if (row.kind, row.market) == (kind, market)]
        check = KindCheck(folder.root, _KINDS_BY_LABEL[kind], MARKETS_BY_LABEL[market], own, report)
        for file in of_kind:
            check.add_file(file)
            done += 1
            progress(done, len(files))
        check.finish()


def _place(file: SealedFile) -> tuple[str, str]:
    return file.kind, file.market


def _files_on_disk(folder: DataFolder) -> set[str]:
    """Everything under `parquet/` that is not a folder: a reader's `**` would find it, and follow links."""
    return {
        path.relative_to(folder.root).as_posix()
        for path in folder.parquet.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def _unknown(folder: DataFolder, on_disk: set[str], catalogue: Catalogue) -> list[str]:
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
