"""Recordings that are played no further than told, so that a fault meets them at the same place on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from recordings_support import RECORDINGS

from streamsvc.simulator.recording import open_recording
from streamsvc.simulator.replay import RecordingSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamsvc.schema import Market
    from streamsvc.simulator.events import Event
    from streamsvc.simulator.exchange import Exchange
    from streamsvc.simulator.recording import RecordedMessage, RecordedSnapshot

LOOK_SEC = 0.02


_HELD_US = 1 << 62


class HeldSource(RecordingSource):
    """A source of recordings that stands still where it is told to.

    Attributes:
        messages: How many there are.
        played: How many have been handed out.
        until: How many may be.
    """

    def __init__(self, market: Market, names: Iterable[str], speed: float) -> None:
        recordings = [one for one in (open_recording(RECORDINGS / name) for name in names) if one.market is market]
        super().__init__(market, recordings, speed=speed)
        self.messages = sum(self.names.values())
        self.played = 0
        self.until = 0

    def advance(self, now_us: int) -> list[Event]:
        """The messages whose time has come; time does not pass while it is held."""
        if self.played >= self.until < self.messages:
            return []
        if self._next_us == _HELD_US:
            self._next_us = now_us
        return super().advance(now_us)

    def next_due_us(self) -> int:
        """When to look again."""
        return 0 if self._next_us == _HELD_US else super().next_due_us()

    def _take(self, record: RecordedMessage | RecordedSnapshot, made: list[Event]) -> None:
        before = len(made)
        super()._take(record, made)
        self.played += len(made) - before

    def _step(self) -> None:
        super()._step()
        if self.played >= self.until < self.messages:
            self._next_us = _HELD_US


async def play(exchange: Exchange, part: float) -> None:
    """Let every market go on until so much of its recording, from 0 to 1, has been sent to whoever hears it."""
    for venue in exchange.venues.values():
        assert isinstance(venue.source, HeldSource)
        venue.source.until = round(part * venue.source.messages)
    for venue in exchange.venues.values():
        while venue.source.played < venue.source.until:  # noqa: ASYNC110 - a look at a counter from outside
            await trio.sleep(LOOK_SEC)
        await venue.hub.wait_empty()
