"""Binance's trades, quotes and candles as the loop reads them for live analytics: whole, with exact decimals.

Only for what is computed live; what is recorded is read by the sealers (`binance_payloads`), what is counted by the
intake (`binance_heads`), which has read trades and quotes of streams already: their numbers are made here of its heads.
Sources: the exchange's pages on spot and USD-M futures market streams and on market data
endpoints. That a futures trade whose `X` is not `MARKET` has price and quantity 0 was observed, see `binance.md`.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.schema import Kind, Source
from streamsvc.venues.binance_heads import Id, Millis, TradeHead
from streamsvc.venues.binance_rest_payloads import RestMessage
from streamsvc.venues.payload import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.venues.binance_heads import AggTradeHead, FuturesBookTickerHead, SpotBookTickerHead

MARKET_TRADES = frozenset({"", "MARKET"})
"""Types of trades of the market; others are those of the insurance fund."""


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


def read_trade(head: TradeHead | AggTradeHead) -> LiveTrade | None:
    """A trade of a stream; None where its numbers cannot be read or are not finite."""
    price, quantity = read_number(head.p), read_number(head.q)
    if price is None or quantity is None:
        return None
    is_market = not isinstance(head, TradeHead) or head.X in MARKET_TRADES
    return LiveTrade(head.s, head.id, price, quantity, head.T, head.m, is_market)


def read_number(text: str) -> Decimal | None:
    """A number of a stream; None where it is none, or not finite."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def read_quote(
    head: SpotBookTickerHead | FuturesBookTickerHead,
    before: SpotBookTickerHead | FuturesBookTickerHead | None = None,
    quote_before: LiveQuote | None = None,
) -> LiveQuote | None:
    """A best bid and ask of a stream; None where its numbers cannot be read or are not finite.

    Args:
        head: What the intake has read.
        before: The one before it.
        quote_before: What that was; most of its numbers have not changed.
    """
    try:
        if before is None or quote_before is None:
            numbers = Decimal(head.b), Decimal(head.B), Decimal(head.a), Decimal(head.A)
        else:
            numbers = (
                quote_before.bid_price if head.b == before.b else Decimal(head.b),
                quote_before.bid_quantity if head.B == before.B else Decimal(head.B),
                quote_before.ask_price if head.a == before.a else Decimal(head.a),
                quote_before.ask_quantity if head.A == before.A else Decimal(head.A),
            )
    except InvalidOperation:
        return None
    if not all(map(Decimal.is_finite, numbers)):
        return None
    return LiveQuote(head.s, head.u, *numbers, head.T)


def _of_stream(message: Message[_Kline]) -> LiveCandle:
    candle = message.data.k
    return LiveCandle(message.data.s, candle.t, candle.v, candle.V, candle.x)


def _of_rest(message: RestMessage[Any]) -> LiveTrade:
    row = message.data
    if isinstance(row, _RestTrade):
        # REST does not say what kind of trade it was; those that are none have no quantity.
        return LiveTrade(message.symbol, row.id, row.price, row.qty, row.time, row.isBuyerMaker, bool(row.qty))
    return LiveTrade(message.symbol, row.a, row.p, row.q, row.T, row.m, is_market=True)


def _decoder(whole: Any, read: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    decode = msgspec.json.Decoder(whole).decode
    return lambda text: read(decode(text))


_ANY_REST: Any = RestMessage
_REST = {
    Kind.TRADE: _decoder(_ANY_REST[_RestTrade], _of_rest),
    Kind.AGG_TRADE: _decoder(_ANY_REST[_RestAggTrade], _of_rest),
}

LIVE_DECODERS: dict[tuple[Source, int], Callable[[bytes], Any]] = {
    (Source.STREAM, int(Kind.KLINE_1M)): _decoder(Message[_Kline], _of_stream),
    **{(Source.REST, int(kind)): decode for kind, decode in _REST.items()},
}
"""How a text is read, by source and number of the kind; raises one of `binance_heads.DECODE_ERRORS`."""


def time_of_depth(text: bytes) -> int | None:
    """The event time of an order-book update, ms, without decoding it; None where it is not found."""
    begin = text.find(b'"E":') + 4
    digits = text[begin : begin + 13]
    return int(digits) if begin > 3 and digits.isdigit() else None
