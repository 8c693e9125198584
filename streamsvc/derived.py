"""Rows that the recorder derives from what it records: columns, texts in the journal, how a sealer reads them.

A text is one flat JSON object whose names are the columns of `schema.COLUMNS`, but for `receive_time`, which is the
frame's, and `exchange_time`, which is the open time. Times are milliseconds, prices and quantities decimals in strings,
as the exchange writes them. What is not known yet (no quote, no trade so far) is 0.

A row is written again with the next `revision` when it was corrected; of the rows with one symbol and open time the
highest revision counts.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import msgspec

from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_heads import Millis  # noqa: TC001 - msgspec reads the annotations
from streamsvc.venues.payload import Payload

ZERO = Decimal(0)
_DIGITS_MAX = 15
"""What float64, and so the data set, gives back exactly."""
_ROUNDED = Context(prec=_DIGITS_MAX)


class DerivedRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A bin of one symbol.

    Attributes:
        symbol: The symbol.
        open_ms: When the bin begins, ms since 1970; it ends with its last millisecond.
        revision: How often it was written before.
    """

    symbol: str
    open_ms: Millis = msgspec.field(name="open_time")
    revision: int = 0


class CvdRow(DerivedRow, frozen=True, kw_only=True, gc=False):
    """A minute of cumulative volume delta.

    Attributes:
        buy_quantity: What takers bought.
        sell_quantity: What takers sold.
        delta: The first less the second.
        cvd: The running sum of `delta` through this minute, as known when the row was written.
        trade_count: Trades in it.
        is_complete: Whether every trade of the minute is in it.
    """

    buy_quantity: Decimal
    sell_quantity: Decimal
    delta: Decimal
    cvd: Decimal
    trade_count: int
    is_complete: bool


class BarRow(DerivedRow, frozen=True, kw_only=True, gc=False):
    """A minute of trades as a candle; without trades all prices are the last close.

    Attributes:
        volume: In the base asset.
        quote_volume: In the quote asset.
        taker_buy_volume: The part of `volume` that takers bought.
        trade_count: Trades in it.
        is_complete: Whether every trade of the minute is in it.
    """

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    taker_buy_volume: Decimal
    trade_count: int
    is_complete: bool


class OfiRow(DerivedRow, frozen=True, kw_only=True, gc=False):
    """A second or minute of order flow imbalance, and the best bid and ask at its end.

    Attributes:
        ofi: In the base asset; positive where demand grew.
        update_count: Changes of the best bid or ask in it.
    """

    ofi: Decimal
    update_count: int
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal


class PriceRow(DerivedRow, frozen=True, kw_only=True, gc=False):
    """Prices at the end of a second.

    Attributes:
        last_price: Of the last trade so far.
        mid_price: Half way between best bid and best ask.
        microprice: The same weighted with the quantities of the other side.
        spread: Best ask less best bid.
    """

    last_price: Decimal
    bid_price: Decimal
    ask_price: Decimal
    mid_price: Decimal
    microprice: Decimal
    spread: Decimal


ROW_TYPES: dict[Kind, type[DerivedRow]] = {
    Kind.CVD_1M: CvdRow,
    Kind.BARS_1M: BarRow,
    Kind.OFI_1S: OfiRow,
    Kind.OFI_1M: OfiRow,
    Kind.PRICES_1S: PriceRow,
}
"""What a row of each derived kind is."""

MADE_OF: dict[Kind, tuple[Kind, ...]] = {
    Kind.CVD_1M: (Kind.TRADE, Kind.AGG_TRADE),
    Kind.BARS_1M: (Kind.TRADE, Kind.AGG_TRADE),
    Kind.OFI_1S: (Kind.BOOK_TICKER,),
    Kind.OFI_1M: (Kind.BOOK_TICKER,),
    Kind.PRICES_1S: (Kind.BOOK_TICKER, Kind.TRADE, Kind.AGG_TRADE),
}
"""What each derived kind is made of; of trades and aggTrades the first that is recorded."""

SIGNED_COLUMNS = frozenset({"delta", "cvd", "ofi", "spread"})
"""Columns of derived kinds whose numbers may be negative."""

_encoder = msgspec.json.Encoder(decimal_format="string")


def encode_row(row: DerivedRow) -> bytes:
    """The text of a row in the journal; its decimals are rounded to what the data set can hold."""
    values = msgspec.structs.asdict(row)
    values["open_time"] = values.pop("open_ms")
    return _encoder.encode(
        {name: _ROUNDED.plus(value) if isinstance(value, Decimal) else value for name, value in values.items()}
    )


def _payload(row_type: type[DerivedRow]) -> Payload:
    """How a sealer reads the texts of such rows: columns by name, decimals as floats."""
    fields: list[tuple[str, Any]] = [
        (field.encode_name, float if field.type is Decimal else field.type)
        for field in msgspec.structs.fields(row_type)
    ]
    struct = msgspec.defstruct(f"Sealed{row_type.__name__}", fields, gc=False)
    return Payload(struct, more_paths={"exchange_time": "open_time"}, is_combined=False)


DERIVED_PAYLOADS: dict[tuple[Source, Market, Kind], Payload] = {
    (Source.DERIVED, market, kind): _payload(row_type) for market in Market for kind, row_type in ROW_TYPES.items()
}
"""How a derived row is read, by source, market and kind."""
