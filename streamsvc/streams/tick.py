"""The pause between small reads, which all connections share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


_HURRY = 4
"""So many times shorter is a pause while much comes."""

_MUCH_BYTES = 6 * 1024
"""In a whole pause, of all connections: more is much. A kernel counts a small message several times its size, and would
soon have no room for more."""


class _Place:
    """Somebody who waits."""

    __slots__ = ("is_waiting", "look", "lot")

    def __init__(self, look: Callable[[], bool] | None) -> None:
        self.look = look
        self.lot = trio.lowlevel.ParkingLot()
        self.is_waiting = True


class ReadTick:
    """A pause that all connections share: those who wait are looked after together, and nobody waits alone for long.

    A wake-up of its own for every small read costs more than the messages in it. While nobody waits nothing ticks; one
    of those who wait ticks for all. Where much comes the next tick comes sooner.
    """

    def __init__(self, tick_ms: float) -> None:
        """`tick_ms` is the pause, in milliseconds; 0: no pause at all."""
        self._tick_sec = tick_ms / 1000
        self._places: list[_Place] = []
        self._is_ticking = False
        self._due_at = 0.0
        self._pause_sec = self._tick_sec
        self._seen_bytes = 0

    def saw(self, size_bytes: int) -> None:
        """A look brought so much."""
        self._seen_bytes += size_bytes

    async def wait(self, look: Callable[[], bool] | None = None) -> None:
        """Wait until the next tick, at most two ticks long.

        Args:
            look: Called at every tick, maybe in another task, and must not fail; the wait goes on as long as it says
                True. Where it is not given the first tick ends the wait.
        """
        if not self._tick_sec:
            return
        place = _Place(look)
        self._places.append(place)
        try:
            while place.is_waiting:
                if self._is_ticking:
                    await place.lot.park()
                else:
                    await self._tick()
        finally:
            self._places.remove(place)
            if self._places and not self._is_ticking:
                self._places[0].lot.unpark()  # It ticks from now on.

    async def _tick(self) -> None:
        self._is_ticking = True
        now = trio.current_time()
        is_much = self._seen_bytes * self._tick_sec > _MUCH_BYTES * self._pause_sec
        self._pause_sec = self._tick_sec / (_HURRY if is_much else 1)
        self._seen_bytes = 0
        self._due_at += self._pause_sec  # Counted from the last tick: what was done in it makes no pause longer.
        if self._due_at <= now:
            self._due_at = now + self._pause_sec
        try:
            await trio.sleep_until(self._due_at)
        finally:
            self._is_ticking = False
        for place in self._places.copy():
            if place.look is None or not place.look():
                place.is_waiting = False
                place.lot.unpark()
