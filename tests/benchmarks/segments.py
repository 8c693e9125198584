"""Journal segments as a service leaves them, made without one: the real frames around messages of `wire.py`."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from wire import Texts

from streamsvc.batch import Block
from streamsvc.persistence.journal import encode_frame, encode_header, frame_seed
from streamsvc.schema import Kind, Market, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.persistence.layout import DataFolder, SegmentName

BLOCK_BYTES = 128 * 1024
"""What a connection reads at once in a burst."""

FIRST_EVENT_MS = 1_700_000_000_000
MESSAGES_PER_MS = 500


class Traffic:
    """Messages of 100 symbols, which take turns, as blocks; ids go on from one call to the next.

    Args:
        kinds: Their kinds, which take turns as well.
        levels: Of an order-book update, on each side.
    """

    def __init__(self, kinds: tuple[str, ...], levels: int = 20) -> None:
        rng = random.Random(1)
        self._kinds = kinds
        self._texts = [Texts(f"SYM{number}USDT", rng, levels) for number in range(100)]
        self._number = 0
        self.counts = dict.fromkeys(kinds, 0)

    def _next(self) -> tuple[str, bytes]:
        kind = self._kinds[self._number // len(self._texts) % len(self._kinds)]
        texts = self._texts[self._number % len(self._texts)]
        text = texts.make(kind, self._time_ms())
        self._number += 1
        self.counts[kind] += 1
        return kind, text

    def _time_ms(self) -> int:
        return FIRST_EVENT_MS + self._number // MESSAGES_PER_MS

    def blocks(self, *, messages: float = math.inf, size_bytes: float = math.inf) -> Iterator[Block]:
        """So many messages, or so many bytes of them."""
        kinds, texts, size = bytearray(), list[bytes](), 0
        while messages > 0 and size_bytes > 0:
            kind, text = self._next()
            kinds.append(Kind.from_label(kind))
            texts.append(text)
            size += len(text)
            messages -= 1
            size_bytes -= len(text)
            if size >= BLOCK_BYTES or messages <= 0 or size_bytes <= 0:
                yield Block(Market.SPOT, Source.STREAM, 1, self._time_ms() * 1_000_000, bytes(kinds), texts, size)
                kinds, texts, size = bytearray(), [], 0


def write_segment(folder: DataFolder, name: SegmentName, blocks: Iterator[Block]) -> int:
    """Write a segment as a writer would have left it; returns its size."""
    seed = frame_seed(name)
    with folder.segment(name).open("wb") as file:
        file.write(encode_header(name))
        for block in blocks:
            file.write(encode_frame(block, seed))
        return file.tell()
