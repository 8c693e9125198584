"""The gap ledger once more, in a file beside the catalogue: `DATA_DIR/ledger.jsonl`.

Files and journal say which rows there are; why others are missing stands in the catalogue alone once a segment is
sealed. So whatever changes the ledger is appended here and synced before the transaction that makes it true, and a
catalogue that is made again takes it in.

Rules:
1. A line is a CRC32 and the JSON of a `Change`. What is torn at the end is cut by the next start; a line that does not
   match its checksum is left out, and said.
2. A change may be appended and its transaction then fail. It is appended again with the segment's next publication, and
   the last line of a segment counts.
3. Its size is bounded by the ledger's: where it has more than `ROW_BYTES_MAX` a row of the catalogue, it is written
   anew from the catalogue's rows.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from streamsvc.errors import DiskFullError
from streamsvc.log import logger
from streamsvc.persistence.gap_table import GapRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from streamsvc.persistence.files import Files

SIZE_BYTES_MIN = 1 << 20
ROW_BYTES_MAX = 1024
_ROWS_PER_LINE = 500
_CHECKSUM_CHARACTERS = 8


@attrs.frozen
class Change:
    """What one transaction changes in the ledger.

    Attributes:
        name: The segment whose publication it belongs to, or another name that is given once; empty for what the
            ledger was when the file was written anew.
        notes: The loop's notes, in order; see `gap.decode_note`.
        opened: Rows that are inserted after them.
    """

    name: str
    notes: Sequence[bytes] = ()
    opened: Sequence[GapRow] = ()


class LedgerFile:
    """The file. Every method blocks.

    Args:
        path: `DATA_DIR/ledger.jsonl`.
        files: The disk.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._new_path = path.with_name(f"{path.name}.new")
        self._files = files
        self._is_named = False

    def prepare(self) -> bool:
        """Cut what a crash has left of a line; returns whether there is a file.

        Raises:
            DiskFullError: it could not be opened.
            OSError: the disk failed.
        """
        if self._new_path.exists():
            self._files.unlink(self._new_path)
        if not self._path.is_file():
            return False
        end = _end_of_lines(self._path)
        if end < self._path.stat().st_size:
            descriptor = self._files.open_to_append(self._path)
            try:
                self._files.truncate(descriptor, end)
                self._files.sync(descriptor)
            finally:
                self._files.close(descriptor)
        return True

    def append(self, change: Change) -> None:
        """Have a change on the disk when this returns.

        Raises:
            DiskFullError: there was no room; nothing was appended.
            OSError: the disk failed.
        """
        descriptor = self._files.open_to_append(self._path)
        try:
            size_bytes = self._path.stat().st_size
            try:
                self._write(descriptor, _encode(change))
            except DiskFullError:
                self._files.truncate(descriptor, size_bytes)
                raise
            self._files.sync(descriptor)
        finally:
            self._files.close(descriptor)
        if not self._is_named:
            self._files.sync_folder(self._path.parent)
            self._is_named = True

    def is_grown(self, rows: int) -> bool:
        """Whether it is to be written anew, where the ledger has so many rows."""
        return self._path.is_file() and self._path.stat().st_size > SIZE_BYTES_MIN + ROW_BYTES_MAX * rows

    def rewrite(self, rows: Sequence[GapRow]) -> None:
        """Have the file say what the ledger is now, and nothing of how it became so.

        Raises:
            DiskFullError: there was no room; the file is as it was.
            OSError: the disk failed.
        """
        self._files.unlink(self._new_path)
        descriptor = self._files.create(self._new_path)
        try:
            for first in range(0, len(rows), _ROWS_PER_LINE):
                self._write(descriptor, _encode(Change("", opened=rows[first : first + _ROWS_PER_LINE])))
            self._files.sync(descriptor)
        finally:
            self._files.close(descriptor)
        self._files.replace(self._new_path, self._path)
        self._files.sync_folder(self._path.parent)

    def changes(self, without: Collection[str] = ()) -> Iterator[Change]:
        """The changes that count, in order.

        Args:
            without: Names whose changes are left out: of segments that will be published again.
        """
        if not self._path.is_file():
            return
        last_lines = {change.name: number for number, change in self._lines() if change is not None}
        for number, change in self._lines():
            if change is None:
                logger.error("ledger_line_damaged", line=number)
            elif change.name not in without and (not change.name or number == last_lines[change.name]):
                yield change

    def _lines(self) -> Iterator[tuple[int, Change | None]]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, _decode(line)

    def _write(self, descriptor: int, data: bytes) -> None:
        view, done = memoryview(data), 0
        while done < len(data):
            done += self._files.write(descriptor, view[done:])


class _Line(msgspec.Struct):
    name: str
    notes: list[str]
    opened: list[tuple[Any, ...]]  # The checksum says that we wrote them.


_DECODER = msgspec.json.Decoder(_Line)


def _encode(change: Change) -> bytes:
    notes = [text.decode() for text in change.notes]
    text = msgspec.json.encode(_Line(change.name, notes, [attrs.astuple(row) for row in change.opened]))
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> Change | None:
    """The change of a line, None if it is not what was written."""
    checksum, text = line[:_CHECKSUM_CHARACTERS], line[_CHECKSUM_CHARACTERS + 1 :].removesuffix(b"\n")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    found = _DECODER.decode(text)
    rows = [GapRow(*row) for row in found.opened]
    return Change(found.name, [note.encode() for note in found.notes], rows)


def _end_of_lines(path: Path) -> int:
    """Where the last whole line ends."""
    piece_bytes = 1 << 16
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end:
            begin = max(0, end - piece_bytes)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
