"""Text that could not be recorded, kept with its reason: JSON lines in `DATA_DIR/quarantine/`.

A line has `reason`, `received_ns`, `market`, `connection`, and `text`, or `base64` where it is no UTF-8. All files
together take at most `QUARANTINE_MAX_MB`; when that is full, writing stops and what comes is only counted: nothing that
was kept is ever deleted by us, and an operator who empties the folder has room again. Texts that were recorded, but not
exactly, may fill half of it.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import trio

from streamsvc.errors import DiskFullError
from streamsvc.log import logger
from streamsvc.persistence.files import no_room_mapped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from streamsvc.schema import Market

BUFFER_BYTES_MAX = 4 * 1024 * 1024
FLUSH_SEC = 1.0
REPORT_SEC = 60.0


def encode_item(reason: str, received_ns: int, market: str, connection: int, text: bytes, **more: Any) -> bytes:
    """One line, newline included."""
    item = {"reason": reason, "received_ns": received_ns, "market": market, "connection": connection, **more}
    try:
        item["text"] = text.decode()
    except UnicodeDecodeError:
        item["base64"] = base64.b64encode(text).decode()
    return orjson.dumps(item) + b"\n"


class QuarantineFolder:
    """The folder and its limit. Every method blocks.

    Args:
        path: `DATA_DIR/quarantine`.
        size_bytes_max: What all files in it may take.
    """

    def __init__(self, path: Path, size_bytes_max: int) -> None:
        self._path = path
        self._size_bytes_max = size_bytes_max

    def room_bytes(self, share: float = 1.0) -> int:
        """How much may still be written by one who may fill this share of the folder."""
        with os.scandir(self._path) as entries:
            used = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        return int(self._size_bytes_max * share) - used

    def append(self, name: str, data: bytes) -> bool:
        """Append lines to a file if there is room; returns whether they were written.

        Raises:
            DiskFullError: the disk has no room.
            OSError: the folder cannot be written.
        """
        if self.room_bytes() < len(data):
            return False
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with no_room_mapped():
            descriptor = os.open(self._path / name, flags, 0o644)
        try:
            with no_room_mapped():
                while data:
                    data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        return True

    def take_file(self, source: Path, name: str, share: float = 1.0) -> int:
        """Move a file of lines into the folder, cut to the lines for which there is room.

        Taking it twice is fine: it has its own name.

        Returns:
            Lines that were cut.
        """
        target = self._path / name
        target.unlink(missing_ok=True)
        cut_lines = _cut_to(source, self.room_bytes(share))
        if source.stat().st_size:
            source.replace(target)
        return cut_lines


def _cut_to(path: Path, size_bytes_max: int) -> int:
    """Cut a file after the last line that ends within a size; returns the lines cut."""
    if path.stat().st_size <= size_bytes_max:
        return 0
    kept_bytes = position = cut_lines = 0
    with path.open("rb+") as file:
        for line in file:
            position += len(line)
            if position <= size_bytes_max:
                kept_bytes = position
            else:
                cut_lines += 1
        file.truncate(kept_bytes)
        os.fsync(file.fileno())
    return cut_lines


class Quarantine:
    """What the loop could not read, on its way to a file: a buffer with a limit, and a task that empties it.

    Putting never blocks. What finds no room in the buffer, the folder or on the disk is counted.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size_bytes = 0
        self._reasons: Counter[str] = Counter()
        self._arrived = trio.lowlevel.ParkingLot()
        self._is_ended = False
        self._is_failure_told = False
        self.kept = 0
        self.dropped = 0

    def put(self, *, market: Market, connection: int, received_ns: int, reason: str, text: bytes) -> None:
        """Keep a text with the reason, or count it where there is no room."""
        self._reasons[reason] += 1
        # A text that is longer than the whole buffer is kept where nothing else is.
        if self._lines and self._size_bytes + len(text) > BUFFER_BYTES_MAX:
            self.dropped += 1
        else:
            line = encode_item(reason, received_ns, market.label, connection, text)
            self._lines.append(line)
            self._size_bytes += len(line)
        self._arrived.unpark_all()

    def end(self) -> None:
        """Nothing will be put any more: `run` writes what is left and returns."""
        self._is_ended = True
        self._arrived.unpark_all()

    async def run(self, folder: QuarantineFolder, name: str, run_blocking: Callable[..., Awaitable[Any]]) -> None:
        """Write what is put, until `end`; at most once in `FLUSH_SEC`, told to the log at most once in `REPORT_SEC`."""
        report_at = -REPORT_SEC
        while True:
            while not (self._lines or self._reasons or self._is_ended):
                await self._arrived.park()
            if self._lines:
                await self._flush(folder, name, run_blocking)
            now = trio.current_time()
            if self._reasons and (now - report_at >= REPORT_SEC or self._is_ended):
                logger.warning(
                    "messages_quarantined", reasons=dict(self._reasons), kept=self.kept, dropped=self.dropped
                )
                self._reasons.clear()
                report_at = now
            if self._is_ended and not self._lines:
                return
            with trio.move_on_after(FLUSH_SEC):
                while not self._is_ended:
                    await self._arrived.park()

    async def _flush(self, folder: QuarantineFolder, name: str, run_blocking: Callable[..., Awaitable[Any]]) -> None:
        lines, self._lines, self._size_bytes = self._lines, [], 0
        try:
            is_kept = await run_blocking(folder.append, name, b"".join(lines))
        except DiskFullError:
            is_kept = False
        except OSError as fault:
            # A folder that cannot be written costs the texts that nobody could read, not those that are recorded.
            is_kept = False
            if not self._is_failure_told:
                self._is_failure_told = True
                logger.error("quarantine_failed", detail=str(fault))
        if is_kept:
            self.kept += len(lines)
        else:
            self.dropped += len(lines)
