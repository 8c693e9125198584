"""Health: what a look at a stream finds, by monotonic time alone."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.schema import STREAM_KINDS, Kind, Market
from streamsvc.venues.venue import Stream
from streamsvc.watchdog.health import Health, Timeouts, Verdict

TIMEOUTS = Timeouts(trade_sec=150, book_sec=180, first_message_sec=60)


def stream(kind: Kind = Kind.TRADE, symbol: str = "BTCUSDT") -> Stream:
    return Stream(Market.FUTURES, kind, symbol, f"{symbol.lower()}@{kind.label}", "public")


def flowing(kind: Kind, *, subscribed_at: float = 0, last_message: float | None = None):
    health = Health([stream(kind)])
    health.subscribed([stream(kind)], subscribed_at, connection="futures-1")
    (slot,) = health.slots()
    slot.last_message = last_message
    return slot


@pytest.mark.parametrize(
    ("kind", "timeout_sec"),
    [
        (Kind.TRADE, 150),
        (Kind.AGG_TRADE, 150),
        (Kind.DEPTH, 180),
        (Kind.BOOK_TICKER, 180),
        (Kind.MARK_PRICE, 180),
        (Kind.KLINE_1M, 180),
    ],
)
def test_silence_beyond_the_timeout_of_the_kind_is_a_stall(kind, timeout_sec):
    slot = flowing(kind, last_message=1000)
    assert Verdict.OK is slot.verdict(1000 + timeout_sec, TIMEOUTS)
    assert Verdict.STALLED is slot.verdict(1000 + timeout_sec + 0.001, TIMEOUTS)


@pytest.mark.parametrize("last_message", [None, 5])
def test_force_orders_are_never_stalled_nor_suspect(last_message):
    slot = flowing(Kind.FORCE_ORDER, last_message=last_message)
    assert Verdict.OK is slot.verdict(1e9, TIMEOUTS)


def test_every_kind_of_a_stream_but_force_orders_has_a_timeout():
    """A kind that nobody watches would stall in silence."""
    assert [Kind.FORCE_ORDER] == [kind for kind in STREAM_KINDS[Market.FUTURES] if TIMEOUTS.of(kind) is None]


def test_a_first_message_that_never_comes():
    """Suspect first, stalled later; the age counts from the subscribing."""
    slot = flowing(Kind.TRADE, subscribed_at=1000)
    found = [slot.verdict(1000 + after, TIMEOUTS) for after in (60, 60.1, 150, 150.1)]
    assert [Verdict.OK, Verdict.SUSPECT, Verdict.SUSPECT, Verdict.STALLED] == found
    assert 150.1 == pytest.approx(slot.age_sec(1150.1))


def test_before_and_without_a_connection():
    """A stream whose connection is down is not stalled, but its age goes on."""
    health = Health([stream()])
    (slot,) = health.slots()
    assert (Verdict.DISCONNECTED, None) == (slot.verdict(9, TIMEOUTS), slot.age_sec(9))
    health.subscribed([stream()], 10, connection="futures-1")
    slot.last_message = 20.0
    health.unsubscribed([stream()])
    assert (Verdict.DISCONNECTED, 1000) == (slot.verdict(1020, TIMEOUTS), slot.age_sec(1020))


def test_time_without_a_connection_is_not_silence_of_the_stream():
    """After an hour's outage a stream has its whole timeout again, and must deliver a first message again."""
    slot = flowing(Kind.TRADE, subscribed_at=3600, last_message=10)
    found = [slot.verdict(3600 + after, TIMEOUTS) for after in (1, 61, 151)]
    assert [Verdict.OK, Verdict.SUSPECT, Verdict.STALLED] == found
    assert 3741 == slot.age_sec(3751)


def test_streams_subscribed_together_share_a_connection():
    """The route of the last subscribing is kept: a futures trade stream may change it."""
    streams = [stream(symbol=symbol) for symbol in ("A", "B", "C")]
    health = Health(streams)
    health.subscribed(streams[:2], 0, connection="futures-1")
    health.subscribed([attrs.evolve(streams[2], route="market")], 0, connection="futures-2")
    first, second, third = health.slots()
    assert first.connection == second.connection != third.connection
    assert "market" == health.slot(Market.FUTURES, "c@trade").stream.route


def test_the_same_name_on_two_markets():
    """Names are unique within a market only."""
    spot = attrs.evolve(stream(), market=Market.SPOT)
    health = Health([stream(), spot])
    health.subscribed([spot], 5, connection="futures-1")
    assert None is health.slot(Market.FUTURES, spot.name).subscribed_at
    assert 5 == health.slot(Market.SPOT, spot.name).subscribed_at


def test_a_stream_nobody_knows():
    with pytest.raises(KeyError):
        Health([]).slot(Market.SPOT, "x@trade")


times = st.floats(0, 1e6)


@given(st.sampled_from(STREAM_KINDS[Market.FUTURES]), times, st.none() | times, times)
def test_verdicts_only_worsen_while_nothing_comes(kind, subscribed_at, last_message, wait_sec):
    """OK, suspect, stalled, in this order; and a message now makes any of them OK."""
    order = [Verdict.OK, Verdict.SUSPECT, Verdict.STALLED]
    slot = flowing(kind, subscribed_at=subscribed_at, last_message=last_message)
    now = max(subscribed_at, last_message or 0)
    early, late = slot.verdict(now + wait_sec, TIMEOUTS), slot.verdict(now + 2 * wait_sec, TIMEOUTS)
    assert order.index(early) <= order.index(late)
    slot.last_message = now + 2 * wait_sec
    assert Verdict.OK is slot.verdict(now + 2 * wait_sec, TIMEOUTS)
