"""The command `streamsvc report`: a day's quality as tables, as JSON, and as two files that are never half-written."""

from __future__ import annotations

import os
import sys
from io import StringIO
from typing import TYPE_CHECKING

import orjson

from streamsvc.errors import UsageError
from streamsvc.integrity.latency_histogram import PERCENTILES
from streamsvc.integrity.quality_results import percent
from streamsvc.integrity.rebuild import time_text
from streamsvc.integrity.timeline import drawn, legend, ruler
from streamsvc.persistence.files import DISK_FAULTS, written_whole
from streamsvc.persistence.layout import DataFolder
from streamsvc.terminal import Console, console, plain_console, table

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.integrity.latency_histogram import Latency
    from streamsvc.integrity.quality_results import DayQuality, StreamQuality

_LINES_MAX = 50
_BLOCKS = "█·"


def quality_json(quality: DayQuality) -> bytes:
    """The report as JSON."""
    return orjson.dumps(quality.as_json(), option=orjson.OPT_INDENT_2)


def require_outside(out: Path, root: Path) -> None:
    """Check that a report would not lie where readers of the data set find it.

    Raises:
        UsageError: it would.
    """
    parquet = DataFolder(root).parquet.resolve()
    if out.resolve().is_relative_to(parquet):
        raise UsageError(f"{out} lies within the data set ({parquet}), whose readers would find the report")


def write_report(quality: DayQuality, folder: Path) -> list[Path]:
    """Write `<day>.json` and `<day>.txt` into a folder, which is made; whoever looks finds whole files.

    Raises:
        UsageError: the folder cannot be written.
    """
    text = StringIO()
    _print(quality, plain_console(text), is_fine=False)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, data in ((".json", quality_json(quality) + b"\n"), (".txt", text.getvalue().encode())):
            target = folder / f"{quality.date}{suffix}"
            with written_whole(target, part=target.with_name(f".{target.name}.{os.getpid()}")) as file:
                file.write(data)
            written.append(target)
    except DISK_FAULTS as fault:
        raise UsageError(f"the report cannot be written: {fault}") from fault
    return written


def print_quality(quality: DayQuality) -> None:
    """Print it for people."""
    _print(quality, console(), is_fine=sys.stdout.isatty() and _has_blocks(sys.stdout.encoding))


def _has_blocks(encoding: str | None) -> bool:
    try:
        _BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _print(quality: DayQuality, out: Console, *, is_fine: bool) -> None:
    headings = ("market", "symbol", "kind", "messages", "fetched", "ids", "time", "gaps", "missing", "repaired",
                "silence s", "p50 ms", "p90", "p99", "max")  # fmt: skip
    out.print(table(f"streams of {quality.date}", headings, map(_stream_row, quality.streams), numbers=headings[3:]))
    _print_timeline(quality, out, is_fine=is_fine)
    _print_books(quality, out)
    _print_gaps(quality, out)
    for error in quality.errors[:_LINES_MAX]:
        out.print(f"error: {error}")
    _print_more(out, len(quality.errors))
    _print_totals(quality, out)
    out.print(quality.verdict(), style="bold")


def _stream_row(stream: StreamQuality) -> tuple[object, ...]:
    return (
        stream.market,
        stream.symbol,
        stream.kind,
        stream.messages,
        stream.backfilled or "-",
        "-" if stream.ids_share is None else percent(stream.ids_share),
        percent(stream.time_share),
        len(stream.gaps) if stream.gaps or stream.ids_missing is not None else "-",
        "-" if stream.ids_missing is None else stream.ids_missing,
        stream.repaired or "-",
        stream.silence_sec,
        *_latency_cells(stream.latency),
    )


def _latency_cells(latency: Latency | None) -> list[str]:
    if latency is None:
        return ["-"] * 4
    by_percent = dict(zip(PERCENTILES, latency.percentiles_ns, strict=True))
    return [f"{ns / 10**6:,.1f}" for ns in (by_percent[50], by_percent[90], by_percent[99], latency.greatest_ns)]


def _print_timeline(quality: DayQuality, out: Console, *, is_fine: bool) -> None:
    rows = [(s.market, s.symbol, s.kind, drawn(s.cells, is_fine=is_fine)) for s in quality.streams]
    out.print(table("the day, by half hours (UTC)", ("market", "symbol", "kind", ruler()), rows))
    out.print(", ".join(legend(is_fine=is_fine)))


def _print_books(quality: DayQuality, out: Console) -> None:
    rows = [
        (s.market, s.symbol, s.messages, s.snapshots.after_gap, s.snapshots.at_start, s.snapshots.by_interval)
        for s in quality.streams
        if s.snapshots
    ]
    if rows:
        headings = ("market", "symbol", "snapshots", "after a gap", "at the start", "by interval")
        out.print(table("order books", headings, rows, numbers=headings[2:]))


def _print_gaps(quality: DayQuality, out: Console) -> None:
    rows = [
        (g.market, g.symbol, g.kind, str(g.first_missing_id), "-" if g.ids is None else g.ids,
         "-" if g.first_time_ns is None else time_text(g.first_time_ns),
         "-" if g.last_time_ns is None else time_text(g.last_time_ns), g.status, g.cause)
        for g in quality.gaps[:_LINES_MAX]
    ]  # fmt: skip
    if rows:
        headings = ("market", "symbol", "kind", "first missing", "ids", "from", "to", "status", "cause")
        out.print(table("gaps", headings, rows, numbers=headings[3:5]))
        _print_more(out, len(quality.gaps))


def _print_totals(quality: DayQuality, out: Console) -> None:
    described = quality.as_json()
    share = "" if quality.ids_share is None else f" ({percent(quality.ids_share)} are there)"
    out.print(
        f"{quality.total('rows'):,} rows in {quality.files:,} files; {quality.total('ids_missing'):,} ids are missing"
        f"{share}, {quality.total('repaired_ids'):,} were repaired; {quality.total('backfilled'):,} messages fetched"
    )
    for what in ("status", "cause"):
        if counts := described[f"gaps_by_{what}"]:
            out.print(f"gaps by {what}: {', '.join(f'{count:,} {word}' for word, count in counts.items())}")
    out.print(f"{quality.resynchronisations:,} order books were synchronised again after a gap")
    p50, p90, p99, greatest = _latency_cells(quality.latency)
    out.print(f"latency of all streams in ms, within 1.6 %: p50 {p50}, p90 {p90}, p99 {p99}, max {greatest}")
    if quality.quarantined:
        kept = ", ".join(f"{count:,} {reason}" for reason, count in sorted(quality.quarantined.items()))
        out.print(f"kept as text, since they could not be decoded: {kept}")
    if quality.unsealed_segments:
        out.print(f"{quality.unsealed_segments:,} journal segments are not sealed yet, and not in here")


def _print_more(out: Console, count: int) -> None:
    if count > _LINES_MAX:
        out.print(f"... and {count - _LINES_MAX:,} more; --json has all")
