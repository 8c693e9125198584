"""zstd: the only importer of cramjam.

At the lowest level: on real traffic it is as small as the default, and quicker by half (8.5 of 54 MB, in 0.1 s).
"""

from __future__ import annotations

import mmap
import os
import re
from typing import TYPE_CHECKING

import cramjam

from streamsvc.errors import DamagedError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

_LEVEL = 1
_PIECE_BYTES = 4 * 1024 * 1024


def compress(data: bytes) -> memoryview:
    """Data, compressed."""
    return memoryview(cramjam.zstd.compress(data, level=_LEVEL))


def decompress(data: bytes) -> bytes:
    """What `compress` or `compress_into` was given.

    Raises:
        DamagedError: it is cut or damaged.
    """
    try:
        return bytes(cramjam.zstd.decompress(data))
    except cramjam.DecompressionError as fault:
        raise DamagedError(str(fault)) from fault


def compress_into(file: IO[bytes], data: mmap.mmap) -> None:
    """Write data to a file in frames of 4 MB, which every reader of zstd takes for one: memory stays small."""
    for offset in range(0, len(data), _PIECE_BYTES):
        file.write(compress(data[offset : offset + _PIECE_BYTES]))


def decompress_file(source: Path, target: Path) -> None:
    """Write what a compressed file holds to another one, over whatever it has.

    Raises:
        DamagedError: the file is cut or damaged.
        OSError: it cannot be read, or the other one cannot be written.
    """
    with source.open("rb") as file:
        if not source.stat().st_size:
            raise DamagedError(f"{source}: it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                cramjam.zstd.decompress_into(data, cramjam.File(str(target)))
            except cramjam.DecompressionError as fault:
                # The library has one error for both: what it cannot read, and what the system does not let it write.
                system_error = re.search(r"\(os error (\d+)\)", str(fault))
                if system_error is not None:
                    number = int(system_error[1])
                    raise OSError(number, os.strerror(number), str(target)) from fault
                raise DamagedError(f"{source}: {fault}") from fault
