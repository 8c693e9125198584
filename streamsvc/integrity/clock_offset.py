"""Measures how far the exchange's clock is from ours, so that latency means something.

As NTP does it: the exchange's time lies between our sending and our receiving, so the offset is its time less the
middle of the two, within half the round trip. Of several round trips the shortest counts. The exchange tells whole
milliseconds, cut off, which may hide one more. The offset is for judging and for the log; what is recorded as
`receive_time` is always what our clock said.

Our wall clock may be set while we look at it. The round trip is taken by the monotonic clock, and a sample for which
the two clocks do not agree is dropped. Between measurements they are compared now and then: where they go apart (a
step, or the machine slept) the offset is measured again at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import trio

from streamsvc.errors import DecodeError
from streamsvc.log import logger
from streamsvc.rest import RestError, RestUnavailableError
from streamsvc.rest_governor import Urgency
from streamsvc.venues.binance_rest import parse_time, time_request

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from streamsvc.integrity.backfill import Governor
    from streamsvc.schema import Market

SAMPLES: Final = 5
"""The first pays for the connection, the others tell; each costs a weight of 1."""
SAMPLE_SEC_MAX: Final = 5.0
"""A longer round trip, or a wait for our turn, tells nothing that is worth knowing."""
INTERVAL_SEC: Final = 900.0
"""A quartz that nobody corrects strays by up to 50 ms in this, which is well below `LATENCY_WARN_MS`."""
RETRY_MIN_SEC: Final = 5.0
LOOK_SEC: Final = 30.0
"""How long a step of our clock may spoil latencies."""
APART_NS_MAX: Final = 10_000_000
"""The clocks are read one after the other, and NTP may slew one of them: so far they may differ within a sample."""
STEP_NS_MAX: Final = 100_000_000
"""Further than this from a measurement it is not worth much any more."""

_RESOLUTION_MS: Final = 1.0
_NS_PER_MS: Final = 1_000_000
_DOUBLINGS_MAX: Final = 20


@attrs.frozen
class ClockOffset:
    """How far the exchange's clock is ahead of ours.

    Attributes:
        offset_ms: Its time less ours; negative where our clock is ahead.
        uncertainty_ms: How far that may be off.
        round_trip_ms: How long the answer took.
    """

    offset_ms: float
    uncertainty_ms: float
    round_trip_ms: float


@attrs.frozen
class Clocks:
    """Our two clocks at one moment: the wall clock in ns since 1970, Trio's in seconds."""

    wall_ns: int
    monotonic_sec: float

    def apart_ns(self, earlier: Clocks) -> int:
        """How much further the wall clock went than the monotonic one."""
        return self.wall_ns - earlier.wall_ns - round((self.monotonic_sec - earlier.monotonic_sec) * 1e9)


def offset_of(sent: Clocks, received: Clocks, server_time_ms: int) -> ClockOffset | None:
    """What one round trip tells; None: our wall clock was set meanwhile. Pure."""
    if abs(received.apart_ns(sent)) > APART_NS_MAX:
        return None
    round_trip_ms = (received.monotonic_sec - sent.monotonic_sec) * 1000
    middle_ns = (sent.wall_ns + received.wall_ns) // 2
    offset_ms = (server_time_ms * _NS_PER_MS - middle_ns) / _NS_PER_MS
    return ClockOffset(offset_ms, round_trip_ms / 2 + _RESOLUTION_MS, round_trip_ms)


class ClockWatch:
    """Keeps the offset of one market's clock known.

    Args:
        market: The market.
        governor: The way of its requests.
        wall_ns: Our wall clock.
        use: Told of every measurement.
        warn_ms: An offset beyond this is a warning.
        rng: Spreads the measurements of many instances.
    """

    def __init__(  # noqa: PLR0913 - what it joins
        self,
        market: Market,
        *,
        governor: Governor,
        wall_ns: Callable[[], int],
        use: Callable[[Market, ClockOffset], None],
        warn_ms: float,
        rng: random.Random,
    ) -> None:
        self._market = market
        self._governor = governor
        self._wall_ns = wall_ns
        self._use = use
        self._warn_ms = warn_ms
        self._rng = rng

    async def run(self) -> NoReturn:
        """Measure again and again, until cancelled."""
        failures = 0
        while True:
            try:
                offset, since = await self._measure()
            except (RestError, DecodeError) as fault:
                retry_sec = min(RETRY_MIN_SEC * 2**failures, INTERVAL_SEC) * self._rng.uniform(0.5, 1.0)
                failures = min(failures + 1, _DOUBLINGS_MAX)
                self._tell_failed(fault, retry_sec)
                await trio.sleep(retry_sec)
            else:
                failures = 0
                self._use(self._market, offset)
                self._tell(offset)
                await self._wait(since, INTERVAL_SEC * self._rng.uniform(0.9, 1.0))

    async def _measure(self) -> tuple[ClockOffset, Clocks]:
        """The best of several round trips, and when it ended.

        Raises:
            RestError: there is no answer, or none that came in time while our clock went on evenly.
            DecodeError: an answer is not as documented.
        """
        best: tuple[ClockOffset, Clocks] | None = None
        for _ in range(SAMPLES):
            sent = self._read_clocks()
            with trio.move_on_after(SAMPLE_SEC_MAX) as scope:
                body = await self._governor.get(time_request(self._market), Urgency.NORMAL)
            if scope.cancelled_caught:
                break
            received = self._read_clocks()
            offset = offset_of(sent, received, parse_time(body))
            if offset is not None and (best is None or offset.round_trip_ms < best[0].round_trip_ms):
                best = offset, received
        if best is None:
            raise RestUnavailableError(f"no answer within {SAMPLE_SEC_MAX:g} s by a clock that goes evenly")
        return best

    async def _wait(self, since: Clocks, wait_sec: float) -> None:
        """Wait for the next measurement, or until our clock is seen to have been set since this one."""
        until = trio.current_time() + wait_sec
        while trio.current_time() < until:
            apart_ns = self._read_clocks().apart_ns(since)
            if abs(apart_ns) > STEP_NS_MAX:
                logger.warning("clock_stepped", market=self._market.label, step_ms=apart_ns // _NS_PER_MS)
                return
            await trio.sleep(min(LOOK_SEC, until - trio.current_time()))

    def _read_clocks(self) -> Clocks:
        return Clocks(self._wall_ns(), trio.current_time())

    def _tell(self, offset: ClockOffset) -> None:
        is_far = abs(offset.offset_ms) - offset.uncertainty_ms > self._warn_ms
        (logger.warning if is_far else logger.info)(
            "clock_offset",
            market=self._market.label,
            offset_ms=round(offset.offset_ms, 1),
            uncertainty_ms=round(offset.uncertainty_ms, 1),
            round_trip_ms=round(offset.round_trip_ms, 1),
        )

    def _tell_failed(self, fault: Exception, retry_sec: float) -> None:
        logger.warning(
            "clock_offset_failed",
            market=self._market.label,
            detail=f"{type(fault).__name__}: {fault}",
            retry_sec=round(retry_sec),
        )
