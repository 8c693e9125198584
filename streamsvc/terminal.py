"""Tables for people: aligned in a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO

__all__ = ["Console", "Table", "console", "plain_console", "renewing", "table"]

_PLAIN_WIDTH = 200


def console(*, is_error: bool = False) -> Console:
    """A console that colours only in a terminal and never wraps into pipes and files."""
    stream = sys.stderr if is_error else sys.stdout
    return Console(
        file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, markup=False, soft_wrap=True
    )


def plain_console(file: IO[str]) -> Console:
    """A console that prints plain lines into a file, and never wraps."""
    return Console(file=file, width=_PLAIN_WIDTH, highlight=False, markup=False, soft_wrap=True, no_color=True)


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()
) -> Table:
    """A table without frames; the columns named in `numbers` stand flush right."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return made


@contextmanager
def renewing(out: Console) -> Iterator[Callable[[Table], None]]:
    """A place in a terminal for a table that changes; what is printed meanwhile stands above it."""
    with Live(console=out, auto_refresh=False) as live:
        yield lambda changed: live.update(changed, refresh=True)
