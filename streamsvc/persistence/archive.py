"""Sealed segments, kept as they were received: `RAW_ARCHIVE`.

A sealer that keeps a segment compresses it beside the Parquet files that it makes of it, and the publisher renames it
with them, before the transaction that commits them: so a segment is in the journal or in the archive at any moment, and
a sealing that is repeated puts the same bytes under the same name.

It lies at `archive/<day>/<segment>.from-<first day>.journal.zst`, both days in UTC and by receipt, `<day>` that of the
last message. A segment's own name has no time, and the time of a file changes when somebody copies it; the folder
tells `RETENTION_DAYS` what is old without opening anything, and both days tell the export what may hold a day's
messages. A segment without a whole frame holds no message and is not kept.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import UsageError
from streamsvc.persistence.layout import JOURNAL_SUFFIX, SegmentName, date_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamsvc.persistence.layout import DataFolder

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(rf"([0-9a-f-]+)\.from-(\d{{4}}-\d{{2}}-\d{{2}}){re.escape(JOURNAL_SUFFIX)}\.zst")


@attrs.frozen
class ArchivedSegment:
    """A segment in the archive.

    Attributes:
        name: Its name.
        path: The file.
        first_date: The UTC day in which its first message was received.
        last_date: The same of the last one.
    """

    name: SegmentName
    path: Path
    first_date: str
    last_date: str


def archive_place(name: SegmentName, first_received_ns: int, last_received_ns: int) -> str:
    """Where a segment is kept, below `DATA_DIR` (pure)."""
    return f"archive/{date_of(last_received_ns)}/{name}.from-{date_of(first_received_ns)}{JOURNAL_SUFFIX}.zst"


def require_archive(folder: DataFolder) -> None:
    """Check that segments can be moved into the archive.

    Raises:
        UsageError: it lies on another disk, or what has its name is no folder.
    """
    archive = folder.archive
    if not os.path.lexists(archive):
        return
    if not archive.is_dir():
        raise UsageError(f"{archive} is not a folder, and RAW_ARCHIVE needs it")
    if archive.stat().st_dev != folder.root.stat().st_dev:
        raise UsageError(
            f"{archive} lies on another disk than DATA_DIR: RAW_ARCHIVE moves files into it in one step, which only "
            "works within one file system; move days that are over away from it instead"
        )


def archived_dates(folder: DataFolder) -> list[str]:
    """The days of the archive, oldest first. Links and foreign folders are not followed."""
    if not folder.archive.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.archive.iterdir()
        if _DATE.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def archived_segments(folder: DataFolder, date: str) -> Iterator[ArchivedSegment]:
    """The segments that are kept under a day, in no order."""
    for path in (folder.archive / date).iterdir():
        match = _NAME.fullmatch(path.name)
        name = SegmentName.parse(match[1]) if match else None
        if match and name is not None and path.is_file() and not path.is_symlink():
            yield ArchivedSegment(name, path, first_date=match[2], last_date=date)
