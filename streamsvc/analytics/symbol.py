"""All that is derived of one symbol, on the exchange's time. Pure: what comes in is a message, what comes out are rows.

Two clocks close bins: the exchange's, the latest time of any message of the symbol; and that of quotes, which is the
same but for spot, whose quotes have no time and are binned by their receipt. After each block of messages bins close
whose end lies the grace behind; so the same traffic gives the same rows at any speed.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from streamsvc.analytics.minute import MINUTE_MS
from streamsvc.analytics.quotes import SECOND_MS, PriceSeconds, Quotes
from streamsvc.analytics.rows import ROW_TYPES, DerivedRow
from streamsvc.analytics.run import sum_trades
from streamsvc.analytics.trades import CvdReset, TradeMinutes
from streamsvc.analytics.window import Window
from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_live import read_quote, read_trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from streamsvc.analytics.minute import Begin, Minute, WrittenBin
    from streamsvc.analytics.rows import BarRow, CvdRow, OfiRow, PriceRow
    from streamsvc.venues.binance_heads import AggTradeHead, FuturesBookTickerHead, SpotBookTickerHead, TradeHead
    from streamsvc.venues.binance_live import LiveCandle, LiveQuote, LiveTrade

Row = tuple[Kind, DerivedRow]

WILD_MS = 86_400_000
"""An exchange time whose distance from our clock is by so much another than that of the message before it moves no
clock and opens no bin, unless the next message confirms it. The distance itself says nothing: replays are old."""

CANDLES_MAX = 15

UNSUMMED_MAX = 16
"""So many trades of a minute wait at most to be summed at once; a few hundred bytes each."""


@attrs.frozen
class Mismatch:
    """A minute whose CVD is not that of the exchange's own candle.

    Attributes:
        open_ms: The minute.
        delta: Ours.
        expected: The candle's: twice the takers' buy volume less the volume.
    """

    open_ms: int
    delta: Decimal
    expected: Decimal


class SymbolAnalytics:
    """What is derived of one symbol.

    Args:
        market: Its market.
        symbol: The symbol.
        trade_kind: What minutes are made of. Only those of `trade` are compared with candles, since a candle's edge may
            cut an aggTrade in two.
        reset: When the running sum of CVD starts over.
        grace_ms: How long bins stay open for what comes late.

    Attributes:
        name: The symbol.
        trade_kind: What its minutes are made of.
        trades: Its minutes of trades.
        quotes: Its best bid and ask.
        windows: The last rows of each kind.
        mismatches: Minutes that differ from the exchange's candles, to be told and taken out.
    """

    def __init__(self, market: Market, symbol: str, trade_kind: Kind, reset: CvdReset, grace_ms: int) -> None:
        self.name = symbol
        self.trade_kind = trade_kind
        self._is_futures = market is Market.FUTURES
        self._grace_ms = grace_ms
        self._has_begun = False
        self.trades = TradeMinutes(symbol, reset)
        self.quotes = Quotes(symbol)
        self._prices = PriceSeconds(symbol)
        self._exchange_ms = 0
        self._offset_ms: int | None = None
        self._wild_ms: int | None = None
        self._quote_ms = 0
        self._quote_head: SpotBookTickerHead | FuturesBookTickerHead | None = None
        self._quote: LiveQuote | None = None  # What was made of it.
        self._closed_at = (0, 0)
        self._unsummed: list[Any] = []  # Heads of trades, with one epoch.
        self._unsummed_epoch = 0
        self._unsummed_minute = 0
        self._received_ms = 0
        self._trade_second = 0
        self._candles: dict[int, Decimal] = {}
        self._deltas: dict[int, Decimal] = {}
        self.windows = {kind: Window(kind) for kind in ROW_TYPES}
        self.mismatches: list[Mismatch] = []

    def saw_time(self, time_ms: int, received_ms: int) -> bool:
        """A message of the symbol has this exchange time; whether it is to be believed."""
        offset_ms = time_ms - received_ms
        if self._offset_ms is not None and abs(offset_ms - self._offset_ms) > WILD_MS:
            wild_ms, self._wild_ms = self._wild_ms, offset_ms
            if wild_ms is None or abs(offset_ms - wild_ms) > WILD_MS:
                return False
            self._exchange_ms = time_ms
        self._offset_ms, self._wild_ms = offset_ms, None
        self._exchange_ms = max(self._exchange_ms, time_ms)
        return True

    def take_trades(self, heads: Sequence[TradeHead | AggTradeHead], epoch: int, received_ms: int) -> bool:
        """Trades of its stream that were not seen before, in the order in which they came.

        The clock and the last price are right at once; the sums follow when there are many of them, when their minute
        is over, or when somebody asks.

        Returns:
            Whether bins may have ended.
        """
        first, last = heads[0], heads[-1]
        offset_ms, spread_ms = last.T - received_ms, last.T - first.T
        if (
            self._offset_ms is None
            or epoch != self._unsummed_epoch
            or abs(offset_ms - self._offset_ms) > WILD_MS // 2
            or abs(spread_ms) > MINUTE_MS
        ):
            self.settle()
            self._unsummed_epoch = epoch
            for head in heads:
                self._take_head(head, epoch, received_ms)
            return True
        minute, second = last.T // MINUTE_MS, last.T // SECOND_MS
        if minute != self._unsummed_minute:
            self.settle()
            self._unsummed_minute = minute
        self._unsummed += heads
        self._received_ms = received_ms
        if first.T // SECOND_MS == second:
            self._prices.see(last)
        else:
            for of_second in {head.T // SECOND_MS: head for head in heads}.values():
                self._prices.see(of_second)
        self._offset_ms, self._wild_ms = offset_ms, None
        self._exchange_ms = max(self._exchange_ms, last.T)
        if len(self._unsummed) >= UNSUMMED_MAX or first.T // MINUTE_MS != minute:
            self.settle()
        has_moved, self._trade_second = second != self._trade_second, second
        return has_moved

    def settle(self) -> None:
        """Sum the trades that wait for it."""
        heads, self._unsummed = self._unsummed, []
        if not heads:
            return
        times = [head.T for head in heads]
        if min(times) // MINUTE_MS == max(times) // MINUTE_MS:
            self._sum(heads)
            return
        for _, of_minute in groupby(heads, key=lambda head: head.T // MINUTE_MS):
            self._sum(list(of_minute))

    def _sum(self, heads: list[TradeHead | AggTradeHead]) -> None:
        """Take trades of one minute."""
        if self.trades.is_next(heads[0].id, heads[-1].id, len(heads), self._unsummed_epoch):
            run = sum_trades(heads)
            if run is not None:
                self.trades.add_run(run)
                return
        for head in heads:
            self._take_head(head, self._unsummed_epoch, self._received_ms, is_seen=True)

    def _take_head(
        self, head: TradeHead | AggTradeHead, epoch: int, received_ms: int, *, is_seen: bool = False
    ) -> None:
        """Take a trade on its own; whether its price was seen before."""
        trade = read_trade(head)
        if trade is not None:
            self.take_live_trade(trade, epoch, received_ms, is_seen=is_seen)

    def take_live_trade(self, trade: LiveTrade, epoch: int, received_ms: int, *, is_seen: bool = False) -> None:
        """A trade that was not seen before, on its own; whether its price was seen before."""
        is_believed = self.saw_time(trade.time_ms, received_ms)
        self.trades.add(trade if is_believed else msgspec.structs.replace(trade, is_market=False), epoch)
        if trade.is_market and is_believed and not is_seen:
            self._prices.trade(trade.price, trade.id, trade.time_ms)

    def take_trade(self, trade: LiveTrade, epoch: int) -> None:
        """A trade that was missing and was fetched again: its time is old."""
        self.settle()
        self.trades.add(trade, epoch)

    def take_quote_head(self, head: SpotBookTickerHead | FuturesBookTickerHead, epoch: int, received_ms: int) -> None:
        """A best bid and ask, as the intake read it."""
        quote = read_quote(head, self._quote_head, self._quote)
        if quote is not None:
            self._quote_head, self._quote = head, quote
            self.take_quote(quote, epoch, received_ms)

    def take_quote(self, quote: LiveQuote, epoch: int, received_ms: int) -> None:
        """A best bid and ask."""
        if quote.time_ms is None:
            time_ms = received_ms
        elif self.saw_time(quote.time_ms, received_ms):
            time_ms = quote.time_ms
        else:
            return
        self._quote_ms = max(self._quote_ms, time_ms)
        if self.quotes.add(quote, time_ms, epoch):
            self._prices.quote(quote, time_ms)

    def take_candle(self, candle: LiveCandle) -> None:
        """A candle of the exchange; only closed ones count."""
        if candle.is_closed and self.trade_kind is Kind.TRADE:
            self._candles[candle.open_ms] = 2 * candle.taker_buy_volume - candle.volume

    def begin(self, begin: Begin | None, written: Sequence[WrittenBin] = ()) -> None:
        """It is known where an earlier run ended; before that no bin is closed."""
        self.settle()
        self.trades.begin(begin)
        self.quotes.begin(written)
        self._prices.begin(written)
        self._has_begun = True

    def begin_anew(self) -> None:
        """It cannot be known where an earlier run ended: bins that it may have written are left out."""
        self.settle()
        self.trades.begin(None)
        for part in (self.trades, self.quotes, self._prices):
            part.skip_open()
        self._has_begun = True

    def close(self) -> list[Row]:
        """The rows that are due after a block of messages."""
        if not self._has_begun:
            return []
        seconds = self._seconds()
        if seconds == self._closed_at:  # No bin can have ended, and corrections can wait for the next second.
            return []
        minutes = [second * SECOND_MS // MINUTE_MS for second in (self._closed_at[0], seconds[0])]
        self._closed_at = seconds
        if minutes[0] != minutes[1] or minutes[1] > self._unsummed_minute:
            self.settle()  # A minute that ends must know what waits: an id may be missing before it.
        exchange_ms, quote_ms = self._exchange_ms, self._quotes_ms
        rows = self._close_quotes(quote_ms - self._grace_ms, exchange_ms - self._grace_ms)
        rows += self._of_minutes(self.trades.close(exchange_ms, exchange_ms - self._grace_ms))
        if self._candles:
            self._match()
        return self._shown(rows)

    @property
    def _quotes_ms(self) -> int:
        """The time by which bins of quotes end."""
        return max(self._exchange_ms, self._quote_ms) if self._is_futures else self._quote_ms

    def _seconds(self) -> tuple[int, int]:
        """The seconds of both clocks, less the grace."""
        return (self._exchange_ms - self._grace_ms) // SECOND_MS, (self._quotes_ms - self._grace_ms) // SECOND_MS

    def correct(self, minute: Minute) -> list[Row]:
        """The rows of a minute that was made again from what is recorded."""
        self.settle()
        return self._shown(self._of_minutes([self.trades.correct(minute)]))

    def finish(self) -> list[Row]:
        """Close everything, and give the rows that are due; none if it is not known what was written before."""
        if not self._has_begun:
            return []
        self.settle()
        rows = _quote_rows(*self.quotes.finish(), self._prices.finish())
        rows += self._of_minutes(self.trades.finish())
        return self._shown(rows)

    def _close_quotes(self, quote_ms: int, exchange_ms: int) -> list[Row]:
        known = [time_ms for time_ms in (quote_ms, exchange_ms) if time_ms > 0]
        seconds, minutes = self.quotes.close(quote_ms) if self.quotes.last is not None else ((), ())
        return _quote_rows(seconds, minutes, self._prices.close(min(known, default=0)))

    def _of_minutes(self, minutes: list[tuple[CvdRow, BarRow | None]]) -> list[Row]:
        rows: list[Row] = []
        for cvd, bar in minutes:
            rows.append((Kind.CVD_1M, cvd))
            if bar is not None:
                rows.append((Kind.BARS_1M, bar))
            if self.trade_kind is Kind.TRADE:
                self._deltas[cvd.open_ms] = cvd.delta
        return rows

    def _match(self) -> None:
        """Compare minutes with their candles, each once both are there and nothing more can come."""
        both = self._candles.keys() & self._deltas.keys()
        if both:
            self.settle()
        for open_ms in both:
            if self.trades.is_settled(open_ms):
                delta, expected = self._deltas.pop(open_ms), self._candles.pop(open_ms)
                if delta != expected:
                    self.mismatches.append(Mismatch(open_ms, delta, expected))
        for known in (self._candles, self._deltas):
            while len(known) > CANDLES_MAX:
                del known[min(known)]

    def _shown(self, rows: list[Row]) -> list[Row]:
        for kind, row in rows:
            self.windows[kind].add(row)
        return rows


def _quote_rows(seconds: Iterable[OfiRow], minutes: Iterable[OfiRow], prices: Iterable[PriceRow]) -> list[Row]:
    rows: list[Row] = [(Kind.OFI_1S, row) for row in seconds]
    rows += [(Kind.OFI_1M, row) for row in minutes]
    rows += [(Kind.PRICES_1S, row) for row in prices]
    return rows
