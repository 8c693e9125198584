"""When a message counts as late: receive time less event time, by the exchange's clock as far as it is known. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from streamsvc.schema import Market

if TYPE_CHECKING:
    from streamsvc.integrity.clock_offset import ClockOffset


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
    """

    def __init__(self, late_ms: int) -> None:
        self._late_ms = late_ms
        self.by_market = dict.fromkeys(Market, Lateness(0, late_ms))
        self.offsets: dict[Market, ClockOffset] = {}

    def use(self, market: Market, offset: ClockOffset) -> None:
        """Judge a market by this offset from now on: what may only seem late, within its uncertainty, is not late."""
        self.offsets[market] = offset
        limit_ms = self._late_ms + math.ceil(offset.uncertainty_ms)
        self.by_market[market] = Lateness(round(offset.offset_ms), limit_ms)
