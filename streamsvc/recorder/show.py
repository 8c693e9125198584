"""What `streamsvc trades` does: records shown, filtered, followed, and converted to Parquet."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from streamsvc.errors import UsageError
from streamsvc.recorder.flat import flatten
from streamsvc.recorder.reading import follow_trades, read_trades
from streamsvc.recorder.to_parquet import write_parquet
from streamsvc.terminal import console, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from streamsvc.errors import DamagedError

SHOWN = 20
"""So many records a table has where nobody says how many."""


@attrs.frozen
class Filter:
    """Which records are wanted.

    Attributes:
        wanted: Fields, nested ones with dots, and the text that their value must be.
    """

    wanted: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Filter:
        """Of `FIELD=VALUE`.

        Raises:
            UsageError: one has no `=`.
        """
        pairs = [text.partition("=") for text in texts]
        for name, sign, _ in pairs:
            if not sign:
                raise UsageError(f"--where {name}: say FIELD=VALUE, for example symbol=BTCUSDT")
        return cls(tuple((name, value) for name, _, value in pairs))

    def passes(self, record: dict[str, Any]) -> bool:
        """Whether a record is wanted."""
        if not self.wanted:
            return True
        flat = flatten(record)
        return all(name in flat and _text_of(flat[name]) == value for name, value in self.wanted)


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
        UsageError: a filter or the target is wrong, or options exclude each other.
        FileNotFoundError: there is nothing to read.
    """
    if is_following + (last is not None) + (target is not None) > 1:
        raise UsageError("--follow, --last and --to-parquet exclude each other")
    wanted = Filter.parse(wheres)
    faults: list[DamagedError] = []
    errors = console(is_error=True)

    def tell(fault: DamagedError) -> None:
        faults.append(fault)
        errors.print(f"streamsvc: {fault}")

    def read() -> Iterator[dict[str, Any]]:
        return filter(wanted.passes, read_trades(path, tell))

    if target is not None:
        count = write_parquet(read, target)
        console().print(f"{count:,} records: {target}")
    elif is_following:
        _print_json(filter(wanted.passes, follow_trades(path, tell)))
    elif as_json:
        _print_json(read() if last is None else deque(read(), last))
    else:
        _print_table(read(), last or SHOWN)
    return not faults


def _print_json(records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        sys.stdout.buffer.write(msgspec.json.encode(record) + b"\n")
        sys.stdout.buffer.flush()


def _print_table(records: Iterator[dict[str, Any]], most: int) -> None:
    count, shown = 0, deque[dict[str, Any]](maxlen=most)
    for count, record in enumerate(records, 1):  # noqa: B007 - it is how many there were
        shown.append(record)
    headings, rows, numbers = as_table(shown)
    if rows:
        console().print(table("", headings, rows, numbers=numbers))
    more = "; --last N shows more, --json all" if count > len(shown) else ""
    console(is_error=True).print(f"{len(shown):,} of {count:,} records{more}")


def as_table(records: Iterable[dict[str, Any]]) -> tuple[list[str], list[list[str]], list[str]]:
    """Headings, cells, and which headings are those of numbers: a column for every field that a record has."""
    rows = [flatten(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text_of(row[name]) if row.get(name) is not None else "" for name in names] for row in rows]
    numbers = [name for name in names if all(_is_number(row.get(name)) for row in rows)]
    return names, cells, numbers


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
