"""Chains of ids: what is new, late, seen already, missing, or the beginning of a new epoch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.integrity.continuity import MISSING_MAX, RESTART_DISTANCE, Chain, Missing, Verdict


def begun(last_id=100, event_ms=1000):
    """A chain that has seen ids up to `last_id`."""
    chain = Chain()
    chain.take(1, last_id, event_ms, 0.0)
    return chain


def holes(chain):
    return [(one.epoch, one.first, one.last) for one in chain.missing]


def test_the_first_message_begins_the_chain_wherever_it_stands():
    """What came before the recording is not missing."""
    chain = Chain()
    assert Verdict.NEW is chain.take(5_000_000_000, 5_000_000_000, 1, 0.0)
    assert [] == chain.missing
    assert 5_000_000_001 == chain.next_id


def test_a_hole_is_missing_with_what_is_known_around_it():
    chain = begun()
    assert Verdict.NEW is chain.take(104, 104, 1500, 7.0)
    expected = Missing(epoch=0, first=101, last=103, since=7.0, before_ms=1000, after_ms=1500, cause="exchange")
    assert [expected] == chain.missing


def test_what_fills_a_hole_is_late_and_taken_once():
    """An id is recorded once, whoever brings it."""
    chain = begun()
    chain.take(104, 104, 1500, 7.0)
    assert Verdict.LATE is chain.take(102, 102, 1400, 7.1)
    assert Verdict.DUPLICATE is chain.take(102, 102, 1400, 7.2)
    assert [(0, 101, 101), (0, 103, 103)] == holes(chain)
    assert 105 == chain.next_id


def test_a_hole_is_announced_once_and_after_its_grace():
    chain = begun()
    chain.take(104, 104, 1500, 7.0)
    assert [] == chain.overdue(6.9)
    assert [(101, 103)] == [(one.first, one.last) for one in chain.overdue(7.0)]
    assert [] == chain.overdue(99.0)


def test_what_fills_a_told_hole_is_noted():
    """The ledger hears of it; of a hole that was never told it need not."""
    chain = begun()
    chain.take(104, 104, 1500, 7.0)
    chain.take(101, 101, 1400, 7.1)
    assert [] == chain.filled
    assert [(102, 103)] == [(one.first, one.last) for one in chain.untold()]
    assert [] == chain.untold()
    chain.take(103, 103, 1400, 8.1)
    assert [(103, 103)] == [(one.first, one.last) for one in chain.filled]
    chain.take_fetched(0, 102, 102)
    assert [(103, 103), (102, 102)] == [(one.first, one.last) for one in chain.filled]
    assert [] == chain.missing


@pytest.mark.parametrize("cause", ["disconnect", "shed", "stall"])
def test_a_hole_behind_an_interruption_has_its_cause(cause):
    """And one that comes later has not."""
    chain = begun()
    chain.interrupt(cause)
    chain.take(105, 105, 1500, 7.0)
    chain.take(110, 110, 1600, 8.0)
    assert [cause, "exchange"] == [one.cause for one in chain.missing]


def test_an_interruption_without_a_hole_leaves_no_trace():
    chain = begun()
    chain.interrupt("disconnect")
    assert Verdict.DUPLICATE is chain.take(100, 100, 1000, 6.9)
    assert Verdict.NEW is chain.take(101, 101, 1500, 7.0)
    chain.take(110, 110, 1600, 8.0)
    assert [(0, 102, 109)] == holes(chain)
    assert ["exchange"] == [one.cause for one in chain.missing]


def test_ids_that_start_over_are_a_new_epoch():
    """An old id with a new event time: not a duplicate, and no gap of a billion."""
    chain = begun(last_id=1_000_000_000, event_ms=1000)
    assert Verdict.NEW is chain.take(1, 1, 1001, 5.0)
    assert (1, 2, []) == (chain.epoch, chain.next_id, chain.missing)
    assert Verdict.NEW is chain.take(2, 2, 1002, 5.1)


@pytest.mark.parametrize(("last_id", "event_ms"), [(1, 1000), (100 - RESTART_DISTANCE + 1, 2000), (99, 2000)])
def test_what_is_old_in_id_and_time_or_only_just_behind_is_a_duplicate(last_id, event_ms):
    """Two connections stamp event times of their own, so a newer time alone starts nothing over."""
    chain = begun()
    assert Verdict.DUPLICATE is chain.take(last_id, last_id, event_ms, 5.0)
    assert (0, 101) == (chain.epoch, chain.next_id)


def test_another_connection_cuts_updates_into_other_windows():
    """A window that begins before the expected id and reaches it continues the chain."""
    chain = begun()
    assert Verdict.NEW is chain.take(98, 107, 1500, 5.0)
    assert (108, []) == (chain.next_id, chain.missing)
    chain.take(120, 125, 1600, 6.0)
    assert Verdict.NEW is chain.take(105, 130, 1700, 6.1)
    assert (131, []) == (chain.next_id, chain.missing)


def test_a_chain_goes_on_from_an_earlier_run():
    """The hole between stop and start is a gap like any other; what lies there already is a duplicate."""
    chain = Chain()
    chain.resume(0, 100, 1000)
    assert Verdict.DUPLICATE is chain.take(100, 100, 1000, 1.0)
    chain.take(103, 103, 2000, 2.0)
    assert [(0, 101, 102)] == holes(chain)
    assert ["restart"] == [one.cause for one in chain.missing]


def test_ids_that_started_over_between_two_runs():
    chain = Chain()
    chain.resume(0, 5000, 1000)
    assert Verdict.NEW is chain.take(7, 7, 2000, 2.0)
    assert (1, []) == (chain.epoch, chain.missing)


def test_messages_of_an_earlier_run_are_gone_over_epoch_by_epoch():
    chain = Chain()
    chain.resume(0, 100, 1000)
    for epoch, first in ((0, 101), (0, 104), (1, 1), (1, 2)):
        chain.replay(epoch, first, first, 1000)
    assert (1, 3) == (chain.epoch, chain.next_id)
    assert [(0, 102, 103)] == holes(chain)


def test_holes_of_an_epoch_that_is_over_can_still_be_fetched():
    chain = begun(last_id=1000)
    chain.take(1003, 1003, 1100, 1.0)
    chain.take(1, 1, 1200, 2.0)
    assert [(0, 1001, 1002)] == holes(chain)
    assert not chain.take_fetched(1, 1001, 1001)
    assert chain.take_fetched(0, 1001, 1001)
    assert [(0, 1002, 1002)] == holes(chain)


def test_more_holes_than_are_held_are_told_at_once():
    """Memory is bounded, and nothing is left out of the ledger for it."""
    chain = begun()
    for number in range(MISSING_MAX + 5):
        chain.take(200 + 2 * number, 200 + 2 * number, 1000, 50.0)
    assert 5 == len(chain.overdue(0.0))
    assert MISSING_MAX == len(chain.missing)


def test_ids_that_nobody_can_bring_are_forgotten_without_a_word():
    chain = begun()
    chain.take(104, 104, 1500, 7.0)
    chain.untold()
    chain.forget(0, 101, 102)
    assert [(0, 103, 103)] == holes(chain)
    assert [] == chain.filled


def test_what_the_ledger_knows_beyond_the_last_message_is_not_missed_again():
    """The chain goes on behind it, whether it is still missing, given up or fetched."""
    chain = Chain()
    chain.resume(0, 100, 1000)
    chain.miss(Missing(0, 101, 103, 0.0, None, None, "quarantined", is_told=True))
    chain.reach(0, 105)
    assert Verdict.NEW is chain.take(106, 106, 2000, 1.0)
    assert [(0, 101, 103)] == holes(chain)
    assert Verdict.DUPLICATE is chain.take(105, 105, 2000, 1.0)


def test_the_exchange_has_more_than_came():
    """What lies between is missing; what comes of it after all is late."""
    chain = begun()
    assert not chain.pass_over(100, 5.0)
    assert chain.pass_over(103, 5.0)
    assert [(0, 101, 103)] == holes(chain)
    assert ["stall"] == [one.cause for one in chain.missing]
    assert Verdict.LATE is chain.take(101, 101, 1500, 6.0)
    assert Verdict.NEW is chain.take(104, 104, 1600, 7.0)
    assert [(0, 102, 103)] == holes(chain)


def test_the_exchange_has_trades_and_nothing_has_come_at_all():
    """The recording begins behind what it has then; from there on nothing is missed in silence."""
    chain = Chain()
    assert not chain.pass_over(103, 5.0)
    assert not chain.pass_over(103, 6.0)
    assert chain.pass_over(105, 7.0)
    assert [(0, 104, 105)] == holes(chain)


@given(st.data())
def test_two_connections_that_lose_and_lag_record_every_id_that_came_once(data):
    """Recorded: what either brought, once. Missing: the rest between the first and the last recorded id."""
    count = 60
    streams = [
        [number for number in range(count) if data.draw(st.integers(0, 9)) or number in (0, count - 1)]
        for _ in range(2)
    ]
    chain, recorded, places = Chain(), [], [0, 0]
    while any(place < len(ids) for place, ids in zip(places, streams, strict=True)):
        choices = [index for index in range(2) if places[index] < len(streams[index])]
        index = data.draw(st.sampled_from(choices))
        number = streams[index][places[index]]
        places[index] += 1
        if chain.take(number, number, 1000 + number, 0.0) is not Verdict.DUPLICATE:
            recorded.append(number)
    came = set(streams[0]) | set(streams[1])
    assert sorted(came) == sorted(recorded)
    missing = {number for one in chain.missing for number in range(one.first, one.last + 1)}
    assert set(range(count)) - came == missing
