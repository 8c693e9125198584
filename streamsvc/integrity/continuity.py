"""Where every stream of ids stands: expected, duplicate, late and missing ids (pure).

One `Chain` a market, symbol and kind; the rules by which a message covers ids stand in `sequence.py`. The intake asks
it once for every message, whichever connection or request brought it, so that a row is recorded once:

- what continues the chain, or reaches beyond it, is new; a hole before it is missing from then on;
- what lies in a missing range is late, and fills it: a second connection, a reordering, or a backfill brought it;
- what was seen already is a duplicate, and is dropped;
- an old id with a new event time is the exchange starting its ids over: a new epoch, not a gap of a billion.

The ledger is told of a missing range in the frame that brings what lies behind it, so that no kill can come between.
People and the backfill hear of it after a grace time, since another connection may still bring it.
"""

from __future__ import annotations

import enum
import math

import attrs

from streamsvc.integrity.sequence import IdRange

RESTART_DISTANCE = 100
"""An id that lies further back than this, with an event time newer than all before, starts the ids over.

Nearer than that lies what two connections overlap by while each stamps event times of its own.
"""

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


class Chain:
    """The ids of one stream.

    Attributes:
        next_id: The id that continues the chain; None before the first, and from an interruption to the next message.
            Who takes it for one message may add one to it and set `event_ms`, which spares a call of `take`.
        epoch: How many times the exchange has started its ids over.
        event_ms: The newest event time so far, None before the first.
        missing: Ranges that are missing, in the order in which they were found.
        filled: Ranges that the ledger knows and that have come since; whoever writes that down clears it.
    """

    __slots__ = ("_cause", "_interrupted_id", "epoch", "event_ms", "filled", "missing", "next_id")

    def __init__(self) -> None:
        self.next_id: int | None = None
        self.epoch = 0
        self.event_ms: int | None = None
        self.missing: list[Missing] = []
        self.filled: list[Missing] = []
        self._interrupted_id: int | None = None
        self._cause = "exchange"

    def resume(self, epoch: int, last_id: int, event_ms: int | None) -> None:
        """Go on from what an earlier run recorded; a hole before the next message is due to the restart."""
        self.interrupt("restart")
        if self._interrupted_id is None or (epoch, last_id) >= (self.epoch, self._interrupted_id):
            self.epoch, self._interrupted_id = epoch, last_id + 1
        if event_ms is not None:
            self.event_ms = max(event_ms, self.event_ms or event_ms)

    def interrupt(self, cause: str) -> None:
        """Nothing comes for a while: a hole before the next message is due to `cause`."""
        if self.next_id is not None:
            self._interrupted_id, self.next_id = self.next_id, None
        self._cause = cause

    def take(self, first: int, last: int, event_ms: int, now: float) -> Verdict:
        """Judge a message of a stream that covers the ids `first` to `last`.

        Args:
            first: The first id that it covers.
            last: The last one.
            event_ms: Its event time.
            now: Monotonic time, seconds.
        """
        expected = self._interrupted_id if self.next_id is None else self.next_id
        if expected is not None and last < expected:
            if self._fill(self.epoch, first, last):
                return Verdict.LATE
            is_newer = self.event_ms is not None and event_ms > self.event_ms
            if not is_newer or expected - last <= RESTART_DISTANCE:
                return Verdict.DUPLICATE
            self.epoch += 1
        elif expected is not None and first > expected:
            self.missing.append(Missing(self.epoch, expected, first - 1, now, self.event_ms, event_ms, self._cause))
        elif self.missing:
            self._fill(self.epoch, first, last)  # Another connection cuts order-book updates into other windows.
        self.next_id = last + 1
        self.event_ms = event_ms if self.event_ms is None else max(self.event_ms, event_ms)
        self._cause, self._interrupted_id = "exchange", None
        return Verdict.NEW

    def pass_over(self, last_id: int, now: float) -> bool:
        """The exchange's last id is this one: whether that is beyond ours. What lies between is missing from now on."""
        expected = self._interrupted_id if self.next_id is None else self.next_id
        if expected is None:
            # Nothing has come yet: what comes after this id is ours to record.
            self._interrupted_id = last_id + 1
            return False
        if last_id < expected:
            return False
        self.missing.append(Missing(self.epoch, expected, last_id, now, self.event_ms, None, "stall"))
        self._interrupted_id, self.next_id = last_id + 1, None
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
        expected = self._interrupted_id if self.next_id is None else self.next_id
        if expected is not None and last < expected:
            self._fill(epoch, first, last)
        else:
            self.take(first, last, event_ms, -math.inf)

    def miss(self, one: Missing) -> None:
        """The ledger says that a range is missing."""
        self.forget(one.epoch, one.first, one.last)
        self.reach(one.epoch, one.last)
        self.missing.append(one)

    def reach(self, epoch: int, last: int) -> None:
        """The ledger knows of ids up to this one: the chain goes on behind them, whether they came or not."""
        expected = self._interrupted_id if self.next_id is None else self.next_id
        if expected is not None and epoch == self.epoch and last >= expected:
            self._interrupted_id, self.next_id = last + 1, None

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
