"""What the journal holds of a derived row (pure): one flat JSON object, its keys the columns of its kind.

`receive_time` is the block's, and `exchange_time` is `open_time`: neither is in the text. Numbers of float64 columns
are decimal strings, as an exchange writes them, `open_time` is in ms, and what is not known yet is 0.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING

import msgspec

from streamsvc.schema import COLUMNS, DERIVED_KINDS, ColumnType, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    Value = str | int | bool | Decimal

DIGITS_MAX = 15
"""float64 gives a decimal of up to this many significant digits back exactly."""

_NOT_IN_TEXT = frozenset({"receive_time", "exchange_time"})
QUOTIENTS_AND_PRODUCTS = frozenset({"quote_volume", "mid_price", "microprice"})
"""Columns whose numbers may have any number of digits though those that they are made of have few."""

ROW_COLUMNS: dict[Kind, dict[str, ColumnType]] = {
    kind: {name: dtype for name, dtype in COLUMNS[kind].items() if name not in _NOT_IN_TEXT}
    for kind in sorted(DERIVED_KINDS)
}
"""The keys of each kind's text in their order, with the types of their columns."""

_ENCODER = msgspec.json.Encoder()
ROUNDING = Context(prec=DIGITS_MAX)
"""What these are rounded with."""


def encode_row(kind: Kind, values: Mapping[str, Value]) -> bytes:
    """The text of a row.

    Args:
        kind: One of `DERIVED_KINDS`.
        values: For each of `ROW_COLUMNS[kind]` its value: `symbol` a str, `open_time` an int in ms since 1970, numbers
            of float64 columns `Decimal` or int, the others int or bool. `quote_volume`, `mid_price` and `microprice`
            are rounded to 15 significant digits. Any other number is written as it is: one with more digits is recorded
            as the next float64, and its text kept beside, as of every message.

    Raises:
        KeyError: a column is missing.
        ValueError: there is one that the kind does not have, or a number is not finite.
    """
    columns = ROW_COLUMNS[kind]
    if unknown := values.keys() - columns.keys():
        raise ValueError(f"{kind.label} has no column {', '.join(sorted(unknown))}")
    return _ENCODER.encode(
        {name: _number(name, values[name]) if dtype == "float64" else values[name] for name, dtype in columns.items()}
    )


def _number(name: str, value: Value) -> str:
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{name} is {number}")
    if name in QUOTIENTS_AND_PRODUCTS:
        number = ROUNDING.plus(number)
    return format(number, "f")
