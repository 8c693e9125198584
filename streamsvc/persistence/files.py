"""The disk as the journal and the publisher use it: one small object, so that a test can let the n-th call fail.

What means "no room" (space, quota, inodes, descriptors) becomes a `DiskFullError`. Every other `OSError` goes through:
a disk that cannot be trusted ends the process, and recovery tells what is there.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from streamsvc.errors import DiskFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

DISK_FAULTS = (OSError, DiskFullError)
"""What a disk raises that does not take something."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


@contextmanager
def no_room_mapped() -> Iterator[None]:
    """Turn the `OSError`s that mean "no room" into a `DiskFullError`."""
    try:
        yield
    except OSError as fault:
        if fault.errno in NO_ROOM:
            raise DiskFullError(f"{os.strerror(fault.errno)}: {fault.filename or 'journal'}") from fault
        raise


class Files:
    """The real disk. All calls block.

    A sync that failed is never repeated and never a `DiskFullError`; `sync_folder` raises one only where the folder
    could not be opened, before anything was synced.
    """

    def create(self, path: Path) -> int:
        """Create a file that is not there yet, for appending; returns its descriptor."""
        with no_room_mapped():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(path, flags, 0o644)

    def open_to_append(self, path: Path) -> int:
        """Open a file for appending, made where it is not there; returns its descriptor."""
        with no_room_mapped():
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(path, flags, 0o644)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write what fits; returns how many bytes it was."""
        with no_room_mapped():
            return os.write(descriptor, data)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, size_bytes)

    def sync(self, descriptor: int) -> None:
        """Have the data on the disk when this returns."""
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Have a folder's entries on the disk when this returns."""
        with no_room_mapped():
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, folder: Path) -> None:
        """Make a folder whose parent is there."""
        with no_room_mapped():
            folder.mkdir()

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over whatever has the name."""
        with no_room_mapped():
            os.replace(source, target)  # noqa: PTH105 - one call, one name

    def unlink(self, path: Path) -> None:
        """Remove a file if it is there."""
        path.unlink(missing_ok=True)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder with what is in it, as far as that works: another process may be writing there."""
        shutil.rmtree(folder, ignore_errors=True)

    def free_bytes(self, folder: Path) -> int:
        """Free space for us on the disk of a folder."""
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize


@contextmanager
def written_whole(path: Path, files: Files | None = None, *, part: Path | None = None) -> Iterator[IO[bytes]]:
    """A file that appears under its name whole, on the disk, or not at all; what had the name is replaced. Blocks.

    Args:
        path: Its name.
        files: The disk; the real one if not given.
        part: Where it is written before; what is there is written over. `….part` if not given.

    Raises:
        OSError: what had the name is there as it was, unless it was the last step, the sync of the folder.
        DiskFullError: the same, for want of room.
    """
    files, part = files or Files(), part or path.with_name(f"{path.name}.part")
    try:
        with no_room_mapped(), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        files.replace(part, path)
    except BaseException:
        with suppress(OSError):
            files.unlink(part)
        raise
    files.sync_folder(path.parent)
