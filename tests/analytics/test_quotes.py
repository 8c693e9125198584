"""Order flow imbalance and prices of best bid and ask."""

from decimal import Decimal

import pytest

from streamsvc.analytics.quotes import OPEN_BINS_MAX, PriceSeconds, Quotes, contribution, microprice
from streamsvc.venues.binance_live import LiveQuote


def quote(update_id, bid="10", bid_quantity="1", ask="11", ask_quantity="1"):
    numbers = (Decimal(text) for text in (bid, bid_quantity, ask, ask_quantity))
    return LiveQuote("BTCUSDT", update_id, *numbers, None)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("10", "3", "11", "4"), ("10", "5", "11", "4"), 2),  # More is bid for at the same price.
        (("10", "3", "11", "4"), ("10.5", "2", "11", "4"), 2),  # A higher bid: all of it is new.
        (("10", "3", "11", "4"), ("9", "7", "11", "4"), -3),  # A lower bid: all that was there is gone.
        (("10", "3", "11", "4"), ("10", "3", "11", "9"), -5),  # More is offered.
        (("10", "3", "11", "4"), ("10", "3", "10.5", "2"), -2),  # A lower ask: all of it is new.
        (("10", "3", "11", "4"), ("10", "3", "12", "9"), 4),  # A higher ask: all that was there is gone.
        (("10", "3", "11", "4"), ("10", "3", "11", "4"), 0),
    ],
)
def test_what_a_change_contributes(before, after, expected):
    assert expected == contribution(quote(1, *before), quote(2, *after))


def test_the_first_quote_contributes_nothing_and_counts():
    quotes = Quotes("BTCUSDT")
    quotes.add(quote(5, bid_quantity="9"), 1_500, 0)
    ((second,), _) = quotes.close(2_000)
    assert (1_000, 0, 1, 9) == (second.open_ms, second.ofi, second.update_count, second.bid_quantity)


def test_an_update_id_that_is_not_higher_is_no_change_until_ids_start_over():
    quotes = Quotes("BTCUSDT")
    assert [True, False, False, True] == [
        quotes.add(quote(number), 1_000, epoch) for number, epoch in ((5, 0), (5, 0), (4, 0), (1, 1))
    ]


def test_seconds_and_minutes_add_up():
    quotes = Quotes("BTCUSDT")
    for number in range(130):
        quotes.add(quote(number, bid_quantity=str(number)), number * 1_000, 0)
    seconds, minutes = quotes.close(200_000)
    assert (130, [0, 60_000, 120_000]) == (len(seconds), [row.open_ms for row in minutes])
    assert [59, 60, 10] == [row.ofi for row in minutes]
    assert [60, 60, 10] == [row.update_count for row in minutes]
    assert 129 == sum(row.ofi for row in seconds)


def test_what_comes_when_its_second_is_closed_counts_in_the_oldest_open_one():
    """No bin is written twice, and none of the flow is lost."""
    quotes = Quotes("BTCUSDT")
    quotes.add(quote(1), 1_000, 0)
    quotes.close(3_000)
    quotes.add(quote(2, bid_quantity="4"), 1_500, 0)
    ((second,), _) = quotes.close(4_000)
    assert (3_000, 3) == (second.open_ms, second.ofi)


def test_bins_that_wait_for_a_clock_that_stands_still_are_bounded():
    prices = PriceSeconds("BTCUSDT")
    rows = []
    for second in range(3 * OPEN_BINS_MAX):
        prices.quote(quote(second), second * 1_000)
        rows += prices.close(0)
    assert 2 * OPEN_BINS_MAX == len(rows)
    assert [number * 1_000 for number in range(len(rows))] == [row.open_ms for row in rows]


def test_prices_at_the_end_of_a_second():
    """The trade with the highest id, the newest quote; what did not come in it is as it was."""
    prices = PriceSeconds("BTCUSDT")
    prices.trade(Decimal(7), 2, 1_900)
    prices.trade(Decimal(6), 1, 1_950)
    prices.quote(quote(1, "10", "3", "12", "1"), 1_500)
    prices.quote(quote(2, "10", "1", "12", "3"), 1_600)
    prices.trade(Decimal(8), 3, 2_000)
    first, second = prices.close(3_000)
    assert (7, 10, 12, 11, Decimal("10.5"), 2) == (
        first.last_price, first.bid_price, first.ask_price, first.mid_price, first.microprice, first.spread
    )  # fmt: skip
    assert (8, 10) == (second.last_price, second.bid_price)


def test_what_is_not_known_yet_is_zero():
    prices = PriceSeconds("BTCUSDT")
    prices.trade(Decimal(7), 2, 1_900)
    (row,) = prices.close(2_000)
    assert (7, 0, 0, 0, 0, 0) == (
        row.last_price, row.bid_price, row.ask_price, row.mid_price, row.microprice, row.spread
    )  # fmt: skip


def test_the_microprice_leans_to_the_side_with_less():
    assert Decimal("10.75") == microprice(quote(1, "10", "3", "11", "1"))
    assert Decimal("10.5") == microprice(quote(1, "10", "0", "11", "0"))
