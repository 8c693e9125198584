"""When segments close, and when traffic is extreme."""

import math

from streamsvc.persistence.rotation import Rotation, RotationLimits
from streamsvc.schema import Market

LIMITS = RotationLimits(rotate_sec=60, extreme_sec=30, extreme_rows=1000, segment_bytes=5000)
BTC, ETH = (Market.SPOT, "BTCUSDT"), (Market.FUTURES, "ETHUSDT")


def test_a_segment_closes_by_its_age_from_its_first_message():
    rotation = Rotation(LIMITS)
    assert math.inf == rotation.due_at()
    rotation.opened(10)
    assert (False, True) == (rotation.is_due(69.9, 0), rotation.is_due(70, 0))


def test_a_segment_closes_by_its_size():
    rotation = Rotation(LIMITS)
    assert not rotation.is_due(0, 5000)
    rotation.opened(0)
    assert (False, True) == (rotation.is_due(1, 4999), rotation.is_due(1, 5000))


def test_one_busy_symbol_shortens_the_rotation():
    """The threshold counts one symbol's rows in the open segment, which then closes by the short rotation."""
    rotation = Rotation(LIMITS)
    rotation.opened(0)
    assert None is rotation.judge(20, {BTC: 999, ETH: 999})
    change = rotation.judge(21, {BTC: 999, ETH: 1000})
    assert change is not None
    assert ("extreme_traffic_entered", *ETH, 1000) == (change.event, change.market, change.symbol, change.rows)
    assert ("extreme", 30) == (rotation.mode, rotation.due_at())


def test_busy_symbols_never_make_the_rotation_longer():
    """Also where files are wanted sooner than that anyway."""
    rotation = Rotation(RotationLimits(rotate_sec=10, extreme_sec=30, extreme_rows=1000, segment_bytes=5000))
    rotation.opened(0)
    rotation.judge(1, {BTC: 1000})
    assert ("extreme", 10) == (rotation.mode, rotation.due_at())


def test_rows_of_closed_segments_do_not_count():
    rotation = Rotation(LIMITS)
    rotation.opened(0)
    rotation.closed({BTC: 900})
    rotation.opened(60)
    assert None is rotation.judge(61, {BTC: 1899})
    assert None is not rotation.judge(62, {BTC: 1900})


def test_it_leaves_only_below_sixty_percent_of_the_threshold():
    """Judged over a time as long as a short segment, again and again."""
    rotation = Rotation(LIMITS)
    rotation.judge(0, {BTC: 1000})
    assert None is rotation.judge(29, {BTC: 1000})
    assert None is rotation.judge(30, {BTC: 1600})
    change = rotation.judge(60, {BTC: 2199})
    assert change is not None
    assert ("extreme_traffic_left", 599) == (change.event, change.rows)
    assert "normal" == rotation.mode


def test_segments_cut_by_size_do_not_end_extreme_traffic():
    """A segment that was closed early has few rows, which says nothing about the rate."""
    rotation = Rotation(LIMITS)
    rotation.opened(0)
    rotation.judge(1, {BTC: 1000})
    for second in range(2, 31):
        rotation.closed({BTC: 1000 * second})
        rotation.opened(second)
        assert None is rotation.judge(second, {BTC: 1000 * second})
    assert None is rotation.judge(31, {BTC: 31000})


def test_without_traffic_nothing_changes():
    assert None is Rotation(LIMITS).judge(0, {})
