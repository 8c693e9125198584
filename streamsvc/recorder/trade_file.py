"""The live file of a recorder: appended to, cut where an end is torn, rotated. All calls block; one at a time.

What was appended is whole lines or nothing: an attempt that fails is cut off before the next. The file is looked at
with every append, so that one that somebody else moved or removed is made anew.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.recorder.file_lock import FileLock
from streamsvc.recorder.names import FIRST, GZ, beside, rotated_files, rotated_path

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from streamsvc.persistence.files import Files

_BLOCK_BYTES = 1 << 16


class TradeFile:
    """The live file.

    Args:
        path: Where it lies.
        files: The disk.

    Attributes:
        size_bytes: Whole lines in it.
        has_unsynced: Whether some of them may not be on the disk.
        torn_bytes: How much was cut off from its end, since it was not a whole line.
        doubts: How often a sync failed that lines depend on which are in nobody's memory any more: a disk tells that it
            has lost something once, and says nothing of it at the next sync.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._name = str(path)
        self._files = files
        self._lock = FileLock(path, files)
        self._descriptor: int | None = None
        self._is_dirty = False
        self.size_bytes = 0
        self.has_unsynced = False
        self.doubts = 0
        self.torn_bytes = 0

    def open(self) -> None:
        """Take the file for this recorder, and cut a torn end off.

        Raises:
            UsageError: another recorder has it.
            OSError: it cannot be written.
        """
        self._lock.acquire()
        try:
            self._open()
            assert self._descriptor is not None
            self._files.sync(self._descriptor)  # What a killed recorder wrote is relied upon from now on.
        except BaseException:
            self._drop()
            self._lock.release()
            raise

    def close(self) -> None:
        """Let the file go, without what an attempt that failed has left in it."""
        if self._descriptor is not None and self._is_dirty:
            with suppress(OSError):  # Else it is as if the end came in the middle of that attempt.
                self._files.truncate(self._descriptor, self.size_bytes)
        self._drop()
        self._lock.release()

    def append(self, lines: bytes, *, is_synced: bool) -> None:
        """Have whole lines in the file, and on the disk if `is_synced`.

        Raises:
            OSError: nothing of them counts; call again with the same lines.
            DiskFullError: the same, for want of room.
        """
        descriptor = self._ready()
        self._is_dirty = True
        left = memoryview(lines)
        while left:
            left = left[self._files.write(descriptor, left) :]
        if is_synced:
            self.sync()
        if not os.fstat(descriptor).st_nlink:
            self._drop()
            raise FileNotFoundError(errno.ENOENT, "somebody removed the file while it was written", self._name)
        self.size_bytes += len(lines)
        self.has_unsynced = not is_synced
        self._is_dirty = False

    def sync(self) -> None:
        """Have everything that was appended on the disk.

        Raises:
            OSError: it is not known what the disk has.
        """
        if self._descriptor is None:
            return
        try:
            self._files.sync(self._descriptor)
        except DISK_FAULTS:
            self.doubts += self.has_unsynced
            raise
        finally:
            self.has_unsynced = False  # Not before: whoever looks meanwhile has to wait.

    def rotate(self, now: datetime) -> Path:
        """Give the file the name of its time; returns it. The next append makes a new file.

        Raises:
            OSError: it goes on as it was.
            DiskFullError: the same.
        """
        self.sync()
        known = rotated_files(self._path)
        name = (known[-1].name if known else FIRST).after(now)
        target = rotated_path(self._path, name)
        if target.exists() or beside(target, GZ).exists():  # The folder changed under us.
            raise FileExistsError(errno.EEXIST, "would overwrite", str(target))
        self._files.replace(self._path, target)
        self._files.sync_folder(self._path.parent)
        self._drop()
        return target

    def _ready(self) -> int:
        """The descriptor of the file that has the name, its end that of the last whole line."""
        if self._descriptor is not None and self._is_dirty:
            self._files.truncate(self._descriptor, self.size_bytes)
            self._is_dirty = False
        if self._descriptor is not None and not self._has_name(self._descriptor):
            if self.has_unsynced:  # Whoever moved the file has lines in it that a flush must be able to confirm.
                self.sync()
            self._drop()
        if self._descriptor is None:
            self._lock.keep()
            self._open()
        assert self._descriptor is not None
        return self._descriptor

    def _has_name(self, descriptor: int) -> bool:
        try:
            named = os.stat(self._name)  # noqa: PTH116 - a third of what the method costs, at every append
        except (FileNotFoundError, NotADirectoryError):
            return False
        own = os.fstat(descriptor)
        return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)

    def _open(self) -> None:
        descriptor = self._files.open_to_append(self._path)
        try:
            self.torn_bytes += len(cut_torn(self._path, self._files))
            self._files.sync_folder(self._path.parent)
            self.size_bytes = os.fstat(descriptor).st_size
        except BaseException:
            self._files.close(descriptor)
            raise
        self._descriptor, self._is_dirty = descriptor, False

    def _drop(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._files.close(descriptor)
        self._is_dirty, self.size_bytes = False, 0


def cut_torn(path: Path, files: Files) -> bytes:
    """Cut what follows the last end of a line, and keep it in `….torn`; returns it, empty if there was none.

    A whole object that only lacks its end is given one: no part of an object can be taken for a whole.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        begin, tail = size, b""
        while begin and b"\n" not in tail:
            step = min(_BLOCK_BYTES, begin)
            begin -= step
            file.seek(begin)
            tail = file.read(step) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return b""
        if _is_object(torn):
            file.seek(size)
            file.write(b"\n")
            return b""
        _keep(torn, beside(path, ".torn"), files)
        file.truncate(size - len(torn))
        file.flush()
        os.fsync(file.fileno())
    return torn


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _keep(torn: bytes, path: Path, files: Files) -> None:
    with path.open("ab") as file:
        file.write(torn + b"\n")
        file.flush()
        os.fsync(file.fileno())
    files.sync_folder(path.parent)
