"""From what happens in a symbol's market to the messages of its streams: windows of depth, candles, timers. Pure.

Messages are made only for streams that somebody has watched once; from then on for ever, so that a stream's ids chain
across connections and what nobody heard is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.schema import Market
from streamsvc.simulator import events
from streamsvc.simulator.book import ASK, BID, Book
from streamsvc.simulator.candles import Candle, minute_of
from streamsvc.simulator.history import History, Snapshot
from streamsvc.simulator.streams import ALL_SYMBOLS, Stream
from streamsvc.simulator.wire import MINUTE_US

if TYPE_CHECKING:
    from streamsvc.simulator.instruments import Instrument

NEVER_US = 1 << 62
KLINE_EVERY_US = {Market.SPOT: 2_000_000, Market.FUTURES: 250_000}
FUNDING_EVERY_US = 8 * 60 * MINUTE_US
SECOND_US = 1_000_000


class _Window:
    """Levels changed since the last message of one depth stream."""

    def __init__(self, stream: Stream, update_id: int) -> None:
        self.stream = stream.canonical
        self.speed_us = stream.speed_ms * 1000
        self.levels = stream.levels
        self.changed: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.first_id = 0
        self.previous_id = update_id
        self.due_us = NEVER_US


class Feed:
    """The streams of one symbol.

    Attributes:
        out: Messages made since somebody last took them.
        next_due_us: When `fire` must be called next.
        history: What REST answers from.
    """

    def __init__(
        self, market: Market, instrument: Instrument, book: Book, start_us: int, history_trades_max: int
    ) -> None:
        self.market = market
        self.instrument = instrument
        self.book = book
        self.out: list[events.Event] = []
        self.history = History(instrument.symbol, history_trades_max, self)
        self._changed_us = start_us
        self._candle = Candle(minute_of(start_us), instrument.start_ticks)
        self._names = {
            kind: Stream(market, kind, instrument.symbol.lower()).canonical
            for kind in ("trade", "aggTrade", "bookTicker", "kline", "forceOrder")
        }
        self._watched: set[str] = set()
        self._windows: list[_Window] = []
        self._kline_due_us = NEVER_US
        self._mark_price_due_us: dict[int, int] = {}
        self.next_due_us = self._candle.open_us + MINUTE_US

    def watch(self, stream: Stream) -> None:
        """Make messages for a stream from now on. Watching twice is fine."""
        name = stream.canonical
        if name in self._watched:
            return
        self._watched.add(name)
        if stream.kind in ("depth", "partial"):
            self._windows.append(_Window(stream, self.book.update_id))
        elif stream.kind == "markPrice":
            every_us = stream.speed_ms * 1000
            self._mark_price_due_us[every_us] = _next_multiple(self._changed_us, every_us)
            self._plan()

    def trade(self, trade: events.Trade, ticks: int, lots: int) -> None:
        """One trade; those without price (`NA`) stay out of the candle."""
        self.history.trades.append(trade)
        if trade.trade_type == "MARKET":
            self._candle.add(trade.trade_id, ticks, lots, is_buyer_maker=trade.is_buyer_maker)
            if self._kline_due_us == NEVER_US and self._names["kline"] in self._watched:
                self._kline_due_us = _next_multiple(trade.time_us, KLINE_EVERY_US[self.market])
                self._plan()
        name = self._names["trade"]
        if name in self._watched:
            self.out.append(events.Event(name, trade.trade_id, trade.trade_id, trade))

    def agg_trade(self, trade: events.AggTrade) -> None:
        """The trades of one taker order at one price, told before them."""
        self.history.agg_trades.append(trade)
        name = self._names["aggTrade"]
        if name in self._watched:
            self.out.append(events.Event(name, trade.agg_trade_id, trade.agg_trade_id, trade))

    def level(self, side: int, key: int, lots: int, time_us: int, *, is_touch: bool) -> None:
        """One level has changed; the book's `update_id` is that of the change."""
        update_id = self.book.update_id
        self._changed_us = time_us
        for window in self._windows:
            window.changed[side][key] = lots
            if window.due_us == NEVER_US:
                window.first_id = update_id
                window.due_us = _next_multiple(time_us, window.speed_us) if window.speed_us else time_us
                self.next_due_us = min(self.next_due_us, window.due_us)
        name = self._names["bookTicker"]
        if is_touch and name in self._watched:
            self.out.append(events.Event(name, update_id, update_id, self._book_ticker(time_us)))

    def force_order(self, order: events.ForceOrder) -> None:
        """A liquidation."""
        for name in (self._names["forceOrder"], f"{ALL_SYMBOLS}forceOrder@arr"):
            if name in self._watched:
                self.out.append(events.Event(name, 0, 0, order))

    def flush_immediate(self) -> None:
        """End of one order: streams without a window tell what it changed."""
        for window in self._windows:
            if not window.speed_us and window.due_us != NEVER_US:
                self._tell_depth(window, window.due_us)
        self._plan()

    def fire(self, now_us: int) -> None:
        """Tell what is due at `now_us`, which is `next_due_us`."""
        for window in self._windows:
            if window.due_us <= now_us:
                self._tell_depth(window, now_us)
        if self._kline_due_us <= now_us:
            self._kline_due_us = NEVER_US
            if now_us < self._candle.open_us + MINUTE_US:
                self._tell_kline(is_closed=False, now_us=now_us)
        for every_us, due_us in self._mark_price_due_us.items():
            if due_us <= now_us:
                self._mark_price_due_us[every_us] = due_us + every_us
                self._tell_mark_price(every_us, now_us)
        if now_us >= self._candle.open_us + MINUTE_US:
            self._close_candle(now_us)
        self._plan()

    def skip_to(self, now_us: int) -> None:
        """Go on from this time, without what timers would have told since they were fired last."""
        self._candle = Candle(minute_of(now_us), self._candle.close)
        self._kline_due_us = NEVER_US
        self._mark_price_due_us = {every_us: _next_multiple(now_us, every_us) for every_us in self._mark_price_due_us}
        self._plan()

    def snapshot(self, limit: int) -> Snapshot:
        """The book as it stands."""
        bids, asks = (self._level_texts(side.top(limit)) for side in self.book.sides)
        return Snapshot(self.book.update_id, self._changed_us, bids, asks)

    def current_kline(self) -> events.Kline:
        """The open candle as it stands."""
        return self._candle.kline(self.instrument, is_closed=False, event_us=self._changed_us)

    def _plan(self) -> None:
        due_us = min(self._candle.open_us + MINUTE_US, self._kline_due_us)
        for window in self._windows:
            due_us = min(due_us, window.due_us)
        for mark_price_us in self._mark_price_due_us.values():
            due_us = min(due_us, mark_price_us)
        self.next_due_us = due_us

    def _tell_depth(self, window: _Window, now_us: int) -> None:
        update_id = self.book.update_id
        previous_id, window.previous_id = window.previous_id, update_id
        window.due_us = NEVER_US
        symbol = self.instrument.symbol
        if window.levels:
            snapshot = self.snapshot(window.levels)
            partial = events.PartialDepth(
                symbol, update_id, previous_id, self._changed_us, now_us, snapshot.bids, snapshot.asks
            )
            self.out.append(events.Event(window.stream, 0, 0, partial))
        else:
            bids, asks = (
                self._level_texts([(key * side.sign, changed[key]) for key in sorted(changed, reverse=True)])
                for side, changed in zip(self.book.sides, window.changed, strict=True)
            )
            update = events.DepthUpdate(
                symbol, window.first_id, update_id, previous_id, self._changed_us, now_us, bids, asks
            )
            self.out.append(events.Event(window.stream, previous_id + 1, update_id, update))
        window.changed[BID].clear()
        window.changed[ASK].clear()

    def _level_texts(self, levels: list[tuple[int, int]]) -> events.Levels:
        price, quantity = self.instrument.price_text, self.instrument.quantity_text
        return [(price(ticks), quantity(lots)) for ticks, lots in levels]

    def _book_ticker(self, time_us: int) -> events.BookTicker:
        bids, asks = self.book.sides
        instrument = self.instrument
        return events.BookTicker(
            instrument.symbol,
            self.book.update_id,
            instrument.price_text(bids.best),
            instrument.quantity_text(bids.levels[bids.best]),
            instrument.price_text(-asks.best),
            instrument.quantity_text(asks.levels[asks.best]),
            time_us,
        )

    def _tell_kline(self, *, is_closed: bool, now_us: int) -> None:
        name = self._names["kline"]
        if name in self._watched:
            kline = self._candle.kline(self.instrument, is_closed=is_closed, event_us=now_us)
            self.out.append(events.Event(name, 0, 0, kline))

    def _close_candle(self, now_us: int) -> None:
        self.history.klines.append(self._candle.kline(self.instrument, is_closed=True, event_us=now_us))
        self._tell_kline(is_closed=True, now_us=now_us)
        self._candle = Candle(self._candle.open_us + MINUTE_US, self._candle.close)

    def _tell_mark_price(self, every_us: int, now_us: int) -> None:
        bid, ask = self.book.best_bid, self.book.best_ask
        # The mark lies in the middle of the touch: half a tick is exact with one decimal more.
        middle = self.instrument.middle_text(bid, ask)
        stream = Stream(self.market, "markPrice", self.instrument.symbol.lower(), every_us // 1000)
        price = events.MarkPrice(
            self.instrument.symbol,
            middle,
            middle,
            middle,
            "0.00010000",
            _next_multiple(now_us, FUNDING_EVERY_US),
            now_us,
        )
        self.out.append(events.Event(stream.canonical, 0, 0, price))


def _next_multiple(time_us: int, step_us: int) -> int:
    """The first multiple of a step that lies after a time."""
    return (time_us // step_us + 1) * step_us
