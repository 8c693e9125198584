"""One-minute candles out of trades, in whole ticks and lots. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.simulator.events import Kline
from streamsvc.simulator.wire import MINUTE_US

if TYPE_CHECKING:
    from streamsvc.simulator.instruments import Instrument


class Candle:
    """The candle of one minute; before its first trade it stands at the last close, with trade ids -1."""

    __slots__ = (
        "close",
        "first_trade_id",
        "high",
        "last_trade_id",
        "low",
        "open",
        "open_us",
        "quote_volume",
        "taker_buy_quote_volume",
        "taker_buy_volume",
        "trade_count",
        "volume",
    )

    def __init__(self, open_us: int, last_close: int) -> None:
        self.open_us = open_us
        self.open = self.high = self.low = self.close = last_close
        self.first_trade_id = self.last_trade_id = -1
        self.volume = self.quote_volume = self.taker_buy_volume = self.taker_buy_quote_volume = 0
        self.trade_count = 0

    def add(self, trade_id: int, ticks: int, lots: int, *, is_buyer_maker: bool) -> None:
        """Take in one trade of this minute."""
        if not self.trade_count:
            self.first_trade_id = trade_id
            self.open = self.high = self.low = ticks
        elif ticks > self.high:
            self.high = ticks
        elif ticks < self.low:
            self.low = ticks
        self.close = ticks
        self.last_trade_id = trade_id
        self.trade_count += 1
        self.volume += lots
        self.quote_volume += ticks * lots
        if not is_buyer_maker:
            self.taker_buy_volume += lots
            self.taker_buy_quote_volume += ticks * lots

    def kline(self, instrument: Instrument, *, is_closed: bool, event_us: int) -> Kline:
        """The candle as it stands."""
        price, quantity, quote = instrument.price_text, instrument.quantity_text, instrument.quote_text
        return Kline(
            symbol=instrument.symbol,
            open_us=self.open_us,
            first_trade_id=self.first_trade_id,
            last_trade_id=self.last_trade_id,
            open=price(self.open),
            high=price(self.high),
            low=price(self.low),
            close=price(self.close),
            volume=quantity(self.volume),
            quote_volume=quote(self.quote_volume),
            trade_count=self.trade_count,
            taker_buy_volume=quantity(self.taker_buy_volume),
            taker_buy_quote_volume=quote(self.taker_buy_quote_volume),
            is_closed=is_closed,
            event_us=event_us,
        )


def minute_of(time_us: int) -> int:
    """The start of a time's minute."""
    return time_us - time_us % MINUTE_US
