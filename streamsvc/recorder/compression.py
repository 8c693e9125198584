"""Rotated files become .gz, and old ones are removed. All calls block.

The compressed form is written under another name, synced and renamed; the plain one is removed last. Whatever is there
after a crash, every record is in a file with a final name.
"""

from __future__ import annotations

import gzip
from datetime import timedelta
from typing import TYPE_CHECKING

from streamsvc.persistence.files import written_whole
from streamsvc.recorder.names import GZ, beside, rotated_files, unfinished_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path
    from typing import IO

    from streamsvc.persistence.files import Files
    from streamsvc.recorder.names import RotatedFile

_LEVEL = 6
_STEP_BYTES = 1 << 20


class _GivenUpError(Exception):
    """Nobody waits for the compression any more."""


def clean(live: Path, files: Files) -> None:
    """Remove what a crash left: compressed forms that were never finished, plain ones that were about to be removed."""
    for path in unfinished_files(live):
        files.unlink(path)
    for rotated in rotated_files(live):
        if not rotated.is_compressed and beside(rotated.path, GZ).exists():
            files.unlink(rotated.path)


def waiting(live: Path) -> list[RotatedFile]:
    """Rotated files that are not compressed, oldest first."""
    return [rotated for rotated in rotated_files(live) if not rotated.is_compressed]


def compress(rotated: RotatedFile, files: Files, is_over: Callable[[], bool]) -> bool:
    """Compress a file; False if it was left as it is, since `is_over` said so.

    Raises:
        OSError: it was left as it is.
        DiskFullError: the same.
    """
    target = beside(rotated.path, GZ)
    try:
        with (
            rotated.path.open("rb") as plain,
            written_whole(target, files) as raw,
            gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed,
        ):
            packed.writelines(_steps(plain, is_over))
    except _GivenUpError:
        return False
    files.unlink(rotated.path)
    return True


def _steps(plain: IO[bytes], is_over: Callable[[], bool]) -> Iterator[bytes]:
    while step := plain.read(_STEP_BYTES):
        if is_over():
            raise _GivenUpError
        yield step


def remove_old(live: Path, files: Files, keep_files: int | None, keep_days: float | None, now: datetime) -> list[Path]:
    """Remove rotated files beyond a number, or older than so many days; returns them."""
    known = rotated_files(live)
    too_many = known[: max(len(known) - keep_files, 0)] if keep_files is not None else []
    oldest = (now - timedelta(days=keep_days)).strftime("%Y%m%d_%H%M%S") if keep_days is not None else ""
    removed = [rotated.path for rotated in known if rotated in too_many or rotated.name.stamp < oldest]
    for path in removed:
        files.unlink(path)
    return removed
