"""Where messages come from: what the exchange asks of a source, and the synthetic one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from streamsvc.simulator.instruments import HALTED_STATUS, changed_info, default_instrument, symbol_info
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
        self._seed = seed
        self._history_trades_max = history_trades_max
        self._markets: dict[str, SymbolMarket] = {}
        self._histories: dict[str, History] = {}
        self._delisted: dict[str, SymbolMarket] = {}
        for symbol, activity in symbols.items():
            self._open(symbol, activity, start_us)

    def _open(self, symbol: str, activity: Activity, start_us: int) -> None:
        one = SymbolMarket(
            self.market,
            default_instrument(self.market, symbol),
            activity,
            seed=self._seed,
            start_us=start_us,
            history_trades_max=self._history_trades_max,
        )
        self._markets[symbol], self._histories[symbol] = one, one.feed.history

    def list_symbol(self, symbol: str, activity: Activity, now_us: int) -> None:
        """Open the market of a symbol; one that was delisted goes on with the ids that it had come to."""
        if symbol in self._markets:
            raise KeyError(symbol)
        one = self._delisted.pop(symbol, None)
        if one is None:
            self._open(symbol, activity, now_us)
        else:
            one.skip_to(now_us)
            self._markets[symbol], self._histories[symbol] = one, one.feed.history

    def delist_symbol(self, symbol: str, *, is_absent: bool) -> None:
        """Close the market of a symbol: nothing of it is sent any more.

        Args:
            symbol: The symbol.
            is_absent: Whether REST does not know it any more; else its status says that it is not traded.
        """
        self._delisted[symbol] = self._markets.pop(symbol)
        if is_absent:
            del self._histories[symbol]

    def histories(self) -> Mapping[str, History]:
        """The past of every symbol."""
        return self._histories

    def symbol_infos(self) -> list[dict[str, Any]]:
        """The entries of `exchangeInfo`'s `symbols`."""
        halted = HALTED_STATUS[self.market]
        return [symbol_info(self.market, one.feed.instrument) for one in self._markets.values()] + [
            changed_info(symbol_info(self.market, one.feed.instrument), status=halted)
            for symbol, one in self._delisted.items()
            if symbol in self._histories
        ]

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
