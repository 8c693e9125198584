r"""The lines of a day in the order of receipt, feed by feed, however large the day: an external sort.

Lines are gathered up to `BUFFER_BYTES`, sorted by feed and time, and written to a spill file as blocks of one feed
each. Then the blocks of a feed are merged: several connections write into each other's time, and a wall clock that is
set back goes through the same time again. Lines of the same time stay in the order in which they came.

Memory holds `BUFFER_BYTES`; then, of the feed that is read, the blocks whose times overlap, of `BLOCK_BYTES` each: two
or three, or, where the clock was set back, one for each buffer of the time that came again. Beside that a block costs a
quarter of a kilobyte: 100 MB for 300 feeds of 100 GB together.
"""

from __future__ import annotations

import heapq
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

import attrs

from streamsvc.persistence.compression import compress, decompress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from streamsvc.schema import Market

    Feed = tuple[Market, str]
    """A market and a symbol: what one file holds."""

BUFFER_BYTES = 128 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
_LINE_BYTES = 150
"""What Python takes for a line beside its text."""
_TIME_DIGITS = 19
"""Of a time in ns, from 2001 to 2286; earlier ones begin with zeros, since hftbacktest reads so many."""


@attrs.frozen
class _Block:
    """Sorted lines of one feed in the spill file."""

    first_ns: int
    last_ns: int
    number: int
    offset: int
    size_bytes: int


class LineSort:
    """Sorts the lines of a day.

    Args:
        spill: A file of its own, open for writing and reading; the caller closes and removes it.
        buffer_bytes: How much is gathered before it is written.
        block_bytes: How large a block is, about.
    """

    def __init__(self, spill: IO[bytes], buffer_bytes: int = BUFFER_BYTES, block_bytes: int = BLOCK_BYTES) -> None:
        self._spill = spill
        self._buffer_bytes = buffer_bytes
        self._block_bytes = block_bytes
        self._gathered: dict[Feed, list[tuple[int, bytes]]] = {}
        self._gathered_bytes = 0
        self._spilled_bytes = 0
        self._blocks: dict[Feed, list[_Block]] = {}
        self._numbers = 0

    def add(self, feed: Feed, received_ns: int, text: bytes) -> None:
        """Add a line; the text has no line break."""
        self._gathered.setdefault(feed, []).append((received_ns, text))
        self._gathered_bytes += len(text) + _LINE_BYTES
        if self._gathered_bytes >= self._buffer_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is gathered. Call it after the last line."""
        while self._gathered:
            feed, lines = self._gathered.popitem()
            lines.sort(key=itemgetter(0))
            block: list[bytes] = []
            size_bytes = first_ns = 0
            for received_ns, text in lines:
                first_ns = first_ns if block else received_ns
                block.append(b"%019d %b\n" % (received_ns, text))
                size_bytes += len(text) + _TIME_DIGITS
                if size_bytes >= self._block_bytes:
                    self._write(feed, block, first_ns, received_ns)
                    block, size_bytes = [], 0
            if block:
                self._write(feed, block, first_ns, lines[-1][0])
        self._gathered_bytes = 0

    def feeds(self) -> list[Feed]:
        """The feeds that have lines."""
        return sorted(self._blocks)

    def lines(self, feed: Feed) -> Iterator[bytes]:
        """The lines of a feed in order, each with its time and its end; one or more at a time."""
        waiting = deque(sorted(self._blocks[feed], key=lambda block: (block.first_ns, block.number)))
        # Each open block by its next line: its time, and its number for lines of the same time.
        heads: list[tuple[int, int, bytes, Iterator[bytes]]] = []
        while waiting or heads:
            while waiting and (not heads or waiting[0].first_ns <= heads[0][0]):
                block = waiting.popleft()
                data = self._read(block)
                if not heads and (not waiting or waiting[0].first_ns > block.last_ns):
                    yield data
                    continue
                rest = iter(data.splitlines(keepends=True))
                heapq.heappush(heads, (block.first_ns, block.number, next(rest), rest))
            if not heads:
                continue
            _, number, line, rest = heads[0]
            yield line
            following = next(rest, None)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (int(following[:_TIME_DIGITS]), number, following, rest))

    def _write(self, feed: Feed, lines: list[bytes], first_ns: int, last_ns: int) -> None:
        data = compress(b"".join(lines))
        self._spill.write(data)
        block = _Block(first_ns, last_ns, self._numbers, self._spilled_bytes, len(data))
        self._numbers += 1
        self._spilled_bytes += len(data)
        self._blocks.setdefault(feed, []).append(block)

    def _read(self, block: _Block) -> bytes:
        self._spill.seek(block.offset)
        return bytes(decompress(self._spill.read(block.size_bytes)))
