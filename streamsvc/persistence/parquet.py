"""Parquet files: the only importer of fastparquet and pandas, so that another writer is a change of one file.

Imported in sealers and by `verify` only: the recorder's own process never pays for it. Strings are dictionary-encoded
with the same categories in every row group; timestamps are nanoseconds in UTC; no column has nulls; types come from the
schema and never from the values. The same rows give the same bytes.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from fastparquet import ParquetFile
from fastparquet.writer import make_metadata, write_simple

from streamsvc.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from streamsvc.schema import ColumnType

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
