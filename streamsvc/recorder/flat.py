"""Records as rows of columns: nested ones flattened, each column of one type. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamsvc.schema import ColumnType

_INT_MAX = 2**63 - 1


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A record as one level: `entry.price` of `{"entry": {"price": …}}`; lists become JSON."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            flat[f"{prefix}{name}"] = msgspec.json.encode(value).decode()
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def type_of(value: Any) -> ColumnType | None:
    """The type that a column of such values has; None: no value says nothing."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if abs(value) <= _INT_MAX else "string"
    if isinstance(value, float):
        return "float64"
    return "timestamp" if _time_of(value) is not None else "string"


def common_type(one: ColumnType | None, other: ColumnType | None) -> ColumnType | None:
    """The type that holds both: numbers with and without a fraction are numbers, whatever else differs is text."""
    if one is None or other is None or one == other:
        return one if other is None else other
    return "float64" if {one, other} == {"int64", "float64"} else "string"


def schema_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, ColumnType]:
    """The columns of flat records, in the order in which they first come; one without any value is text."""
    types: dict[str, ColumnType | None] = {}
    for row in rows:
        for name, value in row.items():
            types[name] = common_type(types.get(name), type_of(value))
    return {name: kind or "string" for name, kind in types.items()}


def cell_of(value: Any, kind: ColumnType) -> Any:
    """A value as its column holds it; timestamps as ns since 1970."""
    if value is None:
        return None
    if kind == "timestamp":
        time = _time_of(value)
        assert time is not None
        return _ns_of(time)
    if kind == "string":
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return float(value) if kind == "float64" else value


def _time_of(text: str) -> datetime | None:
    """The time that a text says, if it says one with its zone, as records are written."""
    if len(text) < 20 or text[4:5] != "-" or "T" not in text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


def _ns_of(time: datetime) -> int:
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
