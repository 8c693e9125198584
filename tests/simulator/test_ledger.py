"""The account: sets of ids, and what was withheld."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.schema import Market
from streamsvc.simulator.ledger import IdRanges, Ledger, StreamRecord

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda one: (one[0], one[0] + one[1])))


def members(ids):
    return {number for first, last in ids for number in range(first, last + 1)}


@settings(deadline=None)
@given(ranges)
def test_ranges_are_the_set_of_their_members(pairs):
    """Whatever order they come in; sorted, and never touching each other."""
    found = IdRanges(pairs)
    assert members(pairs) == members(found)
    edges = [edge for pair in found for edge in pair]
    assert sorted(edges) == edges
    assert all(before + 1 < after for (_, before), (after, _) in zip(found, list(found)[1:], strict=False))


@settings(deadline=None)
@given(ranges, ranges)
def test_what_is_in_one_and_not_in_the_other(these, those):
    left = IdRanges(these).without(IdRanges(those))
    assert members(these) - members(those) == members(left)


def record():
    return StreamRecord(Market.SPOT, "btcusdt@trade", "BTCUSDT", "trade", is_chained=True)


def test_missing_is_what_was_made_and_sent_to_nobody():
    one = record()
    one.produced.add(1, 10)
    one.add_sent(1, 4, 4)
    one.add_sent(8, 8, 1)
    assert [(5, 7), (9, 10)] == list(one.missing)
    assert (5, 8) == (one.sent_count, one.last_id)


def test_messages_withheld_in_a_row_are_one_line():
    """Another cause, another connection or a hole begins a new one."""
    ledger, one = Ledger(), record()
    for number in (1, 2, 3, 5):
        ledger.add_withheld(one, "mute", number, number)
    ledger.add_withheld(one, "drop", 6, 6)
    ledger.add_withheld(one, "drop", 7, 7, connection=2)
    expected = [("mute", 1, 3, 3, 0), ("mute", 5, 5, 1, 0), ("drop", 6, 6, 1, 0), ("drop", 7, 7, 1, 2)]
    assert expected == [(x.cause, x.first_id, x.last_id, x.count, x.connection) for x in ledger.withheld]


def test_kinds_without_a_chain_are_counted():
    ledger = Ledger()
    one = StreamRecord(Market.FUTURES, "btcusdt@markPrice@1s", "BTCUSDT", "markPrice", is_chained=False)
    ledger.add_withheld(one, "mute", 0, 0)
    ledger.add_withheld(one, "mute", 0, 0)
    assert [(0, 0, 2)] == [(x.first_id, x.last_id, x.count) for x in ledger.withheld]
