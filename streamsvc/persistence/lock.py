"""One instance a data folder: a lock that the kernel drops with the process, and that workers do not inherit."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamsvc.errors import UsageError
from streamsvc.persistence.files import Files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.persistence.layout import DataFolder


@contextmanager
def locked(folder: DataFolder) -> Iterator[None]:
    """Hold the lock of a data folder, which is made if it is not there.

    Raises:
        UsageError: another instance holds it, or the folder cannot be written.
    """
    try:
        made = [path for path in (folder.root, *folder.root.parents) if not path.exists()]
        folder.root.mkdir(parents=True, exist_ok=True)
        # Otherwise a power cut could take the folder, and with it everything that was synced in it.
        for path in made:
            Files().sync_folder(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(folder.lock, flags, 0o644)
    except OSError as fault:
        raise UsageError(f"DATA_DIR {folder.root} cannot be used: {fault.strerror}") from fault
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise UsageError(
                f"DATA_DIR {folder.root} is in use by another instance of streamsvc; give each its own folder"
            ) from fault
        yield
    finally:
        os.close(descriptor)
