"""The text of payloads, to the letter of the exchange's documents. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamsvc.schema import Market
from streamsvc.simulator import events

if TYPE_CHECKING:
    from collections.abc import Callable

MILLISECOND = 1000
MICROSECOND = 1
MINUTE_US = 60_000_000


def payload(market: Market, body: events.Body, unit_us: int) -> bytes:
    """The JSON of a message in its raw form.

    Args:
        market: Whose dialect.
        body: What it says.
        unit_us: `MILLISECOND`, or `MICROSECOND` for spot clients that asked for it.
    """
    return _ENCODERS[market, type(body)](body, unit_us)


def combined(name: str, data: bytes) -> bytes:
    """The combined form: the payload in an envelope with the stream's name."""
    return b'{"stream":"%b","data":%b}' % (name.encode(), data)


def levels_text(levels: events.Levels) -> str:
    """Levels as a JSON array."""
    return "[" + ",".join([f'["{price}","{quantity}"]' for price, quantity in levels]) + "]"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _spot_trade(t: events.Trade, unit: int) -> bytes:
    time = t.time_us // unit
    return (
        f'{{"e":"trade","E":{time},"s":"{t.symbol}","t":{t.trade_id},"p":"{t.price}","q":"{t.quantity}",'
        f'"T":{time},"m":{_flag(t.is_buyer_maker)},"M":true}}'
    ).encode()


def _futures_trade(t: events.Trade, unit: int) -> bytes:
    time = t.time_us // unit
    return (
        f'{{"e":"trade","E":{time},"T":{time},"s":"{t.symbol}","t":{t.trade_id},"p":"{t.price}",'
        f'"q":"{t.quantity}","X":"{t.trade_type}","m":{_flag(t.is_buyer_maker)}}}'
    ).encode()


def _spot_agg_trade(t: events.AggTrade, unit: int) -> bytes:
    time = t.time_us // unit
    return (
        f'{{"e":"aggTrade","E":{time},"s":"{t.symbol}","a":{t.agg_trade_id},"p":"{t.price}","q":"{t.quantity}",'
        f'"f":{t.first_trade_id},"l":{t.last_trade_id},"T":{time},"m":{_flag(t.is_buyer_maker)},"M":true}}'
    ).encode()


def _futures_agg_trade(t: events.AggTrade, unit: int) -> bytes:
    time = t.time_us // unit
    return (
        f'{{"e":"aggTrade","E":{time},"a":{t.agg_trade_id},"s":"{t.symbol}","p":"{t.price}","q":"{t.quantity}",'
        f'"nq":"{t.quantity}","f":{t.first_trade_id},"l":{t.last_trade_id},"T":{time},'
        f'"m":{_flag(t.is_buyer_maker)},"st":1}}'
    ).encode()


def _spot_depth(d: events.DepthUpdate, unit: int) -> bytes:
    return (
        f'{{"e":"depthUpdate","E":{d.event_us // unit},"s":"{d.symbol}","U":{d.first_update_id},'
        f'"u":{d.final_update_id},"b":{levels_text(d.bids)},"a":{levels_text(d.asks)}}}'
    ).encode()


def _futures_depth(d: events.DepthUpdate, unit: int) -> bytes:
    return (
        f'{{"e":"depthUpdate","E":{d.event_us // unit},"T":{d.time_us // unit},"s":"{d.symbol}","ps":"{d.symbol}",'
        f'"st":1,"U":{d.first_update_id},"u":{d.final_update_id},"pu":{d.previous_final_update_id},'
        f'"b":{levels_text(d.bids)},"a":{levels_text(d.asks)}}}'
    ).encode()


def _spot_partial(d: events.PartialDepth, _unit: int) -> bytes:
    return f'{{"lastUpdateId":{d.update_id},"bids":{levels_text(d.bids)},"asks":{levels_text(d.asks)}}}'.encode()


