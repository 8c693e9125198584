"""When a message counts as late: receive time less event time, by the exchange's clock as far as it is known. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from streamsvc.histogram import Histogram
from streamsvc.schema import Market

if TYPE_CHECKING:
    from streamsvc.integrity.clock_offset import ClockOffset


BOUNDS_SEC = (-5, -1, -0.5, -0.1, -0.05, 0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
"""Negative where our clock is slow."""


@attrs.frozen
class Lateness:
    """How a market's latency is judged.

    Attributes:
        offset_ms: How far the exchange's clock is ahead of ours; 0 until that is measured.
        limit_ms: A message that took longer counts as late.
    """

    offset_ms: int
    limit_ms: int


class Latency:
    """The measure of every market.

    Args:
        late_ms: A message that took longer counts as late.

    Attributes:
        by_market: How each market's latency is judged now.
        offsets: Of each market whose clock was measured.
        histograms: Receive time less event time of the last message of each batch, by our clock, in seconds.
    """

    def __init__(self, late_ms: int) -> None:
        self._late_ms = late_ms
        self.by_market = dict.fromkeys(Market, Lateness(0, late_ms))
        self.offsets: dict[Market, ClockOffset] = {}
        self.histograms = {market: Histogram(BOUNDS_SEC) for market in Market}

    def use(self, market: Market, offset: ClockOffset) -> None:
        """Judge a market by this offset from now on: what may only seem late, within its uncertainty, is not late."""
        self.offsets[market] = offset
        limit_ms = self._late_ms + math.ceil(offset.uncertainty_ms)
        self.by_market[market] = Lateness(round(offset.offset_ms), limit_ms)
