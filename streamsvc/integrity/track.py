"""A stream as continuity sees it: its chain, its book, and who carries it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from streamsvc.gap import REMOVED
from streamsvc.integrity.books import BookChain, BookState
from streamsvc.integrity.continuity import Chain
from streamsvc.integrity.listening import Break, Heard
from streamsvc.integrity.seen import Seen
from streamsvc.integrity.takeover import Takeover
from streamsvc.log import logger
from streamsvc.schema import Kind
from streamsvc.venues.binance_heads import NO_EVENT_TIME

if TYPE_CHECKING:
    from streamsvc.venues.venue import Stream

_NS_PER_MS = 1_000_000

BOOK_HELD_MAX = 100
"""Updates that a book holds by their ids until there is a snapshot: ten seconds of them, 25 KB a book."""


class Track:
    """A stream, its chain, its book if it has one, and the connections that carry it.

    Attributes:
        carriers: The attempts that carry it, or are being made to.
        open: Those of them that are open.
        connection: The newest that is open, or that was last.
        is_recorded: Whether it is; else only what it lacks, and where it had come to, are of interest.
    """

    __slots__ = (
        "_told_state",
        "_unfed",
        "book",
        "broken",
        "carriers",
        "chain",
        "connection",
        "is_begun",
        "is_recorded",
        "labels",
        "last_head",
        "last_received_ns",
        "open",
        "seen",
        "seen_until",
        "stream",
        "takeover",
    )

    def __init__(self, stream: Stream) -> None:
        self.chain = Chain()
        self.broken: Break | None = None
        self.seen = Seen()
        self.begin(stream)
        # Of streams whose ids do not chain: the last message, and the time since which nobody listens.
        self.last_head: Any = None
        self.last_received_ns = 0
        self.connection = 0
        self.carriers: set[int] = set()
        self.open: set[int] = set()
        self.seen_until = -math.inf
        self.labels = {"market": stream.market.label, "symbol": stream.symbol, "kind": stream.kind.label}

    def begin(self, stream: Stream) -> None:
        """It is recorded from now on, with a book that has to be synchronised first."""
        self.stream, self.is_recorded = stream, True
        is_book = stream.kind is Kind.DEPTH
        self._begin_book(BookChain(stream.market, BOOK_HELD_MAX) if is_book else None)
        self.takeover = Takeover() if is_book else None

    def end(self) -> None:
        """It is not recorded any more."""
        self.is_recorded = False
        self._begin_book(None)
        self.takeover = None
        self.seen.clear()
        self.last_head = None
        self.leave()

    def leave(self) -> None:
        """What comes until its next message is not missed: nobody asks for it."""
        self.chain.stop(REMOVED)
        if self.broken is not None:
            self.broken = Break(REMOVED, self.broken.before)

    def _begin_book(self, book: BookChain[None] | None) -> None:
        self.book = book
        self._told_state = BookState.SYNCING
        self._unfed: list[tuple[int, int, int]] = []
        self.is_begun = False

    def take_update(self, head: Any) -> None:
        """Bring the book on, in the order of ids: what lies behind a hole waits until that is filled, or is told."""
        if self.book is None:
            return
        self.is_begun = True
        self._unfed.append((head.u, head.U, head.pu))
        if len(self._unfed) < BOOK_HELD_MAX and any(not one.is_announced for one in self.chain.missing):
            return
        for final, first, previous in sorted(self._unfed):
            self.book.take_update(first, final, previous, None)
        self._unfed.clear()
        self._tell()

    def heard(self, heard_ns: int) -> Heard | None:
        """What came last of a stream whose ids do not chain, if anything has; `heard_ns` is the connection's last."""
        if self.stream.kind is Kind.FORCE_ORDER:
            return Heard(heard_ns // _NS_PER_MS, heard_ns // _NS_PER_MS) if heard_ns else None
        return None if self.last_head is None else heard_of(self.stream, self.last_head, self.last_received_ns)

    def take_snapshot(self, last_update_id: int) -> None:
        """Bring the book on by a snapshot."""
        if self.book is not None:
            self.book.take_snapshot(last_update_id)
            self._tell()

    def lose_book(self) -> None:
        """The ids have started over."""
        if self.book is not None:
            self.book.lose()
            self._tell()

    def _tell(self) -> None:
        if self.book is None or self.book.state is self._told_state:
            return
        self._told_state = self.book.state
        fields = {"market": self.stream.market.label, "symbol": self.stream.symbol}
        if self.book.state is BookState.SYNCED:
            logger.info("book_synced", **fields, update_id=self.book.last_update_id)
        elif self.book.state is BookState.LOST:
            logger.warning("book_lost", **fields, update_id=self.book.last_update_id)


def heard_of(stream: Stream, head: Any, received_ns: int) -> Heard:
    """A message of a stream whose ids do not chain."""
    event_ms = received_ns // _NS_PER_MS if head.E == NO_EVENT_TIME else head.E
    return Heard(head.u if stream.kind is Kind.BOOK_TICKER else event_ms, event_ms)
