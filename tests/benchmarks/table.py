"""An aligned table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings: numbers to the right with separators of thousands, the rest to the left."""
    texts = [[f"{cell:,}" if isinstance(cell, int | float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    is_number = [
        all(isinstance(cell, int | float) or not cell for cell in column) for column in zip(*rows, strict=True)
    ]
    for line in [headings, ["-" * width for width in widths], *texts]:
        cells = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, is_number, strict=True)
        ]
        print("  ".join(cells).rstrip())
