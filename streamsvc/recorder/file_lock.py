"""A lock beside a file, so that one recorder at a time writes it. All calls block."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from streamsvc.errors import UsageError
from streamsvc.recorder.names import beside

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.persistence.files import Files


class FileLock:
    """A lock beside a file, which the kernel drops with the process.

    Args:
        path: The file.
        files: The disk.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._files = files
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take it; its folder is made if it is not there.

        Raises:
            UsageError: another recorder holds it.
            OSError: the folder cannot be written.
        """
        make_folder(self._path.parent, self._files)
        descriptor = self._files.open_to_append(beside(self._path, ".lock"))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            self._files.close(descriptor)
            raise UsageError(
                f"{self._path} is in use by another recorder; give each its own file, or wait until the other has ended"
            ) from fault
        self.release()
        self._descriptor = descriptor

    def keep(self) -> None:
        """Take it again where somebody moved or removed it.

        Raises:
            OSError: another recorder holds it now, or the folder cannot be written.
        """
        if self._descriptor is not None:
            with suppress(OSError):
                if os.path.samestat(beside(self._path, ".lock").stat(), os.fstat(self._descriptor)):
                    return
        try:
            self.acquire()
        except UsageError as fault:
            raise OSError(errno.EBUSY, str(fault)) from fault

    def release(self) -> None:
        """Let it go."""
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None


def make_folder(folder: Path, files: Files) -> None:
    """Make a folder and its parents, and have them on the disk."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(made):
        path.mkdir(exist_ok=True)
        files.sync_folder(path.parent)
