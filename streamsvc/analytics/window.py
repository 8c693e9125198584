"""The last rows of one symbol, for the live page and for strategies: bounded, eight bytes a number."""

from __future__ import annotations

from array import array
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from streamsvc.analytics.rows import ROW_TYPES, DerivedRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.schema import Kind

POINTS_MAX = 200
_SPARE_POINTS = 10


class Window:
    """The last `POINTS_MAX` rows of a kind, each bin once, with its highest revision.

    Args:
        kind: A derived kind.

    Attributes:
        added: How many bins have ever come, so that a reader knows which are new.
        changed: How many rows have ever come, corrections included.
    """

    __slots__ = ("_columns", "_numbers", "_values", "_width", "added", "changed")

    def __init__(self, kind: Kind) -> None:
        self._columns = column_names(kind)
        self._values = attrgetter(*self._columns)
        self._width = len(self._columns)
        self._numbers = array("d")
        self.added = 0
        self.changed = 0

    def __len__(self) -> int:
        return min(len(self._numbers) // self._width, POINTS_MAX)

    def add(self, row: DerivedRow) -> None:
        """Add a row behind the others, or in place of its older revision; one that is older than all is left out."""
        values = array("d", map(float, self._values(row)))
        width, numbers = self._width, self._numbers
        self.changed += 1
        for start in range(len(numbers) - width, -1, -width):
            open_ms = numbers[start]
            if open_ms == row.open_ms:
                numbers[start : start + width] = values
                return
            if open_ms < row.open_ms:
                numbers[start + width : start + width] = values
                break
        else:
            if len(self) >= POINTS_MAX:
                return
            numbers[0:0] = values
        self.added += 1
        if len(numbers) >= (POINTS_MAX + _SPARE_POINTS) * width:  # Not each time: all the others are moved.
            del numbers[: _SPARE_POINTS * width]

    def rows(self, last: int = POINTS_MAX) -> Iterator[dict[str, float]]:
        """The last rows by column, oldest first; times as `open_ms`, booleans as 0 and 1."""
        width = self._width
        for start in range(max(0, len(self._numbers) - min(last, POINTS_MAX) * width), len(self._numbers), width):
            yield dict(zip(self._columns, self._numbers[start : start + width], strict=True))


@cache
def column_names(kind: Kind) -> tuple[str, ...]:
    """The columns of a derived kind that are numbers; `open_ms` is the first."""
    fields = msgspec.structs.fields(ROW_TYPES[kind])
    numeric = (field.name for field in fields if field.type in (Decimal, int, bool) or field.name == "open_ms")
    return tuple(sorted(numeric, key=lambda name: name != "open_ms"))
