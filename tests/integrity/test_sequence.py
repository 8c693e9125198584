"""Coverage of ids."""

from hypothesis import given
from hypothesis import strategies as st

from streamsvc.integrity.sequence import Coverage, IdRange

RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 5)).map(lambda pair: IdRange(pair[0], pair[0] + pair[1])), min_size=1
)


@given(RANGES, st.data())
def test_pieces_in_any_order_cover_the_same_ids(ranges, data):
    """Coverage is the set of ids, in disjoint ranges that do not touch; its gaps are what lies between."""
    coverage = Coverage()
    rest = data.draw(st.permutations(ranges))
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        coverage.add(rest[:cut])
        rest = rest[cut:]
    ids = {number for piece in ranges for number in range(piece.first, piece.last + 1)}
    assert ids == {number for piece in coverage.ranges for number in range(piece.first, piece.last + 1)}
    missing = {number for gap in coverage.gaps() for number in range(gap.first, gap.last + 1)}
    assert set(range(min(ids), max(ids) + 1)) - ids == missing
    assert all(before.last + 1 < after.first for before, after in zip(coverage.ranges, coverage.ranges[1:]))  # noqa: B905


def test_futures_depth_covers_what_lies_between_the_update_before_and_its_last_id():
    """`U` > `pu` + 1 is normal on futures: no gap."""
    coverage = Coverage()
    coverage.add([IdRange(50, 60), IdRange(61, 75)])
    assert [] == coverage.gaps()
