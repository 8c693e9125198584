"""Derived rows from their texts in the journal to Parquet, and back by `dataset.load` and `verify`."""

import decimal
from decimal import Decimal

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from persistence_samples import block, make_folder
from seal_support import quarantined, rows_of, seal_content

from streamsvc.derived import ROW_TYPES, BarRow, CvdRow, OfiRow, PriceRow, encode_row
from streamsvc.schema import COLUMNS, Kind, Market, Source

MINUTE_MS = 60_000
TIME_MS = 1_700_000_040_000
RECEIVED_NS = (TIME_MS + 62_000) * 10**6


def derived(kind, rows, market=Market.SPOT):
    """A block as analytics writes it."""
    return attrs.evolve(
        block([encode_row(row) for row in rows], kind, market, RECEIVED_NS), source=Source.DERIVED, connection=0
    )


def decimals(low):
    """Numbers of at most 15 digits, which float64 gives back."""
    return st.decimals(low, 10**6, places=8, allow_nan=False).map(lambda value: decimal.Context(prec=15).plus(value))


def rows(row_type):
    """Any row of a type."""
    values = {
        Decimal: decimals(0),
        int: st.integers(0, 2**31 - 1),
        bool: st.booleans(),
        str: st.sampled_from(["BTCUSDT", "币安"]),
    }
    fields = {field.name: values.get(field.type, values[int]) for field in msgspec.structs.fields(row_type)}
    signed = {name: decimals(-(10**6)) for name in ("delta", "cvd", "ofi", "spread") if name in fields}
    return st.builds(row_type, **fields | signed | {"open_ms": st.just(TIME_MS)})


@pytest.mark.parametrize("kind", ROW_TYPES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_row_is_in_the_data_set_as_it_was_written(kind, data, tmp_path):
    """Every number of up to 15 digits, in the columns of the schema."""
    written = data.draw(st.lists(rows(ROW_TYPES[kind]), min_size=1, max_size=5))
    manifest = seal_content(make_folder(tmp_path), [derived(kind, written)])
    assert {} == manifest.quarantined
    expected = [
        {
            name: float(value) if isinstance(value, Decimal) else value
            for name, value in msgspec.structs.asdict(row).items()
        }
        | {"receive_time": RECEIVED_NS, "exchange_time": TIME_MS * 10**6, "open_time": TIME_MS * 10**6}
        for row in written
    ]
    for row in expected:
        del row["open_ms"]
    stored = [dict(zip(COLUMNS[kind], values, strict=True)) for values in rows_of(manifest, kind)]
    assert expected == stored


def test_more_digits_than_the_data_set_holds_are_rounded(tmp_path):
    """They are derived, so no text of an exchange is kept beside."""
    row = cvd_row(0, Decimal("0.12345678901234567890"), 0)
    manifest = seal_content(make_folder(tmp_path), [derived(Kind.CVD_1M, [row])])
    assert 0 == manifest.inexact_decimals
    assert 0.123456789012346 == rows_of(manifest, Kind.CVD_1M)[0][list(COLUMNS[Kind.CVD_1M]).index("delta")]


def test_a_text_that_is_no_row_is_quarantined(tmp_path):
    good = derived(Kind.OFI_1S, [ofi_row(0)])
    bad = attrs.evolve(good, messages=[b'{"symbol":"BTCUSDT"}'], size_bytes=20)
    manifest = seal_content(make_folder(tmp_path), [good, bad])
    assert {"wrong_shape": 1} == manifest.quarantined
    assert 1 == len(rows_of(manifest, Kind.OFI_1S))
    assert ["ofi_1s"] == [line["kind"] for line in quarantined(manifest)]


def cvd_row(minute, delta, cvd, **more):
    """A minute of so many after `TIME_MS`."""
    amount = Decimal(delta)
    values = {
        "buy_quantity": max(amount, Decimal(0)),
        "sell_quantity": max(-amount, Decimal(0)),
        "trade_count": 1,
        "is_complete": True,
    }
    return CvdRow(
        symbol="BTCUSDT", open_ms=TIME_MS + minute * MINUTE_MS, delta=amount, cvd=Decimal(cvd), **values | more
    )


def ofi_row(second):
    one = Decimal(1)
    return OfiRow(
        symbol="BTCUSDT",
        open_ms=TIME_MS + second * 1000,
        ofi=-one,
        update_count=1,
        bid_price=one,
        bid_quantity=one,
        ask_price=one,
        ask_quantity=one,
    )


def test_the_row_types_have_the_columns_of_the_schema():
    common = {"receive_time", "exchange_time"}
    for kind, row_type in ROW_TYPES.items():
        fields = {field.encode_name for field in msgspec.structs.fields(row_type)}
        assert set(COLUMNS[kind]) - common == fields
    assert {CvdRow, BarRow, OfiRow, PriceRow} == set(ROW_TYPES.values())
