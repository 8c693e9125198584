"""What lies in a data folder, as rows by id: read from the journal as it is, and from the Parquet files.

The two readings share nothing but the journal's frames, so that they can be held against each other.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pyarrow.compute
import pyarrow.parquet

from streamsvc.batch import Block
from streamsvc.gap import NOTE_KIND
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.archive import archived_dates, archived_segments
from streamsvc.persistence.compression import decompress_file
from streamsvc.persistence.journal import read_segment
from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.schema import Kind, Source

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.integrity.report import Report

    Stream = tuple[str, str, str]
    """Market, symbol and kind."""

    Rows = dict[Stream, Counter[int]]
    """Of every stream, how many rows stand under each id."""

ID_FIELDS = {"trade": "t", "aggTrade": "a", "depth": "u", "bookTicker": "u"}
ID_COLUMNS = {"trade": "trade_id", "aggTrade": "agg_trade_id", "depth": "final_update_id", "bookTicker": "update_id"}
CHAINED = ("trade", "aggTrade")
"""Kinds whose ids grow by one, so that a hole can be counted."""


def segments(data: Path) -> list[SegmentName]:
    """The segments in the journal."""
    return DataFolder(data).segments() if DataFolder(data).journal.is_dir() else []


def journal_rows(data: Path) -> Rows:
    """What the journal's whole frames would become."""
    rows = defaultdict(Counter)
    for name in segments(data):
        try:
            content = DataFolder(data).segment(name).read_bytes()
        except FileNotFoundError:
            continue  # It has become part of the data set meanwhile.
        _add_rows(rows, content, name)
    return rows


def archive_rows(data: Path, scratch: Path) -> Rows:
    """The same of the archive's segments: what its messages would become."""
    rows, folder = defaultdict(Counter), DataFolder(data)
    for date in archived_dates(folder):
        for segment in archived_segments(folder, date):
            decompress_file(segment.path, scratch)
            _add_rows(rows, scratch.read_bytes(), segment.name)
    return rows


def _add_rows(rows: Rows, content: bytes, name: SegmentName) -> None:
    for item in read_segment(content, name):
        if isinstance(item, Block) and item.source is not Source.DERIVED:
            for kind_number, text in zip(item.kinds, item.messages, strict=True):
                if kind_number in (NOTE_KIND, Kind.DEPTH_SNAPSHOT, Kind.INSTRUMENT):
                    continue
                kind, message = Kind(kind_number).label, json.loads(text)
                fields = message["data"]
                symbol = fields["s"] if item.source is Source.STREAM else message["symbol"]
                field = "id" if item.source is Source.REST and kind == "trade" else ID_FIELDS[kind]
                count = max(1, len(fields["b"]) + len(fields["a"])) if kind == "depth" else 1
                rows[item.market.label, symbol, kind][fields[field]] += count


def rows_by_run(data: Path, *, with_fetched: bool) -> dict[int, Rows]:
    """What the Parquet files hold, whoever knows them, by the number of the run that recorded it.

    Rows that were fetched over REST fill the holes that earlier runs have left.
    """
    runs = defaultdict(lambda: defaultdict(Counter))
    for path in (data / "parquet").rglob("*.parquet"):
        kind, market = path.parts[-4], path.parts[-3].removeprefix("market=")
        if kind not in ID_COLUMNS:
            continue
        rows = runs[SegmentName.parse(path.stem).run]
        table = pyarrow.parquet.ParquetFile(path).read()
        if not with_fetched and "is_backfilled" in table.column_names:
            table = table.filter(pyarrow.compute.invert(table["is_backfilled"]))
        table = table.select(["symbol", ID_COLUMNS[kind]])
        for symbol, number in zip(*(column.to_pylist() for column in table.columns), strict=True):
            rows[market, symbol, kind][number] += 1
    return runs


def data_set_rows(data: Path) -> Rows:
    """What the Parquet files of all runs hold."""
    all_rows = defaultdict(Counter)
    for rows in rows_by_run(data, with_fetched=True).values():
        for stream, counts in rows.items():
            all_rows[stream] += counts
    return all_rows


def missing_or_changed(expected: Rows, actual: Rows) -> list[tuple[Stream, int, int, int]]:
    """Every id that is not there as often as it must be: stream, id, expected rows, actual rows."""
    return [
        (stream, number, count, actual.get(stream, {}).get(number, 0))
        for stream, counts in expected.items()
        for number, count in counts.items()
        if actual.get(stream, {}).get(number, 0) != count
    ]


def holes(rows: Rows) -> dict[Stream, int]:
    """How many times the ids jump of streams that count them; those that never do are left out."""
    found = {}
    for stream, counts in rows.items():
        if stream[2] in CHAINED:
            numbers = sorted(counts)
            jumps = sum(after != before + 1 for before, after in itertools.pairwise(numbers))
            if jumps:
                found[stream] = jumps
    return found


def merge(into: Rows, rows: Rows) -> None:
    """Add what another look has found; an id seen before must have as many rows as before."""
    for stream, counts in rows.items():
        for number, count in counts.items():
            assert into[stream].setdefault(number, count) == count, (stream, number)


def verified(data: Path) -> Report:
    """The report on a folder without damage, without anything twice, without anything left to do."""
    report = verify_folder(data)
    assert [] == report.errors
    assert 0 == report.unsealed_segments
    assert 0 == report.quarantined
    assert [] == list((data / "tmp").iterdir())
    return report
