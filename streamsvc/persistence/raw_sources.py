"""Where raw segments lie: in the archive, and those that are not sealed, or could not be, in the journal.

A service may be recording meanwhile. A segment leaves the journal for the archive and never comes back, so the journal
is listed first; one that is in both counts once, and one that has left before it is read is found in the archive.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from streamsvc.persistence.archive import archived_dates, archived_segments
from streamsvc.persistence.compression import decompress_file
from streamsvc.persistence.journal import Damage, read_segment
from streamsvc.persistence.layout import JOURNAL_SUFFIX, date_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.batch import Block
    from streamsvc.persistence.layout import DataFolder, SegmentName


@attrs.frozen
class RawSegment:
    """A segment that can be read.

    Attributes:
        name: Its name.
        path: Where it lay when it was listed.
        first_date: The first UTC day of its messages' receipt; None: only reading it tells.
        last_date: The last one.
    """

    name: SegmentName
    path: Path
    first_date: str | None = None
    last_date: str | None = None

    def may_hold(self, date: str) -> bool:
        """Whether it can hold messages of a day."""
        return self.first_date is None or self.last_date is None or self.first_date <= date <= self.last_date


def raw_segments(folder: DataFolder) -> list[RawSegment]:
    """All segments of a data folder, in the order in which they were written."""
    found: dict[SegmentName, RawSegment] = {}
    if folder.journal.is_dir():
        for name in folder.segments():
            found[name] = RawSegment(name, folder.segment(name))
    if folder.failed.is_dir():
        for name in folder.failed_segments():
            found[name] = RawSegment(name, folder.failed / f"{name}{JOURNAL_SUFFIX}")
    for date in archived_dates(folder):
        for kept in archived_segments(folder, date):
            found[kept.name] = RawSegment(kept.name, kept.path, kept.first_date, kept.last_date)
    return [found[name] for name in sorted(found)]


@contextmanager
def opened(folder: DataFolder, segment: RawSegment, scratch: Path) -> Iterator[Iterator[Block | Damage]]:
    """What a segment holds; see `journal.read_segment`.

    Args:
        folder: The data folder.
        segment: The segment.
        scratch: A folder with room for the whole segment, uncompressed.

    Raises:
        DamagedError: the archived file is cut or damaged.
        FileNotFoundError: it is gone.
        OSError: it cannot be read, or there is no room.
    """
    with tempfile.NamedTemporaryFile(dir=scratch, prefix=".segment-") as copy:
        _copy(folder, segment, Path(copy.name))
        if not Path(copy.name).stat().st_size:
            yield iter(())
            return
        with Path(copy.name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield read_segment(data, segment.name)


def _copy(folder: DataFolder, segment: RawSegment, target: Path) -> None:
    """Not a map of the journal's own file: whoever writes it may cut it, and reading behind its end kills."""
    path = segment.path
    if path.suffix == JOURNAL_SUFFIX:
        try:
            shutil.copyfile(path, target)
        except FileNotFoundError:
            kept = next(folder.archive.glob(f"*/{segment.name}.from-*"), None)
            if kept is None:
                raise
            path = kept
        else:
            return
    decompress_file(path, target)


def dates_of(folder: DataFolder, segment: RawSegment, scratch: Path) -> set[str]:
    """The UTC days in which messages of a segment were received: read from it where its name leaves a question."""
    if segment.first_date is not None and segment.first_date == segment.last_date:
        return {segment.first_date}
    with opened(folder, segment, scratch) as items:
        return {date_of(item.received_ns) for item in items if not isinstance(item, Damage)}
