"""Chains that two connections share: one lags, one dies, ids start over; nothing is there twice, or lost in silence."""

import random

import pytest

from streamsvc.integrity.continuity import LAG_SEC_MAX, RESTART_DISTANCE, Chain, Verdict

FAST, SLOW = 1, 2
FAR = RESTART_DISTANCE + 1


def shared(last_id=1000, event_ms=1000):
    """A chain that has seen ids up to `last_id` over the fast connection, and is shared since."""
    chain = Chain()
    chain.take(1, last_id, event_ms, 0.0)
    chain.share(0.0)
    return chain


def take(chain, connection, number, event_ms, now=0.0):
    return chain.take(number, number, event_ms, now, connection)


def missing(chain):
    return [(one.epoch, one.first, one.last) for one in chain.missing]


def test_a_copy_that_lags_and_stamps_times_of_its_own_starts_nothing_over():
    """Its ids lie far behind with times newer than all before: that alone is what ids that start over look like."""
    chain = shared()
    for number in range(500, 700):
        assert Verdict.NEW is take(chain, FAST, number + 501, number + 1000)
        assert Verdict.DUPLICATE is take(chain, SLOW, number, number + 5000)
    assert (0, []) == (chain.epoch, chain.missing)


def test_a_copy_that_was_frozen_goes_on_where_it_was():
    """It led once; its ids have not fallen since."""
    chain = shared()
    take(chain, SLOW, 1001, 2000)
    for number in range(1002, 1500):
        take(chain, FAST, number, 2000)
    for number in range(1002, 1500):
        assert Verdict.DUPLICATE is take(chain, SLOW, number, 9000, now=LAG_SEC_MAX)
    assert Verdict.NEW is take(chain, SLOW, 1500, 9000, now=LAG_SEC_MAX)
    assert (0, []) == (chain.epoch, chain.missing)


def test_the_fast_copy_dies_while_the_other_lags():
    """It brings again what is there, then what is new: no epoch, no hole."""
    chain = shared()
    take(chain, SLOW, 700, 5000)
    chain.leave(FAST)
    found = [take(chain, SLOW, number, number + 5000, now=5.0) for number in range(701, 1100)]
    assert [Verdict.DUPLICATE] * 300 + [Verdict.NEW] * 99 == found
    assert (0, []) == (chain.epoch, chain.missing)


def test_ids_start_over_on_one_copy_and_then_on_the_other():
    """The first that falls begins the epoch; what the other still brings of the old one is no gap of a billion."""
    chain = shared()
    take(chain, FAST, 1001, 2000)
    take(chain, SLOW, 1000, 2000)
    assert Verdict.NEW is take(chain, FAST, 1, 2001)
    assert Verdict.DUPLICATE is take(chain, SLOW, 1001, 2500)
    assert Verdict.NEW is take(chain, FAST, 2, 2002)
    assert Verdict.DUPLICATE is take(chain, SLOW, 1, 2501)
    assert Verdict.DUPLICATE is take(chain, SLOW, 2, 2502)
    assert Verdict.NEW is take(chain, SLOW, 3, 2503)
    assert (1, []) == (chain.epoch, chain.missing)


def test_ids_that_start_over_on_a_copy_whose_clock_lies_behind():
    """Its times are compared with its own."""
    chain = shared(event_ms=9000)
    take(chain, SLOW, 1001, 2000)
    assert Verdict.NEW is take(chain, SLOW, 1, 2001)
    assert 1 == chain.epoch


def test_messages_sent_again_start_nothing_over():
    chain = shared()
    take(chain, FAST, 1001, 2000)
    assert Verdict.DUPLICATE is take(chain, FAST, 500, 1500)
    assert Verdict.DUPLICATE is take(chain, FAST, 500, 2000)
    assert 0 == chain.epoch


def test_a_new_connection_after_the_ids_started_over_while_the_other_is_silent():
    """For as long as it may lag it cannot be told from that; what was dropped meanwhile is missing, not gone."""
    chain = shared()
    take(chain, FAST, 1001, 2000, now=100.0)
    for number in range(1, 30):
        assert Verdict.DUPLICATE is take(chain, SLOW, number, 3000 + number, now=100.0 + number)
    assert Verdict.NEW is take(chain, SLOW, 30, 4000, now=100.5 + LAG_SEC_MAX)
    assert (1, [(1, 1, 29)]) == (chain.epoch, missing(chain))
    assert Verdict.NEW is take(chain, SLOW, 31, 4001, now=131.0)


