"""A stream's day as a line of characters (pure): a look tells when something was missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

CELLS = 48
DATA, GAP, SILENT, NOT_RECORDED = "#", "x", ".", " "
"""Messages came; something is missing; nothing came; nobody recorded."""

_DAY_SECONDS = 86_400
_CELL_SECONDS = _DAY_SECONDS // CELLS
_FINE = str.maketrans({DATA: "█", SILENT: "·"})


def cells_of(seconds: NDArray[Any], recorded: tuple[float, float], missing: Iterable[tuple[float, float]]) -> str:
    """A character for each half hour; the worst that it holds counts.

    Args:
        seconds: For each second of the day, whether a message is of it.
        recorded: From which second to which somebody recorded.
        missing: From when to when something is missing, in seconds of the day.
    """
    has_data = [bool(cell.any()) for cell in seconds.reshape(CELLS, _CELL_SECONDS)]
    cells = [DATA if has else SILENT for has in has_data]
    for place in range(CELLS):
        is_recorded = recorded[0] < (place + 1) * _CELL_SECONDS and recorded[1] > place * _CELL_SECONDS
        if not is_recorded and not has_data[place]:
            cells[place] = NOT_RECORDED
    for first, last in missing:
        for place in range(max(int(first // _CELL_SECONDS), 0), min(int(last // _CELL_SECONDS), CELLS - 1) + 1):
            cells[place] = GAP
    return "".join(cells)


def drawn(cells: str, *, is_fine: bool) -> str:
    """The characters as they are shown: blocks where a terminal has them."""
    return cells.translate(_FINE) if is_fine else cells


def ruler() -> str:
    """The hours above the cells."""
    return "".join(f"{hour:02d}".ljust(3 * CELLS // 24) for hour in range(0, 24, 3))


def legend(*, is_fine: bool) -> Sequence[str]:
    """What the characters mean."""
    meanings = {DATA: "messages", GAP: "something is missing", SILENT: "nothing came", NOT_RECORDED: "not recorded"}
    return [f"{drawn(cell, is_fine=is_fine) if cell.strip() else 'blank'} {text}" for cell, text in meanings.items()]
