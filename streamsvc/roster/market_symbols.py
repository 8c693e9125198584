"""A market's symbols as those see them who ask the exchange about them; see `integrity.instruments.Symbols`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from streamsvc.roster.roster import Roster
    from streamsvc.schema import Market


CHECK_MIN_SEC: Final = 600.0
"""So often the exchange is asked for its list at most because a stream has fallen silent."""
CHECK_SEC_MAX: Final = 5.0
"""Longer than this nobody waits for an answer: a stall must not hide behind a slow REST."""


class MarketSymbols:
    """The symbols of one market.

    Attributes:
        market: The market.
    """

    def __init__(self, roster: Roster, market: Market) -> None:
        self._roster = roster
        self.market = market
        self._asked = trio.Event()
        self._heard = trio.Event()
        self._checked_at = -math.inf

    @property
    def meant(self) -> Container[str]:
        """Every symbol that is meant, by its name or by a pattern."""
        return self._roster.choice.selection(self.market)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are meant by their name."""
        return self._roster.choice.selection(self.market).names

    @property
    def recorded(self) -> frozenset[str]:
        """Those that are recorded, or about to be."""
        return self._roster.recorded(self.market)

    def hear(self, statuses: Mapping[str, str]) -> None:
        """The exchange has told the status of every symbol."""
        self._roster.hear(self.market, statuses)
        self._checked_at = trio.current_time()
        self._heard.set()
        self._heard = trio.Event()

    def ask_again(self) -> None:
        """Have the exchange asked soon."""
        self._asked.set()

    async def wait_asked(self) -> None:
        """Wait until the exchange should be asked again before its time."""
        await self._asked.wait()
        self._asked = trio.Event()

    async def check(self) -> None:
        """Have the exchange asked now, unless that was done a moment ago, and wait for its answer, but not for long."""
        if trio.current_time() - self._checked_at < CHECK_MIN_SEC:
            return
        self._checked_at = trio.current_time()
        self.ask_again()
        with trio.move_on_after(CHECK_SEC_MAX):
            await self._heard.wait()
