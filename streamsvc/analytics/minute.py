"""A minute of one symbol's trades as it grows, in whatever order its trades come. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.analytics.rows import ZERO

if TYPE_CHECKING:
    from decimal import Decimal

    from streamsvc.analytics.run import TradeRun
    from streamsvc.schema import Kind, Market
    from streamsvc.venues.binance_live import LiveTrade

MINUTE_MS = 60_000
SETTLE_MS = 10_000
"""A closed minute that got trades and is still not complete is written again after so long without another one."""


@attrs.define
class Minute:
    """What is known of a minute's trades.

    Attributes:
        open_ms: When it begins.
        buy_quantity: What takers bought.
        sell_quantity: What takers sold.
        quote_volume: Price times quantity.
        trade_count: Trades that count.
        first_id: The id of the first of them; -1: there is none.
        last_id: The id of the last of them.
        prices: Open, high, low, close.
        holes: Holes that touch it.
        is_cut: Whether something of it is missing that no hole stands for.
        revision: The next revision; 0: it was never written.
        written: Delta, count of trades and whether it was called complete, as they were written last.
        cvd: The running sum through it.
        changed_ms: The symbol's exchange time when it changed last.
    """

    open_ms: int
    buy_quantity: Decimal = ZERO
    sell_quantity: Decimal = ZERO
    quote_volume: Decimal = ZERO
    trade_count: int = 0
    first_id: int = -1
    last_id: int = -1
    prices: tuple[Decimal, Decimal, Decimal, Decimal] | None = None
    holes: int = 0
    is_cut: bool = False
    revision: int = 0
    written: tuple[Decimal, int, bool] = (ZERO, 0, False)
    cvd: Decimal = ZERO
    changed_ms: int = 0

    @property
    def delta(self) -> Decimal:
        """What takers bought less what they sold."""
        return self.buy_quantity - self.sell_quantity

    @property
    def is_complete(self) -> bool:
        """Whether every trade of the minute is in it."""
        return not self.holes and not self.is_cut

    @property
    def is_changed(self) -> bool:
        """Whether it is another one than was written."""
        return self.written[1:] != (self.trade_count, self.is_complete)

    def is_due(self, now_ms: int) -> bool:
        """Whether it is to be written again."""
        return self.is_changed and (self.is_complete or now_ms >= self.changed_ms + SETTLE_MS)

    def add(self, trade: LiveTrade) -> None:
        """Count a trade, in any order of ids."""
        price, quantity, number = trade.price, trade.quantity, trade.id
        if trade.is_buyer_maker:
            self.sell_quantity += quantity
        else:
            self.buy_quantity += quantity
        self.quote_volume += price * quantity
        self.trade_count += 1
        if self.prices is None:
            self.prices = price, price, price, price
            self.first_id = self.last_id = number
            return
        first, high, low, last = self.prices
        if number > self.last_id:
            self.last_id, last = number, price
        elif number < self.first_id:
            self.first_id, first = number, price
        self.prices = first, max(high, price), min(low, price), last

    def add_run(self, run: TradeRun) -> None:
        """Count trades that follow one another."""
        self.buy_quantity += run.buy_quantity
        self.sell_quantity += run.sell_quantity
        self.quote_volume += run.quote_volume
        self.trade_count += run.trade_count
        if self.prices is None:
            self.prices = run.open, run.high, run.low, run.close
            self.first_id, self.last_id = run.first_id, run.last_id
            return
        first, high, low, last = self.prices
        if run.last_id > self.last_id:
            self.last_id, last = run.last_id, run.close
        if run.first_id < self.first_id:
            self.first_id, first = run.first_id, run.open
        self.prices = first, max(high, run.high), min(low, run.low), last

    def merge(self, other: Minute) -> None:
        """Add what an earlier run recorded of the minute: their ids are not the same."""
        self.buy_quantity += other.buy_quantity
        self.sell_quantity += other.sell_quantity
        self.quote_volume += other.quote_volume
        self.trade_count += other.trade_count
        self.is_cut |= other.is_cut
        self.revision, self.written, self.cvd = other.revision, other.written, other.cvd
        if self.prices is None or other.prices is None:
            self.first_id, self.last_id = max(self.first_id, other.first_id), max(self.last_id, other.last_id)
            self.prices = self.prices or other.prices
            return
        first = self if self.first_id < other.first_id else other
        _, high, low, _ = self.prices
        _, other_high, other_low, _ = other.prices
        opened, closed = first.prices, (self if self.last_id > other.last_id else other).prices
        assert opened is not None
        assert closed is not None
        self.first_id, self.last_id = first.first_id, max(self.last_id, other.last_id)
        self.prices = opened[0], max(high, other_high), min(low, other_low), closed[3]


@attrs.frozen
class TradeStream:
    """A stream of trades of which minutes are made."""

    market: Market
    kind: Kind
    symbol: str


@attrs.frozen
class Ended:
    """How far a stream of trades was recorded when this run began; the time is in ms, 0 where it is not known."""

    stream: TradeStream
    epoch: int
    last_id: int
    last_ms: int


@attrs.frozen
class KnownHole:
    """Ids that an earlier run missed and that may still come, all of them, and the times around them."""

    first_id: int
    last_id: int
    first_ms: int
    last_ms: int


@attrs.frozen
class Begin:
    """Where an earlier run ended.

    Attributes:
        epoch: The epoch of the last id.
        last_id: The last id that is recorded.
        last_ms: Its time.
        cvd: The running sum before `minutes`.
        cvd_ms: The open time of the last minute that is in it.
        minutes: The minutes since then as they are recorded, in order, with their next revision.
        holes: What is missing since then.
        doubtful: Minutes before them that may have got trades of which no row tells, since the run ended before.
        last_close: The last price before them; None: it is not known.
    """

    epoch: int
    last_id: int
    last_ms: int
    cvd: Decimal
    cvd_ms: int
    minutes: tuple[Minute, ...]
    holes: tuple[KnownHole, ...] = ()
    doubtful: tuple[int, ...] = ()
    last_close: Decimal | None = None


@attrs.frozen
class WrittenBin:
    """A bin of quotes in which an earlier run ended, as it was written last.

    Attributes:
        kind: `ofi_1s`, `ofi_1m` or `prices_1s`.
        open_ms: When it begins.
        revision: Its revision.
        ofi: Its order flow imbalance; 0 of prices.
        update_count: Changes in it; 0 of prices.
    """

    kind: Kind
    open_ms: int
    revision: int
    ofi: Decimal
    update_count: int


@attrs.frozen
class Rebuilt:
    """A minute made again from what is recorded.

    Attributes:
        stream: Whose it is.
        minute: The minute, with what was written of it before and its next revision.
        cvd: The running sum through it, from the latest deltas, its own as it is now.
    """

    stream: TradeStream
    minute: Minute
    cvd: Decimal
