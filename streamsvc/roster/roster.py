"""Brings what is recorded to what is wanted, while the service runs.

What is wanted changes when the symbols file does, and with the exchange's list. Here the difference is found and
carried out: streams that come are known to the intake before anybody asks for them; streams that end are known to it
until no connection carries them any more. Connections of other streams are not touched. Nothing waits for the network.

Events: `symbols_changed` (market, added, removed, symbols, kinds, source), `symbols_unchanged` (source, streams),
`symbols_left_out` (market, symbols, count, limit), `symbol_delisted` (market, symbol, status, count),
`listing_refused` (market, reason), `symbols_not_kept` (detail).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.roster.market_symbols import MarketSymbols
from streamsvc.roster.store import recorded_of
from streamsvc.schema import Market

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from streamsvc.roster.choice import Choice
    from streamsvc.roster.store import Recorded
    from streamsvc.settings.selection import Selections
    from streamsvc.venues.venue import Stream, Venue

NAMES_TOLD_MAX = 20


class Intake(Protocol):
    """Who takes messages in; see `intake.Intake`."""

    on_ended: Callable[[Stream], None]

    def add(self, streams: Iterable[Stream]) -> None:
        """Take these in from now on."""

    def remove(self, streams: Iterable[Stream]) -> None:
        """Forget these as soon as no connection carries them."""


class Supervisor(Protocol):
    """Who keeps connections; see `streams.supervise.Supervisor`."""

    def change(self, market: Market, *, added: Iterable[Stream] = (), removed: Collection[Stream] = ()) -> None:
        """Carry other streams from now on."""


class Roster:
    """The streams that are recorded.

    Args:
        choice: What is wanted.
        venues: The markets.
        intake: Who takes messages in.
        supervisor: Who keeps connections.
        keep: Keeps what is recorded for the next start; raises OSError.

    Attributes:
        begin_market: Called once with the symbols of each market of which anything is wanted.
        on_removed: Called when nothing of a symbol of a market is recorded any more, and nothing of it will come.
    """

    def __init__(
        self,
        choice: Choice,
        *,
        venues: Mapping[Market, Venue],
        intake: Intake,
        supervisor: Supervisor,
        keep: Callable[[Recorded], Awaitable[None]],
    ) -> None:
        self.choice = choice
        self.begin_market: Callable[[MarketSymbols], None] = lambda _symbols: None
        self.on_removed: Callable[[Market, str], None] = lambda _market, _symbol: None
        self._venues = venues
        self._intake = intake
        intake.on_ended = self._end
        self._supervisor = supervisor
        self._keep = keep
        self._wanted = {market: self._streams(market) for market in Market}
        self._carried = {(market, name): one for market in Market for name, one in self._wanted[market].items()}
        self._symbols = {market: MarketSymbols(self, market) for market in Market}
        self._left_out: dict[Market, tuple[str, ...]] = dict.fromkeys(Market, ())
        self._doubts: dict[Market, str] = dict.fromkeys(Market, "")
        self._begun: set[Market] = set()
        self._news: dict[str, None] = {}  # The sources of what is not carried out yet.
        self._changed = trio.Event()

    def _streams(self, market: Market) -> dict[str, Stream]:
        return {stream.name: stream for stream in self.choice.streams(self._venues[market])}

    def recorded(self, market: Market) -> frozenset[str]:
        """The symbols of a market that are recorded, or about to be."""
        return frozenset(self.choice.wanted(market).symbols)

    async def ended(self, streams: Sequence[Stream]) -> list[Stream]:
        """Which of these streams, which have fallen silent, are of symbols that are not traded any more.

        The exchange is asked, at a bounded rate and for a bounded time.
        """
        for market in {stream.market for stream in streams}:
            await self._symbols[market].check()
        return [stream for stream in streams if stream.symbol not in self.recorded(stream.market)]

    def select(self, selections: Selections, source: str, *, is_asked: bool = False) -> None:
        """The settings mean something else from now on.

        Args:
            selections: What they mean.
            source: Who says so, for the log.
            is_asked: Whether somebody waits for an answer in the log though nothing is another.
        """
        is_new = any(self.choice.selection(market) != selection for market, selection in selections.items())
        self.choice.select(selections)
        if any(self._streams(market).keys() != self._wanted[market].keys() for market in Market):
            self._tell(source)
        elif is_asked:
            logger.info("symbols_unchanged", source=source, streams=sum(map(len, self._wanted.values())))
        if is_new:
            for symbols in self._symbols.values():
                symbols.ask_again()

    def hear(self, market: Market, statuses: Mapping[str, str]) -> None:
        """The exchange has told its symbols."""
        heard = self.choice.hear(market, statuses)
        if heard.doubt and heard.doubt != self._doubts[market]:
            logger.error("listing_refused", market=market.label, reason=heard.doubt)
        self._doubts[market] = heard.doubt
        for symbol, status in heard.ended[:NAMES_TOLD_MAX]:
            logger.warning("symbol_delisted", market=market.label, symbol=symbol, status=status, count=len(heard.ended))
        if self._streams(market).keys() != self._wanted[market].keys():
            self._tell("exchangeInfo")

    def _end(self, stream: Stream) -> None:
        """No connection carries a stream any more that was removed."""
        self._carried.pop((stream.market, stream.name), None)
        self._changed.set()
        if not any(one.symbol == stream.symbol and one.market is stream.market for one in self._carried.values()):
            self.on_removed(stream.market, stream.symbol)

    def _tell(self, source: str) -> None:
        self._news[source] = None
        self._changed.set()

    async def run(self) -> NoReturn:
        """Carry out what changes, until cancelled."""
        while True:
            for market in Market:
                self._tell_left_out(market)
                if not (self.choice.selection(market).is_empty or market in self._begun):
                    self._begun.add(market)
                    self.begin_market(self._symbols[market])
            await self._changed.wait()
            self._changed = trio.Event()
            await self._carry_out()

    async def _carry_out(self) -> None:
        sources = " and ".join(self._news)
        self._news.clear()
        wanted = {market: self._streams(market) for market in Market}
        # What is added is kept before it is asked for, what has ended after it has: see `store`.
        await self._keep_recorded(
            [*self._carried.values(), *(one for table in wanted.values() for one in table.values())]
        )
        for market, streams in wanted.items():
            before, self._wanted[market] = self._wanted[market], streams
            added = [stream for name, stream in streams.items() if name not in before]
            removed = [stream for name, stream in before.items() if name not in streams]
            if not added and not removed:
                continue
            self._carried.update(((market, stream.name), stream) for stream in added)
            self._log_change(market, before.values(), streams.values(), sources)
            self._intake.add(added)
            self._supervisor.change(market, added=added, removed=removed)
            self._intake.remove(removed)

    async def _keep_recorded(self, streams: Iterable[Stream]) -> None:
        try:
            await self._keep(recorded_of(streams))
        except DISK_FAULTS as error:
            logger.error("symbols_not_kept", detail=str(error))

    def _tell_left_out(self, market: Market) -> None:
        left_out = self.choice.wanted(market).left_out
        if left_out and left_out != self._left_out[market]:
            logger.error(
                "symbols_left_out",
                market=market.label,
                symbols=list(left_out[:NAMES_TOLD_MAX]),
                count=len(left_out),
                limit=len(self.choice.wanted(market).symbols),
            )
        self._left_out[market] = left_out

    def _log_change(self, market: Market, before: Iterable[Stream], now: Iterable[Stream], source: str) -> None:
        old, new = dict.fromkeys(one.symbol for one in before), dict.fromkeys(one.symbol for one in now)
        kinds = dict.fromkeys(one.kind.label for one in now)
        added = [symbol for symbol in new if symbol not in old]
        removed = [symbol for symbol in old if symbol not in new]
        logger.info(
            "symbols_changed",
            market=market.label,
            added=added[:NAMES_TOLD_MAX],
            added_count=len(added),
            removed=removed[:NAMES_TOLD_MAX],
            removed_count=len(removed),
            symbols=len(new),
            kinds=list(kinds),
            source=source,
        )
