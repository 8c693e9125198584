"""Counts of values by upper bound, as Prometheus' histograms have them: a look-up and an addition a value. Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Histogram:
    """Counts values.

    Args:
        bounds: The upper bounds, ascending, each included in its bucket; there is one more bucket beyond the last.

    Attributes:
        sum: The sum of all values.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """For each bound, and infinity at last, how many values did not exceed it."""
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            yield bound, total

    def quantile(self, share: float) -> float | None:
        """The bound that so large a share of the values did not exceed; None where there is none, or it is beyond."""
        wanted = share * self.count
        if not wanted:
            return None
        return next((bound for bound, total in self.cumulative() if total >= wanted and bound != float("inf")), None)
