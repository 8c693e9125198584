"""The external sort: all rows, in order, in bounded memory."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.persistence import compaction_sort
from streamsvc.persistence.compaction_sort import DaySort, order_columns
from streamsvc.persistence.parquet import RowGroup
from streamsvc.schema import COLUMNS, Kind

DTYPES = {"timestamp": np.int64, "int64": np.int64, "int32": np.int32, "float64": np.float64, "bool": np.bool_}


def group_of(kind, rows, texts=("", "A", "B")):
    """A row group in which each row is a symbol's code, its key, and a number that tells it from all others."""
    count = len(rows)
    columns = {name: np.zeros(count, DTYPES.get(dtype, np.int8)) for name, dtype in COLUMNS[kind].items()}
    columns["symbol"] = np.array([row[0] for row in rows], np.int8)
    for place, name in enumerate(order_columns(kind), 1):
        columns[name] = np.array([row[place] for row in rows], columns[name].dtype)
    columns["receive_time"] = np.array([row[-1] for row in rows], np.int64)
    labels = {name: list(texts) for name, dtype in COLUMNS[kind].items() if dtype == "string"}
    return RowGroup(columns, labels)


def sorted_rows(kind, groups, expected_rows):
    sort = DaySort(kind, io.BytesIO(), expected_rows)
    for group in groups:
        sort.add(group)
    names = [*order_columns(kind), "receive_time"]
    found = []
    for symbol in sort.symbols():
        texts = sort.texts_of(symbol)
        assert [symbol] == texts["symbol"]
        for part in sort.row_groups(symbol):
            assert not part["symbol"].any()
            found += [(symbol, *row) for row in zip(*(part[name].tolist() for name in names), strict=True)]
    return found


@pytest.mark.parametrize("kind", [Kind.TRADE, Kind.MARK_PRICE])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_come_in_order_and_equal_ones_as_they_came(kind, data):
    """Whatever the order of the input, the size of runs, blocks and row groups."""
    keys = [st.integers(0, 2)] * (len(order_columns(kind)) - 1) + [st.integers(-5, 12)]
    rows = data.draw(st.lists(st.tuples(st.integers(1, 2), *keys), max_size=60))
    rows = [(*row, number) for number, row in enumerate(rows)]
    cuts = data.draw(st.integers(1, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction_sort, "BUFFER_ROWS", data.draw(st.integers(1, 30)))
        patch.setattr(compaction_sort, "_BLOCK_ROWS_MIN", data.draw(st.integers(1, 4)))
        patch.setattr(compaction_sort, "ROW_GROUP_ROWS", data.draw(st.integers(1, 7)))
        groups = [group_of(kind, rows[at : at + cuts]) for at in range(0, len(rows), cuts)]
        found = sorted_rows(kind, groups, len(rows))
    symbols = {1: "A", 2: "B"}
    expected = [(symbols[row[0]], *row[1:]) for row in sorted(rows, key=lambda row: row[:-1])]
    assert expected == found


def test_texts_are_those_of_the_symbols_own_rows():
    """The texts of 300 symbols must not be in the file of each; different files may have different codes for them."""
    one, other = group_of(Kind.TRADE, [(1, 0, 1, 0)]), group_of(Kind.TRADE, [(0, 0, 2, 0)], texts=("A", "C"))
    one.columns["trade_type"][:] = 2
    other.columns["trade_type"][:] = 1
    sort = DaySort(Kind.TRADE, io.BytesIO(), 2)
    for group in (one, other, group_of(Kind.TRADE, [(2, 0, 1, 0)])):
        sort.add(group)
    assert ["A", "B"] == sort.symbols()
    assert ({"symbol": ["A"], "trade_type": ["B", "C"]}, {"symbol": ["B"], "trade_type": [""]}) == (
        sort.texts_of("A"), sort.texts_of("B"),
    )  # fmt: skip
    (group,) = sort.row_groups("A")
    assert [0, 1] == group["trade_type"].tolist()


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_memory_is_bounded_whatever_the_order_of_the_input(monkeypatch, order):
    """Never more rows are held than one buffer, though every run reaches over the whole day."""
    monkeypatch.setattr(compaction_sort, "BUFFER_ROWS", 1000)
    monkeypatch.setattr(compaction_sort, "_BLOCK_ROWS_MIN", 1)
    monkeypatch.setattr(compaction_sort, "ROW_GROUP_ROWS", 100)
    count = 20_000
    ids = {
        "ascending": np.arange(count),
        "descending": np.arange(count)[::-1],
        "shuffled": np.random.default_rng(1).permutation(count),
    }[order].tolist()
    sort = DaySort(Kind.TRADE, io.BytesIO(), count)
    most_buffered = 0
    for at in range(0, count, 50):
        sort.add(group_of(Kind.TRADE, [(1, 0, number, number) for number in ids[at : at + 50]]))
        most_buffered = max(most_buffered, sum(len(part["symbol"]) for part in sort._buffer))
    held, most_held, reads = {}, 0, sort._read

    def read(block):
        nonlocal most_held
        part = reads(block)
        for other in [other for other, last in held.items() if last < block.first]:
            del held[other]
        held[block] = block.last
        most_held = max(most_held, sum(other.rows for other in held))
        return part

    monkeypatch.setattr(sort, "_read", read)
    (symbol,) = sort.symbols()
    groups = [group["trade_id"].tolist() for group in sort.row_groups(symbol)]
    assert list(range(count)) == [number for group in groups for number in group]
    assert {100} == {len(group) for group in groups}
    assert most_buffered < 1050
    assert most_held <= 1100


def test_an_update_of_many_levels_is_never_cut_between_blocks(monkeypatch):
    """Nor between row groups: its levels stay together in their order, though other runs have an update of its id."""
    monkeypatch.setattr(compaction_sort, "BUFFER_ROWS", 10)
    monkeypatch.setattr(compaction_sort, "_BLOCK_ROWS_MIN", 1)
    updates = [(1, 0, number, 100 * number + level) for number in (7, 8) for level in range(9)]
    again = [(1, 0, number, 1000 + 100 * number + level) for number in (7, 8) for level in range(9)]
    monkeypatch.setattr(compaction_sort, "ROW_GROUP_ROWS", 5)
    groups = [group_of(Kind.DEPTH, updates), group_of(Kind.DEPTH, again)]
    found = sorted_rows(Kind.DEPTH, groups, 36)
    sort = DaySort(Kind.DEPTH, io.BytesIO(), 36)
    for group in groups:
        sort.add(group)
    sort.symbols()
    assert [{7}, {8}] == [set(group["final_update_id"].tolist()) for group in sort.row_groups("A")]
    levels = [row[-1] for row in found]
    assert [*range(700, 709), *range(1700, 1709), *range(800, 809), *range(1800, 1809)] == levels
