"""Parquet files: the only importer of fastparquet and pandas, so that another writer is a change of one file.

Imported in sealers and by what reads: the recorder's own process never pays for it. Strings are dictionary-encoded
with the same categories in every row group; timestamps are nanoseconds in UTC; no column has nulls; types come from the
schema and never from the values. The same rows give the same bytes.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pandas as pd
from fastparquet import ParquetFile
from fastparquet.api import filter_row_groups
from fastparquet.writer import make_metadata, write_simple

from streamsvc.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from streamsvc.schema import ColumnType

DataFrame = pd.DataFrame
"""What readers of the data set are given."""

_DTYPES: dict[str, str] = {
    "timestamp": "datetime64[ns, UTC]",
    "int64": "int64",
    "int32": "int32",
    "float64": "float64",
    "bool": "bool",
}


def write_file(
    file: IO[bytes],
    schema: Mapping[str, ColumnType],
    categories: Mapping[str, Sequence[str]],
    row_groups: Iterable[Mapping[str, NDArray[Any]]],
) -> None:
    """Write a whole Parquet file; the caller syncs and closes it.

    Args:
        file: Open for writing; only `write` and `tell` are used.
        schema: The columns in their order, with their types.
        categories: For each string column, all values that occur.
        row_groups: One mapping a row group: columns of equal length; timestamps as int64 ns since 1970, strings as
            integer codes into `categories`.
    """
    dtypes = {
        name: pd.CategoricalDtype(pd.Index(categories[name], dtype=object)) if kind == "string" else _DTYPES[kind]
        for name, kind in schema.items()
    }
    empty = pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in dtypes.items()})
    encodings = {name: "utf8" for name, kind in schema.items() if kind == "string"}
    metadata = make_metadata(empty, has_nulls=False, object_encoding=encodings, times="int64", index_cols=[])
    frames = (
        pd.DataFrame({name: _as_series(columns[name], dtypes[name]) for name in schema}, copy=False)
        for columns in row_groups
    )
    write_simple(file, frames, metadata, compression="ZSTD", has_nulls=False, stats="auto")


def _as_series(values: NDArray[Any], dtype: Any) -> pd.Series[Any]:
    if isinstance(dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical.from_codes(values, dtype=dtype, validate=False))
    if str(dtype).startswith("datetime64"):
        # The schema says UTC; with a time zone on the values fastparquet would use what pandas is about to change.
        return pd.Series(values.view("M8[ns]"), copy=False)
    assert values.dtype == dtype, f"{values.dtype} is not {dtype}"
    return pd.Series(values, copy=False)


def read_row_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, NDArray[Any]]]:
    """The columns of a file, one row group at a time, so that memory stays bounded.

    Args:
        path: The file.
        columns: Which columns; None: all.

    Yields:
        Columns by name: timestamps as int64 ns since 1970, strings as arrays of `str` objects.

    Raises:
        DamagedError: it is no whole Parquet file, or lacks one of the columns.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, _faults_mapped(path):
        for row_group in ParquetFile(file):
            frame = row_group.to_pandas(columns=list(columns) if columns is not None else None)
            yield {name: _as_array(frame[name]) for name in frame.columns}


def read_types(path: Path) -> dict[str, str]:
    """The types of a file's columns in their order, in the schema's words; any other word for what it does not have.

    Raises:
        DamagedError: it is no whole Parquet file.
        OSError: it cannot be read.
    """
    words = {"category": "string", **{dtype: word for word, dtype in _DTYPES.items()}}
    with path.open("rb") as file, _faults_mapped(path):
        return {name: words.get(str(dtype), str(dtype)) for name, dtype in ParquetFile(file).dtypes.items()}


@attrs.frozen
class RowGroup:
    """Rows of a file, of equal length in every column.

    Attributes:
        columns: By name: timestamps as int64 ns since 1970, strings as integer codes into `labels`.
        labels: For each string column, the texts of its codes.
    """

    columns: dict[str, NDArray[Any]]
    labels: dict[str, list[str]]


