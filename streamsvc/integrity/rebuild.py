"""The order book of a symbol at a moment, rebuilt from the files: a snapshot and every update up to then.

The moment is the exchange's time. A snapshot has its place in the chain of ids, not in time: spot does not stamp it,
and a local clock may be wrong. So the last update at the moment is found first, then the newest snapshot whose id does
not lie after it. The book is given only where the chain is whole: from the snapshot to the moment, and from there to
the update that follows, for otherwise nobody could tell that none is missing between. Only up to the time at which its
last update was sent (`event_time`) it stands for itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import numpy as np

from streamsvc.errors import DamagedError, StreamsvcError, UsageError
from streamsvc.integrity.book_files import (
    DAY_NS,
    HOUR_NS,
    MINUTE_NS,
    SECOND_NS,
    TIME_NS_MAX,
    BookFiles,
    BookPosition,
    BookSnapshot,
    BookUpdate,
)
from streamsvc.integrity.books import Book, BookState
from streamsvc.persistence.catalogue_reading import ReadingCatalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import MARKETS_BY_LABEL, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamsvc.integrity.books import Level

_SENDING_NS = SECOND_NS
"""An update is not sent later than this; what says so has a wrong time."""

_ATTEMPTS = 20
_PAUSE_SEC = 0.1


class BookUnknownError(StreamsvcError):
    """The data set does not tell the book at this moment; the text says what is missing."""


@attrs.frozen
class RebuiltBook:
    """A book at a moment.

    Attributes:
        market: The market.
        symbol: The symbol.
        moment_ns: What was asked for, ns since 1970.
        book: The book; it is `synced`.
        update_id: Of the last update in it, or of the snapshot where none had to be applied.
        exchange_ns: Exchange time of the last update at or before the moment.
        snapshot_update_id: Of the snapshot it begins with.
        snapshot_exchange_ns: When that was taken (of spot by the local clock).
        updates: How many updates were applied to it.
    """

    market: Market
    symbol: str
    moment_ns: int
    book: Book
    update_id: int
    exchange_ns: int
    snapshot_update_id: int
    snapshot_exchange_ns: int
    updates: int


def rebuild_book(root: Path, symbol: str, moment_ns: int, market: Market | None = None) -> RebuiltBook:
    """Rebuild a book; what is not sealed yet is not read.

    Args:
        root: `DATA_DIR`.
        symbol: As the exchange writes it.
        moment_ns: Exchange time, ns since 1970; updates of that very time are in the book.
        market: May be left out where the symbol's depth is recorded in one market only.

    Raises:
        UsageError: it is no data folder, or has no depth of this symbol, or of both markets.
        BookUnknownError: no snapshot lies before the moment, an update is missing between, or the data end before.
        DamagedError: a file is damaged, or listed and not there.
        OSError: a file cannot be read.
    """
    folder = DataFolder(root)
    if not folder.catalogue.is_file():
        raise UsageError(f"{root} is not a data folder of streamsvc: it has no {folder.catalogue.name}")
    gone: OSError | None = None
    with ReadingCatalogue.open_to_read(folder.catalogue) as catalogue:
        market = market or _market_of(catalogue, symbol)
        files = BookFiles(root, catalogue, market, symbol)
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SEC)
            try:
                return _rebuild(files, market, symbol, moment_ns)
            except FileNotFoundError as fault:
                # It was merged or removed meanwhile: the catalogue lists others by now.
                gone = fault
    raise DamagedError(f"the catalogue lists a file that is not there: {gone}") from gone


def time_text(time_ns: int) -> str:
    """A time as people read it, in UTC: to the millisecond, or to the nanosecond where that loses something."""
    unit = "ns" if time_ns % 1_000_000 else "ms"
    return f"{np.datetime64(time_ns, 'ns').astype(f'M8[{unit}]')}Z"


def _market_of(catalogue: ReadingCatalogue, symbol: str) -> Market:
    markets = catalogue.markets_of(Kind.DEPTH, symbol)
    if not markets:
        raise UsageError(f"no order book of {symbol} was ever recorded here (kind depth)")
    if len(markets) > 1:
        raise UsageError(f"{symbol} is recorded in {' and '.join(markets)}: say which with --market")
    return MARKETS_BY_LABEL[markets[0]]


def _rebuild(files: BookFiles, market: Market, symbol: str, moment_ns: int) -> RebuiltBook:
    position = _position(files, moment_ns)
    if position is None:
        raise BookUnknownError(
            f"the {market.label} book of {symbol} at {time_text(moment_ns)} is not known: no update of it was recorded "
            "in the day before"
        )
    snapshot = _snapshot(files, position, moment_ns)
    if snapshot is None:
        raise BookUnknownError(
            f"the {market.label} book of {symbol} at {time_text(moment_ns)} is not known: there is no snapshot "
            f"(depthSnapshot) at or before update {position.update_id}"
        )
    builder = _Builder(market, symbol, moment_ns, snapshot)
    start_ns = _start_ns(files, market, position, snapshot, moment_ns)
    builder.take(files.updates(position.epoch, start_ns, _later(moment_ns, DAY_NS)))
    return builder.finish()


def _position(files: BookFiles, moment_ns: int) -> BookPosition | None:
    """The last update at or before the moment; a book of which a day brings none does not trade."""
    for span_ns in (MINUTE_NS, HOUR_NS, DAY_NS):
        found = files.last_position(moment_ns - span_ns, moment_ns + 1)
        if found is not None:
            return found
    return None


def _snapshot(files: BookFiles, position: BookPosition, moment_ns: int) -> BookSnapshot | None:
    """The newest snapshot at or before the position: looked for where the clocks say, then everywhere."""
    soon_ns = _later(moment_ns, MINUTE_NS)
    for first_ns, end_ns in ((moment_ns - 2 * HOUR_NS, soon_ns), (moment_ns - 2 * DAY_NS, soon_ns), (0, TIME_NS_MAX)):
        found = files.newest_snapshot(position, first_ns, end_ns)
        if found is not None:
            return found
    return None


def _start_ns(files: BookFiles, market: Market, position: BookPosition, snapshot: BookSnapshot, moment_ns: int) -> int:
    """From when updates are to be read, so that the one that joins the snapshot is among them if it is there at all."""
    near_ns = min(snapshot.exchange_ns, moment_ns)
    for span_ns in (MINUTE_NS, HOUR_NS):
        start_ns = near_ns - span_ns
        update = next(files.updates(position.epoch, start_ns, moment_ns + 1), None)
        if update is not None and _follows(market, update) <= snapshot.update_id:
            return start_ns
    return near_ns - DAY_NS


def _follows(market: Market, update: BookUpdate) -> int:
    """The id that must have been there for an update to follow without a gap."""
    return update.first - 1 if market is Market.SPOT else update.previous


def _later(moment_ns: int, span_ns: int) -> int:
    return min(moment_ns + span_ns, TIME_NS_MAX)


class _Builder:
    """Joins a snapshot and the updates up to a moment, and sees that the next one follows."""

    def __init__(self, market: Market, symbol: str, moment_ns: int, snapshot: BookSnapshot) -> None:
        self._market = market
        self._symbol = symbol
        self._moment_ns = moment_ns
        self._snapshot = snapshot
        # Updates come in order after the snapshot: nothing waits for one.
        self._book = Book(market, held_max=1)
        self._book.apply_snapshot(snapshot.update_id, snapshot.bids, snapshot.asks)
        self._reached_ns: int | None = None
        self._stands_ns = 0
        self._update_id = snapshot.update_id
        self._applied = 0
        self._is_followed = False

    def take(self, updates: Iterator[BookUpdate]) -> None:
        """Take updates in the order of their ids, up to the first one after the moment."""
        for update in updates:
            if update.exchange_ns <= self._moment_ns:
                self._applied += self._apply(update, update.bids, update.asks)
                self._reached_ns = update.exchange_ns
                sent_ns = max(update.event_ns, update.exchange_ns)
                self._stands_ns = min(sent_ns, update.exchange_ns + _SENDING_NS)
                self._update_id = self._book.last_update_id
            elif update.final > self._update_id:
                if not self._is_reached:
                    # It only has to follow; its levels are of later.
                    self._apply(update, [], [])
                self._is_followed = True
                return

    @property
    def _is_reached(self) -> bool:
        """Whether the last update was sent at the moment or after it, so that nothing has to follow."""
        return self._moment_ns <= self._stands_ns

    def _apply(self, update: BookUpdate, bids: list[Level], asks: list[Level]) -> bool:
        last = self._book.last_update_id
        is_applied = self._book.apply_diff(update.first, update.final, update.previous, bids, asks)
        if self._book.needs_snapshot:
            taken_ns = self._snapshot.exchange_ns
            before_ns = taken_ns if self._reached_ns is None else self._reached_ns
            raise self._unknown(
                f"updates {last + 1} to {_follows(self._market, update)} are missing, between {time_text(before_ns)} "
                f"and {time_text(update.exchange_ns)}; the last snapshot before is {self._snapshot.update_id} of "
                f"{time_text(taken_ns)}"
            )
        return is_applied

    def finish(self) -> RebuiltBook:
        """The book, if all is proven."""
        if self._reached_ns is None or self._book.state is not BookState.SYNCED:
            raise self._unknown(f"no update joins the snapshot {self._snapshot.update_id}")
        if not self._is_followed and not self._is_reached:
            raise self._unknown(f"the updates that are recorded and sealed end at {time_text(self._reached_ns)}")
        return RebuiltBook(
            market=self._market,
            symbol=self._symbol,
            moment_ns=self._moment_ns,
            book=self._book,
            update_id=self._update_id,
            exchange_ns=self._reached_ns,
            snapshot_update_id=self._snapshot.update_id,
            snapshot_exchange_ns=self._snapshot.exchange_ns,
            updates=self._applied,
        )

    def _unknown(self, why: str) -> BookUnknownError:
        when = time_text(self._moment_ns)
        return BookUnknownError(f"the {self._market.label} book of {self._symbol} at {when} is not known: {why}")
