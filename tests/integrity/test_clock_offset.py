"""How far the exchange's clock is from ours, whatever happens to ours meanwhile."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamsvc.integrity.clock_offset import (
    APART_NS_MAX,
    INTERVAL_SEC,
    LOOK_SEC,
    RETRY_MIN_SEC,
    SAMPLE_SEC_MAX,
    SAMPLES,
    Clocks,
    ClockWatch,
    offset_of,
)
from streamsvc.integrity.latency import Latency
from streamsvc.rest import RestUnavailableError
from streamsvc.schema import Market

SPOT, FUTURES = Market.SPOT, Market.FUTURES
START_NS = 1_786_171_884_000_000_000
MS = 10**6


@given(
    st.integers(-(10**7), 10**7),
    st.integers(0, 4 * 10**9),
    st.integers(0, 4 * 10**9),
    st.integers(0, 10**12),
)
def test_the_true_offset_lies_within_the_uncertainty(offset_ms, there_ns, back_ns, since_ns):
    """However unevenly the round trip divides, and though the exchange cuts its time off to whole milliseconds."""
    sent_ns = START_NS + since_ns
    server_time_ms = (sent_ns + there_ns + offset_ms * MS) // MS
    sent = Clocks(sent_ns, since_ns / 1e9)
    found = offset_of(sent, Clocks(sent_ns + there_ns + back_ns, (since_ns + there_ns + back_ns) / 1e9), server_time_ms)
    assert abs(found.offset_ms - offset_ms) <= found.uncertainty_ms + 0.01
    assert (there_ns + back_ns) / MS == pytest.approx(found.round_trip_ms, abs=0.01)
    assert found.round_trip_ms / 2 + 1 == found.uncertainty_ms


@pytest.mark.parametrize("step_ns", [-(10**13), -(10**8), -APART_NS_MAX - 1, APART_NS_MAX + 1, 10**8, 10**13])
def test_a_round_trip_in_which_our_clock_was_set_tells_nothing(step_ns):
    assert offset_of(Clocks(START_NS, 5.0), Clocks(START_NS + 10**7 + step_ns, 5.01), START_NS // MS) is None


@pytest.mark.parametrize("step_ns", [-APART_NS_MAX, APART_NS_MAX])
def test_clocks_that_are_not_read_at_once_agree_enough(step_ns):
    assert offset_of(Clocks(START_NS, 0.0), Clocks(START_NS + step_ns, 0.0), START_NS // MS) is not None


class Exchange:
    """Tells the time, over round trips that take what they are told to; and our clock beside it.

    Attributes:
        trips_sec: How long each next round trip takes, the same there and back; then none takes any time.
        ahead_ms: How far its clock is ahead of ours.
        on_request: Called in the middle of every round trip.
        fault: Raised instead of an answer.
    """

    closed_sec = 0.0

    def __init__(self, *trips_sec: float, ahead_ms: float = 0.0) -> None:
        self.trips_sec = list(trips_sec)
        self.ahead_ms = ahead_ms
        self.on_request = lambda _number: None
        self.fault: Exception | None = None
        self.asked_at: list[float] = []
        self.found: list = []

    def wall_ns(self) -> int:
        return START_NS + round(trio.current_time() * 1e9)

    async def get(self, request, _urgency) -> bytes:
        assert (request.path, request.weight) == ("/api/v3/time", 1)
        self.asked_at.append(trio.current_time())
        trip_sec = self.trips_sec.pop(0) if self.trips_sec else 0.0
        await trio.sleep(trip_sec / 2)
        if self.fault is not None:
            raise self.fault
        time_ms = int(self.wall_ns() / MS + self.ahead_ms)
        self.on_request(len(self.asked_at))
        await trio.sleep(trip_sec / 2)
        return b'{"serverTime":%d}' % time_ms


async def watch(exchange: Exchange, seconds: float, *, warn_ms=200, wall_ns=None) -> list[dict]:
    """The events while a clock is watched so long."""
    one = ClockWatch(
        SPOT,
        governor=exchange,
        wall_ns=wall_ns or exchange.wall_ns,
        use=lambda market, offset: exchange.found.append((market, offset)),
        warn_ms=warn_ms,
        rng=random.Random(1),
    )
    with capture_logs() as events, trio.move_on_after(seconds):
        await one.run()
    return events


async def test_the_shortest_of_several_round_trips_counts(autojump_clock):
    """And is told with its uncertainty."""
    exchange = Exchange(0.4, 0.2, 0.02, 0.3, 0.1, ahead_ms=150)
    (event,) = await watch(exchange, 60)
    assert SAMPLES == len(exchange.asked_at)
    assert ("clock_offset", "info", "spot", 20, 11) == (
        event["event"],
        event["log_level"],
        event["market"],
        event["round_trip_ms"],
        event["uncertainty_ms"],
    )
    assert 150 == pytest.approx(event["offset_ms"], abs=2)
    ((market, offset),) = exchange.found
    assert SPOT is market
    assert 150 == pytest.approx(offset.offset_ms, abs=2)


@pytest.mark.parametrize(("ahead_ms", "level"), [(-1400, "warning"), (205, "info"), (-205, "info"), (225, "warning")])
async def test_an_offset_that_is_surely_too_large_is_a_warning(autojump_clock, ahead_ms, level):
    """Beyond the limit by more than the uncertainty, which is 11 ms here."""
    events = await watch(Exchange(*[0.02] * SAMPLES, ahead_ms=ahead_ms), 60)
    assert [("clock_offset", level)] == [(event["event"], event["log_level"]) for event in events]


async def test_it_is_measured_now_and_then(autojump_clock):
    exchange = Exchange()
    await watch(exchange, 10 * INTERVAL_SEC)
    assert SAMPLES * 10 <= len(exchange.asked_at) <= SAMPLES * 12
    assert SAMPLES * len(exchange.found) == len(exchange.asked_at)


async def test_a_step_in_the_middle_of_a_round_trip_does_not_count(autojump_clock):
    """Half of it would be taken for an offset; the first round trip, before the step, says what was true then."""
    step_ns = 0

    def set_clock(number):
        nonlocal step_ns
        if number == 1:
            step_ns = 3600 * 10**9

    exchange = Exchange(0.02, 0.1, 0.1, 0.1, 0.1)
    exchange.on_request = set_clock
    (event,) = await watch(exchange, 60, wall_ns=lambda: exchange.wall_ns() + step_ns)
    assert -3_600_000 == pytest.approx(event["offset_ms"], abs=1)
    assert 100 == event["round_trip_ms"]


async def test_a_step_behind_the_best_round_trip_is_measured_again_at_once(autojump_clock):
    """Its offset is of a clock that has been set since."""
    step_ns = 0

    def set_clock(number):
        nonlocal step_ns
        if number == SAMPLES:
            step_ns = -10 * 10**9

    exchange = Exchange(0.02, *[0.1] * (SAMPLES - 1))
    exchange.on_request = set_clock
    events = await watch(exchange, 60, wall_ns=lambda: exchange.wall_ns() + step_ns)
    assert ["clock_offset", "clock_stepped", "clock_offset"] == [event["event"] for event in events]
    assert 0 == pytest.approx(events[0]["offset_ms"], abs=1)
    assert -10_000 == events[1]["step_ms"]
    assert 10_000 == pytest.approx(events[2]["offset_ms"], abs=1)


async def test_a_step_between_measurements_is_measured_again_soon(autojump_clock):
    step_at = 100.0
    exchange = Exchange()

    def wall_ns():
        return exchange.wall_ns() + (0 if trio.current_time() < step_at else 1400 * MS)

    events = await watch(exchange, 300, wall_ns=wall_ns)
    assert ["clock_offset", "clock_stepped", "clock_offset"] == [event["event"] for event in events]
    assert step_at <= exchange.asked_at[SAMPLES] <= step_at + LOOK_SEC
    assert -1400 == pytest.approx(events[2]["offset_ms"], abs=1)


async def test_a_clock_that_never_goes_evenly_is_not_measured(autojump_clock):
    """Rather none than a wrong offset."""
    steps = random.Random(1)
    exchange = Exchange()
    events = await watch(exchange, 60, wall_ns=lambda: exchange.wall_ns() + steps.randrange(10**12))
    assert {"clock_offset_failed"} == {event["event"] for event in events}
    assert [] == exchange.found


async def test_an_answer_that_comes_too_late_is_not_waited_for(autojump_clock):
    """It ends the measurement, and what came before it counts."""
    events = await watch(Exchange(0.1, 100.0), 20)
    assert [100] == [event["round_trip_ms"] for event in events]


async def test_a_first_answer_that_comes_too_late_is_tried_again(autojump_clock):
    exchange = Exchange(100.0)
    events = await watch(exchange, 60)
    assert ["clock_offset_failed", "clock_offset"] == [event["event"] for event in events]
    assert SAMPLE_SEC_MAX < exchange.asked_at[1] <= SAMPLE_SEC_MAX + RETRY_MIN_SEC


async def test_rest_that_is_down_is_asked_more_and_more_rarely(autojump_clock):
    exchange = Exchange()
    exchange.fault = RestUnavailableError("down")
    events = await watch(exchange, 20_000)
    assert {("clock_offset_failed", "warning")} == {(event["event"], event["log_level"]) for event in events}
    waits = [later - earlier for earlier, later in zip(exchange.asked_at, exchange.asked_at[1:], strict=False)]
    assert all(2.5 * 2**number <= wait <= 5 * 2**number for number, wait in enumerate(waits[:7]))
    assert all(INTERVAL_SEC / 2 <= wait <= INTERVAL_SEC for wait in waits[8:])


def test_latency_is_judged_by_the_offset_of_its_own_market():
    """What may only seem late, within the uncertainty, is not late."""
    latency = Latency(200)
    latency.use(FUTURES, offset_of(Clocks(START_NS, 0.0), Clocks(START_NS + 9 * MS, 0.009), START_NS // MS - 1400))
    assert (0, 200) == (latency.by_market[SPOT].offset_ms, latency.by_market[SPOT].limit_ms)
    assert (-1404, 206) == (latency.by_market[FUTURES].offset_ms, latency.by_market[FUTURES].limit_ms)
    assert {FUTURES} == set(latency.offsets)
