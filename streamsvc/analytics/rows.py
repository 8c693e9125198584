"""The rows of live analytics as the loop holds them, exact. Their texts in the journal are `derived`'s."""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter

import msgspec

from streamsvc import derived
from streamsvc.schema import Kind

ZERO = Decimal(0)


class DerivedRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A bin of one symbol.

    Attributes:
        symbol: The symbol.
        open_ms: When the bin begins, ms since 1970; it ends with its last millisecond.
        revision: How often it was written before.
    """

    symbol: str
    open_ms: int
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


class _Layout:
    """How rows of a kind become texts, worked out once."""

    def __init__(self, kind: Kind) -> None:
        self.names = tuple(derived.ROW_COLUMNS[kind])
        self.values = attrgetter(*("open_ms" if name == "open_time" else name for name in self.names))
        self.rounded = tuple(derived.QUOTIENTS_AND_PRODUCTS & set(self.names))


_LAYOUTS = {kind: _Layout(kind) for kind in ROW_TYPES}
_ENCODER = msgspec.json.Encoder(decimal_format="string")
_UNUSUAL = (b"E-", b"E+", b"NaN", b"Infinity")


def encode_row(kind: Kind, row: DerivedRow) -> bytes:
    """The text of a row in the journal."""
    layout = _LAYOUTS[kind]
    values = dict(zip(layout.names, layout.values(row), strict=True))
    for name in layout.rounded:
        values[name] = derived.ROUNDING.plus(values[name])
    text = _ENCODER.encode(values)
    # A decimal may have an exponent as a text, which no exchange writes.
    return derived.encode_row(kind, values) if any(one in text for one in _UNUSUAL) else text
