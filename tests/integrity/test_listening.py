"""What may be missing of streams whose ids do not chain: by ids and by time."""

import pytest

from streamsvc.integrity.listening import Heard, may_be_missing
from streamsvc.integrity.sequence import IdRange
from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream

QUOTES = Stream(Market.SPOT, Kind.BOOK_TICKER, "BTCUSDT", "btcusdt@bookTicker")
PRICES = Stream(Market.FUTURES, Kind.MARK_PRICE, "BTCUSDT", "btcusdt@markPrice@1s", "market", 1000)
LIQUIDATIONS = Stream(Market.FUTURES, Kind.FORCE_ORDER, "BTCUSDT", "btcusdt@forceOrder", "market")


@pytest.mark.parametrize(
    ("before", "behind", "expected"),
    [(10, 15, IdRange(11, 14)), (10, 11, None), (10, 10, None), (10, 12, IdRange(11, 11)), (10, 3, IdRange(11, 11))],
)
def test_quotes(before, behind, expected):
    """Update ids never fall: what lies between two may be missing; where they fall, nobody knows what was sent."""
    assert expected == may_be_missing(QUOTES, Heard(before, 1000), Heard(behind, 2000))


@pytest.mark.parametrize(
    ("behind_ms", "expected"), [(6000, None), (6400, None), (7000, IdRange(5001, 6999)), (5000, None)]
)
def test_a_price_that_comes_on_time_follows_the_one_before(behind_ms, expected):
    assert expected == may_be_missing(PRICES, Heard(5000, 5000), Heard(behind_ms, behind_ms))


def test_liquidations_may_be_missing_for_as_long_as_nobody_listened():
    assert IdRange(5001, 5999) == may_be_missing(LIQUIDATIONS, Heard(5000, 5000), Heard(6000, 6000))
