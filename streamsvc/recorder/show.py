"""What `streamsvc trades` prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.recorder.command import Filter, last_of, table_rows, write_parquet
from streamsvc.recorder.reading import follow_trades, read_trades
from streamsvc.terminal import console, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from streamsvc.errors import DamagedError

SHOWN_IN_TERMINAL = 20


def show_trades(  # noqa: PLR0913 - a command's arguments
    path: Path,
    wheres: Sequence[str],
    *,
    last: int | None,
    as_json: bool,
    is_following: bool,
    target: Path | None,
) -> bool:
    """Show, follow or convert; returns whether everything could be read.

    Raises:
        UsageError: a filter or the target is wrong.
        FileNotFoundError: there is nothing to read.
    """
    wanted = Filter.parse(wheres)
    faults: list[DamagedError] = []

    def tell(fault: DamagedError) -> None:
        faults.append(fault)
        console(is_error=True).print(f"streamsvc: {fault}")

    def read() -> Iterator[dict[str, Any]]:
        return filter(wanted.passes, read_trades(path, tell))

    if target is not None:
        count = write_parquet(read, target)
        console().print(f"{count:,} records: {target}")
    elif is_following:
        _print_json(filter(wanted.passes, follow_trades(path, tell)))
    elif as_json:
        _print_json(read() if last is None else last_of(read(), last))
    else:
        most = last if last is not None or not sys.stdout.isatty() else SHOWN_IN_TERMINAL
        headings, rows = table_rows(last_of(read(), most))
        console().print(table("", headings, rows))
    return not faults


def _print_json(records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        sys.stdout.buffer.flush()
