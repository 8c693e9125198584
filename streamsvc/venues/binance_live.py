"""Binance's trades, quotes and candles as the loop reads them for live analytics: whole, with exact decimals.

Only for what is computed live; what is recorded is read by the sealers (`binance_payloads`), what is counted by the
intake (`binance_heads`). Sources: the exchange's pages on spot and USD-M futures market streams and on market data
endpoints. That a futures trade whose `X` is not `MARKET` has price and quantity 0 was observed, see `binance.md`.
"""

from __future__ import annotations

from decimal import Decimal  # noqa: TC003 - msgspec reads the annotations
from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.schema import Kind, Source
from streamsvc.venues.binance_heads import Id, Millis  # noqa: TC001 - msgspec reads the annotations
from streamsvc.venues.binance_rest_payloads import RestMessage
from streamsvc.venues.payload import Message

if TYPE_CHECKING:
    from collections.abc import Callable

_MARKET_TRADES = frozenset({"", "MARKET"})


class LiveTrade(msgspec.Struct, gc=False):
    """A `trade` or `aggTrade`, from a stream or from REST."""

    symbol: str
    id: Id
    price: Decimal
    quantity: Decimal
    time_ms: Millis
    is_buyer_maker: bool
    is_market: bool


class LiveQuote(msgspec.Struct, gc=False):
    """A `bookTicker`; `time_ms` is None where the exchange sends none."""

    symbol: str
    update_id: Id
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal
    time_ms: int | None


class LiveCandle(msgspec.Struct, gc=False):
    """A `kline_1m`."""

    symbol: str
    open_ms: Millis
    volume: Decimal
    taker_buy_volume: Decimal
    is_closed: bool


class _Trade(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    s: str
    t: Id
    p: Decimal
    q: Decimal
    T: Millis
    m: bool
    X: str = ""


class _AggTrade(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    s: str
    a: Id
    p: Decimal
    q: Decimal
    T: Millis
    m: bool


class _BookTicker(msgspec.Struct, gc=False):
    u: Id
    s: str
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal
    T: Millis | None = None


class _Candle(msgspec.Struct, gc=False):
    t: Millis
    v: Decimal
    V: Decimal
    x: bool


class _Kline(msgspec.Struct, tag_field="e", tag="kline", gc=False):
    s: str
    k: _Candle


class _RestTrade(msgspec.Struct, gc=False):
    id: Id
    price: Decimal
    qty: Decimal
    time: Millis
    isBuyerMaker: bool  # noqa: N815 - the exchange's name


class _RestAggTrade(msgspec.Struct, gc=False):
    a: Id
    p: Decimal
    q: Decimal
    T: Millis
    m: bool


def _of_stream(message: Message[Any]) -> Any:
    data = message.data
    match data:
        case _Trade():
            is_market = data.X in _MARKET_TRADES
            return LiveTrade(data.s, data.t, data.p, data.q, data.T, data.m, is_market)
        case _AggTrade():
            return LiveTrade(data.s, data.a, data.p, data.q, data.T, data.m, is_market=True)
        case _BookTicker():
            return LiveQuote(data.s, data.u, data.b, data.B, data.a, data.A, data.T)
        case _:
            return LiveCandle(data.s, data.k.t, data.k.v, data.k.V, data.k.x)


def _of_rest(message: RestMessage[Any]) -> LiveTrade:
    row = message.data
    if isinstance(row, _RestTrade):
        # REST does not say what kind of trade it was; those that are none have no quantity.
        return LiveTrade(message.symbol, row.id, row.price, row.qty, row.time, row.isBuyerMaker, bool(row.qty))
    return LiveTrade(message.symbol, row.a, row.p, row.q, row.T, row.m, is_market=True)


def _decoder(whole: Any, read: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    decode = msgspec.json.Decoder(whole).decode
    return lambda text: read(decode(text))


_ANY_MESSAGE: Any = Message
_ANY_REST: Any = RestMessage
_STREAM = {
    Kind.TRADE: _decoder(_ANY_MESSAGE[_Trade], _of_stream),
    Kind.AGG_TRADE: _decoder(_ANY_MESSAGE[_AggTrade], _of_stream),
    Kind.BOOK_TICKER: _decoder(_ANY_MESSAGE[_BookTicker], _of_stream),
    Kind.KLINE_1M: _decoder(_ANY_MESSAGE[_Kline], _of_stream),
}
_REST = {
    Kind.TRADE: _decoder(_ANY_REST[_RestTrade], _of_rest),
    Kind.AGG_TRADE: _decoder(_ANY_REST[_RestAggTrade], _of_rest),
}

LIVE_DECODERS: dict[tuple[Source, int], Callable[[bytes], Any]] = {
    **{(Source.STREAM, int(kind)): decode for kind, decode in _STREAM.items()},
    **{(Source.REST, int(kind)): decode for kind, decode in _REST.items()},
}
"""How a text is read, by source and number of the kind; raises one of `binance_heads.DECODE_ERRORS`."""


def time_of_depth(text: bytes) -> int | None:
    """The event time of an order-book update, ms, without decoding it; None where it is not found."""
    begin = text.find(b'"E":') + 4
    digits = text[begin : begin + 13]
    return int(digits) if begin > 3 and digits.isdigit() else None
