"""How many within how long: a limit that holds over every window, wherever it begins. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SlidingWindow:
    """At most `limit` events within any `window_sec` seconds.

    The caller passes the time in, in seconds of a clock that does not go back. Of one window at most `limit` stamps are
    kept.
    """

    def __init__(self, limit: int, window_sec: float, stamps: Iterable[float] = ()) -> None:
        """`stamps` are events of the past, in order."""
        assert limit > 0
        self.limit = limit
        self.window_sec = window_sec
        self._stamps: deque[float] = deque(stamps, maxlen=limit)

    def wait_sec(self, now: float) -> float:
        """How long the next event has to wait; 0: it may happen now."""
        if len(self._stamps) < self.limit:
            return 0.0
        return max(0.0, self._stamps[0] + self.window_sec - now)

    def add(self, now: float) -> None:
        """Count an event that happens now."""
        self._stamps.append(now)

    def reserve(self, now: float) -> float:
        """Count an event that happens as soon as it may; returns how long it has to wait for that."""
        wait_sec = self.wait_sec(now)
        self.add(now + wait_sec)
        return wait_sec

    def left(self, now: float) -> int:
        """How many more events may happen now."""
        return self.limit - sum(stamp + self.window_sec > now for stamp in self._stamps)
