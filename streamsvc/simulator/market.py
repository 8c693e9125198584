"""A seeded synthetic market of one symbol: orders come in, trades happen at the touch and consume the book. Pure.

The same seed and the same times give the same market, whatever streams are watched. Trades take what the best level
shows; a taker order that takes more goes on at the next level; the candle counts exactly these trades.
"""

from __future__ import annotations

import random
from math import log
from typing import TYPE_CHECKING

import attrs

from streamsvc.schema import Market
from streamsvc.simulator import events
from streamsvc.simulator.book import ASK, BID, Book
from streamsvc.simulator.feed import SECOND_US, Feed

if TYPE_CHECKING:
    from streamsvc.simulator.instruments import Instrument

LEVELS_MIN = 12
LEVELS_MAX = 120
LEVELS_AT_START = 60
_SWEEP_LEVELS_MAX = 3
_TRADES_PER_TAKER = 1.85
"""Measured: how many trades one taker order makes on average (several makers at a price, several prices)."""
_ODD_TRADE_SHARE = 0.002
_LIQUIDATION_SHARE = 0.01


@attrs.frozen
class Activity:
    """How lively a symbol is.

    Attributes:
        trades_per_sec: Trades a second, on average.
        quotes_per_sec: Changes of the book a second that are no trades.
    """

    trades_per_sec: float = 5.0
    quotes_per_sec: float = 20.0


