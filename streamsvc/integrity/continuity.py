"""Where every stream of ids stands: expected, duplicate, late and missing ids (pure).

One `Chain` a market, symbol and kind; the rules by which a message covers ids stand in `sequence.py`. The intake asks
it once for every message, whichever connection or request brought it, so that a row is recorded once:

- what continues the chain, or reaches beyond it, is new; a hole before it is missing from then on;
- what lies in a missing range is late, and fills it: a second connection, a reordering, or a backfill brought it;
- what was seen already is a duplicate, and is dropped;
- an old id with a new event time is the exchange starting its ids over: a new epoch, not a gap of a billion.

Of two connections that bring a stream at once, one may lag behind the other by seconds, and stamp event times of its
own. So while a chain is shared, ids start over where those of one connection fall; an id that is old for the chain, but
not for its connection, is a duplicate. What the other connection still brings of the old epoch then is one as well.

The ledger is told of a missing range in the frame that brings what lies behind it, so that no kill can come between.
People and the backfill hear of it after a grace time, since another connection may still bring it.
"""

from __future__ import annotations

import enum
import math

import attrs

from streamsvc.gap import REMOVED
from streamsvc.integrity.sequence import IdRange

RESTART_DISTANCE = 100
"""An id that lies further back than this, with an event time newer than all before, starts the ids over.

Nearer than that lies what two connections overlap by while each stamps event times of its own.
"""

LAG_SEC_MAX = 30.0
"""A connection may lag behind another by so much: longer than that, and nobody can tell what it brings from news."""

MISSING_MAX = 1000
"""Missing ranges of one chain that are held; the oldest beyond that are told at once and then left to the ledger."""


class Verdict(enum.Enum):
    """What an id is to its chain."""

    NEW = "new"
    LATE = "late"
    DUPLICATE = "duplicate"


@attrs.define
class Missing:
    """A range of ids that did not come.

    Attributes:
        epoch: How many times the ids had started over.
        first: The first id.
        last: The last one.
        since: When the message behind it came, monotonic seconds.
        before_ms: Event time of the last message before it, None if there was none.
        after_ms: Event time of the first message behind it, None if it is not known.
        cause: What is known of why.
        is_told: Whether it is in the ledger.
        is_announced: Whether its grace time is over, so that people and the backfill know of it.
    """

    epoch: int
    first: int
    last: int
    since: float
    before_ms: int | None
    after_ms: int | None
    cause: str
    is_told: bool = False
    is_announced: bool = False


@attrs.define
class _Place:
    """How far one of the connections that share a chain has come."""

    epoch: int
    last: int
    event_ms: int

    def falls(self, last: int, event_ms: int) -> bool:
        """Whether its ids have started over with this message."""
        return self.last - last > RESTART_DISTANCE and event_ms > self.event_ms

    def reach(self, last: int, event_ms: int) -> None:
        self.last, self.event_ms = max(self.last, last), max(self.event_ms, event_ms)


