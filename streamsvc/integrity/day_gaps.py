"""What is missing of one stream on one UTC day (pure).

Ids know no midnight: what lies between the last id of the day before and the first one of the day belongs to both days,
for nobody can say when it would have come. So a day's gaps are looked for in its own ids together with those that lie
around it, and of the gaps found there those count that touch the day: with one of its ids on either side, or, where the
day has no id at all, with ids before it on one side and after it on the other. A message that the exchange stamped with
a time that is days off lies under another day, and its id looks missing here; a check of all days finds it there.
"""

from __future__ import annotations

from datetime import date as calendar_date
from typing import TYPE_CHECKING

import attrs

from streamsvc.integrity.sequence import Coverage, IdRange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.manifest import SealedFile

DAY_NS = 86_400 * 10**9
_EPOCH_ORDINAL = calendar_date(1970, 1, 1).toordinal()


@attrs.frozen
class Day:
    """A UTC day.

    Attributes:
        date: E.g. `2024-08-08`.
        first_ns: Its first nanosecond since 1970.
        end_ns: That of the next day.
    """

    date: str
    first_ns: int
    end_ns: int

    @classmethod
    def of(cls, date: str) -> Day:
        """The day of an ISO date; raises ValueError for anything else."""
        first_ns = (calendar_date.fromisoformat(date).toordinal() - _EPOCH_ORDINAL) * DAY_NS
        return cls(date, first_ns, first_ns + DAY_NS)

    def touches(self, first_ns: int, last_ns: int) -> bool:
        """Whether a closed range of time reaches into the day."""
        return first_ns < self.end_ns and last_ns >= self.first_ns


@attrs.frozen
class DayIds:
    """The ids of one stream on a day, and around it as far as they are needed.

    Attributes:
        own: Those of the day.
        before: Some of the newest ones before it; empty where there are none.
        after: Some of the oldest ones after it; empty where there are none.
    """

    own: Coverage = attrs.Factory(Coverage)
    before: Coverage = attrs.Factory(Coverage)
    after: Coverage = attrs.Factory(Coverage)

    def whole(self) -> Coverage:
        """All of them."""
        whole = Coverage()
        for part in (self.before, self.own, self.after):
            whole.add(part.ranges)
        return whole

    def gaps(self) -> list[IdRange]:
        """What is missing and touches the day, ascending."""
        return [gap for gap in self.whole().gaps() if self._is_of_day(gap.first - 1, gap.last + 1)]

    def _is_of_day(self, left: int, right: int) -> bool:
        if self.own.ranges:
            return self.own.touches(left, left) or self.own.touches(right, right)
        return self.before.touches(left, left) and self.after.touches(right, right)


def rows_of_day(rows: Iterable[GapRow], day: Day, ids: DayIds) -> list[GapRow]:
    """The rows of the ledger that touch a day, of one stream and epoch.

    The ids decide where they can: a row among ids of one side only is another day's. Where they cannot (the ledger
    knows of ids beyond all that are there, or the kind's ids are not read), the row's times do; and where it has none,
    when it was told.
    """
    gaps, ranges = ids.gaps(), ids.whole().ranges
    return [row for row in rows if _touches(row, day, ids.own, gaps, ranges)]


def _touches(row: GapRow, day: Day, own: Coverage, gaps: list[IdRange], ranges: tuple[IdRange, ...]) -> bool:
    if own.touches(row.first_id, row.last_id):
        return True
    if any(gap.first <= row.last_id and row.first_id <= gap.last for gap in gaps):
        return True
    if ranges and ranges[0].first <= row.first_id and row.last_id <= ranges[-1].last:
        return False
    return day.touches(*window_of(row))


def window_of(row: GapRow) -> tuple[int, int]:
    """From when to when nothing came, in ns; what the ledger does not know ends when it was told."""
    if row.first_time_ns is None:
        known = row.opened_ns if row.last_time_ns is None else row.last_time_ns
        return known, known
    if row.last_time_ns is None:
        return row.first_time_ns, max(row.first_time_ns, row.opened_ns)
    return row.first_time_ns, max(row.first_time_ns, row.last_time_ns)


def nothing_recorded(day: Day, files: Iterable[SealedFile]) -> str:
    """What to tell who asks for a day of which there is nothing."""
    dates = [file.date for file in files]
    recorded = f"there is data from {min(dates)} to {max(dates)}" if dates else "nothing is sealed at all"
    return f"nothing was recorded on {day.date}; {recorded}"
