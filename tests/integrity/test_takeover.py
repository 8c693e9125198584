"""Whose order-book updates are recorded while several connections bring the same stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.integrity.takeover import HELD_MAX, HELD_SEC, Held, Takeover

A, B, C = 1, 2, 3


def held(first, last, at=0.0):
    return Held(first, last, at, 0, None, b"")


@pytest.fixture
def takeover():
    takeover = Takeover()
    takeover.primary = A
    return takeover


def test_before_the_first_update_nobody_waits():
    assert not Takeover().must_hold(A, 5, 9, None)


@pytest.mark.parametrize(
    ("connection", "first", "last", "expected"),
    [
        (A, 11, 20, False),
        (A, 15, 20, False),
        (B, 11, 20, False),
        (B, 6, 15, True),
        (B, 15, 20, True),
        (B, 1, 10, False),
    ],
)
def test_what_does_not_go_on_where_the_chain_ends_waits_unless_the_primary_brought_it(
    takeover, connection, first, last, expected
):
    """What lies in the past of the chain is judged by the chain: late, or there already."""
    assert expected == takeover.must_hold(connection, first, last, 11)


def test_what_follows_a_held_update_waits_behind_it(takeover):
    takeover.hold(B, held(6, 15))
    assert takeover.must_hold(B, 16, 25, 16)


def test_what_the_primary_has_passed_falls_away(takeover):
    takeover.hold(B, held(6, 15))
    takeover.hold(B, held(16, 25))
    assert 1 == takeover.passed(21)
    assert takeover.held
    assert 1 == takeover.passed(26)
    assert not takeover.held


def test_a_primary_that_is_gone_is_followed_at_once(takeover):
    takeover.hold(B, held(6, 15))
    assert None is takeover.due({A, B}, 0.0)
    assert B == takeover.due({B}, 0.0)
    assert [held(6, 15)] == takeover.take(B)
    assert (B, {}) == (takeover.primary, takeover.held)


def test_a_primary_that_says_nothing_is_followed_after_a_while(takeover):
    takeover.hold(B, held(6, 15, at=10.0))
    assert None is takeover.due({A, B}, 10.0 + HELD_SEC - 0.1)
    assert B == takeover.due({A, B}, 10.0 + HELD_SEC)


def test_no_more_is_held_than_the_limit(takeover):
    for number in range(HELD_MAX):
        takeover.hold(B, held(number, number))
        assert None is takeover.due({A, B}, 0.0)
    takeover.hold(B, held(HELD_MAX, HELD_MAX))
    assert B == takeover.due({A, B}, 0.0)


def test_a_hole_of_the_primary_is_filled_by_who_goes_on_there(takeover):
    takeover.hold(B, held(13, 15))
    takeover.hold(C, held(9, 12))
    assert C == takeover.filling(11)
    assert None is takeover.filling(8)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), max_size=60))
def test_a_lasting_primary_is_recorded_alone(windows):
    """However the others cut their windows: the recorded chain is the primary's, without an overlap."""
    takeover, ends, expected, recorded = Takeover(), {A: 0, B: 0, C: 0}, None, []
    for connection, width in windows:
        first, last = ends[connection] + 1, ends[connection] + width
        ends[connection] = last
        if takeover.must_hold(connection, first, last, expected):
            takeover.hold(connection, held(first, last))
        elif expected is None or last >= expected:
            recorded.append((first, last))
            takeover.primary, expected = connection, last + 1
            takeover.passed(expected)
    assert all(before[1] + 1 == behind[0] for before, behind in pairwise(recorded))
