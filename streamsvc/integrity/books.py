"""The local order book of one symbol: a snapshot and updates, joined by the exchange's rules (pure).

| | dropped before the join | joins a snapshot with `lastUpdateId` L | follows an update with the last id u' |
|---|---|---|---|
| spot | `u` <= L | `U` <= L + 1 <= `u`, or one before it ended at L exactly | `U` <= u' + 1 <= `u` |
| futures | `u` < L | `U` <= L <= `u`, or `pu` = L | `pu` <= u' < `u` |

The last column is the rule of a takeover, of which one connection's own chain (`U` = u' + 1, `pu` = u') is a case: two
connections may cut the same changes into different windows, and since quantities are absolute, a window that begins
before u' and ends after it changes nothing wrongly. What ends at u' or before is a duplicate. Source: `binance.md`, and
the exchange's pages "How to manage a local order book correctly" of both markets.

A book is `synced` only while that chain holds; nothing of it can be read otherwise. Prices are keys, as float64: a
decimal of up to 15 significant digits is one float64 and no other, so equal prices are equal keys, as in the files. The
exchange's snapshot ends at a number of levels; what lies beyond is known only where it has changed since.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from streamsvc.schema import Market

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Level = tuple[float, float]
    """Price and quantity."""

Payload = TypeVar("Payload")
Side = Literal["bid", "ask"]


class BookState(enum.StrEnum):
    """What is known of a book."""

    SYNCING = "syncing"
    """Not yet proven: a snapshot is missing, or the update that joins it."""

    SYNCED = "synced"
    """A snapshot and every update since."""

    LOST = "lost"
    """It was synced, then an update was missing; it waits for a snapshot."""


class BookChain(Generic[Payload]):
    """Says which updates apply, from their ids alone: what a service needs to know the state of hundreds of books.

    Args:
        market: Whose rules.
        held_max: How many updates are held while there is no snapshot; of more, the oldest go, and the snapshot must
            be younger.

    Attributes:
        state: What is known of the book.
        last_update_id: Of the last update that applied, or of the snapshot; without meaning while a snapshot is needed.
    """

    def __init__(self, market: Market, held_max: int) -> None:
        self.state = BookState.SYNCING
        self.last_update_id = 0
        self._is_spot = market is Market.SPOT
        self._has_snapshot = False
        self._held: deque[tuple[int, int, int, Payload]] = deque(maxlen=held_max)

    @property
    def needs_snapshot(self) -> bool:
        """Whether only another snapshot brings the book on: there is none, it was too old, or the chain broke."""
        return not self._has_snapshot

    def take_snapshot(self, last_update_id: int) -> list[Payload] | None:
        """Begin with a snapshot, unless the book is synced or has a younger one.

        Returns:
            The held updates that apply to it, in order; None if the snapshot was not taken. One that is too old for the
            updates held is taken and given up at once: see `needs_snapshot`.
        """
        if self.state is BookState.SYNCED or (self._has_snapshot and last_update_id <= self.last_update_id):
            return None
        self._has_snapshot = True
        self.last_update_id = last_update_id
        # Another connection may have brought an earlier one late.
        held = sorted(self._held, key=lambda update: update[:2])
        self._held.clear()
        applied = []
        for final, first, previous, payload in held:
            if self.take_update(first, final, previous, payload):
                applied.append(payload)
        if self._has_snapshot and self.state is BookState.LOST:
            self.state = BookState.SYNCING
        return applied

    def take_update(self, first: int, final: int, previous: int, payload: Payload) -> bool:
        """Take an update: its `U`, `u`, `pu` (spot has none: 0), and what is kept of it while it is held.

        Returns:
            Whether it applies now.
        """
        if not self._has_snapshot:
            self._held.append((final, first, previous, payload))
            return False
        last = self.last_update_id
        if self.state is BookState.SYNCED:
            if final <= last:
                return False
            joins = (first - 1 if self._is_spot else previous) <= last
        elif self._is_spot:
            if final <= last:
                if final == last:
                    self.state = BookState.SYNCED
                return False
            joins = first <= last + 1
        else:
            if final < last:
                return False
            joins = first <= last or previous == last
        if joins:
            self.state = BookState.SYNCED
            self.last_update_id = final
            return True
        self._break()
        self._held.append((final, first, previous, payload))
        return False

    def lose(self) -> None:
        """Something broke the chain that its ids do not show: messages were shed, or the exchange starts them over."""
        self._break()
        self._held.clear()

    def _break(self) -> None:
        self._has_snapshot = False
        if self.state is BookState.SYNCED:
            self.state = BookState.LOST


class Book:
    """A book with its levels. Numbers must be finite and not negative; whoever decodes them checks that.

    Args:
        market: Whose rules.
        held_max: See `BookChain`.
    """

    def __init__(self, market: Market, held_max: int) -> None:
        self._chain: BookChain[tuple[Iterable[Level], Iterable[Level]]] = BookChain(market, held_max)
        self._bids, self._asks = _Levels(), _Levels()

    @property
    def state(self) -> BookState:
        """What is known of the book."""
        return self._chain.state

    @property
    def needs_snapshot(self) -> bool:
        """See `BookChain`."""
        return self._chain.needs_snapshot

    @property
    def last_update_id(self) -> int:
        """See `BookChain`."""
        return self._chain.last_update_id

    @property
    def best_bid(self) -> Level | None:
        """The highest bid's price and quantity; None where there is none, or the book is not synced."""
        return next(iter(self.levels("bid", 1)), None)

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask's; see `best_bid`."""
        return next(iter(self.levels("ask", 1)), None)

    @property
    def is_crossed(self) -> bool:
        """Whether somebody bids at least what another asks, which the exchange would have matched: a fault of data."""
        bid, ask = self.best_bid, self.best_ask
        return bid is not None and ask is not None and bid[0] >= ask[0]

    def levels(self, side: Side, count: int) -> list[Level]:
        """At most so many levels of a side, the best first; none while the book is not synced."""
        if self.state is not BookState.SYNCED:
            return []
        if side == "bid":
            levels, prices = self._bids, self._bids.prices[: -count - 1 : -1]
        else:
            levels, prices = self._asks, self._asks.prices[:count]
        return [(price, levels.quantities[price]) for price in prices]

    def level_count(self, side: Side) -> int:
        """How many levels a side has; 0 while the book is not synced."""
        if self.state is not BookState.SYNCED:
            return 0
        return len((self._bids if side == "bid" else self._asks).prices)

    def apply_snapshot(self, last_update_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Begin with a snapshot; a synced book is not changed by one. Then look at `state` and `needs_snapshot`."""
        held = self._chain.take_snapshot(last_update_id)
        if held is None:
            return
        self._bids, self._asks = _Levels(), _Levels()
        for more_bids, more_asks in [(bids, asks), *held]:
            self._bids.put(more_bids)
            self._asks.put(more_asks)

    def apply_diff(self, first: int, final: int, previous: int, bids: Sequence[Level], asks: Sequence[Level]) -> bool:
        """Take an update; see `BookChain.take_update`. Quantities are absolute, 0 removes the level.

        Returns:
            Whether it was applied now; what is held is applied with the snapshot.
        """
        if self._chain.take_update(first, final, previous, (bids, asks)):
            self._bids.put(bids)
            self._asks.put(asks)
            return True
        return False

    def lose(self) -> None:
        """See `BookChain.lose`."""
        self._chain.lose()


class _Levels:
    """One side: quantities by price, and the prices ascending."""

    __slots__ = ("prices", "quantities")

    def __init__(self) -> None:
        self.prices: list[float] = []
        self.quantities: dict[float, float] = {}

    def put(self, levels: Iterable[Level]) -> None:
        quantities, prices = self.quantities, self.prices
        for price, quantity in levels:
            if quantity:
                if price not in quantities:
                    insort(prices, price)
                quantities[price] = quantity
            elif quantities.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
