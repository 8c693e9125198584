"""Numbers on their way from text to float64."""

import json
import math
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from persistence_samples import spot_trade

from streamsvc.persistence.decoding import DAY_NS, PIECE_TEXTS, DayLimit, decode
from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_payloads import PAYLOADS

PAYLOAD = PAYLOADS[Source.STREAM, Market.SPOT, Kind.TRADE]
DECIMALS = st.from_regex(r"(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?", fullmatch=True)


def decode_texts(texts, payload=PAYLOAD, kind=Kind.TRADE):
    return decode(payload, kind, texts, np.full(len(texts), 1_700_000_000 * 10**9), DayLimit())


def decode_prices(prices):
    decoded = decode_texts([spot_trade(number, price=price) for number, price in enumerate(prices)])
    recorded = dict(zip(decoded.kept.tolist(), decoded.chunk.columns["price"], strict=True))
    return recorded, {item.index for item in decoded.refusals}


@given(st.lists(DECIMALS, max_size=8))
def test_a_decimal_becomes_the_nearest_float(prices):
    """What is stored is what was received, as exactly as float64 can."""
    assert ({place: float(Decimal(price)) for place, price in enumerate(prices)}, set()) == decode_prices(prices)


@given(st.lists(DECIMALS, min_size=1, max_size=4))
def test_a_decimal_is_inexact_exactly_when_it_has_more_than_fifteen_digits(prices):
    """Zeros before and after do not count; up to fifteen digits float64 gives the same decimal back."""
    texts = [spot_trade(number, price=price) for number, price in enumerate(prices)]
    expected = []
    for place, price in enumerate(prices):
        digits = price.replace(".", "").strip("0")
        if len(digits) > 15:
            expected.append(place)
        else:
            assert Decimal(price) == Decimal(f"{float(price):.15g}")
    assert expected == decode_texts(texts).inexact


def test_a_whole_number_of_sixteen_digits_is_inexact():
    """The shortest text that can be; one digit less never is."""
    texts = [spot_trade(number, price=price) for number, price in enumerate(["123456789012345", "1234567890123456"])]
    assert [1] == decode_texts(texts).inexact


def test_long_ids_and_times_are_not_inexact():
    """They are integers, which are kept to the last digit."""
    assert [] == decode_texts([spot_trade(2**63 - 1), spot_trade(10**17)]).inexact


def test_an_inexact_number_is_found_wherever_it_stands_and_only_in_what_is_recorded():
    """Pieces are looked at one after the other; a refused message is kept as text for its own reason."""
    texts = [spot_trade(number) for number in range(3 * PIECE_TEXTS)]
    long = "0.1234567890123456"
    for place in (0, PIECE_TEXTS, 3 * PIECE_TEXTS - 1):
        texts[place] = spot_trade(place, p=long)
    texts[5] = spot_trade(5, p=long, q="-1")
    decoded = decode_texts(texts)
    assert ([0, PIECE_TEXTS, 3 * PIECE_TEXTS - 1], [5]) == (
        decoded.inexact, [item.index for item in decoded.refusals],
    )  # fmt: skip


TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["NaN", "nan", "-nan", "Infinity", "-Infinity", "inf", "1e5", "1E-400", "1e309", "-0", "-1", "+1"]),
    st.sampled_from(["1_0", "0x1", ".5", "5.", "01", "\uff11", " 1", "1 ", ""]),
    st.floats().map(str),
    DECIMALS,
)


@given(st.lists(TEXTS, max_size=8))
def test_only_finite_numbers_that_are_not_negative_pass(prices):
    """Whatever a price's text is: the row is recorded with the number that Python reads there, or it is refused."""
    recorded, refused = decode_prices(prices)
    assert set(range(len(prices))) == set(recorded) | refused
    assert not set(recorded) & refused
    for place, value in recorded.items():
        assert math.isfinite(value)
        assert value >= 0
        assert float(prices[place]) == value
    for place in refused:
        assert not json_number_is_fine(prices[place])


def json_number_is_fine(text):
    if text != text.strip():
        return False
    try:
        value = json.loads(text, parse_constant=lambda _: math.nan)
    except ValueError:
        return False
    return type(value) in (int, float) and math.isfinite(value) and value >= 0 and abs(value) < 1e308


def test_days_around_receipt_are_always_open():
    limit = DayLimit(others_max=1)
    received = np.array([100 * DAY_NS] * 6)
    days = np.array([99, 100, 101, 5, 6, 5]) * DAY_NS
    assert [False, False, False, False, True, False] == limit.refused(days, received).tolist()
    assert [False] * 3 == limit.refused(np.array([99, 101, 5]) * DAY_NS, received[:3]).tolist()
