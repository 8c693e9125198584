"""Records on their way to the file, in order. Pure."""

from __future__ import annotations

import attrs

_OBJECT_BYTES = 48
"""What a text takes in memory besides its bytes: small records would else take several times what is allowed."""


@attrs.frozen
class Chunk:
    """Records that go to the file together.

    Attributes:
        lines: JSON, one record a line.
        records: How many.
        closes: Ids of the trades whose joined records are among them.
        size_bytes: How much memory they were counted with.
    """

    lines: bytes
    records: int
    size_bytes: int
    closes: frozenset[str]


class Buffer:
    """What is accepted and not in the file yet: what came, and before it the chunk that is being written.

    Attributes:
        queued: How many have come since the chunk was made.
        size_bytes: How much waits, the chunk included.
        accepted: Records that ever came.
        written: Records that are done with.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.queued = 0
        self._queued_bytes = 0
        self._closes: set[str] = set()
        self._chunk: Chunk | None = None
        self.size_bytes = 0
        self.accepted = 0
        self.written = 0

    @property
    def records(self) -> int:
        """How many wait."""
        return self.accepted - self.written

    def add(self, lines: bytes, records: int, closes: str | None = None) -> None:
        """Records have come."""
        self._lines.append(lines)
        self.queued += records
        size_bytes = len(lines) + _OBJECT_BYTES
        self._queued_bytes += size_bytes
        self.size_bytes += size_bytes
        self.accepted += records
        if closes is not None:
            self._closes.add(closes)

    def chunk(self) -> Chunk | None:
        """What is to be written next, the same until it is `done`; None: nothing waits."""
        if self._chunk is None and self._lines:
            lines, closes = b"".join(self._lines), frozenset(self._closes)
            self._chunk = Chunk(lines, self.queued, self._queued_bytes, closes)
            self._queued_bytes = 0
            self._lines.clear()
            self._closes.clear()
            self.queued = 0
        return self._chunk

    def done(self) -> None:
        """The chunk is in the file."""
        assert self._chunk is not None
        self.size_bytes -= self._chunk.size_bytes
        self.written += self._chunk.records
        self._chunk = None

    def left(self) -> bytes:
        """All lines that wait, in order."""
        return b"".join([self._chunk.lines if self._chunk is not None else b"", *self._lines])
