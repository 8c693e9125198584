"""The minutes of one symbol's trades: CVD and bars, exact, on the exchange's time. Pure.

Rules
1. A minute closes when the symbol's exchange time has passed its end by the grace, or at the end. Minutes close in
   order; one without trades gives a row as well, as long as somebody listened.
2. Trades grow by one id each. Ids that were skipped are a hole, and the minutes that it touches are not complete until
   all of them have come, late or fetched again.
3. A minute that changes after it was written is written again with the next revision, once it is complete or nothing
   more comes. The running sum goes on from the corrected one.
4. A minute of which nobody can know anything (wholly in a hole, no trade so far) is not written; it is when its trades
   come.

Taker's side: where the buyer was the maker, the taker sold. Futures trades that are none (insurance fund, no quantity)
take an id and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from streamsvc.analytics.minute import MINUTE_MS, SETTLE_MS, Begin, Minute
from streamsvc.analytics.rows import ZERO, BarRow, CvdRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from streamsvc.analytics.run import TradeRun
    from streamsvc.venues.binance_live import LiveTrade

DAY_MS = 1440 * MINUTE_MS
KEPT_MINUTES = 15
"""Closed minutes that can be corrected from memory; older ones are made again from what is recorded."""
HOLES_MAX = 1000
"""A hole beyond these makes the minutes of the oldest one incomplete for good."""
STALE_MINUTES_MAX = 1440
"""So many old minutes that a hole touched are made again when it is mended."""

CvdReset = Literal["never", "daily"]


@attrs.define
class _Hole:
    """Ids that were skipped, and the minutes that they may belong to, both included."""

    first_id: int
    last_id: int
    missing: int
    first_ms: int
    last_ms: int


class TradeMinutes:
    """The minutes of one symbol.

    Args:
        symbol: The symbol.
        reset: When the running sum starts over.

    Attributes:
        cvd: The running sum now, with the open minutes.
        last_price: Of the trade with the highest id; None before the first.
        stale: Open times of minutes that are too old to be corrected here and have got trades.
    """

    def __init__(self, symbol: str, reset: CvdReset) -> None:
        self._symbol = symbol
        self._is_daily = reset == "daily"
        self._minutes: dict[int, Minute] = {}
        self._holes: list[_Hole] = []
        self._next_id: int | None = None
        self._epoch = 0
        self._last_ms = 0
        self._first_id: int | None = None
        self._first_ms: int | None = None
        self._early: list[int] | None = []
        self._closed_to: int | None = None
        self._may_correct = True  # Whether a closed minute has changed since it was written.
        self._kept_from = 0
        self._now_ms = 0
        self._total = ZERO
        self._total_day = 0
        self._last_close: Decimal | None = None
        self.last_price: Decimal | None = None
        self.stale: set[int] = set()

    @property
    def cvd(self) -> Decimal:
        """The running sum now, with the open minutes."""
        return self._total + sum((minute.delta for minute in self._open_minutes()), ZERO)

    def _open_minutes(self) -> Iterator[Minute]:
        closed_to = self._closed_to or 0
        return (minute for minute in self._minutes.values() if minute.open_ms >= closed_to)

    def is_settled(self, open_ms: int) -> bool:
        """Whether a minute is known to be complete: a trade behind it has come, and no id is missing in between."""
        minute = self._minutes.get(open_ms)
        return minute is not None and minute.is_complete and self._last_ms >= open_ms + MINUTE_MS

    def add(self, trade: LiveTrade, epoch: int) -> None:
        """Take a trade that was not seen before."""
        number, time_ms = trade.id, trade.time_ms
        if number == self._next_id and epoch == self._epoch:
            self._next_id = number + 1
        else:
            self._out_of_turn(number, time_ms, epoch)
        if epoch >= self._epoch and number + 1 == self._next_id:
            self._last_ms = time_ms
            if trade.is_market:
                self.last_price = trade.price
        minute = self._minute_of(time_ms) if trade.is_market else None
        if minute is not None:
            minute.add(trade)

    def is_next(self, first_id: int, last_id: int, count: int, epoch: int) -> bool:
        """Whether so many trades, of which these are the first and the last, are those that follow."""
        return first_id == self._next_id and last_id - first_id + 1 == count and epoch == self._epoch

    def add_run(self, run: TradeRun) -> None:
        """Take trades that follow: see `is_next`."""
        self._next_id = run.last_id + 1
        self._last_ms = run.last_ms
        self.last_price = run.close
        minute = self._minute_of(run.last_ms)
        if minute is not None:
            minute.add_run(run)

    def _minute_of(self, time_ms: int) -> Minute | None:
        """The minute of a time, which is about to change; None if it is too old to be corrected here."""
        open_ms = time_ms - time_ms % MINUTE_MS
        minute = self._minutes.get(open_ms)
        if minute is None:
            if open_ms < self._kept_from:
                self.stale.add(open_ms)
                return None
            minute = self._made(open_ms)
        minute.changed_ms = self._now_ms
        self._may_correct |= self._closed_to is None or open_ms < self._closed_to
        return minute

    def _made(self, open_ms: int) -> Minute:
        minute = self._minutes[open_ms] = Minute(open_ms)
        minute.holes = sum(hole.first_ms <= open_ms <= hole.last_ms for hole in self._holes)
        return minute

    def _out_of_turn(self, number: int, time_ms: int, epoch: int) -> None:
        open_ms = time_ms - time_ms % MINUTE_MS
        if self._next_id is None or epoch > self._epoch:
            # The first one that anybody sees, or ids that start over: what came before is not known.
            if self._next_id is None:
                self._first_id, self._first_ms = number, time_ms
            self._epoch, self._next_id = epoch, number + 1
            (self._minutes.get(open_ms) or self._made(open_ms)).is_cut = True
        elif epoch < self._epoch:
            return
        elif number > self._next_id:
            self._skip(self._next_id, number - 1, self._last_ms, time_ms)
            self._next_id = number + 1
        else:
            self._fill(number)

    def _skip(self, first_id: int, last_id: int, first_ms: int, last_ms: int, *, missing: int | None = None) -> None:
        """Ids are missing between two times."""
        self._may_correct = True
        span = last_id - first_id + 1
        first, last = sorted((first_ms - first_ms % MINUTE_MS, last_ms - last_ms % MINUTE_MS))
        hole = _Hole(first_id, last_id, span if missing is None else missing, first, last)
        if len(self._holes) >= HOLES_MAX:
            oldest = self._holes.pop(0)
            for minute in self._touched(oldest):
                minute.holes -= 1
                minute.is_cut = True
        self._holes.append(hole)
        for minute in self._touched(hole):
            minute.holes += 1
            minute.changed_ms = self._now_ms

    def _touched(self, hole: _Hole) -> list[Minute]:
        return [minute for minute in self._minutes.values() if hole.first_ms <= minute.open_ms <= hole.last_ms]

    def _fill(self, number: int) -> None:
        """An id that was missing has come."""
        for place in range(len(self._holes) - 1, -1, -1):
            hole = self._holes[place]
            if hole.first_id <= number <= hole.last_id:
                hole.missing -= 1
                if hole.missing <= 0:
                    del self._holes[place]
                    self._mend(hole)
                return
        if self._early is not None and self._first_id is not None and number < self._first_id:
            self._early.append(number)

    def _mend(self, hole: _Hole) -> None:
        """All ids of a hole have come: what it touched is complete but for other holes."""
        self._may_correct = True
        for minute in self._touched(hole):
            minute.holes -= 1
        end_ms = min(self._kept_from, hole.last_ms + MINUTE_MS)
        first_ms = max(hole.first_ms, end_ms - STALE_MINUTES_MAX * MINUTE_MS)
        self.stale.update(range(first_ms, end_ms, MINUTE_MS))

    def begin(self, begin: Begin | None) -> None:
        """Go on where an earlier run ended; None: there was none. Called once, before the first `close`."""
        early, self._early = self._early or [], None
        if begin is None:
            return
        for recorded in begin.minutes:
            own = self._minutes.setdefault(recorded.open_ms, recorded)
            if own is not recorded:
                own.merge(recorded)
        self._total, self._total_day = begin.cvd, begin.cvd_ms // DAY_MS
        self._closed_to = self._kept_from = begin.cvd_ms + MINUTE_MS
        for open_ms in [open_ms for open_ms in self._minutes if open_ms < self._kept_from]:
            # An earlier run has written it: what came for it meanwhile is added to what is recorded.
            del self._minutes[open_ms]
            self.stale.add(open_ms)
        self._last_close = begin.last_close
        self.stale.update(begin.doubtful)
        for known in begin.holes[-HOLES_MAX:]:
            missing = known.last_id - known.first_id + 1
            missing -= sum(known.first_id <= number <= known.last_id for number in early)
            if missing > 0:
                self._skip(known.first_id, known.last_id, known.first_ms, known.last_ms, missing=missing)
        if self._first_id is None:
            self._epoch, self._next_id, self._last_ms = begin.epoch, begin.last_id + 1, begin.last_ms
        elif self._epoch == begin.epoch:
            self._join(begin, self._first_id, sum(number > begin.last_id for number in early))

    def skip_open(self) -> None:
        """Leave out the minutes that are open."""
        self._closed_to = self._kept_from = max(self._minutes, default=-MINUTE_MS) + MINUTE_MS
        self._minutes.clear()

    def _join(self, begin: Begin, first_id: int, early: int) -> None:
        """The ids of this run follow those of an earlier one: what lies between is a hole, less what came meanwhile."""
        missing = first_id - 1 - begin.last_id - early
        if missing < 0 or self._first_ms is None:
            return
        first = self._minutes.get(self._first_ms - self._first_ms % MINUTE_MS)
        if first is not None:
            first.is_cut = any(one.is_cut for one in begin.minutes if one.open_ms == first.open_ms)
        if missing > 0:
            self._skip(begin.last_id + 1, first_id - 1, begin.last_ms, self._first_ms, missing=missing)

    def correct(self, minute: Minute) -> tuple[CvdRow, BarRow | None]:
        """The rows of a minute that was made again from what is recorded; the running sum goes on from it."""
        change = minute.delta - minute.written[0]
        if not self._is_daily or self._total_day == minute.open_ms // DAY_MS:
            self._total += change
            for other in self._minutes.values():
                if other.open_ms > minute.open_ms and other.revision and self._shares_sum(other, minute):
                    other.cvd += change
        cvd, bar = self._write(minute)
        return cvd, bar if minute.prices is not None else None

    def close(self, now_ms: int, before_ms: int) -> list[tuple[CvdRow, BarRow | None]]:
        """Close the minutes that end at `before_ms` or earlier, and give the rows that are due, in order.

        Args:
            now_ms: The symbol's exchange time.
            before_ms: The same less the grace.
        """
        self._now_ms = now_ms
        limit = before_ms - MINUTE_MS
        if not self._may_correct and self._closed_to is not None and limit < self._closed_to:
            return []
        due = [self._correct(minute) for minute in self._closed() if minute.is_due(now_ms)]
        self._may_correct = any(minute.is_changed for minute in self._closed())
        open_ms = min(self._minutes, default=limit + 1) if self._closed_to is None else self._closed_to
        if limit - open_ms > DAY_MS:  # So long a silence is not written down minute by minute.
            open_ms = min((other for other in self._minutes if other >= open_ms), default=limit)
        while open_ms <= limit:
            minute = self._minutes.get(open_ms) or self._silent(open_ms)
            if minute is not None:
                self._count(minute)
                due.append(self._write(minute))
            open_ms += MINUTE_MS
            self._closed_to = open_ms
        self._forget()
        return due

    def finish(self) -> list[tuple[CvdRow, BarRow | None]]:
        """Close what is open, though more of it may come, and give all rows that are due."""
        newest = max(self._minutes, default=0)
        for minute in self._open_minutes():
            minute.is_cut |= minute.open_ms + MINUTE_MS > self._now_ms
        return self.close(self._now_ms + SETTLE_MS, newest + MINUTE_MS)

    def _closed(self) -> list[Minute]:
        closed_to = self._closed_to or 0
        closed = (minute for minute in self._minutes.values() if minute.open_ms < closed_to)
        return sorted(closed, key=lambda minute: minute.open_ms)

    def _silent(self, open_ms: int) -> Minute | None:
        """A minute without trades, if somebody listened."""
        if any(hole.first_ms < open_ms < hole.last_ms for hole in self._holes):
            return None
        return self._made(open_ms)

    def _count(self, minute: Minute) -> None:
        """A minute joins the running sum."""
        self._total = self._start_of(minute.open_ms) + minute.delta
        self._total_day = minute.open_ms // DAY_MS
        minute.cvd = self._total
        if minute.prices is not None:
            self._last_close = minute.prices[3]

    def _start_of(self, open_ms: int) -> Decimal:
        return ZERO if self._is_daily and open_ms // DAY_MS != self._total_day else self._total

    def _correct(self, minute: Minute) -> tuple[CvdRow, BarRow | None]:
        """A closed minute has changed; one that was passed over in a hole counts as nothing so far."""
        change = minute.delta - minute.written[0]
        closed = self._closed()
        if not minute.revision:
            before = [
                other.cvd for other in closed if other.open_ms < minute.open_ms and self._shares_sum(other, minute)
            ]
            minute.cvd = before[-1] if before else self._total - change
        for other in closed:
            if other.open_ms >= minute.open_ms and self._shares_sum(other, minute):
                other.cvd += change
        if not self._is_daily or self._total_day == minute.open_ms // DAY_MS:
            self._total += change
        return self._write(minute)

    def _shares_sum(self, one: Minute, other: Minute) -> bool:
        return not self._is_daily or one.open_ms // DAY_MS == other.open_ms // DAY_MS

    def _write(self, minute: Minute) -> tuple[CvdRow, BarRow | None]:
        revision, minute.revision = minute.revision, minute.revision + 1
        minute.written = minute.delta, minute.trade_count, minute.is_complete
        cvd = CvdRow(
            symbol=self._symbol,
            open_ms=minute.open_ms,
            revision=revision,
            buy_quantity=minute.buy_quantity,
            sell_quantity=minute.sell_quantity,
            delta=minute.delta,
            cvd=minute.cvd,
            trade_count=minute.trade_count,
            is_complete=minute.is_complete,
        )
        return cvd, self._bar(minute, revision)

    def _bar(self, minute: Minute, revision: int) -> BarRow | None:
        prices = minute.prices
        if prices is None:
            close = self._close_before(minute.open_ms)
            if close is None:
                return None
            prices = close, close, close, close
        first, high, low, last = prices
        return BarRow(
            symbol=self._symbol,
            open_ms=minute.open_ms,
            revision=revision,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=minute.buy_quantity + minute.sell_quantity,
            quote_volume=minute.quote_volume,
            taker_buy_volume=minute.buy_quantity,
            trade_count=minute.trade_count,
            is_complete=minute.is_complete,
        )

    def _close_before(self, open_ms: int) -> Decimal | None:
        traded = [minute for minute in self._minutes.values() if minute.open_ms < open_ms and minute.prices is not None]
        latest = max(traded, key=lambda minute: minute.open_ms, default=None)
        return self._last_close if latest is None or latest.prices is None else latest.prices[3]

    def _forget(self) -> None:
        """Keep so many closed minutes."""
        if self._closed_to is None:
            return
        self._kept_from = max(self._kept_from, self._closed_to - KEPT_MINUTES * MINUTE_MS)
        for open_ms in [open_ms for open_ms in self._minutes if open_ms < self._kept_from]:
            del self._minutes[open_ms]
