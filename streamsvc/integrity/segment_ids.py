"""Which ids lie in a segment: asked of those that are committed while it is not sure that none was lost. Blocks.

The segment is read whole, not mapped: of a disk that cannot read it comes an error, not the end of the process. A
segment's size is limited (`SEGMENT_MAX_MB`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.integrity.resume import replay_block
from streamsvc.persistence.journal import Damage, read_segment
from streamsvc.persistence.layout import JOURNAL_SUFFIX, SegmentName
from streamsvc.persistence.losses import SeenRange

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.schema import Kind, Market

_NS_PER_MS = 1_000_000


def read_ids(path: Path) -> list[SeenRange]:
    """The ids of the chained kinds that lie in the whole frames of a segment, each stream's ascending.

    Raises:
        FileNotFoundError: it is gone.
        OSError: it cannot be read.
    """
    name = SegmentName.parse(path.name.removesuffix(JOURNAL_SUFFIX))
    assert name is not None, f"{path} is no segment"
    streams: dict[tuple[Market, Kind, str], _Ids] = {}
    for item in read_segment(path.read_bytes(), name):
        if not isinstance(item, Damage):
            replay_block(lambda *key: streams.setdefault(key, _Ids()), item, lambda _note: None)
    return [
        SeenRange(market, symbol, kind, epoch, *values)
        for (market, kind, symbol), ids in streams.items()
        for epoch, pieces in sorted(ids.pieces.items())
        for values in _joined(pieces)
    ]


class _Ids:
    """The ids of one stream: pieces without a hole in the order of the segment, with the event times at their ends."""

    def __init__(self) -> None:
        self.pieces: dict[int, list[_Piece]] = {}

    def replay(self, epoch: int, first: int, last: int, event_ms: int) -> None:
        """A message of the stream covers these ids."""
        self._add(epoch, first, last, event_ms * _NS_PER_MS)

    def replay_fetched(self, epoch: int, first: int, last: int) -> None:
        """REST brought these."""
        self._add(epoch, first, last, None)

    def _add(self, epoch: int, first: int, last: int, event_ns: int | None) -> None:
        pieces = self.pieces.setdefault(epoch, [])
        if pieces and first == pieces[-1][1] + 1:
            begin, _, begin_ns, _ = pieces[-1]
            pieces[-1] = begin, last, begin_ns, event_ns
        else:
            pieces.append((first, last, event_ns, event_ns))


if TYPE_CHECKING:
    _Piece = tuple[int, int, int | None, int | None]


def _joined(pieces: list[_Piece]) -> list[_Piece]:
    """Pieces that touch or overlap become one (pure)."""
    joined: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece[:2]):
        if joined and piece[0] <= joined[-1][1] + 1:
            first, last, first_ns, last_ns = joined[-1]
            joined[-1] = (first, piece[1], first_ns, piece[3]) if piece[1] > last else (first, last, first_ns, last_ns)
        else:
            joined.append(piece)
    return joined
