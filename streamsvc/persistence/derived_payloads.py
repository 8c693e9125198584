"""How a sealer reads derived rows: their texts are ours (`derived.encode_row`), and are trusted no more than any other.

The structs are made from the schema, so that a text has exactly the columns of its kind; each of them is wanted, and
integers are checked for the range of their column. Sealers only.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from streamsvc.derived import ROW_COLUMNS
from streamsvc.schema import ColumnType, Kind, Market, Source
from streamsvc.venues.binance_heads import Id, Millis
from streamsvc.venues.payload import Payload

_TYPES: dict[ColumnType, Any] = {
    "timestamp": Millis,
    "int64": Id,
    "int32": Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)],
    "float64": float,
    "bool": bool,
    "string": str,
}
"""Counts and revisions are never negative."""


class _Symbol(msgspec.Struct, gc=False):
    symbol: str


_SYMBOL = msgspec.json.Decoder(_Symbol)


def read_symbol(text: bytes) -> str:
    """The symbol of a row that cannot be read whole; raises one of `binance_heads.DECODE_ERRORS`."""
    return _SYMBOL.decode(text).symbol


def _payload(kind: Kind) -> Payload:
    fields = [(name, _TYPES[dtype]) for name, dtype in ROW_COLUMNS[kind].items()]
    struct = msgspec.defstruct(kind.name.title().replace("_", ""), fields, gc=False)
    return Payload(struct, more_paths={"exchange_time": "open_time"}, is_combined=False)


DERIVED_PAYLOADS: dict[tuple[Source, Market, Kind], Payload] = {
    (Source.DERIVED, market, kind): payload for kind in ROW_COLUMNS for payload in [_payload(kind)] for market in Market
}
"""How a derived row is read, by source, market and kind."""
