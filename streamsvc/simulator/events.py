"""What happens on a market, before it becomes text: one structure a kind of message.

Prices and quantities are decimal strings exactly as they go on the wire; times are integers in microseconds since 1970,
because spot clients may ask for them. Made by the thousand a second, hence msgspec structures without tracking by the
garbage collector.
"""

from __future__ import annotations

import msgspec

Levels = list[tuple[str, str]]
"""Price and quantity of order-book levels."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade. `trade_type` is the futures' `X`: `MARKET`, or `NA` and `INSURANCE_FUND` with price and quantity 0."""

    symbol: str
    trade_id: int
    price: str
    quantity: str
    time_us: int
    is_buyer_maker: bool
    trade_type: str = "MARKET"


class AggTrade(msgspec.Struct, frozen=True, gc=False):
    """The trades of one taker order at one price."""

    symbol: str
    agg_trade_id: int
    price: str
    quantity: str
    first_trade_id: int
    last_trade_id: int
    time_us: int
    is_buyer_maker: bool


class DepthUpdate(msgspec.Struct, frozen=True):
    """The levels that changed in one window; quantities are absolute, 0 deletes."""

    symbol: str
    first_update_id: int
    final_update_id: int
    previous_final_update_id: int
    time_us: int
    event_us: int
    bids: Levels
    asks: Levels


class PartialDepth(msgspec.Struct, frozen=True):
    """The best levels of a book (`@depth5`, `@depth10`, `@depth20`)."""

    symbol: str
    update_id: int
    previous_update_id: int
    time_us: int
    event_us: int
    bids: Levels
    asks: Levels


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask after update `update_id`."""

    symbol: str
    update_id: int
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str
    time_us: int


class Kline(msgspec.Struct, frozen=True, gc=False):
    """A one-minute candle. Trade ids are -1 where it holds no trade."""

    symbol: str
    open_us: int
    first_trade_id: int
    last_trade_id: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trade_count: int
    taker_buy_volume: str
    taker_buy_quote_volume: str
    is_closed: bool
    event_us: int


class MarkPrice(msgspec.Struct, frozen=True, gc=False):
    """The futures' mark price, once or thrice every three seconds."""

    symbol: str
    mark_price: str
    settle_price: str
    index_price: str
    funding_rate: str
    next_funding_us: int
    event_us: int


class ForceOrder(msgspec.Struct, frozen=True, gc=False):
    """A liquidation; the exchange tells at most one per symbol and second."""

    symbol: str
    side: str
    quantity: str
    price: str
    average_price: str
    time_us: int
    event_us: int


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """A message of a recording: its text, never made anew.

    Attributes:
        data: The payload of the raw form.
        combined: The payload of the combined form, byte for byte as recorded.
        name: The stream's name in it.
    """

    data: bytes
    combined: bytes
    name: str


Body = Trade | AggTrade | DepthUpdate | PartialDepth | BookTicker | Kline | MarkPrice | ForceOrder | Recorded


class Event(msgspec.Struct, frozen=True):
    """A message about to be sent on a stream.

    Attributes:
        stream: The stream's canonical name (`streams.Stream.canonical`).
        first_id: The first id that the message accounts for, so that a chain has no hole between two messages; 0 where
            the kind has no chain.
        last_id: The last one.
        body: What it says.
    """

    stream: str
    first_id: int
    last_id: int
    body: Body
