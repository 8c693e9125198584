"""When a segment of the journal closes. Pure: time and counts come in, decisions go out.

A segment closes `rotate_sec` after its first message, or at `segment_bytes`. While one symbol brings so much that it
reaches `extreme_rows` in the open segment, it closes after `extreme_sec`; that ends when no symbol brings 60 % of it in
a time as long as a short segment, whatever the segments' sizes did in between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import attrs

from streamsvc.schema import Market

if TYPE_CHECKING:
    from collections.abc import Mapping

    Rows = Mapping[tuple[Market, str], int]
    """Rows accepted since the start, by market and symbol."""

LEAVE_SHARE = 0.6
Mode = Literal["normal", "extreme"]


@attrs.frozen
class RotationLimits:
    """`PARQUET_ROTATE_SEC`, `EXTREME_ROTATE_SEC`, `EXTREME_TRAFFIC_THRESHOLD`, and `SEGMENT_MAX_MB` in bytes."""

    rotate_sec: float
    extreme_sec: float
    extreme_rows: int
    segment_bytes: int


@attrs.frozen
class ModeChange:
    """Traffic became extreme, or is not any more: the event's name, and the busiest symbol with its rows."""

    event: Literal["extreme_traffic_entered", "extreme_traffic_left"]
    market: Market
    symbol: str
    rows: int


class Rotation:
    """The rotation of one journal.

    Attributes:
        mode: The rotation in force.
        opened_at: When the open segment was opened (monotonic seconds); None while there is none.
    """

    def __init__(self, limits: RotationLimits) -> None:
        self._limits = limits
        self.mode: Mode = "normal"
        self.opened_at: float | None = None
        self._segment_rows: Rows = {}
        self._window_rows: Rows = {}
        self._window_at = -math.inf

    def opened(self, now: float) -> None:
        """A segment was opened. Its rows count from the last `closed`."""
        self.opened_at = now

    def closed(self, rows: Rows) -> None:
        """The open segment was closed when this many rows had been accepted."""
        self.opened_at = None
        self._segment_rows = dict(rows)

    def due_at(self) -> float:
        """When the open segment closes for its age; infinite while there is none."""
        if self.opened_at is None:
            return math.inf
        limits = self._limits
        # Who wants every file sooner than that is not made to wait by traffic.
        return self.opened_at + min(limits.rotate_sec, limits.extreme_sec if self.mode == "extreme" else math.inf)

    def is_due(self, now: float, size_bytes: int) -> bool:
        """Whether the open segment closes now."""
        return self.opened_at is not None and (now >= self.due_at() or size_bytes >= self._limits.segment_bytes)

    def judge(self, now: float, rows: Rows) -> ModeChange | None:
        """Look at the traffic; returns a change of mode, which is in force from now on."""
        if self.mode == "normal":
            busiest, count = _busiest(rows, self._segment_rows)
            if count < self._limits.extreme_rows:
                return None
            self.mode = "extreme"
            self._begin_window(now, rows)
            return ModeChange("extreme_traffic_entered", *busiest, count)
        if now - self._window_at < self._limits.extreme_sec:
            return None
        busiest, count = _busiest(rows, self._window_rows)
        self._begin_window(now, rows)
        if count >= LEAVE_SHARE * self._limits.extreme_rows:
            return None
        self.mode = "normal"
        return ModeChange("extreme_traffic_left", *busiest, count)

    def _begin_window(self, now: float, rows: Rows) -> None:
        self._window_at = now
        self._window_rows = dict(rows)


def _busiest(rows: Rows, before: Rows) -> tuple[tuple[Market, str], int]:
    grown = {key: count - before.get(key, 0) for key, count in rows.items()}
    busiest = max(grown, key=grown.__getitem__, default=(Market.SPOT, ""))
    return busiest, grown.get(busiest, 0)
