"""A record as one line of JSON. Pure.

Times become ISO 8601 text, decimals and UUIDs text as they are, enumerations their values, sets arrays, bytes base64.
A float that JSON has no word for (NaN, an infinity) is refused: it would become null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import cattrs
import msgspec

from streamsvc.recorder.faults import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = Any
"""A mapping with texts for keys, or an instance of an attrs class."""

Unstructure = Callable[[Any], Any]

_ENCODER = msgspec.json.Encoder()
_NULL = b"null"
_ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

unstructure: Unstructure = cattrs.Converter().unstructure
"""What makes a mapping of an attrs class, where the caller brings no converter."""


def encode_record(record: Record, unstructure: Unstructure = unstructure) -> bytes:
    """A record as a line, with its end.

    Raises:
        RecordError: it cannot be written; the text says why.
    """
    mapping = record if type(record) is dict else _as_mapping(record, unstructure)
    try:
        line = _ENCODER.encode(mapping)
    except _ENCODE_ERRORS as fault:
        raise RecordError(f"the record cannot be written: {fault}") from fault
    if _NULL in line:
        _require_finite(mapping)
    return line + b"\n"


def encode_records(records: Sequence[Record], unstructure: Unstructure = unstructure) -> bytes:
    """Records as lines, in their order, at once.

    Raises:
        RecordError: one of them cannot be written; the text says which and why.
    """
    try:
        mappings = [record if type(record) is dict else _as_mapping(record, unstructure) for record in records]
        lines = _ENCODER.encode_lines(mappings)
    except _ENCODE_ERRORS:
        lines = _NULL
    if _NULL not in lines:
        return lines
    return b"".join(_encode_numbered(number, record, unstructure) for number, record in enumerate(records))


def _encode_numbered(number: int, record: Record, unstructure: Unstructure) -> bytes:
    try:
        return encode_record(record, unstructure)
    except RecordError as fault:
        raise RecordError(f"record {number} of the batch: {fault}") from fault


def _as_mapping(record: Record, unstructure: Unstructure) -> dict[str, Any]:
    if isinstance(record, Mapping):
        return dict(record)
    if not attrs.has(type(record)):
        raise RecordError(f"the record cannot be written: {type(record).__name__} is no mapping and no attrs class")
    made = unstructure(record)
    if not isinstance(made, dict):
        raise RecordError(f"the record cannot be written: its converter makes {type(made).__name__} of it, no mapping")
    return made


def _require_finite(value: Any, place: str = "") -> None:
    """Refuse floats that would become null."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"the record cannot be written: {place.lstrip('.')} is {value}, which JSON has no word for")
    if attrs.has(type(value)):
        value = attrs.asdict(value, recurse=False)
    if isinstance(value, Mapping):
        for name, part in value.items():
            _require_finite(part, f"{place}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
        for number, part in enumerate(value):
            _require_finite(part, f"{place}.{number}")