def _futures_partial(d: events.PartialDepth, unit: int) -> bytes:
    return (
        f'{{"e":"depthUpdate","E":{d.event_us // unit},"T":{d.time_us // unit},"s":"{d.symbol}","ps":"{d.symbol}",'
        f'"st":1,"U":{d.update_id},"u":{d.update_id},"pu":{d.previous_update_id},'
        f'"b":{levels_text(d.bids)},"a":{levels_text(d.asks)}}}'
    ).encode()


def _spot_book_ticker(b: events.BookTicker, _unit: int) -> bytes:
    return (
        f'{{"u":{b.update_id},"s":"{b.symbol}","b":"{b.bid_price}","B":"{b.bid_quantity}",'
        f'"a":"{b.ask_price}","A":"{b.ask_quantity}"}}'
    ).encode()


def _futures_book_ticker(b: events.BookTicker, unit: int) -> bytes:
    time = b.time_us // unit
    return (
        f'{{"e":"bookTicker","u":{b.update_id},"s":"{b.symbol}","b":"{b.bid_price}","B":"{b.bid_quantity}",'
        f'"a":"{b.ask_price}","A":"{b.ask_quantity}","T":{time},"E":{time},"st":1}}'
    ).encode()


def _kline(k: events.Kline, unit: int) -> bytes:
    close = (k.open_us + MINUTE_US) // unit - 1
    return (
        f'{{"e":"kline","E":{k.event_us // unit},"s":"{k.symbol}","k":{{"t":{k.open_us // unit},"T":{close},'
        f'"s":"{k.symbol}","i":"1m","f":{k.first_trade_id},"L":{k.last_trade_id},"o":"{k.open}","c":"{k.close}",'
        f'"h":"{k.high}","l":"{k.low}","v":"{k.volume}","n":{k.trade_count},"x":{_flag(k.is_closed)},'
        f'"q":"{k.quote_volume}","V":"{k.taker_buy_volume}","Q":"{k.taker_buy_quote_volume}","B":"0"}}}}'
    ).encode()


def _mark_price(p: events.MarkPrice, unit: int) -> bytes:
    return (
        f'{{"e":"markPriceUpdate","E":{p.event_us // unit},"s":"{p.symbol}","p":"{p.mark_price}",'
        f'"ap":"{p.mark_price}","P":"{p.settle_price}","i":"{p.index_price}","r":"{p.funding_rate}",'
        f'"T":{p.next_funding_us // unit},"st":1}}'
    ).encode()


def _force_order(o: events.ForceOrder, unit: int) -> bytes:
    return (
        f'{{"e":"forceOrder","E":{o.event_us // unit},"o":{{"s":"{o.symbol}","S":"{o.side}","o":"LIMIT","f":"IOC",'
        f'"q":"{o.quantity}","p":"{o.price}","ap":"{o.average_price}","X":"FILLED","l":"{o.quantity}",'
        f'"z":"{o.quantity}","T":{o.time_us // unit},"ps":"{o.symbol}","st":1}}}}'
    ).encode()


def _recorded(r: events.Recorded, _unit: int) -> bytes:
    return r.data


_ENCODERS: dict[tuple[Market, type], Callable[[Any, int], bytes]] = {
    (Market.SPOT, events.Trade): _spot_trade,
    (Market.SPOT, events.AggTrade): _spot_agg_trade,
    (Market.SPOT, events.DepthUpdate): _spot_depth,
    (Market.SPOT, events.PartialDepth): _spot_partial,
    (Market.SPOT, events.BookTicker): _spot_book_ticker,
    (Market.SPOT, events.Kline): _kline,
    (Market.SPOT, events.Recorded): _recorded,
    (Market.FUTURES, events.Trade): _futures_trade,
    (Market.FUTURES, events.AggTrade): _futures_agg_trade,
    (Market.FUTURES, events.DepthUpdate): _futures_depth,
    (Market.FUTURES, events.PartialDepth): _futures_partial,
    (Market.FUTURES, events.BookTicker): _futures_book_ticker,
    (Market.FUTURES, events.Kline): _kline,
    (Market.FUTURES, events.MarkPrice): _mark_price,
    (Market.FUTURES, events.ForceOrder): _force_order,
    (Market.FUTURES, events.Recorded): _recorded,
}