class SymbolMarket:
    """One symbol's market, moved on by `advance`.

    Attributes:
        feed: Its streams and its past.
        next_order_us: When the next order comes in.
    """

    def __init__(  # noqa: PLR0913 - what a market is made of
        self,
        market: Market,
        instrument: Instrument,
        activity: Activity,
        *,
        seed: int,
        start_us: int,
        history_trades_max: int,
    ) -> None:
        self._random = random.Random(f"{seed}/{market.label}/{instrument.symbol}")
        draw = self._random.random
        self._is_futures = market is Market.FUTURES
        self._instrument = instrument
        takers_per_sec = activity.trades_per_sec / _TRADES_PER_TAKER
        orders_per_sec = takers_per_sec + activity.quotes_per_sec
        self._taker_share = takers_per_sec / orders_per_sec
        self._mean_wait_us = SECOND_US / orders_per_sec
        self._lots_max = max(50, 2 * 10**instrument.quantity_decimals)
        self._trade_id = 1_000_000_000 + int(draw() * 1_000_000_000)
        self._agg_trade_id = self._trade_id // 3
        self._book = Book(50_000_000_000 + int(draw() * 1_000_000_000))
        self._last_liquidation_us = 0
        for side in self._book.sides:
            touch = instrument.start_ticks * side.sign - (side.sign < 0)
            for distance in range(LEVELS_AT_START):
                side.set(touch - distance, self._lots())
        self.feed = Feed(market, instrument, self._book, start_us, history_trades_max)
        self.next_order_us = start_us
        self._wait()

    def advance(self, until_us: int) -> None:
        """Let everything happen that happens up to a time; the messages lie in `feed.out`."""
        feed = self.feed
        while True:
            due_us = feed.next_due_us
            if self.next_order_us < due_us:
                if self.next_order_us > until_us:
                    return
                if self._random.random() < self._taker_share:
                    self._take(self.next_order_us)
                else:
                    self._quote(self.next_order_us)
                feed.flush_immediate()
                self._wait()
            elif due_us <= until_us:
                feed.fire(due_us)
            else:
                return

    def skip_to(self, now_us: int) -> None:
        """Go on from this time: nothing has happened since the market was moved on last. Ids and book stay."""
        self.next_order_us = now_us
        self._wait()
        self.feed.skip_to(now_us)

    @property
    def next_due_us(self) -> int:
        """When something happens next."""
        return min(self.next_order_us, self.feed.next_due_us)

    def _wait(self) -> None:
        self.next_order_us += 1 + int(-log(1.0 - self._random.random()) * self._mean_wait_us)

    def _lots(self) -> int:
        return 1 + int(self._random.random() ** 4 * self._lots_max)

    def _change(self, side: int, key: int, lots: int, time_us: int) -> None:
        book = self._book
        # Futures count changes of all symbols together, so that one symbol's ids jump.
        book.update_id += 1 + int(self._random.random() * 8) if self._is_futures else 1
        is_touch = book.sides[side].set(key, lots)
        self.feed.level(side, key, lots, time_us, is_touch=is_touch)

    def _quote(self, time_us: int) -> None:
        """Somebody places or cancels a limit order, most likely near the touch."""
        draw = self._random.random
        side = ASK if draw() < 0.5 else BID
        own, other = self._book.sides[side], self._book.sides[1 - side]
        inside = -(own.best + other.best) - 1
        if inside and draw() < 0.7:
            self._change(side, own.best + 1 + int(draw() * inside), self._lots(), time_us)
        else:
            key = own.best - int(draw() ** 2 * LEVELS_AT_START)
            lots = own.levels.get(key, 0)
            if lots and len(own.levels) > LEVELS_MIN and draw() < 0.5:
                self._change(side, key, lots // 2 if draw() < 0.5 else 0, time_us)
            else:
                self._change(side, key, min(lots + self._lots(), 4 * self._lots_max), time_us)
        if len(own.levels) > LEVELS_MAX:
            self._change(side, min(own.levels), 0, time_us)

    def _take(self, time_us: int) -> None:
        """A market order takes what the touch shows, and goes on at the next level if that was not enough."""
        draw = self._random.random
        if self._is_futures and draw() < _ODD_TRADE_SHARE:
            self._odd_trade(time_us)
        # A market far from its start comes back, so that a price never falls to nothing.
        drift = (self._book.best_bid - self._instrument.start_ticks) / self._instrument.start_ticks
        is_sell = draw() < 0.5 + min(0.2, max(-0.2, drift * 20))
        side = BID if is_sell else ASK
        own = self._book.sides[side]
        wanted = left = self._lots()
        first_ticks = own.best * own.sign
        for _ in range(_SWEEP_LEVELS_MAX):
            key = own.best
            shown = own.levels[key]
            taken = min(left, shown)
            self._fill(key * own.sign, taken, time_us, is_buyer_maker=is_sell)
            left -= taken
            if len(own.levels) <= LEVELS_MIN:
                self._change(side, min(own.levels) - 1, self._lots(), time_us)
            self._change(side, key, shown - taken, time_us)
            if not left:
                break
        if self._is_futures and draw() < _LIQUIDATION_SHARE:
            self._liquidate(wanted - left, first_ticks, time_us, is_sell=is_sell)

    def _fill(self, ticks: int, lots: int, time_us: int, *, is_buyer_maker: bool) -> None:
        """One or more makers at one price: a trade each, and one aggregate trade over them."""
        instrument = self._instrument
        price = instrument.price_text(ticks)
        first_id = self._trade_id + 1
        parts = 1 + int(self._random.random() * 1.5)
        self._agg_trade_id += 1
        self.feed.agg_trade(
            events.AggTrade(
                instrument.symbol,
                self._agg_trade_id,
                price,
                instrument.quantity_text(lots),
                first_id,
                first_id + min(parts, lots) - 1,
                time_us,
                is_buyer_maker,
            )
        )
        for part in range(min(parts, lots), 0, -1):
            some = lots // part
            lots -= some
            self._trade_id += 1
            trade = events.Trade(
                instrument.symbol, self._trade_id, price, instrument.quantity_text(some), time_us, is_buyer_maker
            )
            self.feed.trade(trade, ticks, some)

    def _odd_trade(self, time_us: int) -> None:
        """A row that consumes a trade id and is no trade on the book, as the exchange sends now and then."""
        self._trade_id += 1
        odd = events.Trade(self._instrument.symbol, self._trade_id, "0", "0", time_us, False, "NA")
        self.feed.trade(odd, 0, 0)

    def _liquidate(self, lots: int, ticks: int, time_us: int, *, is_sell: bool) -> None:
        """Tell that this taker order was a liquidation, at most once a second."""
        if time_us < self._last_liquidation_us + SECOND_US:
            return
        self._last_liquidation_us = time_us
        price = self._instrument.price_text(ticks)
        self.feed.force_order(
            events.ForceOrder(
                self._instrument.symbol,
                "SELL" if is_sell else "BUY",
                self._instrument.quantity_text(lots),
                price,
                price,
                time_us,
                time_us,
            )
        )
