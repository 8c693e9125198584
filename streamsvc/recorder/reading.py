"""Records read again: rotated files, compressed or not, and the live one, as one stream in the order of writing.

A recorder may be writing meanwhile: a file that is rotated or compressed under the reader is read once all the same.
"""

from __future__ import annotations

import errno
import gzip
import os
import time
import zlib
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from streamsvc.errors import DamagedError
from streamsvc.recorder.names import FIRST, GZ, RotatedFile, beside, rotated_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_GZ_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)


def _raise(fault: DamagedError) -> None:
    raise fault


def read_trades(path: str | Path, on_damage: Callable[[DamagedError], None] = _raise) -> Iterator[dict[str, Any]]:
    """All records that are there, oldest first. Times and decimals are text, as they were written.

    Args:
        path: The live file, whether it is there or not.
        on_damage: What to do about a line, or the rest of a file, that cannot be read: raise it if not given.

    Raises:
        DamagedError: from `on_damage`.
        FileNotFoundError: neither the live file nor a rotated one is there.
    """
    walk = _Walk(Path(path), on_damage)
    walk.require_any()
    with closing(walk):
        yield from walk.read()


def follow_trades(
    path: str | Path,
    on_damage: Callable[[DamagedError], None] = _raise,
    *,
    poll_sec: float = 0.2,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """The same, and then what is written from now on, for ever; the files need not be there yet."""
    with closing(_Walk(Path(path), on_damage)) as walk:
        while True:
            yield from walk.read()
            sleep(poll_sec)


class _Walk:
    """A reader's place in the files of a recorder.

    Args:
        live: The live file.
        on_damage: What to do about what cannot be read.
    """

    def __init__(self, live: Path, on_damage: Callable[[DamagedError], None]) -> None:
        self._live = live
        self._on_damage = on_damage
        self._passed = FIRST  # The rotated file that was read last.
        self._file: BinaryIO | None = None  # The live one, while it is read.
        self._line = 0

    def require_any(self) -> None:
        """Refuse where there is nothing at all."""
        if not self._live.exists() and not rotated_files(self._live):
            raise FileNotFoundError(errno.ENOENT, "there are no records: neither this file nor one rotated", self._live)

    def close(self) -> None:
        """Let go of the live file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[dict[str, Any]]:
        """What has come since the last time, up to the last whole line."""
        while True:
            if self._file is not None:
                has_name = self._has_name(self._file)  # Asked first: no more comes once another file has it.
                yield from self._live_records(self._file)
                if has_name:
                    return
                rotated = self._next_rotated()
                if rotated is not None and _is_same(rotated, self._file):
                    self._passed = rotated.name
                self.close()
            elif (rotated := self._next_rotated()) is not None:
                with suppress(FileNotFoundError):  # It was compressed or removed meanwhile.
                    yield from self._rotated_records(rotated)
                    self._passed = rotated.name
            elif not self._open_live():
                return

    def _next_rotated(self) -> RotatedFile | None:
        return next((rotated for rotated in rotated_files(self._live) if rotated.name > self._passed), None)

    def _open_live(self) -> bool:
        """Open the live file, unless it is another than the one that follows what was read; False: it is not there."""
        try:
            file = self._live.open("rb")
        except FileNotFoundError:
            return self._next_rotated() is not None
        if self._next_rotated() is not None:  # It was rotated since we looked.
            file.close()
        else:
            self._file, self._line = file, 0
        return True

    def _has_name(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(self._live.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _live_records(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        while line := file.readline():
            if not line.endswith(b"\n"):  # It is being written.
                file.seek(-len(line), os.SEEK_CUR)
                return
            self._line += 1
            yield from self._decoded(self._live, self._line, line)

    def _rotated_records(self, rotated: RotatedFile) -> Iterator[dict[str, Any]]:
        with gzip.open(rotated.path) if rotated.is_compressed else rotated.path.open("rb") as file:
            try:
                for number, line in enumerate(file, 1):
                    yield from self._decoded(rotated.path, number, line)
            except _GZ_ERRORS as fault:
                self._on_damage(DamagedError(f"{rotated.path}: the rest of it cannot be unpacked: {fault}"))

    def _decoded(self, path: Path, number: int, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            record = msgspec.json.decode(line)
            if not isinstance(record, dict):
                raise msgspec.DecodeError("it is no object")
        except _DECODE_ERRORS as fault:
            self._on_damage(DamagedError(f"{path}, line {number}: {fault}"))
        else:
            yield record


def _is_same(rotated: RotatedFile, read: BinaryIO) -> bool:
    """Whether a rotated file is the one that was read as the live one: retention may have removed that."""
    with suppress(FileNotFoundError):
        if not rotated.is_compressed:
            return os.path.samestat(rotated.path.stat(), os.fstat(read.fileno()))
    packed = rotated.path if rotated.is_compressed else beside(rotated.path, GZ)  # It was compressed meanwhile.
    try:
        with packed.open("rb") as raw, gzip.open(raw) as file:
            first = file.readline()
            raw.seek(-4, os.SEEK_END)  # The plain size modulo 2^32 (RFC 1952).
            size = int.from_bytes(raw.read(4), "little")
    except (OSError, *_GZ_ERRORS):
        return False
    read.seek(0)
    return first == read.readline() and size == os.fstat(read.fileno()).st_size % 2**32
