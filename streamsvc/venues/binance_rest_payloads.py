"""Binance's REST answers read whole, for sealing: every field that becomes a column, under the column's name.

The journal has one text for each row, order book or instrument of an answer: `{"symbol":…,"data":…}`, where `data` is
the exchange's own text; of an instrument also `time`, the exchange's time of the answer. Sources: the exchange's pages
on market data endpoints and filters, spot and USD-M futures; answers of 2021 that were recorded.
"""

from __future__ import annotations

from typing import Any, Generic

import msgspec

from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_heads import Id, Millis  # noqa: TC001 - msgspec reads the annotations
from streamsvc.venues.payload import Data, Levels, Payload


class RestMessage(msgspec.Struct, Generic[Data], gc=False):
    """A part of an answer with the symbol that was asked for, which the exchange does not repeat."""

    symbol: str
    data: Data


class RestTrade(msgspec.Struct, gc=False):
    """A row of `trades` or `historicalTrades` of both markets."""

    trade_id: Id = msgspec.field(name="id")
    price: float
    quantity: float = msgspec.field(name="qty")
    exchange_time: Millis = msgspec.field(name="time")
    is_buyer_maker: bool = msgspec.field(name="isBuyerMaker")


class RestAggTrade(msgspec.Struct, gc=False):
    """A row of `aggTrades` of both markets."""

    agg_trade_id: Id = msgspec.field(name="a")
    price: float = msgspec.field(name="p")
    quantity: float = msgspec.field(name="q")
    first_trade_id: Id = msgspec.field(name="f")
    last_trade_id: Id = msgspec.field(name="l")
    exchange_time: Millis = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class SpotSnapshot(msgspec.Struct, gc=False):
    """`depth` of spot, which has no time."""

    last_update_id: Id = msgspec.field(name="lastUpdateId")
    bids: Levels
    asks: Levels


class FuturesSnapshot(msgspec.Struct, gc=False):
    """`depth` of futures."""

    last_update_id: Id = msgspec.field(name="lastUpdateId")
    exchange_time: Millis = msgspec.field(name="T")
    bids: Levels
    asks: Levels


class Filter(msgspec.Struct, gc=False):
    """A rule of a symbol; only some have these numbers, all of which are strings."""

    filter_type: str = msgspec.field(name="filterType")
    tick_size: str = msgspec.field(name="tickSize", default="0")
    step_size: str = msgspec.field(name="stepSize", default="0")
    min_notional: str = msgspec.field(name="minNotional", default="0")
    notional: str = "0"


class Details(msgspec.Struct, gc=False, kw_only=True):
    """A symbol's object in `exchangeInfo`; spot has no contract type."""

    status: str
    base_asset: str = msgspec.field(name="baseAsset")
    quote_asset: str = msgspec.field(name="quoteAsset")
    contract_type: str = msgspec.field(name="contractType", default="")
    filters: list[Filter]


_DETAILS = msgspec.json.Decoder(Details)


class InstrumentMessage(msgspec.Struct, gc=False, kw_only=True):
    """A symbol of `exchangeInfo`: its text, and what is read of it."""

    symbol: str
    exchange_time: Millis = msgspec.field(name="time")
    data: msgspec.Raw
    status: str = ""
    base_asset: str = ""
    quote_asset: str = ""
    contract_type: str = ""
    tick_size: float = 0.0
    step_size: float = 0.0
    min_notional: float = 0.0
    raw: str = ""

    def __post_init__(self) -> None:
        details = _DETAILS.decode(self.data)
        self.status = details.status
        self.base_asset, self.quote_asset = details.base_asset, details.quote_asset
        self.contract_type = details.contract_type
        filters = {each.filter_type: each for each in details.filters}
        self.tick_size = _number(filters.get("PRICE_FILTER"), "tick_size")
        self.step_size = _number(filters.get("LOT_SIZE"), "step_size")
        # Spot had MIN_NOTIONAL before NOTIONAL, and may have both; futures name the number otherwise.
        self.min_notional = max(
            _number(filters.get(name), field)
            for name, field in (
                ("NOTIONAL", "min_notional"),
                ("MIN_NOTIONAL", "min_notional"),
                ("MIN_NOTIONAL", "notional"),
            )
        )
        self.raw = bytes(self.data).decode()


def read_instrument(data: bytes) -> InstrumentMessage:
    """The columns of a symbol's own JSON as the sealer reads them; its symbol and time are not looked at.

    Raises one of `binance_heads.DECODE_ERRORS`.
    """
    return InstrumentMessage(symbol="", exchange_time=0, data=msgspec.Raw(data))


def _number(rule: Filter | None, field: str) -> float:
    """A number of a filter, 0 if the symbol does not have it."""
    return msgspec.convert(getattr(rule, field, "0"), float, strict=False)


class _Ids(msgspec.Struct, gc=False):
    """The ids of every kind of part, under the exchange's names; a part has one of them."""

    id: Id | None = None
    a: Id | None = None
    lastUpdateId: Id | None = None  # noqa: N815 - the exchange's name


_ID_NAMES = {Kind.TRADE: "id", Kind.AGG_TRADE: "a", Kind.DEPTH_SNAPSHOT: "lastUpdateId"}
_ANY_MESSAGE: Any = RestMessage
_IDS = msgspec.json.Decoder(_ANY_MESSAGE[_Ids])


def read_symbol_and_id(kind: Kind, text: bytes) -> tuple[str, int]:
    """The symbol and the id of a part that cannot be read whole; 0 where its kind has no id.

    Raises one of `binance_heads.DECODE_ERRORS`.
    """
    message: Any = _IDS.decode(text)
    number = getattr(message.data, _ID_NAMES[kind]) if kind in _ID_NAMES else 0
    if number is None:
        raise msgspec.ValidationError("its id is missing")
    return message.symbol, number


def _payload(struct: Any, **options: Any) -> Payload:
    return Payload(_ANY_MESSAGE[struct], inner="data", is_combined=False, **options)


_NO_EVENT_TIME = {"event_time": "data.exchange_time"}
_BOTH_MARKETS = {
    Kind.TRADE: _payload(RestTrade, more_paths=_NO_EVENT_TIME, is_backfilled=True),
    Kind.AGG_TRADE: _payload(RestAggTrade, more_paths=_NO_EVENT_TIME, is_backfilled=True),
    Kind.INSTRUMENT: Payload(InstrumentMessage, is_combined=False),
}
_SNAPSHOTS = {Market.SPOT: _payload(SpotSnapshot), Market.FUTURES: _payload(FuturesSnapshot)}

REST_PAYLOADS: dict[tuple[Source, Market, Kind], Payload] = {
    (Source.REST, market, kind): payload
    for market in Market
    for kind, payload in {**_BOTH_MARKETS, Kind.DEPTH_SNAPSHOT: _SNAPSHOTS[market]}.items()
}
"""How a part of an answer is read, by source, market and kind."""
