"""The open segment: blocks go in, whole frames lie on the disk, and nothing else ever follows the last whole frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DiskFullError
from streamsvc.persistence.journal import encode_frame, encode_header, frame_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from streamsvc.batch import Block
    from streamsvc.persistence.files import Files
    from streamsvc.persistence.layout import SegmentName


PIECE_BYTES = 64 * 1024


@attrs.frozen
class ClosedSegment:
    """A segment that will not change any more.

    Attributes:
        name: Its name.
        size_bytes: Its size on the disk.
        seconds: How long it was open; None for a segment of an earlier run.
        mode: The rotation in force when it was closed, `normal` or `extreme`.
    """

    name: SegmentName
    size_bytes: int
    seconds: float | None = None
    mode: str = "normal"


class OpenSegment:
    """A segment that is being written. Every method blocks; whoever makes one closes or abandons it.

    Args:
        files: The disk.
        path: Where the segment will be made.
        name: Its name.

    Raises:
        DiskFullError: it could not be made; nothing is left behind.
    """

    def __init__(self, files: Files, path: Path, name: SegmentName) -> None:
        self._files = files
        self._path = path
        self._seed = frame_seed(name)
        self._pending_header = encode_header(name)
        self.name = name
        self.size_bytes = 0
        self.synced_bytes = 0
        self.messages = 0
        self._is_closed = False
        self._descriptor = files.create(path)
        # Here, where no room can be waited for: without its name in the folder, what is synced later would be lost.
        try:
            files.sync_folder(path.parent)
        except DiskFullError:
            self.abandon()
            files.unlink(path)
            raise
        except BaseException:
            self.abandon()
            raise

    def append(self, blocks: Sequence[Block]) -> int:
        """Write blocks, all or none; returns the bytes written.

        Raises:
            DiskFullError: there was no room; the segment ends with its last whole frame.
        """
        written = 0
        try:
            for data in self._pieces(blocks):
                view, done = memoryview(data), 0
                while done < len(data):
                    done += self._files.write(self._descriptor, view[done:])
                written += done
        except DiskFullError:
            self._files.truncate(self._descriptor, self.size_bytes)
            raise
        self._pending_header = b""
        self.size_bytes += written
        self.messages += sum(len(block.messages) for block in blocks)
        return written

    def _pieces(self, blocks: Sequence[Block]) -> Iterator[bytes]:
        """The bytes of blocks, in pieces that stay in the processor's cache between the joining and the write."""
        frames, size_bytes = [self._pending_header], 0
        for block in blocks:
            frame = encode_frame(block, self._seed)
            frames.append(frame)
            size_bytes += len(frame)
            if size_bytes >= PIECE_BYTES:
                yield b"".join(frames)
                frames, size_bytes = [], 0
        yield b"".join(frames)

    def sync(self) -> None:
        """Have everything that was appended on the disk."""
        if self.synced_bytes == self.size_bytes:
            return
        self._files.sync(self._descriptor)
        self.synced_bytes = self.size_bytes

    def close(self) -> None:
        """Sync and close; an empty segment is removed."""
        self.sync()
        self.abandon()
        if not self.size_bytes:
            self._files.unlink(self._path)

    def abandon(self) -> None:
        """Close without a sync, where the process is about to end anyway. Closing twice is fine."""
        if not self._is_closed:
            self._is_closed = True
            self._files.close(self._descriptor)
