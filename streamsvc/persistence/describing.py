"""A published file read back: what its manifest said, for a catalogue that has lost it. Sealers only."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsvc.errors import DamagedError
from streamsvc.persistence.decoding import Chunk
from streamsvc.persistence.manifest import Manifest, SealedFile
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.persistence.tables import ID_COLUMNS, LEVEL_KINDS, Table
from streamsvc.schema import MARKETS_BY_LABEL, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def describe_file(path: Path) -> Manifest:
    """The manifest of one file of the data set: its place, checksum, rows, and the streams in it.

    Args:
        path: The file, at its place below `DATA_DIR/parquet`.

    Raises:
        DamagedError: it is no whole file, or does not lie where the data set has such files.
    """
    try:
        kind = Kind.from_label(path.parents[2].name)
        market = MARKETS_BY_LABEL[path.parents[1].name.removeprefix("market=")]
    except KeyError as fault:
        raise DamagedError(f"{path} is no file of the data set by its place") from fault
    table, rows, times = Table(market, kind), 0, []
    wanted = ["symbol", "receive_time", "exchange_time", *filter(None, [ID_COLUMNS.get(kind)])]
    wanted += ["epoch"] if kind in ID_COLUMNS else []
    wanted += ["open_time", "is_closed"] if kind is Kind.KLINE_1M else []
    for group in read_row_groups(path, wanted):
        rows += len(group["symbol"])
        if not len(group["symbol"]):
            continue
        times += [int(group["exchange_time"].min()), int(group["exchange_time"].max())]
        _add(table, kind, group)
    streams, _ = table.finish()
    with path.open("rb") as raw:
        sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
    file = SealedFile(
        path="/".join(path.parts[-5:]),
        kind=kind.label,
        market=market.label,
        date=path.parent.name.removeprefix("date="),
        rows=rows,
        size_bytes=path.stat().st_size,
        sha256=sha256,
        first_exchange_ns=min(times, default=0),
        last_exchange_ns=max(times, default=0),
    )
    return Manifest(segment=path.stem, folder="", files=(file,), streams=tuple(streams))


def _add(table: Table, kind: Kind, group: dict[str, NDArray[Any]]) -> None:
    """Add the messages of a row group: of an order book, its first row."""
    if kind in LEVEL_KINDS:
        codes = np.unique(group["symbol"].astype(str), return_inverse=True)[1]
        is_first = np.zeros(len(codes), np.bool_)
        is_first[0] = True
        for column in (codes, group[ID_COLUMNS[kind]], group["receive_time"]):
            is_first[1:] |= np.diff(column) != 0
        group = {name: column[is_first] for name, column in group.items()}
    received_ns = group.pop("receive_time")
    epochs = group.pop("epoch", np.zeros(len(received_ns), np.int32))
    symbols = group.pop("symbol").tolist()
    table.add(Chunk({"symbol": symbols, **group}), received_ns, epochs)
