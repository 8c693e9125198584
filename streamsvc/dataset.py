"""Reading a data folder: one stream's rows as a DataFrame, and what is missing in them.

```python
from streamsvc import dataset

trades = dataset.load("data", "trade", "BTCUSDT", "2026-11-19", "2026-11-20", market="spot")
missing = dataset.gaps("data", "trade", "BTCUSDT", "2026-11-19", "2026-11-20", market="spot")
```

Both only read, and may run while the service records, publishes, compacts or removes old days: what is read is what the
catalogue listed at one moment. A file that is gone since then was replaced, and the reading begins again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsvc.errors import DamagedError, UsageError
from streamsvc.integrity.keys import KEY_COLUMNS
from streamsvc.integrity.revisions import SOURCES, latest, sum_deltas
from streamsvc.persistence.catalogue_reading import ReadingCatalogue
from streamsvc.persistence.compaction_names import may_hold
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.parquet import DataFrame, RowGroup, make_frame, make_record_frame, read_coded, to_ns
from streamsvc.schema import COLUMNS, DERIVED_KINDS, MARKETS_BY_LABEL, ColumnType, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from numpy.typing import NDArray

_ATTEMPTS = 20
_PAUSE_SEC = 0.1

_GAP_SCHEMA: dict[str, ColumnType] = {
    "gap": "int64",
    "market": "string",
    "symbol": "string",
    "kind": "string",
    "epoch": "int64",
    "first_id": "int64",
    "last_id": "int64",
    "first_time": "timestamp",
    "last_time": "timestamp",
    "cause": "string",
    "connection": "int64",
    "status": "string",
    "reason": "string",
    "opened": "timestamp",
    "closed": "timestamp",
}
"""The columns of `ReadingCatalogue.missing`, in its order."""

_DTYPES = {"timestamp": np.int64, "int64": np.int64, "int32": np.int32, "float64": np.float64, "bool": np.bool_}


def load(  # noqa: PLR0913 - what to read
    data_dir: str | Path,
    kind: str,
    symbol: str,
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    market: str | None = None,
) -> DataFrame:
    """The rows of one stream whose `exchange_time` is `start` or later and before `end`, each message once.

    Memory holds the rows of the result and of one row group. Of the files only those are read that may hold such rows,
    and of those only the row groups. Of `cvd_1m` all minutes up to `end` are read: its `cvd` is summed anew from the
    latest `delta` of each, exact to the last digit; see `integrity.revisions` for where the sum begins and starts over.

    Args:
        data_dir: `DATA_DIR` of the service.
        kind: The folder's name, e.g. `trade`.
        symbol: E.g. `BTCUSDT`.
        start: A datetime, a pandas Timestamp, an ISO text or nanoseconds since 1970; UTC where it has no time zone.
        end: The same.
        market: `spot` or `futures`; may be left out where the kind of this symbol is recorded in one of them only.

    Returns:
        The columns of the kind as in `schema.COLUMNS`: times with nanoseconds in UTC, strings as categories. In the
        order of epoch and id; kinds without ids in that of `exchange_time`. Of a message that was recorded twice the
        row that was received first; kinds whose rows nothing identifies keep every row. Derived kinds come in the order
        of `open_time`, of each the row with the highest `revision`.

    Raises:
        UsageError: the folder, kind, symbol, market or time is wrong; the text says what.
        DamagedError: a file is damaged, or listed and not there.
        OSError: a file cannot be read.
    """
    with _open(data_dir) as catalogue:
        stream = _stream(catalogue, kind, symbol, market)
        first_ns, end_ns = _times(start, end)
        folder = DataFolder(Path(data_dir))
        gone: OSError | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SEC)
            paths = catalogue.files_between(*stream, _read_from(stream[0], first_ns), end_ns)
            try:
                return _load([folder.root / path for path in paths], stream[0], symbol, first_ns, end_ns)
            except FileNotFoundError as fault:
                gone = fault
    raise DamagedError(
        f"the catalogue lists a file that is not there ({gone}); where a compaction was killed, the next start of the "
        "service or `streamsvc compact` ends it"
    ) from gone


def gaps(  # noqa: PLR0913 - what to read
    data_dir: str | Path,
    kind: str,
    symbol: str,
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    market: str | None = None,
) -> DataFrame:
    """What is missing in `load` with the same arguments, from the gap ledger: a row a gap that is not repaired.

    Args:
        data_dir: See `load`.
        kind: See `load`.
        symbol: See `load`.
        start: See `load`; a gap that reaches into the time is told whole.
        end: See `load`.
        market: See `load`.

    Returns:
        `gap` (its number), `market`, `symbol`, `kind`, `epoch`, `first_id` and `last_id` (both missing), `first_time`
        and `last_time` (around it), `cause`, `connection`, `status`, `reason`, `opened`, `closed`; in id order. Of a
        derived kind it is what is missing of the kinds that it is computed of, which `kind` names: of `cvd_1m` and
        `bars_1m` trades, of `ofi_1s` and `ofi_1m` best quotes, of `prices_1s` both.

    Raises:
        UsageError: see `load`.
        DamagedError: the catalogue is damaged.
    """
    with _open(data_dir) as catalogue:
        stream = _stream(catalogue, kind, symbol, market)
        kinds = _sources(catalogue, *stream, symbol)
        times = _times(start, end)
        records = [record for each in kinds for record in catalogue.missing(each, stream[1], symbol, *times)]
        return make_record_frame(_GAP_SCHEMA, records)


def _open(data_dir: str | Path) -> AbstractContextManager[ReadingCatalogue]:
    folder = DataFolder(Path(data_dir))
    if not folder.catalogue.is_file():
        raise UsageError(f"{folder.root} is not a data folder of streamsvc: it has no {folder.catalogue.name}")
    return ReadingCatalogue.open_to_read(folder.catalogue)


def _stream(catalogue: ReadingCatalogue, kind: str, symbol: str, market: str | None) -> tuple[Kind, Market]:
    try:
        of_kind = Kind.from_label(kind)
    except KeyError:
        raise UsageError(f"{kind!r} is no kind; there are {', '.join(each.label for each in Kind)}") from None
    if market is not None and market not in MARKETS_BY_LABEL:
        raise UsageError(f"{market!r} is no market; there are {', '.join(MARKETS_BY_LABEL)}")
    markets = catalogue.markets_of(of_kind, symbol)
    if market is None and len(markets) > 1:
        raise UsageError(f"{kind} of {symbol} is recorded in {' and '.join(markets)}: say which with market=")
    wanted = market or next(iter(markets), None)
    if wanted not in markets:
        raise UsageError(f"{kind} of {symbol!r} was never recorded" + (f" in {market}" if market else ""))
    return of_kind, MARKETS_BY_LABEL[wanted]


def _sources(catalogue: ReadingCatalogue, kind: Kind, market: Market, symbol: str) -> list[Kind]:
    """The kinds whose gaps make a kind incomplete: of a derived one those that it is computed of, else itself."""
    return [
        next((each for each in choices if market.label in catalogue.markets_of(each, symbol)), choices[0])
        for choices in SOURCES.get(kind, ((kind,),))
    ]


def _read_from(kind: Kind, first_ns: int) -> int:
    """From when on rows are read, so that those from a time on can be told."""
    return min(first_ns, 0) if kind is Kind.CVD_1M else first_ns


def _times(start: datetime | str | int, end: datetime | str | int) -> tuple[int, int]:
    try:
        first_ns, end_ns = to_ns(start), to_ns(end)
    except ValueError as fault:
        raise UsageError(f"start and end are times, e.g. 2026-11-20T08:00: {fault}") from fault
    if end_ns < first_ns:
        raise UsageError(f"the end {end} lies before the start {start}")
    return first_ns, end_ns


def _load(paths: list[Path], kind: Kind, symbol: str, first_ns: int, end_ns: int) -> DataFrame:
    schema = COLUMNS[kind]
    gathered, from_ns = _Gathered(schema), _read_from(kind, first_ns)
    for path in paths:
        if may_hold(path.name, symbol):
            for group in read_coded(path, list(schema), ("exchange_time", from_ns, end_ns)):
                gathered.add(group, _chosen(group, symbol, from_ns, end_ns))
    columns, labels = gathered.finish()
    order = latest(columns) if kind in DERIVED_KINDS else _order(kind, columns)
    if kind is Kind.CVD_1M:
        columns["cvd"][order] = sum_deltas(columns)
        order = order[columns["open_time"][order] >= first_ns]
    return make_frame(schema, {name: columns.pop(name)[order] for name in schema}, labels)


def _chosen(group: RowGroup, symbol: str, first_ns: int, end_ns: int) -> NDArray[np.bool_]:
    times = group.columns["exchange_time"]
    symbols = group.labels["symbol"]
    code = symbols.index(symbol) if symbol in symbols else -1
    chosen: NDArray[np.bool_] = (group.columns["symbol"] == code) & (times >= first_ns) & (times < end_ns)
    return chosen


class _Gathered:
    """Rows of several files, with one set of codes for the texts of all."""

    def __init__(self, schema: Mapping[str, ColumnType]) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {
            name: [np.empty(0, _DTYPES.get(kind, np.int32))] for name, kind in schema.items()
        }
        self._labels: dict[str, dict[str, int]] = {name: {} for name, kind in schema.items() if kind == "string"}

    def add(self, group: RowGroup, chosen: NDArray[np.bool_]) -> None:
        for name, parts in self._parts.items():
            values = group.columns[name][chosen]
            if name in self._labels:
                values = self._recoded(name, values, group.labels[name])
            parts.append(values)

    def _recoded(self, name: str, codes: NDArray[Any], texts: list[str]) -> NDArray[np.int32]:
        """The same texts in our codes. Texts that no row has are left out."""
        places = np.zeros(len(texts), np.int32)
        labels = self._labels[name]
        for code in np.unique(codes).tolist():
            places[code] = labels.setdefault(texts[code], len(labels))
        recoded: NDArray[np.int32] = places[codes]
        return recoded

    def finish(self) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
        """All columns, and the texts of the codes in their order."""
        # Each column leaves the parts as it is joined, so that the rows are in memory once.
        columns = {name: np.concatenate(self._parts.pop(name)) for name in list(self._parts)}
        texts = {name: sorted(labels) for name, labels in self._labels.items()}
        for name, labels in self._labels.items():
            places = {text: place for place, text in enumerate(texts[name])}
            columns[name] = np.array([places[text] for text in labels], np.int32)[columns[name]]
        return columns, texts


def _order(kind: Kind, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """The places of the rows to keep, in order."""
    first = columns["epoch" if "epoch" in columns else "exchange_time"]
    keys = [_as_int64(columns[name]) for name in KEY_COLUMNS.get(kind, ())]
    order = np.lexsort((columns["receive_time"], *reversed(keys), first))
    if not keys:
        return order
    is_new = np.zeros(len(order), np.bool_)
    is_new[:1] = True
    for key in [first, *keys]:
        is_new[1:] |= np.diff(key[order]) != 0
    return order[is_new]


def _as_int64(values: NDArray[Any]) -> NDArray[np.int64]:
    """The same equalities as int64: floats by their bits."""
    return values.view(np.int64) if values.dtype.kind == "f" else values.astype(np.int64)
