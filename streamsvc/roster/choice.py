"""What is to be recorded of every market, from the settings, the symbols file and the exchange's list. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.roster.wanted import Listing, Wanted, doubt, wanted_symbols
from streamsvc.schema import Market
from streamsvc.settings.values import SYMBOLS_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streamsvc.settings.selection import Selection, Selections
    from streamsvc.venues.venue import Stream, Venue


@attrs.frozen
class Heard:
    """What an answer of the exchange changes.

    Attributes:
        doubt: Why it is not believed and changes nothing; else an empty text.
        ended: Symbols that were recorded and are not traded any more, with their status.
    """

    doubt: str
    ended: tuple[tuple[str, str], ...] = ()


class Choice:
    """Which symbols of each market are to be recorded.

    Args:
        selections: What the settings mean.
        remembered: The symbols that an earlier run recorded last, by market.
        limit: How many symbols of a market are recorded at most.
    """

    def __init__(
        self,
        selections: Selections,
        remembered: Mapping[Market, Collection[str]] | None = None,
        limit: int = SYMBOLS_MAX,
    ) -> None:
        self._selections = dict(selections)
        self._remembered = {market: frozenset((remembered or {}).get(market, ())) for market in Market}
        self._limit = limit
        self._listings: dict[Market, Listing] = {}
        self._gone: dict[Market, frozenset[str]] = dict.fromkeys(Market, frozenset())
        self._wanted = {market: self._choose(market) for market in Market}

    def selection(self, market: Market) -> Selection:
        """What the settings mean of a market."""
        return self._selections[market]

    def wanted(self, market: Market) -> Wanted:
        """The symbols of a market to record."""
        return self._wanted[market]

    def streams(self, venue: Venue) -> list[Stream]:
        """The streams of a market to record, symbol by symbol."""
        kinds = dict.fromkeys(self._selections[venue.market].kinds)
        return [venue.stream(symbol, kind) for symbol in self._wanted[venue.market].symbols for kind in kinds]

    def select(self, selections: Selections) -> None:
        """The settings mean something else from now on."""
        self._selections = dict(selections)
        self._wanted = {market: self._choose(market) for market in Market}

    def hear(self, market: Market, statuses: Mapping[str, str]) -> Heard:
        """The exchange has told the status of every symbol of a market."""
        listing, before = Listing.of(statuses), self._listings.get(market)
        recorded = self._wanted[market].symbols
        # A name that was never traded is a slip of the pen, and says nothing about the answer.
        proved = self._remembered[market] if before is None else before.trading
        why = doubt(listing, before, [symbol for symbol in recorded if symbol in proved])
        if why:
            return Heard(why)
        self._listings[market] = listing
        self._gone[market] = frozenset(self._selections[market].names) - listing.trading
        self._wanted[market] = self._choose(market)
        left = frozenset(self._wanted[market].symbols)
        return Heard("", tuple((one, listing.status(one)) for one in recorded if one not in left | listing.trading))

    def _choose(self, market: Market) -> Wanted:
        listing = self._listings.get(market)
        return wanted_symbols(
            self._selections[market],
            gone=self._gone[market],
            traded=self._remembered[market] if listing is None else listing.trading,
            limit=self._limit,
        )
