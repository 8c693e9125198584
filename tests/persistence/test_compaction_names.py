"""Names of compacted files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.persistence.compaction_names import compacted_name, is_compacted, may_hold
from streamsvc.persistence.layout import SegmentName

SYMBOLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(SYMBOLS, st.lists(st.text(max_size=5), max_size=3))
def test_a_name_is_a_plain_visible_file_name_whatever_the_symbol(symbol, parts):
    name = compacted_name(symbol, parts)
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= 200
    assert not set("/\\*?[] ") & set(name)
    assert name[0] not in ".-" or symbol.startswith("-")
    assert is_compacted(name)
    assert may_hold(name, symbol)
    assert SegmentName.parse(name.removesuffix(".parquet")) is None


@given(SYMBOLS, SYMBOLS)
def test_different_symbols_have_different_names(one, other):
    assert (one == other) == may_hold(compacted_name(one, []), other)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCUSDT_260925", "1000SATS", "a-b"])
def test_an_ordinary_symbol_is_readable(symbol):
    assert f"{symbol}." == compacted_name(symbol, ["x"])[: len(symbol) + 1]


def test_the_digest_is_of_the_parts_in_any_order():
    one = compacted_name("X", ["a", "b"])
    assert one == compacted_name("X", ["b", "a"])
    assert 3 == len({one, compacted_name("X", ["a"]), compacted_name("X", ["ab"])})


@pytest.mark.parametrize(
    "name", ["000001-deadbeef-000000.parquet", "X.parquet", "X.0123456789abcdef", "X.0123456789abcdeg.parquet", "mine"]
)
def test_other_files_are_told_apart_and_may_hold_anything(name):
    assert not is_compacted(name)
    assert may_hold(name, "X")
