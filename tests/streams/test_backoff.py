"""How long connections stay away, and windows that count."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.backoff import LONG_FACTOR, Backoff, is_alarming, is_ban
from streamsvc.streams.window import SlidingWindow

EOF = ConnectionFaultError("eof", "")


class Highest(random.Random):
    """Draws the upper bound."""

    def uniform(self, a, b):
        del a
        return b


class Lowest(random.Random):
    """Draws the lower bound."""

    def uniform(self, a, b):
        del b
        return a


def test_bounds_double_up_to_the_highest():
    """Full jitter: between nothing and a bound that doubles."""
    backoff = Backoff(1, 60, Highest())
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [backoff.next_sec(EOF) for _ in range(8)]
    assert 0 == Backoff(1, 60, Lowest()).next_sec(EOF)


def test_reset():
    """After it the first bound holds again."""
    backoff = Backoff(1, 60, Highest())
    for _ in range(5):
        backoff.next_sec(EOF)
    backoff.reset()
    assert 1 == backoff.next_sec(EOF)


def test_after_years_of_failures():
    """The bound stays what it is."""
    backoff = Backoff(1, 60, Highest())
    assert 60 == [backoff.next_sec(EOF) for _ in range(5000)][-1]


def test_first_bound_above_the_highest():
    """Settings that contradict each other are taken at the larger."""
    assert 5 == Backoff(5, 1, Highest()).next_sec(EOF)


def test_retry_after_is_honoured():
    """At least as long as the exchange says, and not all at the same moment."""
    fault = ConnectionFaultError("status", "", status=418, retry_after_sec=600)
    assert 600 == Backoff(1, 60, Lowest()).next_sec(fault)
    assert 601 == Backoff(1, 60, Highest()).next_sec(fault)


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionFaultError("status", "", status=418),
        ConnectionFaultError("status", "", status=429),
        ConnectionFaultError("status", "", status=403),
        ConnectionFaultError("status", "", status=451),
        ConnectionFaultError("closed", "", status=1008),
    ],
)
def test_where_we_are_not_welcome(fault):
    """Longer than usual from the first time on, and somebody is told."""
    assert 30 * LONG_FACTOR == Backoff(1, 60, Lowest()).next_sec(fault)
    assert 60 * LONG_FACTOR == Backoff(1, 60, Highest()).next_sec(fault)
    assert is_alarming(fault)


def test_certificate_refused():
    """About the longest usual wait, and somebody is told."""
    fault = ConnectionFaultError("tls", "")
    assert [30, 60] == [Backoff(1, 60, rng()).next_sec(fault) for rng in (Lowest, Highest)]
    assert is_alarming(fault)


@pytest.mark.parametrize(("status", "cause"), [(502, "status"), (1012, "closed"), (1013, "closed"), (None, "eof")])
def test_what_is_usual(status, cause):
    """Servers restart and lines break: nobody is called for that."""
    fault = ConnectionFaultError(cause, "", status=status)
    assert 1 == Backoff(1, 60, Highest()).next_sec(fault)
    assert not is_alarming(fault)
    assert not is_ban(fault)


@given(
    limit=st.integers(1, 5),
    steps=st.lists(st.floats(0, 3, allow_nan=False), max_size=60),
)
def test_window(limit, steps):
    """Over no window of its length are there more events than the limit; who need not wait does not."""
    window = SlidingWindow(limit, 2.0)
    now, events = 0.0, []
    for step in steps:
        now += step
        wait_sec = window.wait_sec(now)
        recent = [event for event in events if event + 2.0 > now]
        assert (wait_sec == 0) == (len(recent) < limit)
        assert window.left(now) == limit - len(recent)
        now += wait_sec
        window.add(now)
        events.append(now)
    assert all(late >= early + 2.0 for early, late in zip(events, events[limit:], strict=False))


def test_reservations_queue_up():
    """Each is told to wait behind those before it."""
    window = SlidingWindow(2, 1.0)
    assert [0, 0, 1, 1, 2, 2] == [window.reserve(0.0) for _ in range(6)]
    assert list(itertools.repeat(0, 2)) == [window.reserve(10.0) for _ in range(2)]
