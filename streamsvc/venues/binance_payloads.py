"""Binance's messages read whole, for sealing: every field that becomes a column, under the column's name.

Ids and times are checked for range here, prices and quantities by the sealer; see `payload.py`. Fields that are not
named are ignored, since new ones keep appearing. Fields stand in the order in which the exchange sends them, which is
where the decoder looks first. Sources: the exchange's pages on spot and USD-M futures market streams.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_heads import ID_MAX, Id, Millis
from streamsvc.venues.binance_rest_payloads import REST_PAYLOADS
from streamsvc.venues.payload import FloatOrEmpty, Levels, Payload

CandleId = Annotated[int, msgspec.Meta(ge=-1, le=ID_MAX)]
"""A candle without a trade has the id -1."""


class Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    """`trade` of both markets; only futures say with `X` what kind of trade it was."""

    event_time: Millis = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    trade_id: Id = msgspec.field(name="t")
    price: float = msgspec.field(name="p")
    quantity: float = msgspec.field(name="q")
    exchange_time: Millis = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")
    trade_type: str = msgspec.field(name="X", default="")


class AggTrade(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    """`aggTrade` of both markets."""

    event_time: Millis = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    agg_trade_id: Id = msgspec.field(name="a")
    price: float = msgspec.field(name="p")
    quantity: float = msgspec.field(name="q")
    first_trade_id: Id = msgspec.field(name="f")
    last_trade_id: Id = msgspec.field(name="l")
    exchange_time: Millis = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class SpotDepth(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    """`depth` of spot, which has one time only."""

    event_time: Millis = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    first_update_id: Id = msgspec.field(name="U")
    final_update_id: Id = msgspec.field(name="u")
    bids: Levels = msgspec.field(name="b")
    asks: Levels = msgspec.field(name="a")


class FuturesDepth(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    """`depth` of futures."""

    event_time: Millis = msgspec.field(name="E")
    exchange_time: Millis = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    first_update_id: Id = msgspec.field(name="U")
    final_update_id: Id = msgspec.field(name="u")
    previous_final_update_id: Id = msgspec.field(name="pu")
    bids: Levels = msgspec.field(name="b")
    asks: Levels = msgspec.field(name="a")


class SpotBookTicker(msgspec.Struct, gc=False):
    """`bookTicker` of spot, which has neither event type nor time."""

    update_id: Id = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid_price: float = msgspec.field(name="b")
    bid_quantity: float = msgspec.field(name="B")
    ask_price: float = msgspec.field(name="a")
    ask_quantity: float = msgspec.field(name="A")


class FuturesBookTicker(msgspec.Struct, tag_field="e", tag="bookTicker", gc=False):
    """`bookTicker` of futures."""

    update_id: Id = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid_price: float = msgspec.field(name="b")
    bid_quantity: float = msgspec.field(name="B")
    ask_price: float = msgspec.field(name="a")
    ask_quantity: float = msgspec.field(name="A")
    exchange_time: Millis = msgspec.field(name="T")


class Candle(msgspec.Struct, gc=False):
    """The candle inside a `kline`."""

    open_time: Millis = msgspec.field(name="t")
    close_time: Millis = msgspec.field(name="T")
    first_trade_id: CandleId = msgspec.field(name="f")
    last_trade_id: CandleId = msgspec.field(name="L")
    open: float = msgspec.field(name="o")
    close: float = msgspec.field(name="c")
    high: float = msgspec.field(name="h")
    low: float = msgspec.field(name="l")
    volume: float = msgspec.field(name="v")
    trade_count: Id = msgspec.field(name="n")
    is_closed: bool = msgspec.field(name="x")
    quote_volume: float = msgspec.field(name="q")
    taker_buy_volume: float = msgspec.field(name="V")
    taker_buy_quote_volume: float = msgspec.field(name="Q")


class Kline(msgspec.Struct, tag_field="e", tag="kline", gc=False):
    """`kline_1m` of both markets."""

    event_time: Millis = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    candle: Candle = msgspec.field(name="k")


class MarkPrice(msgspec.Struct, tag_field="e", tag="markPriceUpdate", gc=False):
    """`markPrice` of futures; the funding rate may be negative, and is empty where a contract has none (delivery)."""

    exchange_time: Millis = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    mark_price: float = msgspec.field(name="p")
    index_price: float = msgspec.field(name="i")
    settle_price: float = msgspec.field(name="P")
    funding_rate: FloatOrEmpty = msgspec.field(name="r")
    next_funding_time: Millis = msgspec.field(name="T")


class Liquidation(msgspec.Struct, gc=False):
    """The order inside a `forceOrder`."""

    symbol: str = msgspec.field(name="s")
    side: str = msgspec.field(name="S")
    order_type: str = msgspec.field(name="o")
    time_in_force: str = msgspec.field(name="f")
    quantity: float = msgspec.field(name="q")
    price: float = msgspec.field(name="p")
    average_price: float = msgspec.field(name="ap")
    status: str = msgspec.field(name="X")
    filled_quantity: float = msgspec.field(name="z")
    exchange_time: Millis = msgspec.field(name="T")


class ForceOrder(msgspec.Struct, tag_field="e", tag="forceOrder", gc=False):
    """`forceOrder` of futures, whose symbol lies in the order."""

    event_time: Millis = msgspec.field(name="E")
    order: Liquidation = msgspec.field(name="o")


_BOTH_MARKETS = {
    Kind.TRADE: Payload(Trade),
    Kind.AGG_TRADE: Payload(AggTrade),
    Kind.KLINE_1M: Payload(Kline, inner="candle", more_paths={"exchange_time": "candle.close_time"}),
}
_SPOT = {
    **_BOTH_MARKETS,
    Kind.DEPTH: Payload(SpotDepth, more_paths={"exchange_time": "event_time"}),
    Kind.BOOK_TICKER: Payload(SpotBookTicker),
}
_FUTURES = {
    **_BOTH_MARKETS,
    Kind.DEPTH: Payload(FuturesDepth),
    Kind.BOOK_TICKER: Payload(FuturesBookTicker),
    Kind.MARK_PRICE: Payload(MarkPrice),
    Kind.FORCE_ORDER: Payload(ForceOrder, inner="order"),
}
_STREAM_PAYLOADS: dict[tuple[Source, Market, Kind], Payload] = {
    (Source.STREAM, market, kind): payload
    for market, payloads in ((Market.SPOT, _SPOT), (Market.FUTURES, _FUTURES))
    for kind, payload in payloads.items()
}

PAYLOADS = _STREAM_PAYLOADS | REST_PAYLOADS
"""How a message is read, by source, market and kind."""
