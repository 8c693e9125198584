"""Old days leave the data set: `RETENTION_DAYS`.

Of every day the catalogue notes first that it is about to go; then its folder is moved out of the data set in one step,
so that a reader's `**` finds all of it or nothing; one transaction removes its entries and the note; and then the files
are deleted. A crash at any step leaves a note by which the next start ends the work or forgets it
(`compaction.Compactor.recover`). How far streams had come and the gap ledger stay: they are no rows of a day. Of the
archive the catalogue knows nothing: a day of it is moved away, then deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from streamsvc.persistence.archive import archived_segments
from streamsvc.persistence.compaction import names_in
from streamsvc.persistence.compaction_catalogue import Intent
from streamsvc.persistence.compaction_day import BUILD_PREFIX

if TYPE_CHECKING:
    from streamsvc.persistence.compaction import Compactor
    from streamsvc.persistence.compaction_day import Day


def first_kept_date(now_ns: int, retention_days: int) -> str:
    """The oldest UTC day that stays: so many full days are kept beside the one that goes on (pure)."""
    today = datetime.fromtimestamp(now_ns // 10**9, UTC).date()
    return (today - timedelta(days=retention_days)).isoformat()


def remove_day(compactor: Compactor, day: Day) -> bool:
    """Remove a day of one kind and market. Blocks.

    Args:
        compactor: Of the data folder.
        day: The day. Files that are gone already are not missed.

    Returns:
        Whether it is gone. It is not where its folder holds what the catalogue does not know, which is never deleted.

    Raises:
        DiskFullError: there is no room, even for this. Call `Compactor.recover` later.
        OSError: the disk failed.
    """
    path = compactor.folder.root / day.path
    grave = compactor.folder.tmp / f"{BUILD_PREFIX}removed-{day.kind}-{day.market}-{day.date}"
    compactor.files.remove_tree(grave)
    with compactor.changing:
        paths = tuple(file.path for file in compactor.catalogue.files_of(day))
        if names_in(path) - {PurePosixPath(path).name for path in paths}:
            return False
        intent = Intent(day, paths, ())
        compactor.catalogue.intend(intent)
        if path.is_dir():
            compactor.files.replace(path, grave)
        compactor.settle(intent)
    compactor.files.remove_tree(grave)
    return True


def remove_archived(compactor: Compactor, date: str) -> bool:
    """Remove a day of the archive; see `archive.archived_dates`. Blocks; a crash leaves all of it, or nothing.

    Returns:
        Whether it is gone. It is not where its folder holds what is not ours, which is never deleted.

    Raises:
        DiskFullError: there is no room, even for this.
        OSError: the disk failed.
    """
    path = compactor.folder.archive / date
    grave = compactor.folder.tmp / f"{BUILD_PREFIX}removed-archive-{date}"
    compactor.files.remove_tree(grave)
    with compactor.changing:
        ours = {segment.path.name for segment in archived_segments(compactor.folder, date)}
        if names_in(path) - ours:
            return False
        compactor.files.replace(path, grave)
    compactor.files.remove_tree(grave)
    return True
