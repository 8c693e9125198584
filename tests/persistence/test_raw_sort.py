"""Lines of a day in the order of receipt, in bounded memory, whatever the clock did."""

import tempfile
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamsvc.persistence.raw_sort import LineSort
from streamsvc.schema import Market

FEED = (Market.SPOT, "BTCUSDT")
OTHER = (Market.FUTURES, "BTCUSDT")
NS = 1_700_000_000 * 10**9


@pytest.fixture
def spill():
    with tempfile.TemporaryFile() as file:
        yield file


def sorted_lines(sort, feed):
    return b"".join(sort.lines(feed)).splitlines()


@given(
    lines=st.lists(st.tuples(st.sampled_from([FEED, OTHER]), st.integers(0, 30)), max_size=120),
    buffer_lines=st.integers(1, 20),
    block_bytes=st.integers(1, 200),
)
@example(lines=[(FEED, 5), (FEED, 1), (FEED, 5)], buffer_lines=1, block_bytes=1)
@example(lines=[(FEED, 5), (FEED, 6), (FEED, 1), (FEED, 5)], buffer_lines=2, block_bytes=200)
def test_lines_come_in_order_of_time_and_then_of_arrival(lines, buffer_lines, block_bytes):
    """Whatever the order of arrival, and wherever buffers and blocks end."""
    expected = {FEED: [], OTHER: []}
    with tempfile.TemporaryFile() as spill:
        sort = LineSort(spill, buffer_lines * 150, block_bytes)
        for number, (feed, second) in enumerate(lines):
            sort.add(feed, NS + second, b"%d" % number)
            expected[feed].append((NS + second, number))
        sort.flush()
        assert sorted(feed for feed in expected if expected[feed]) == sort.feeds()
        for feed in sort.feeds():
            expected_lines = [b"%d %d" % pair for pair in sorted(expected[feed])]
            assert expected_lines == sorted_lines(sort, feed)


def test_a_time_always_has_as_many_digits_as_hftbacktest_reads(spill):
    """A clock that was not set yet stands in 1970."""
    sort = LineSort(spill)
    sort.add(FEED, 5, b"x")
    sort.add(FEED, NS, b"y")
    sort.flush()
    assert [b"0000000000000000005 x", b"1700000000000000000 y"] == sorted_lines(sort, FEED)


@pytest.mark.parametrize("back_every", [0, 25_000], ids=["a clock that goes on", "a clock that is set back"])
def test_memory_does_not_grow_with_the_day(spill, back_every):
    """10 MB of two feeds in buffers of 256 KB take a few of them, where nothing overlaps and where half of it does."""
    count, text = 50_000, b"x" * 180
    buffer_bytes, block_bytes = 1 << 18, 1 << 13
    sort = LineSort(spill, buffer_bytes, block_bytes)
    tracemalloc.start()
    try:
        for number in range(count):
            time_ns = NS + (number - 12_500 if back_every and number >= back_every else number)
            sort.add((FEED, OTHER)[number % 2], time_ns, bytes(bytearray(text)))
        sort.flush()
        sizes = [sum(map(len, sort.lines(feed))) for feed in sort.feeds()]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [count // 2 * 201] * 2 == sizes
    assert peak < 3 * buffer_bytes