def read_coded(path: Path, columns: Sequence[str], between: tuple[str, int, int] | None = None) -> Iterator[RowGroup]:
    """The columns of a file, one row group at a time, with strings as codes: ten times cheaper than texts.

    Args:
        path: The file.
        columns: Which columns.
        between: A timestamp column and two times in ns: row groups that have no row with first <= time < second are
            passed over. Those that have one are given whole.

    Raises:
        DamagedError: it is no whole Parquet file, or lacks one of the columns.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, _faults_mapped(path):
        groups = ParquetFile(file)
        places: Sequence[int] = range(len(groups))
        if between is not None:
            name, first_ns, end_ns = between
            bounds = [(name, ">=", np.datetime64(first_ns, "ns")), (name, "<", np.datetime64(end_ns, "ns"))]
            places = filter_row_groups(groups, [bounds], as_idx=True)
        for place in places:
            frame = groups[place].to_pandas(columns=list(columns))
            labels: dict[str, list[str]] = {}
            yield RowGroup({name: _as_codes(frame[name], labels) for name in columns}, labels)


def _as_codes(series: pd.Series[Any], labels: dict[str, list[str]]) -> NDArray[Any]:
    if not isinstance(series.dtype, pd.CategoricalDtype):
        return _as_array(series)
    labels[str(series.name)] = series.cat.categories.tolist()
    return series.cat.codes.to_numpy()


def make_frame(
    schema: Mapping[str, ColumnType],
    columns: Mapping[str, NDArray[Any]],
    labels: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """A DataFrame of columns as in a `RowGroup`: times in UTC, strings as categories."""
    made: dict[str, Any] = {}
    for name, kind in schema.items():
        if kind == "string":
            dtype = pd.CategoricalDtype(pd.Index(list(labels[name]), dtype="str"))
            made[name] = pd.Categorical.from_codes(columns[name], dtype=dtype)
        else:
            made[name] = _as_times(columns[name]) if kind == "timestamp" else columns[name]
    return pd.DataFrame(made, copy=False)


def make_record_frame(schema: Mapping[str, ColumnType], records: Sequence[Sequence[int | str | None]]) -> pd.DataFrame:
    """A DataFrame of a few records, one value a column; None becomes what pandas takes for missing."""
    made: dict[str, Any] = {}
    for place, (name, kind) in enumerate(schema.items()):
        values: list[Any] = [record[place] for record in records]
        if kind == "timestamp":
            numbers = [_NO_TIME if value is None else value for value in values]
            made[name] = _as_times(np.array(numbers, np.int64))
        else:
            made[name] = pd.Series(values, dtype="str" if kind == "string" else "Int64")
    return pd.DataFrame(made)


_NO_TIME = np.iinfo(np.int64).min
"""What pandas takes for no time at all."""


def _as_times(nanoseconds: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(nanoseconds.view("M8[ns]")).tz_localize("UTC")


def to_ns(time: datetime | str | int) -> int:
    """Nanoseconds since 1970 of a datetime, a pandas Timestamp, an ISO text or nanoseconds.

    What has no time zone is UTC.

    Raises:
        ValueError: it is none of these, or beyond what 64 bits hold.
    """
    try:
        stamp = pd.Timestamp(time)
        nanoseconds = int(stamp.as_unit("ns").value)
    except TypeError as fault:
        raise ValueError(str(fault)) from fault
    if nanoseconds == _NO_TIME:
        raise ValueError("no time")
    return nanoseconds


@contextmanager
def _faults_mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as fault:
        # fastparquet raises whatever its parser stumbles over; EINVAL is a seek to before the beginning.
        if isinstance(fault, OSError) and fault.errno != errno.EINVAL:
            raise
        raise DamagedError(f"{path} cannot be read: {fault!r}") from fault


def _as_array(series: pd.Series[Any]) -> NDArray[Any]:
    if isinstance(series.dtype, pd.CategoricalDtype):
        labels = np.array(series.cat.categories, dtype=object)
        return labels[series.cat.codes.to_numpy()]
    if series.dtype.kind == "M":
        return series.to_numpy(dtype="M8[ns]").view(np.int64)
    return series.to_numpy()


_NULLABLE_DTYPES: dict[str, str] = {
    "timestamp": "datetime64[ns]",
    "int64": "Int64",
    "float64": "float64",
    "bool": "boolean",
    "string": "object",
}


def write_records(
    file: IO[bytes], schema: Mapping[str, ColumnType], row_groups: Iterable[Mapping[str, Sequence[Any]]]
) -> None:
    """Write a whole Parquet file of values that may be missing; the caller syncs and closes it.

    Args:
        file: Open for writing.
        schema: The columns in their order, with their types.
        row_groups: One mapping a row group: columns of equal length; timestamps as int64 ns since 1970 in UTC, None
            where there is no value.
    """

    def frame_of(columns: Mapping[str, Sequence[Any]]) -> DataFrame:
        made = {}
        for name, kind in schema.items():
            values = columns[name]
            if kind == "timestamp":
                made[name] = pd.Series(
                    pd.to_datetime(pd.array(values, dtype="Int64"), unit="ns"), dtype="datetime64[ns]"
                )
            else:
                made[name] = pd.Series(list(values), dtype=_NULLABLE_DTYPES[kind])
        return pd.DataFrame(made)

    empty = frame_of({name: [] for name in schema})
    encodings = {name: "utf8" for name, kind in schema.items() if kind == "string"}
    metadata = make_metadata(empty, has_nulls=True, object_encoding=encodings, times="int64", index_cols=[])
    write_simple(file, map(frame_of, row_groups), metadata, compression="ZSTD", has_nulls=True, stats="auto")
