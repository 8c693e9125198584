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
CHECK_WAIT_SEC_MAX: Final = 4 * 3600.0
"""Between two looks at the list because a stream has fallen silent; the wait doubles while they find nothing: an answer
of spot has 20 MB, and a quiet market has many symbols that say nothing for a while."""
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
        self._check_wait_sec = CHECK_MIN_SEC

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
        """Have the exchange asked now, unless that was done a while ago, and wait for its answer, but not for long."""
        if trio.current_time() - self._checked_at < self._check_wait_sec:
            return
        self._checked_at = trio.current_time()
        recorded = self.recorded
        self.ask_again()
        with trio.move_on_after(CHECK_SEC_MAX):
            await self._heard.wait()
        is_useless = recorded <= self.recorded
        self._check_wait_sec = min(2 * self._check_wait_sec, CHECK_WAIT_SEC_MAX) if is_useless else CHECK_MIN_SEC
