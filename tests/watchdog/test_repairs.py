"""The repair policy: at once where a busy stream dies, ever more rarely where nothing helps."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream
from streamsvc.watchdog.health import Health, StreamHealth, Timeouts, Verdict
from streamsvc.watchdog.repairs import (
    REPLACE_MIN_SEC,
    RESUBSCRIBES_MAX,
    WAIT_MAX_SEC,
    RepairPolicy,
    doubled,
)

TIMEOUT_SEC = 150.0
LOOK_SEC = 25.0
HOUR = 3600.0


def make_slots(count: int) -> list[StreamHealth]:
    streams = [Stream(Market.SPOT, Kind.TRADE, f"S{n}", f"s{n}@trade") for n in range(count)]
    health = Health(streams)
    health.subscribed(streams, 0, connection="futures-1")
    return health.slots()


def repairs_over(policy: RepairPolicy, slot: StreamHealth, hours: float, start: float = 0) -> list[tuple[float, str]]:
    """What is done for a stream that stays stalled whatever is done."""
    done = []
    for step in range(int(hours * HOUR / LOOK_SEC)):
        now = start + step * LOOK_SEC
        for repair in policy.due([(slot, TIMEOUT_SEC)], now):
            policy.note(repair, now)
            done.append((now - start, repair.step))
    return done


def test_the_steps_of_one_stream_that_nothing_helps():
    """Subscribed again at once, its connection replaced after the timeout, then in turn and ever more rarely."""
    (slot,) = make_slots(1)
    done = repairs_over(RepairPolicy(), slot, 48)
    assert [(0.0, "resubscribe"), (150.0, "replace"), (450.0, "resubscribe")] == done[:3]
    assert ["resubscribe", "replace"] * 7 == [step for _, step in done]
    by_half_day = [sum(day * 12 <= at / HOUR < (day + 1) * 12 for at, _ in done) for day in range(4)]
    assert sorted(by_half_day, reverse=True) == by_half_day
    assert 2 == by_half_day[-1]


def test_a_stream_that_flowed_in_between_is_subscribed_again_before_its_connection_is_replaced():
    """The cheap step first; the neighbours are interrupted only if the stream goes on saying nothing."""
    (slot,) = make_slots(1)
    policy = RepairPolicy()
    done = []
    for now in (0, 3000, 6000, 9000):
        slot.last_message = now
        for repair in policy.due([(slot, TIMEOUT_SEC)], now):
            policy.note(repair, now)
            done.append(repair.step)
    assert ["resubscribe"] * 4 == done


def test_a_repair_that_could_not_begin_is_still_due():
    """Only what was begun counts as tried."""
    (slot,) = make_slots(1)
    policy = RepairPolicy()
    first = policy.due([(slot, TIMEOUT_SEC)], 0)
    assert first == policy.due([(slot, TIMEOUT_SEC)], 25)
    policy.note(first[0], 25)
    assert [] == policy.due([(slot, TIMEOUT_SEC)], 50)


def test_a_stream_that_flowed_for_long_is_repaired_at_once_again():
    (slot,) = make_slots(1)
    policy = RepairPolicy()
    first = repairs_over(policy, slot, 12)
    again = repairs_over(policy, slot, 1, start=12 * HOUR + 2 * WAIT_MAX_SEC + LOOK_SEC)
    assert first[:2] == again[:2]


def test_a_stream_that_stalls_again_soon_goes_on_where_it_was():
    """A quiet symbol that trades now and then does not start over each time."""
    (slot,) = make_slots(1)
    policy = RepairPolicy()
    repairs_over(policy, slot, 6)
    slot.messages += 1
    assert [] == policy.due([(slot, TIMEOUT_SEC)], 6 * HOUR + 600)


def test_resubscribings_of_one_look_are_limited_and_busy_streams_come_first():
    slots = make_slots(50)
    slots[33].messages = 1_000_000
    policy = RepairPolicy()
    due = policy.due([(slot, TIMEOUT_SEC) for slot in slots], 0)
    assert RESUBSCRIBES_MAX == len(due)
    assert slots[33] is due[0].slot
    for repair in due:
        policy.note(repair, 0)
    assert not {repair.slot for repair in due} & {
        repair.slot for repair in policy.due([(slot, TIMEOUT_SEC) for slot in slots], 25)
    }


def test_one_replacement_is_a_repair_of_every_stalled_stream_of_the_connection():
    slots = make_slots(8)
    policy = RepairPolicy()
    stalled = [(slot, TIMEOUT_SEC) for slot in slots[:5]]
    for repair in policy.due(stalled, 0):
        policy.note(repair, 0)
    (replacement,) = policy.due(stalled, 150)
    assert "replace" == replacement.step
    assert slots[:5] == policy.note(replacement, 150)
    assert [] == policy.due(stalled, 175)


def test_a_quiet_neighbour_does_not_delay_the_repair_of_a_busy_stream_for_long():
    """A busy stream's first replacement waits for REPLACE_MIN_SEC at most, however often a neighbour's was in vain."""
    quiet, busy = make_slots(2)
    policy = RepairPolicy()
    repairs_over(policy, quiet, 24)
    start, done = 24 * HOUR, {}
    for step in range(200):
        now = start + step * LOOK_SEC
        for repair in policy.due([(quiet, TIMEOUT_SEC), (busy, TIMEOUT_SEC)], now):
            if busy in policy.note(repair, now):
                done.setdefault(repair.step, now - start)
    assert 0 == done["resubscribe"]
    assert done["replace"] <= REPLACE_MIN_SEC + LOOK_SEC


def simulate(gaps_sec, hours: float, seed: int, symbols: int = 300) -> tuple[dict[str, int], int]:
    """Symbols on one connection that trade at random intervals; repairs change nothing but the time of subscribing.

    Returns how often each step was done, and the most repairs that one stream was the reason of.
    """
    rng = random.Random(seed)
    streams = [Stream(Market.SPOT, Kind.TRADE, f"S{n}", f"s{n}@trade") for n in range(symbols)]
    health = Health(streams)
    health.subscribed(streams, 0, connection="futures-1")
    slots = health.slots()
    timeouts = Timeouts(TIMEOUT_SEC, 180, 60)
    next_trade = [gaps_sec(rng, 0.0) * rng.random() for _ in streams]
    policy, steps, by_slot = RepairPolicy(), {"resubscribe": 0, "replace": 0}, dict.fromkeys(slots, 0)
    for look in range(1, int(hours * HOUR / LOOK_SEC)):
        now = look * LOOK_SEC
        for number, slot in enumerate(slots):
            while next_trade[number] <= now:
                slot.messages += 1
                slot.last_message = next_trade[number]
                next_trade[number] += gaps_sec(rng, next_trade[number])
        stalled = [(slot, TIMEOUT_SEC) for slot in slots if slot.verdict(now, timeouts) is Verdict.STALLED]
        for repair in policy.due(stalled, now):
            policy.note(repair, now)
            steps[repair.step] += 1
            by_slot[repair.slot] += 1
            if repair.step == "replace":
                health.subscribed(streams, now, connection="futures-1")
    return steps, max(by_slot.values())


def test_300_quiet_symbols_make_no_storm():
    """48 hours, a trade every minute, ten minutes or two hours, or never: the bounds are stated here.

    The connection is replaced at most 10 times in two days. A stream is the reason of at most 16 repairs, so all of
    them together send less than two requests a minute.
    """
    cases = {
        "a minute": lambda rng, _now: rng.expovariate(1 / 60),
        "ten minutes": lambda rng, _now: rng.expovariate(1 / 600),
        "two hours": lambda rng, _now: rng.expovariate(1 / 7200),
        "never": lambda _rng, _now: 1e9,
    }
    for name, gaps_sec in cases.items():
        steps, most_of_one = simulate(gaps_sec, 48, seed=1)
        assert 1 <= steps["replace"] <= 10, (name, steps)
        assert steps["resubscribe"] <= 300 * 15, (name, steps)
        assert most_of_one <= 16, (name, most_of_one)


def test_300_symbols_that_are_quiet_at_night():
    """Busy by day, silent by night: each evening is a new beginning, and still bounded."""
    steps, _ = simulate(
        lambda rng, now: rng.expovariate(1 / (20 if now % (24 * HOUR) < 14 * HOUR else 3000)), 48, seed=2
    )
    assert 1 <= steps["replace"] <= 12, steps
    assert steps["resubscribe"] <= 300 * 15, steps


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=200), st.randoms())
def test_limits_hold_whatever_stalls_and_whatever_can_be_begun(looks, rng):
    """At most one repair a stream and look, never a replacement within REPLACE_MIN_SEC of the last."""
    slots = make_slots(6)
    policy, replaced_at = RepairPolicy(), float("-inf")
    for number, look in enumerate(looks):
        now = number * 200.0
        due = policy.due([(slot, TIMEOUT_SEC) for slot, is_stalled in zip(slots, look, strict=True) if is_stalled], now)
        assert len(due) == len({repair.slot for repair in due})
        assert all(look[slots.index(repair.slot)] for repair in due)
        for repair in due:
            if rng.random() < 0.3:
                continue
            if repair.step == "replace":
                assert now - replaced_at >= REPLACE_MIN_SEC
                replaced_at = now
            policy.note(repair, now)


@given(st.floats(0.1, 1e6), st.integers(0, 10_000))
def test_waits_grow_to_a_bound(wait_sec, times):
    assert doubled(wait_sec, times) <= doubled(wait_sec, times + 1) <= WAIT_MAX_SEC
