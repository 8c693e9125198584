"""What becomes a line, and what is refused."""

import enum
from collections import ChainMap, OrderedDict
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import attrs
import cattrs
import msgspec
import pytest

from streamsvc.recorder.encoding import encode_record, encode_records
from streamsvc.recorder.faults import RecordError


class Side(enum.Enum):
    LONG = "long"


@attrs.frozen
class Fill:
    price: Decimal
    at: datetime


@attrs.frozen
class Trade:
    trade_id: str
    side: Side
    fills: list[Fill]
    note: str | None = None


AT = datetime(2025, 11, 4, 15, 20, 30, 125000, tzinfo=UTC)


def test_a_record_of_all_that_it_may_hold():
    """Nothing loses a digit."""
    record = {
        "a": Decimal("0.10"),
        "b": AT,
        "c": date(2025, 11, 4),
        "d": None,
        "e": [1, 2.5, True],
        "f": {"g": "ü\n"},
        "h": UUID(int=1),
        "i": 2**70,
    }
    expected = {
        "a": "0.10",
        "b": "2025-11-04T15:20:30.125000Z",
        "c": "2025-11-04",
        "d": None,
        "e": [1, 2.5, True],
        "f": {"g": "ü\n"},
        "h": "00000000-0000-0000-0000-000000000001",
        "i": 2**70,
    }
    line = encode_record(record)
    assert expected == msgspec.json.decode(line)
    assert 1 == line.count(b"\n") == line.endswith(b"\n")


def test_an_attrs_class():
    trade = Trade("T1", Side.LONG, [Fill(Decimal("50000.10"), AT)])
    expected = {
        "trade_id": "T1",
        "side": "long",
        "fills": [{"price": "50000.10", "at": "2025-11-04T15:20:30.125000Z"}],
        "note": None,
    }
    assert expected == msgspec.json.decode(encode_record(trade))
    assert expected["fills"][0] == msgspec.json.decode(encode_record({"fill": trade.fills[0]}))["fill"]


def test_a_converter_of_ones_own():
    converter = cattrs.Converter()
    converter.register_unstructure_hook(Fill, lambda fill: {"p": fill.price})
    assert b'{"p":"1"}\n' == encode_record(Fill(Decimal(1), AT), converter.unstructure)


@pytest.mark.parametrize("mapping", [OrderedDict(n=1), MappingProxyType({"n": 1}), ChainMap({"n": 1})])
def test_other_mappings(mapping):
    assert b'{"n":1}\n' == encode_record(mapping)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([1], "list is no mapping"),
        ("text", "str is no mapping"),
        (None, "NoneType is no mapping"),
        ({"a": object()}, "object"),
        ({("a", "b"): 1}, "keys"),
        ({"a": float("nan")}, "a is nan"),
        ({"a": {"b": [0.0, float("-inf")]}}, r"a\.b\.1 is -inf"),
        ({"a": Fill(Decimal(1), AT), "b": attrs.make_class("F", ["x"])(float("nan"))}, r"b\.x is nan"),
        ({"a": "\ud800"}, "surrogates"),
    ],
)
def test_what_cannot_be_written(record, reason):
    """The text says why."""
    with pytest.raises(RecordError, match=reason):
        encode_record(record)
    with pytest.raises(RecordError, match="record 1 of the batch"):
        encode_records([{"n": 1}, record])


def test_a_record_that_holds_itself():
    record = {}
    record["self"] = record
    with pytest.raises(RecordError, match="recursion"):
        encode_record(record)


def test_a_batch_is_what_its_records_are():
    records = [{"n": n, "nothing": None} for n in range(5)]
    assert b"".join(map(encode_record, records)) == encode_records(records)
    assert b"" == encode_records([])
