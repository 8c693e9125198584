"""Parquet files, written by one library and read by others."""

import io

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.errors import DamagedError
from streamsvc.persistence.parquet import (
    make_frame,
    make_record_frame,
    read_coded,
    read_row_groups,
    to_ns,
    write_file,
)

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


def test_strings_are_read_as_codes_of_their_file(tmp_path):
    """Codes and labels give what `read_row_groups` gives."""
    path = tmp_path / "a.parquet"
    rows = [(2, 1, 1, 0, 0.5, True), (0, 2, 2, 0, 0.25, False)]
    with path.open("wb") as file:
        write_file(file, SCHEMA, {"symbol": LABELS}, [group_of(rows), group_of(rows[1:])])
    found = []
    for group, texts in zip(read_coded(path, ["symbol", "at"]), read_row_groups(path, ["symbol", "at"]), strict=True):
        labels = np.array(group.labels["symbol"], object)
        assert texts["symbol"].tolist() == labels[group.columns["symbol"]].tolist()
        assert texts["at"].tolist() == group.columns["at"].tolist()
        found.append(group.columns["at"].tolist())
    assert [[1, 2], [2]] == found


@pytest.mark.parametrize(
    ("first_ns", "end_ns", "expected"),
    [(0, 10**18, [0, 1, 2]), (10, 20, [1]), (13, 20, []), (12, 21, [1, 2]), (12, 20, [1]), (0, 0, [])],
)
def test_row_groups_without_rows_of_a_time_are_not_read(tmp_path, first_ns, end_ns, expected):
    """Their statistics tell, to the nanosecond; the end does not belong to the time."""
    path = tmp_path / "a.parquet"
    with path.open("wb") as file:
        groups = [group_of([(0, 10 * place + more, place, 0, 0.0, True) for more in range(3)]) for place in range(3)]
        write_file(file, SCHEMA, {"symbol": LABELS}, groups)
    found = [group.columns["id"][0] for group in read_coded(path, ["id"], ("at", first_ns, end_ns))]
    assert expected == found


def test_a_frame_has_the_schemas_columns_and_types():
    group = group_of([(1, 2**60 + 1, 3, 4, 0.1, True)])
    frame = make_frame(SCHEMA, group, {"symbol": LABELS})
    assert list(SCHEMA) == list(frame.columns)
    assert ["category", "datetime64[ns, UTC]", "int64", "int32", "float64", "bool"] == list(map(str, frame.dtypes))
    assert ("BTCUSDT", 2**60 + 1) == (frame["symbol"][0], frame["at"][0].value)


def test_records_may_lack_values():
    schema = {"name": "string", "at": "timestamp", "id": "int64"}
    frame = make_record_frame(schema, [("a", 5, 2**60 + 1), (None, None, None)])
    assert [[False, True]] * 3 == [frame[name].isna().tolist() for name in schema]
    assert ("a", 5, 2**60 + 1) == (frame["name"][0], frame["at"][0].value, frame["id"][0])
    assert list(map(str, frame.dtypes)) == list(map(str, make_record_frame(schema, []).dtypes))


@pytest.mark.parametrize("time", [None, "soon", True, "", 2**63, "9999-01-01", b"x", object()])
def test_what_is_no_time_is_told(time):
    with pytest.raises(ValueError, match=r"."):
        to_ns(time)
