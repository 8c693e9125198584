"""Parquet files, written by one library and read by others."""

import io

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.errors import DamagedError
from streamsvc.persistence.parquet import read_row_groups, write_file

SCHEMA = {
    "symbol": "string",
    "at": "timestamp",
    "id": "int64",
    "epoch": "int32",
    "price": "float64",
    "is_maker": "bool",
}


def group_of(rows):
    codes, times, ids, epochs, prices, flags = zip(*rows, strict=True)
    return {
        "symbol": np.array(codes, np.int32),
        "at": np.array(times, np.int64),
        "id": np.array(ids, np.int64),
        "epoch": np.array(epochs, np.int32),
        "price": np.array(prices, np.float64),
        "is_maker": np.array(flags, np.bool_),
    }


INT64 = st.integers(-(2**62), 2**62)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 2), INT64, INT64, st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False), st.booleans()
    ),
    min_size=1,
    max_size=20,
)
LABELS = ["", "BTCUSDT", "币安"]


@settings(max_examples=40)
@given(st.lists(ROWS, min_size=1, max_size=3))
def test_every_reader_finds_the_values_that_were_written(tmp_path_factory, groups):
    """To the nanosecond and to the last bit, by us, by pyarrow and by polars."""
    path = tmp_path_factory.mktemp("p") / "a.parquet"
    with path.open("wb") as file:
        write_file(file, SCHEMA, {"symbol": LABELS}, map(group_of, groups))
    expected = [(LABELS[code], *rest) for group in groups for code, *rest in group]
    ours = [
        row for group in read_row_groups(path) for row in zip(*(group[name].tolist() for name in SCHEMA), strict=True)
    ]
    table = pq.read_table(path)
    arrow = {name: table[name].cast("int64") if name == "at" else table[name] for name in SCHEMA}
    theirs = list(zip(*(arrow[name].to_pylist() for name in SCHEMA), strict=True))
    frame = pl.read_parquet(path).with_columns(pl.col("at").cast(pl.Int64), pl.col("symbol").cast(str))
    assert expected == ours == theirs == frame.select(list(SCHEMA)).rows()


@pytest.mark.parametrize("count", [1, 127, 128, 129, 255, 256, 40_000])
def test_any_number_of_symbols_is_told_apart(tmp_path, count):
    """The codes' width changes with it."""
    path = tmp_path / "a.parquet"
    labels = [f"S{number:05d}" for number in range(count)]
    rows = [(number, 0, number, 0, 0.0, False) for number in range(count)]
    with path.open("wb") as file:
        write_file(file, SCHEMA, {"symbol": labels}, [group_of(rows)])
    (group,) = read_row_groups(path, ["symbol"])
    assert labels == group["symbol"].tolist() == pq.read_table(path)["symbol"].to_pylist()


def test_a_file_that_is_cut_anywhere_is_damaged(tmp_path):
    """A file without its footer is no file."""
    whole = io.BytesIO()
    write_file(whole, SCHEMA, {"symbol": LABELS}, [group_of([(1, 2, 3, 4, 5.0, True)])])
    data = whole.getvalue()
    path = tmp_path / "a.parquet"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(DamagedError):
            list(read_row_groups(path))


def test_a_missing_column_is_damage(tmp_path):
    path = tmp_path / "a.parquet"
    with path.open("wb") as file:
        write_file(file, SCHEMA, {"symbol": LABELS}, [group_of([(1, 2, 3, 4, 5.0, True)])])
    with pytest.raises(DamagedError):
        list(read_row_groups(path, ["price", "volume"]))


def test_a_missing_file_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_row_groups(tmp_path / "a.parquet"))
