"""Whether a published file is, byte for byte, what was sealed.

Asked before any of its rows is decoded: the library that does so ends the whole process on some damaged files.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from streamsvc.errors import DamagedError

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.persistence.manifest import SealedFile

_HASH_BYTES = 1 << 20


def require_sealed(root: Path, file: SealedFile, *, is_hashed: bool = True) -> None:
    """Check a file's place, size and checksum.

    Args:
        root: `DATA_DIR`.
        file: What the catalogue says of it.
        is_hashed: Whether the checksum is looked at.

    Raises:
        DamagedError: it is not what was sealed.
        OSError: it cannot be read.
    """
    folder = f"parquet/{file.kind}/market={file.market}/date={file.date}"
    # What a reader takes from the folders' names must be so; and nothing is read through a link.
    if PurePosixPath(file.path).parent != PurePosixPath(folder):
        raise DamagedError(f"it does not lie in {folder}, as the catalogue's kind, market and day say")
    path = root / file.path
    if path.is_symlink():
        raise DamagedError("it is a link")
    if not path.is_file():
        raise DamagedError("the catalogue knows it, but it is not there")
    if path.stat().st_size != file.size_bytes or (is_hashed and _sha256(path) != file.sha256):
        raise DamagedError("its bytes are not those that were sealed (checksum)")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