def test_no_copy_is_left():
    """Then the next connection begins as if it were alone: what has started over begins a new epoch at once."""
    chain = shared()
    take(chain, FAST, 1001, 2000, now=100.0)
    chain.stop("disconnect")
    assert Verdict.NEW is take(chain, SLOW, 1, 3000, now=101.0)
    assert (1, []) == (chain.epoch, chain.missing)


def test_what_one_copy_lacks_the_other_fills():
    chain = shared()
    take(chain, FAST, 1005, 2000)
    assert [(0, 1001, 1004)] == missing(chain)
    assert [Verdict.LATE] * 4 == [take(chain, SLOW, number, 3000) for number in range(1001, 1005)]
    assert Verdict.DUPLICATE is take(chain, SLOW, 1005, 3000)
    assert [] == chain.missing


def test_windows_that_are_cut_differently():
    """Every window that reaches beyond the chain, or into a hole, is taken; nothing is missing in the end."""
    chain = shared()
    ours = [(1001, 1010), (1021, 1030), (1031, 1040)]
    theirs = [(996, 1005), (1006, 1015), (1016, 1025), (1026, 1035)]
    for first, last in ours:
        assert Verdict.NEW is chain.take(first, last, 2000, 0.0, FAST)
    found = [chain.take(first, last, 3000, 0.0, SLOW) for first, last in theirs]
    assert [Verdict.DUPLICATE, Verdict.LATE, Verdict.LATE, Verdict.DUPLICATE] == found
    assert [] == chain.missing


def test_the_usual_case_is_left_to_the_chain_while_it_is_shared():
    """Whoever takes the short way would not say which connection has come how far."""
    chain = shared()
    take(chain, FAST, 1001, 2000)
    assert None is chain.next_id
    chain.unshare()
    take(chain, FAST, 1002, 2001)
    assert 1003 == chain.next_id


def course(rng):
    """Two connections that bring one stream, in the order in which their messages come: (connection, epoch, id).

    Both have begun before the first epoch ends, and they are never more than one epoch apart.
    """
    lengths = [rng.randint(2 * FAR, 3 * FAR) for _ in range(rng.randint(1, 3))]
    sent = [(epoch, number) for epoch, length in enumerate(lengths) for number in range(1, length + 1)]
    queues = {}
    for connection in (FAST, SLOW):
        lost = set(rng.sample(sent, rng.randint(0, 20)))
        queues[connection] = [one for one in sent if one not in lost]
    found = [(connection, *queues[connection].pop(0)) for connection in (FAST, SLOW)]
    while any(queues.values()):
        connection = rng.choice([FAST, SLOW])
        behind = queues[FAST + SLOW - connection] or [(len(lengths), 0)]
        steps = queues[connection][: rng.choice([1, 5, FAR, 2 * FAR])]
        count = sum(epoch <= behind[0][0] + 1 for epoch, _ in steps)
        found += [(connection, *one) for one in steps[:count]]
        del queues[connection][:count]
    return found


@pytest.mark.parametrize("seed", range(100))
def test_two_connections_in_any_order(seed):
    """What is taken is taken once and in its epoch; what either brings and is not taken is missing in the ledger.

    But for the very ends of an epoch: what the first one to begin it, or to leave it, lacks there, nobody knows of.
    """
    rng = random.Random(seed)
    skew_ms = {FAST: 0, SLOW: rng.randint(-5000, 5000)}
    chain = Chain()
    chain.share(0.0)
    taken, brought = set(), course(rng)
    for at, (connection, epoch, number) in enumerate(brought):
        if chain.take(number, number, 10_000 + at + skew_ms[connection], at / 1000, connection) is Verdict.DUPLICATE:
            continue
        assert epoch == chain.epoch
        assert (epoch, number) not in taken
        taken.add((epoch, number))
    known = {(one.epoch, number) for one in chain.missing for number in range(one.first, one.last + 1)}
    lacking = {one[1:] for one in brought} - taken - known
    for epoch in {of for of, _ in taken}:
        numbers = [number for of, number in taken if of == epoch]
        assert [] == [one for one in lacking if one[0] == epoch and min(numbers) < one[1] < max(numbers)]
