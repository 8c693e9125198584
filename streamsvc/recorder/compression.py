"""Rotated files become .gz, and old ones are removed. All calls block.

The compressed form is written under another name, synced and renamed; the plain one is removed last. Whatever is there
after a crash, every record is in a file with a final name.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from streamsvc.recorder.names import GZ, PART, beside, rotated_files, unfinished_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from streamsvc.persistence.files import Files
    from streamsvc.recorder.names import RotatedFile

_LEVEL = 6
_STEP_BYTES = 1 << 20


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
    part = beside(target, PART)
    try:
        with rotated.path.open("rb") as plain, part.open("wb") as raw:
            with gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
                while block := plain.read(_STEP_BYTES):
                    if is_over():
                        return False
                    packed.write(block)
            raw.flush()
            os.fsync(raw.fileno())
        files.replace(part, target)
        files.sync_folder(target.parent)
        files.unlink(rotated.path)
    finally:
        with contextlib.suppress(OSError):
            files.unlink(part)
    return True


def remove_old(live: Path, files: Files, keep_files: int | None, keep_days: float | None, now: datetime) -> list[Path]:
    """Remove rotated files beyond a number, or older than so many days; returns them."""
    known = rotated_files(live)
    too_many = known[: max(len(known) - keep_files, 0)] if keep_files is not None else []
    oldest = (now - timedelta(days=keep_days)).strftime("%Y%m%d_%H%M%S") if keep_days is not None else ""
    removed = [rotated.path for rotated in known if rotated in too_many or rotated.name.stamp < oldest]
    for path in removed:
        files.unlink(path)
    return removed