class Chain:
    """The ids of one stream.

    Attributes:
        next_id: The id that continues the chain; None before the first, from an interruption to the next message, and
            while the chain is shared. Who takes it for one message may add one to it and set `event_ms`, which spares
            a call of `take`.
        epoch: How many times the exchange has started its ids over.
        event_ms: The newest event time so far, None before the first.
        missing: Ranges that are missing, in the order in which they were found.
        filled: Ranges that the ledger knows and that have come since; whoever writes that down clears it.
    """

    __slots__ = (
        "_behind_id",
        "_cause",
        "_moved_at",
        "_next_taken_id",
        "_places",
        "epoch",
        "event_ms",
        "filled",
        "missing",
        "next_id",
    )

    def __init__(self) -> None:
        self.next_id: int | None = None
        self.epoch = 0
        self.event_ms: int | None = None
        self.missing: list[Missing] = []
        self.filled: list[Missing] = []
        self._next_taken_id: int | None = None  # What continues the chain while `next_id` says nothing.
        self._cause = "exchange"
        self._places: dict[int, _Place] | None = None  # By connection, while it is shared.
        self._moved_at = -math.inf
        self._behind_id: int | None = None  # The first since then that is either far behind or of the next epoch.

    def resume(self, epoch: int, last_id: int, event_ms: int | None) -> None:
        """Go on from what an earlier run recorded; a hole before the next message is due to the restart."""
        self.interrupt("restart")
        if self._next_taken_id is None or (epoch, last_id) >= (self.epoch, self._next_taken_id):
            self.epoch, self._next_taken_id = epoch, last_id + 1
        if event_ms is not None:
            self.event_ms = max(event_ms, self.event_ms or event_ms)

    @property
    def last_id(self) -> int | None:
        """How far the ids have come; None before the first."""
        expected = self._next_taken_id if self.next_id is None else self.next_id
        return None if expected is None else expected - 1

    def interrupt(self, cause: str) -> None:
        """Nothing comes for a while: a hole before the next message is due to `cause`.

        What is missing because nobody asked for it stays that, whatever happens until the first message.
        """
        if self.next_id is not None:
            self._next_taken_id, self.next_id = self.next_id, None
        if self._cause != REMOVED:
            self._cause = cause

    def share(self, now: float) -> None:
        """More than one connection brings the stream from now on."""
        if self._places is None:
            self._places, self._behind_id = {}, None
            self._moved_at = -math.inf if self.next_id is None else now
            self._expect(self.next_id)

    def unshare(self) -> None:
        """One connection brings the stream alone."""
        self._places = None

    def leave(self, connection: int) -> None:
        """A connection has ended."""
        if self._places is not None:
            self._places.pop(connection, None)

    def stop(self, cause: str) -> None:
        """No connection brings the stream any more: it is interrupted, and the next one begins as if alone."""
        self.interrupt(cause)
        self._moved_at = -math.inf
        if self._places is not None:
            self._places.clear()

    def take(self, first: int, last: int, event_ms: int, now: float, connection: int = 0) -> Verdict:
        """Judge a message of a stream that covers the ids `first` to `last`.

        Args:
            first: The first id that it covers.
            last: The last one.
            event_ms: Its event time.
            now: Monotonic time, seconds.
            connection: Who brings it; of meaning while the chain is shared.
        """
        if self._places is None:
            return self._judge(first, last, event_ms, now, None)
        place = self._places.get(connection)
        if place is not None and place.epoch < self.epoch and not place.falls(last, event_ms):
            # Another connection has begun the next epoch; what this one lacks of its own is in the ledger.
            place.reach(last, event_ms)
            return Verdict.DUPLICATE
        verdict = self._judge(first, last, event_ms, now, place)
        if place is None or place.epoch < self.epoch:
            self._places[connection] = _Place(self.epoch, last, event_ms)
        else:
            place.reach(last, event_ms)
        return verdict

    def _judge(self, first: int, last: int, event_ms: int, now: float, place: _Place | None) -> Verdict:
        expected = self._next_taken_id if self.next_id is None else self.next_id  # Hot: no call.
        if expected is not None and last < expected:
            if self._fill(self.epoch, first, last):
                return Verdict.LATE
            if expected - last <= RESTART_DISTANCE or not self._starts_over(first, last, event_ms, now, place):
                return Verdict.DUPLICATE
            self.epoch += 1
            if self._behind_id is not None and self._behind_id < first:
                self.missing.append(Missing(self.epoch, self._behind_id, first - 1, now, None, event_ms, "exchange"))
        elif expected is not None and first > expected:
            self.missing.append(Missing(self.epoch, expected, first - 1, now, self.event_ms, event_ms, self._cause))
        elif self.missing:
            self._fill(self.epoch, first, last)  # Another connection cuts order-book updates into other windows.
        self._expect(last + 1)
        self.event_ms = event_ms if self.event_ms is None else max(self.event_ms, event_ms)
        self._cause, self._behind_id, self._moved_at = "exchange", None, now
        return Verdict.NEW

    def _expect(self, number: int | None) -> None:
        """This id continues the chain; while it is shared, only `take` may see that."""
        if self._places is None:
            self.next_id, self._next_taken_id = number, None
        elif number is not None:
            self.next_id, self._next_taken_id = None, number

    def _starts_over(self, first: int, last: int, event_ms: int, now: float, place: _Place | None) -> bool:
        """Whether an id far behind means a new epoch.

        A connection that shares the chain and has always been behind may lag; only when the other one has been silent
        for longer than it may lag by, it cannot.
        """
        if place is not None and place.epoch == self.epoch and place.falls(last, event_ms):
            self._behind_id = None
            return True
        if self.event_ms is None or event_ms <= self.event_ms:
            return False
        if self._places is None or now - self._moved_at > LAG_SEC_MAX:
            return True
        self._behind_id = first if self._behind_id is None else self._behind_id
        return False

    @property
    def expected_id(self) -> int | None:
        """The id that continues the chain, through interruptions as well; None before the first."""
        return self._next_taken_id if self.next_id is None else self.next_id

    def pass_over(self, last_id: int, now: float) -> bool:
        """The exchange's last id is this one: whether that is beyond ours. What lies between is missing from now on."""
        expected = self.expected_id
        if expected is None:
            # Nothing has come yet: what comes after this id is ours to record.
            self._next_taken_id = last_id + 1
            return False
        if last_id < expected:
            return False
        cause = REMOVED if self._cause == REMOVED else "stall"
        self.missing.append(Missing(self.epoch, expected, last_id, now, self.event_ms, None, cause))
        self._next_taken_id, self.next_id, self._cause = last_id + 1, None, "stall"
        return True

    def take_fetched(self, epoch: int, first: int, last: int) -> bool:
        """Whether what was fetched fills a missing range; it is then no longer missing."""
        return self._fill(epoch, first, last)

    def replay(self, epoch: int, first: int, last: int, event_ms: int) -> None:
        """Go over a message that an earlier run recorded; its epoch is known."""
        if epoch > self.epoch:
            self.resume(epoch, first - 1, None)
        if epoch != self.epoch:
            return
        expected = self.expected_id
        if expected is not None and last < expected:
            self._fill(epoch, first, last)
        else:
            self.take(first, last, event_ms, -math.inf)

    def replay_fetched(self, epoch: int, first: int, last: int) -> None:
        """Go over what an earlier run fetched again, and has noted so."""
        self.forget(epoch, first, last)

    def miss(self, one: Missing) -> None:
        """The ledger says that a range is missing."""
        self.forget(one.epoch, one.first, one.last)
        self.reach(one.epoch, one.last)
        self.missing.append(one)

    def reach(self, epoch: int, last: int) -> None:
        """The ledger knows of ids up to this one: the chain goes on behind them, whether they came or not."""
        expected = self.expected_id
        if expected is not None and epoch == self.epoch and last >= expected:
            self._next_taken_id, self.next_id = last + 1, None

    def untold(self) -> list[Missing]:
        """The ranges that the ledger was not told; they count as told now."""
        found = [one for one in self.missing if not one.is_told]
        for one in found:
            one.is_told = True
        return found

    def overdue(self, before: float) -> list[Missing]:
        """The ranges that have been missing since `before` or longer, once; too many are left to the ledger alone."""
        due = [one for one in self.missing if not one.is_announced and one.since <= before]
        excess = len(self.missing) - MISSING_MAX
        if excess > 0:
            due += [one for one in self.missing[:excess] if not one.is_announced and one not in due]
            del self.missing[:excess]
        for one in due:
            one.is_announced = True
        return due

    def forget(self, epoch: int, first: int, last: int) -> None:
        """Nobody will bring these ids any more: they stay in the ledger alone."""
        filled = list(self.filled)
        self._fill(epoch, first, last)
        self.filled = filled

    def _fill(self, epoch: int, first: int, last: int) -> bool:
        """Take a range out of what is missing; whether any of it was."""
        is_filled = False
        for place in range(len(self.missing) - 1, -1, -1):
            one = self.missing[place]
            if one.epoch == epoch and one.first <= last and first <= one.last:
                is_filled = True
                if one.is_told:
                    self.filled.append(attrs.evolve(one, first=max(one.first, first), last=min(one.last, last)))
                left = [IdRange(one.first, first - 1), IdRange(last + 1, one.last)]
                self.missing[place : place + 1] = [
                    attrs.evolve(one, first=part.first, last=part.last) for part in left if part.first <= part.last
                ]
        return is_filled
