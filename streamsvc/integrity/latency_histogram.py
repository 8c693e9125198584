"""Percentiles of latencies from a histogram (pure numpy): memory does not grow with the number of messages.

A bin is a 32nd of an octave of microseconds, so that a percentile is within 1.6 % of the latency of a message; the
least and the greatest are exact. Latencies may be negative, where the local clock is slow. The exchange's times have
whole milliseconds, so that every latency seems up to one longer than it was.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import attrs
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERCENTILES = (50, 90, 99, 99.9)
_PER_OCTAVE = 32
_OCTAVES = 48
"""2^48 microseconds are nine years; what is beyond counts as that."""
_ZERO = _PER_OCTAVE * (_OCTAVES + 1)
_BINS = 2 * _ZERO + 1
_US_NS = 1000


@attrs.frozen
class Latency:
    """Latencies of many messages, in ns.

    Attributes:
        messages: How many there were.
        least_ns: The least.
        greatest_ns: The greatest.
        percentiles_ns: For each of `PERCENTILES`, what so many percent of the messages did not exceed.
    """

    messages: int
    least_ns: int
    greatest_ns: int
    percentiles_ns: tuple[int, ...]


class LatencyHistogram:
    """Latencies as they come."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._least: int | None = None
        self._greatest: int | None = None

    def add(self, latencies_ns: NDArray[np.int64]) -> None:
        """Add latencies of messages."""
        if not len(latencies_ns):
            return
        self._counts += np.bincount(_bins_of(latencies_ns), minlength=_BINS)
        self._extend(int(latencies_ns.min()), int(latencies_ns.max()))

    def add_all(self, other: LatencyHistogram) -> None:
        """Add those of another histogram."""
        self._counts += other._counts
        if other._least is not None and other._greatest is not None:
            self._extend(other._least, other._greatest)

    def _extend(self, least: int, greatest: int) -> None:
        self._least = least if self._least is None else min(least, self._least)
        self._greatest = greatest if self._greatest is None else max(greatest, self._greatest)

    def summary(self) -> Latency | None:
        """What is known; None where nothing was added."""
        if self._least is None or self._greatest is None:
            return None
        reached = np.cumsum(self._counts)
        messages = int(reached[-1])
        # The nearest rank, so that it is the latency of a message and not between two.
        ranks = [ceil(percent * messages / 100) for percent in PERCENTILES]
        found = (_value_of(int(np.searchsorted(reached, rank))) for rank in ranks)
        bounded = tuple(min(max(value, self._least), self._greatest) for value in found)
        return Latency(messages, self._least, self._greatest, bounded)


def _bins_of(latencies_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of each: below a microsecond the middle one, and from there outwards on both sides."""
    microseconds = np.abs(latencies_ns) // _US_NS
    mantissas, exponents = np.frexp(microseconds.astype(np.float64))
    bins = exponents * _PER_OCTAVE + ((mantissas - 0.5) * 2 * _PER_OCTAVE).astype(np.int64)
    bins = np.where(microseconds == 0, 0, np.minimum(bins, _ZERO))
    placed: NDArray[np.int64] = _ZERO + np.sign(latencies_ns) * bins
    return placed


def _value_of(place: int) -> int:
    """The middle of a bin, in ns."""
    number = abs(place - _ZERO)
    if not number:
        return 0
    exponent, part = divmod(number, _PER_OCTAVE)
    microseconds = (0.5 + (part + 0.5) / (2 * _PER_OCTAVE)) * 2.0**exponent
    return round(microseconds * _US_NS) * (1 if place > _ZERO else -1)
