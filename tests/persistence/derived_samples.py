"""Derived rows as the journal has them."""

from decimal import Decimal

from persistence_samples import RECEIVED_NS, TIME_MS

from streamsvc.batch import Block
from streamsvc.derived import ROW_COLUMNS, encode_row
from streamsvc.schema import Kind, Market, Source

MINUTE_MS = 60_000
OPEN_MS = TIME_MS // MINUTE_MS * MINUTE_MS
_DEFAULTS = {"string": "BTCUSDT", "timestamp": OPEN_MS, "float64": Decimal(0), "int64": 0, "int32": 0, "bool": True}


def derived_values(kind: Kind, **values) -> dict:
    """The values of a row; those that are not told are 0."""
    return {name: _DEFAULTS[dtype] for name, dtype in ROW_COLUMNS[kind].items()} | values


def derived_text(kind: Kind, **values) -> bytes:
    return encode_row(kind, derived_values(kind, **values))


def derived_block(
    kind: Kind, texts: list[bytes], market: Market = Market.SPOT, received_ns: int = RECEIVED_NS
) -> Block:
    """A block as the analytics writes it."""
    return Block(
        market=market,
        source=Source.DERIVED,
        connection=0,
        received_ns=received_ns,
        kinds=bytes([kind]) * len(texts),
        messages=texts,
        size_bytes=sum(map(len, texts)),
    )
