"""Two folders change places in one step: `renameat2` with `RENAME_EXCHANGE`, of Linux since 3.15.

Whoever looks sees either the one or the other under a name, and never neither; a crash leaves one of the two states.
ext4, XFS, Btrfs and tmpfs can do it; several network file systems cannot.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

from streamsvc.errors import UsageError
from streamsvc.persistence.compaction_day import BUILD_PREFIX
from streamsvc.persistence.files import no_room_mapped

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_LACKING = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def exchange(one: Path, other: Path) -> None:
    """Have two folders of one file system change places. Blocks; the caller syncs their parents.

    Raises:
        UsageError: the system or the file system cannot do it; nothing was changed.
        DiskFullError: there is no room; nothing was changed.
        OSError: the disk failed, or one of them is not there.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    code = errno.ENOSYS
    if rename is not None:
        rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
    if code in _LACKING:
        raise UsageError(
            f"the file system of {other} cannot exchange two folders in one step (renameat2: {os.strerror(code)}); "
            "compaction needs one that can, like ext4, XFS or Btrfs"
        )
    with no_room_mapped():
        raise OSError(code, os.strerror(code), str(one), None, str(other))


def require_exchange(tmp: Path) -> None:
    """See that folders can be exchanged on a file system, before hours of work rely on it.

    Args:
        tmp: A folder there, in which two empty folders are made and removed.

    Raises:
        UsageError: they cannot.
        DiskFullError: there is no room to try.
        OSError: the disk failed.
    """
    folders = [tmp / f"{BUILD_PREFIX}try-{place}-{os.getpid()}" for place in (1, 2)]
    try:
        with no_room_mapped():
            for folder in folders:
                folder.mkdir(exist_ok=True)
        exchange(*folders)
    finally:
        for folder in folders:
            if folder.is_dir():
                folder.rmdir()
