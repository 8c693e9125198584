"""Where messages come from: what the exchange asks of a source, and the synthetic one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from streamsvc.simulator.instruments import default_instrument, symbol_info
from streamsvc.simulator.market import Activity, SymbolMarket
from streamsvc.simulator.streams import ALL_SYMBOLS, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamsvc.schema import Market
    from streamsvc.simulator.events import Event
    from streamsvc.simulator.history import History

HISTORY_TRADES_MAX = 10_000


class Source(Protocol):
    """What moves one market on. Time is the caller's, in microseconds since 1970."""

    @property
    def market(self) -> Market:
        """Which market."""

    @property
    def is_unpaced(self) -> bool:
        """Whether `advance` hands out messages as fast as it is called; the caller then waits for its readers."""

    @property
    def is_done(self) -> bool:
        """Whether there will never be another message."""

    def histories(self) -> Mapping[str, History]:
        """The past of every symbol, by its name in upper case."""

    def symbol_infos(self) -> list[dict[str, Any]]:
        """The entries of `exchangeInfo`'s `symbols`."""

    def watch(self, stream: Stream) -> str | None:
        """Make messages for a stream from now on.

        Returns:
            The canonical name under which they come; None if the source does not have the stream.
        """

    def advance(self, now_us: int) -> Sequence[Event]:
        """What has happened since the last call, in order per stream."""

    def next_due_us(self) -> int:
        """When `advance` has something to say next."""


class SyntheticSource:
    """A seeded market of any number of symbols.

    Args:
        market: Which market.
        symbols: Names in upper case, each with its activity.
        start_us: When it opens.
        seed: The same one gives the same market.
        history_trades_max: Trades and aggregate trades kept for REST, per symbol.
    """

    is_unpaced = False
    is_done = False

    def __init__(
        self,
        market: Market,
        symbols: Mapping[str, Activity],
        *,
        start_us: int,
        seed: int = 1,
        history_trades_max: int = HISTORY_TRADES_MAX,
    ) -> None:
        self.market = market
        self._markets = {
            symbol: SymbolMarket(
                market,
                default_instrument(market, symbol),
                activity,
                seed=seed,
                start_us=start_us,
                history_trades_max=history_trades_max,
            )
            for symbol, activity in symbols.items()
        }
        self._histories = {symbol: one.feed.history for symbol, one in self._markets.items()}

    def histories(self) -> Mapping[str, History]:
        """The past of every symbol."""
        return self._histories

    def symbol_infos(self) -> list[dict[str, Any]]:
        """The entries of `exchangeInfo`'s `symbols`."""
        return [symbol_info(self.market, one.feed.instrument) for one in self._markets.values()]

    def watch(self, stream: Stream) -> str | None:
        """Make messages for a stream from now on."""
        if stream.symbol == ALL_SYMBOLS:
            for one in self._markets.values():
                one.feed.watch(stream)
            return stream.canonical
        market = self._markets.get(stream.symbol.upper())
        if market is None:
            return None
        market.feed.watch(stream)
        return stream.canonical

    def advance(self, now_us: int) -> list[Event]:
        """What has happened since the last call: symbol by symbol, in order within each."""
        made: list[Event] = []
        for market in self._markets.values():
            if market.next_order_us <= now_us or market.feed.next_due_us <= now_us:
                market.advance(now_us)
                if market.feed.out:
                    made += market.feed.out
                    market.feed.out.clear()
        return made

    def next_due_us(self) -> int:
        """When something happens next, on whichever symbol."""
        return min((market.next_due_us for market in self._markets.values()), default=1 << 62)
