"""Messages without chained ids that two connections bring."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from streamsvc.integrity import chains as chains_module
from streamsvc.integrity.chains import Chains
from streamsvc.integrity.seen import Seen
from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream

FAST, SLOW = 1, 2


def test_a_message_is_new_once_whoever_brings_it_first():
    seen = Seen()
    assert [False, True, False, True] == [
        seen.is_repeated(*one) for one in (("a", 1, FAST), ("a", 1, SLOW), ("b", 2, SLOW), ("b", 2, FAST))
    ]


def test_what_only_the_copy_that_lags_has_brought_is_new():
    seen = Seen()
    seen.is_repeated(1, 1, FAST)
    seen.is_repeated(3, 3, FAST)
    assert [True, False, True] == [seen.is_repeated(number, number, SLOW) for number in (1, 2, 3)]


def test_what_is_older_than_is_remembered_is_taken_for_repeated():
    """Whether it was recorded cannot be told: twice is worse."""
    seen = Seen()
    for number in range(10):
        seen.is_repeated(number, number, FAST)
    seen.begin_generation()
    seen.is_repeated(10, 10, FAST)
    assert seen.is_repeated(9, 9, SLOW)
    seen.begin_generation()
    seen.leave(SLOW)
    assert [True] * 11 == [seen.is_repeated(number, number, SLOW) for number in range(11)]
    assert not seen.is_repeated(11, 11, SLOW)


def test_numbers_that_start_over_are_not_old():
    """Along one connection they never fall but for that."""
    seen = Seen()
    for generation in range(3):
        seen.is_repeated(1000 + generation, 1000 + generation, FAST)
        seen.begin_generation()
    assert [False, False] == [seen.is_repeated(number, number, FAST) for number in (1, 2)]
    seen.begin_generation()
    seen.begin_generation()
    assert [False, False] == [seen.is_repeated(number, number, FAST) for number in (3, 4)]


def test_a_new_connection_after_numbers_started_over_is_heard_in_the_end():
    """It cannot be told from one that lags; two generations later it is."""
    seen = Seen()
    seen.is_repeated(1000, 1000, FAST)
    seen.begin_generation()
    seen.begin_generation()
    assert seen.is_repeated(1, 1, SLOW)
    seen.begin_generation()
    assert not seen.is_repeated(2, 2, SLOW)


@given(st.lists(st.tuples(st.sampled_from([FAST, SLOW, 0]), st.integers(1, 5)), max_size=60))
def test_nothing_is_new_twice_however_far_one_lags(steps):
    """A step lets a connection bring its next messages; 0 begins a generation, in which the first one goes on."""
    seen, places, new = Seen(), {FAST: 0, SLOW: 0}, []
    for chosen, count in steps:
        connection = chosen or max(places, key=places.get)
        if not chosen:
            seen.begin_generation()
        for _ in range(count):
            places[connection] += 1
            if not seen.is_repeated(places[connection], places[connection], connection):
                new.append(places[connection])
    assert len(new) == len(set(new))


def test_what_is_remembered_of_all_streams_is_bounded(monkeypatch):
    """However many messages come between two looks, and however many streams there are: 200 bytes a key."""
    monkeypatch.setattr(chains_module, "SEEN_MAX", 10_000)
    streams = [Stream(Market.SPOT, Kind.BOOK_TICKER, f"S{n}", f"s{n}@bookTicker", "") for n in range(4)]
    chains = Chains(streams)
    for connection in (FAST, SLOW):
        chains.dialled(streams, connection, 0.0)
        chains.connected(streams, connection, 0.0, 0)
    tracks = [chains.track(stream) for stream in streams]
    ids = range(400_900_217_000, 400_900_217_000 + 40_000)
    tracemalloc.start()
    for number in ids:
        for track in tracks:
            assert not chains.is_repeated(track, number, number, FAST, 1.0)
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 200 * 10_000
    for number in (ids[0], ids[-2000]):
        assert all(chains.is_repeated(track, number, number, SLOW, 1.0) for track in tracks)
