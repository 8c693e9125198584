"""One symbol of a recording: its book out of snapshots and diffs, its trades and candles for REST. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.simulator import events
from streamsvc.simulator.candles import Candle, minute_of
from streamsvc.simulator.history import History, Snapshot
from streamsvc.simulator.instruments import Instrument, default_instrument
from streamsvc.simulator.wire import MILLISECOND, MINUTE_US

if TYPE_CHECKING:
    from streamsvc.schema import Market
    from streamsvc.simulator.recording import RecordedSnapshot

DIFFS_MAX = 1000
"""Diffs kept while there is no book: a snapshot comes after the first of them."""


class _Depth(msgspec.Struct):
    first_id: int = msgspec.field(name="U")
    final_id: int = msgspec.field(name="u")
    bids: events.Levels = msgspec.field(name="b")
    asks: events.Levels = msgspec.field(name="a")
    previous_id: int | None = msgspec.field(name="pu", default=None)
    time_ms: int = msgspec.field(name="T", default=0)


class _Snapshot(msgspec.Struct, rename="camel"):
    last_update_id: int
    bids: events.Levels
    asks: events.Levels
    time_ms: int = msgspec.field(name="T", default=0)


class _Trade(msgspec.Struct):
    trade_id: int = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    time_ms: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")
    trade_type: str = msgspec.field(name="X", default="MARKET")


class _AggTrade(msgspec.Struct):
    agg_trade_id: int = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    first_trade_id: int = msgspec.field(name="f")
    last_trade_id: int = msgspec.field(name="l")
    time_ms: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class _BookTicker(msgspec.Struct):
    update_id: int = msgspec.field(name="u")


_decode_depth = msgspec.json.Decoder(_Depth).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_agg_trade = msgspec.json.Decoder(_AggTrade).decode
_decode_book_ticker = msgspec.json.Decoder(_BookTicker).decode
_decode_kline = msgspec.json.Decoder(dict[str, Any]).decode


class RecordedSymbol:
    """One symbol as far as the recording has been played.

    Args:
        market: Which market.
        symbol: In upper case.
        snapshots: All that the recordings hold of it, in order.
        history_trades_max: Trades kept for REST.
    """

    def __init__(self, market: Market, symbol: str, snapshots: list[RecordedSnapshot], history_trades_max: int) -> None:
        self.history = History(symbol, history_trades_max, self)
        self._symbol = symbol
        self._instrument: Instrument = default_instrument(market, symbol)
        self._has_units = False
        self._has_klines = False
        self._candle: Candle | None = None
        self._upcoming = [(_decode_snapshot(one.text), one.text) for one in snapshots]
        self._text: bytes | None = None
        self._sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._last_id: int | None = None
        self._seen_id = 0
        self._time_us = 0
        self._diffs: deque[_Depth] = deque(maxlen=DIFFS_MAX)

    @property
    def instrument(self) -> Instrument:
        """Units, as far as the trades have told them."""
        return self._instrument

    def take(self, kind: str, data: bytes) -> tuple[int, int]:
        """Take in a message.

        Args:
            kind: `streams.StreamKind`.
            data: Its raw form.

        Returns:
            The ids that it accounts for; zeros where there is no chain.

        Raises:
            msgspec.DecodeError: it is not what the exchange documents.
        """
        if kind == "depth":
            return self._take_depth(_decode_depth(data))
        if kind == "trade":
            return self._take_trade(_decode_trade(data))
        if kind == "aggTrade":
            trade = _decode_agg_trade(data)
            self.history.agg_trades.append(
                events.AggTrade(
                    self._symbol,
                    trade.agg_trade_id,
                    trade.price,
                    trade.quantity,
                    trade.first_trade_id,
                    trade.last_trade_id,
                    trade.time_ms * MILLISECOND,
                    trade.is_buyer_maker,
                )
            )
            return trade.agg_trade_id, trade.agg_trade_id
        if kind == "bookTicker":
            update_id = _decode_book_ticker(data).update_id
            return update_id, update_id
        if kind == "kline":
            self._take_kline(_decode_kline(data))
        return 0, 0

    def take_snapshot(self, text: bytes) -> None:
        """The recording has come to a snapshot: the book begins anew there."""
        snapshot = _decode_snapshot(text)
        self._text = text
        self._sides = dict(snapshot.bids), dict(snapshot.asks)
        self._last_id = snapshot.last_update_id
        self._time_us = snapshot.time_ms * MILLISECOND
        self._upcoming = [one for one in self._upcoming if one[1] != text]
        diffs, self._diffs = self._diffs, deque(maxlen=DIFFS_MAX)
        for diff in diffs:
            self._apply(diff)

    def snapshot(self, limit: int) -> Snapshot | None:
        """The book; where the recording has none yet, the one that comes next in it, which lies ahead of the stream."""
        if self._last_id is None:
            for snapshot, text in self._upcoming:
                if snapshot.last_update_id >= self._seen_id:
                    return _limited(snapshot, text, limit)
            return None
        if self._text is not None:
            return _limited(_decode_snapshot(self._text), self._text, limit)
        bids, asks = self._sides
        return Snapshot(
            self._last_id,
            self._time_us,
            sorted(bids.items(), key=_price, reverse=True)[:limit],
            sorted(asks.items(), key=_price)[:limit],
        )

    def current_kline(self) -> events.Kline | None:
        """The open candle, made from the trades."""
        if self._candle is None:
            return None
        return self._candle.kline(self._instrument, is_closed=False, event_us=self._time_us)

    def _take_depth(self, diff: _Depth) -> tuple[int, int]:
        first_id = diff.first_id if diff.previous_id is None else diff.previous_id + 1
        self._seen_id = diff.final_id
        self._apply(diff)
        return first_id, diff.final_id

    def _apply(self, diff: _Depth) -> None:
        """Apply a diff to the book, by the exchange's own rule; a break in the chain ends the book."""
        if self._last_id is None:
            self._diffs.append(diff)
            return
        if diff.final_id <= self._last_id:
            return
        is_first = self._text is not None
        chains = diff.previous_id == self._last_id if diff.previous_id else diff.first_id == self._last_id + 1
        if not chains and not (is_first and diff.first_id <= self._last_id + 1):
            self._last_id = self._text = None
            self._diffs.append(diff)
            return
        self._text = None
        for side, levels in zip(self._sides, (diff.bids, diff.asks), strict=True):
            for price, quantity in levels:
                if float(quantity):
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self._last_id = diff.final_id
        self._time_us = diff.time_ms * MILLISECOND

    def _take_trade(self, trade: _Trade) -> tuple[int, int]:
        time_us = trade.time_ms * MILLISECOND
        self.history.trades.append(
            events.Trade(
                self._symbol,
                trade.trade_id,
                trade.price,
                trade.quantity,
                time_us,
                trade.is_buyer_maker,
                trade.trade_type,
            )
        )
        if trade.trade_type == "MARKET" and not self._has_klines:
            self._add_to_candle(trade, time_us)
        return trade.trade_id, trade.trade_id

    def _add_to_candle(self, trade: _Trade, time_us: int) -> None:
        if not self._has_units:
            self._has_units = True
            self._instrument = _units_of(self._instrument, trade.price, trade.quantity)
        ticks = _units(trade.price, self._instrument.price_decimals)
        if self._candle is None:
            self._candle = Candle(minute_of(time_us), ticks)
        while time_us >= self._candle.open_us + MINUTE_US:
            closed = self._candle
            if time_us - closed.open_us > 60 * MINUTE_US:
                # Recordings of different days follow each other without the hours between.
                self._candle = Candle(minute_of(time_us), ticks)
            else:
                self._candle = Candle(closed.open_us + MINUTE_US, closed.close)
            self.history.klines.append(closed.kline(self._instrument, is_closed=True, event_us=time_us))
        lots = _units(trade.quantity, self._instrument.quantity_decimals)
        self._candle.add(trade.trade_id, ticks, lots, is_buyer_maker=trade.is_buyer_maker)

    def _take_kline(self, message: dict[str, Any]) -> None:
        """Closed candles of the recording stand before those made from trades."""
        self._has_klines = True
        self._candle = None
        k = message["k"]
        if k["x"]:
            self.history.klines.append(
                events.Kline(
                    self._symbol,
                    k["t"] * MILLISECOND,
                    k["f"],
                    k["L"],
                    k["o"],
                    k["h"],
                    k["l"],
                    k["c"],
                    k["v"],
                    k["q"],
                    k["n"],
                    k["V"],
                    k["Q"],
                    True,
                    message["E"] * MILLISECOND,
                )
            )


def _limited(snapshot: _Snapshot, text: bytes, limit: int) -> Snapshot:
    is_whole = limit >= max(len(snapshot.bids), len(snapshot.asks))
    return Snapshot(
        snapshot.last_update_id,
        snapshot.time_ms * MILLISECOND,
        snapshot.bids[:limit],
        snapshot.asks[:limit],
        text if is_whole else None,
    )


def _price(level: tuple[str, str]) -> float:
    return float(level[0])


def _units(text: str, decimals: int) -> int:
    whole, _, part = text.partition(".")
    return int(whole + part[:decimals].ljust(decimals, "0"))


def _units_of(instrument: Instrument, price: str, quantity: str) -> Instrument:
    """The same symbol, with as many decimals as the recording writes."""
    return Instrument(
        symbol=instrument.symbol,
        base=instrument.base,
        quote=instrument.quote,
        start_ticks=_units(price, len(price.partition(".")[2])),
        price_decimals=len(price.partition(".")[2]),
        quantity_decimals=len(quantity.partition(".")[2]),
        price_padding="",
        quantity_padding="",
    )
