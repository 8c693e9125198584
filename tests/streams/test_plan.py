"""Which streams share a connection: all of them once, within the limits, on their routes."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsvc.errors import UsageError
from streamsvc.schema import STREAM_KINDS, Kind, Market
from streamsvc.streams.plan import plan_connections, repeat_plans
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot

SPOT = BinanceSpot("ws://spot.test")
FUTURES = BinanceFutures("ws://futures.test")
LIMITS = st.builds(
    attrs.evolve,
    st.just(SPOT.limits),
    streams_per_connection=st.integers(1, 12),
    url_bytes=st.integers(100, 400),
)


def names(plans):
    return [plan.name for plan in plans]


@given(
    venue=st.sampled_from([SPOT, FUTURES]),
    limits=LIMITS,
    symbols=st.lists(st.text("ABCDEFG", min_size=1, max_size=8), max_size=20),
    data=st.data(),
)
def test_any_symbols_and_kinds(venue, limits, symbols, data):
    """Every stream is on exactly one connection, of its route, within both limits; names are unique."""
    kinds = data.draw(st.lists(st.sampled_from(STREAM_KINDS[venue.market]), unique=True))
    venue = attrs.evolve(venue, limits=limits)
    plans = plan_connections(venue, symbols, kinds)
    expected = {venue.stream(symbol, kind) for symbol in symbols for kind in kinds}
    streams = [stream for plan in plans for stream in plan.streams]
    assert (len(expected), expected) == (len(streams), set(streams))
    for plan in plans:
        assert {plan.route} == {stream.route for stream in plan.streams}
        assert len(plan.streams) <= limits.streams_per_connection
        assert len(venue.url(plan.route, plan.streams)) <= limits.url_bytes
    assert len(plans) == len(set(names(plans)))


def test_as_few_connections_as_the_limits_allow():
    """300 symbols of three kinds fit three times 340 streams of 8000 bytes; symbols are kept whole."""
    plans = plan_connections(SPOT, [f"SYM{n}USDT" for n in range(300)], [Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER])
    assert ["spot-1", "spot-2", "spot-3"] == names(plans)
    symbols = [{stream.symbol for stream in plan.streams} for plan in plans]
    assert 300 == sum(map(len, symbols))


@pytest.mark.parametrize(("venue", "most"), [(SPOT, 1024), (FUTURES, 200)])
def test_more_streams_than_one_connection_may_carry(venue, most):
    """The exchange ends a connection that asks for one more; names that are short leave no other limit."""
    venue = attrs.evolve(venue, limits=attrs.evolve(venue.limits, url_bytes=10**9))
    plans = plan_connections(venue, [f"S{n}" for n in range(3000)], [Kind.TRADE])
    assert 3000 == sum(len(plan.streams) for plan in plans)
    assert most == max(len(plan.streams) for plan in plans)


def test_symbols_are_cut_where_that_saves_a_connection():
    """Four symbols of three kinds: connections of six hold two symbols; of four, three connections are enough."""
    kinds = [Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER]
    for per_connection, expected in ((6, [6, 6]), (4, [4, 4, 4])):
        limits = attrs.evolve(SPOT.limits, streams_per_connection=per_connection)
        plans = plan_connections(attrs.evolve(SPOT, limits=limits), ["A", "B", "C", "D"], kinds)
        assert expected == [len(plan.streams) for plan in plans]


def test_futures_routes():
    """Each kind on its route; trades, whose route is not known, apart, as long as the settings leave it open."""
    plans = plan_connections(FUTURES, ["BTCUSDT"], STREAM_KINDS[Market.FUTURES])
    assert ["futures-trade-1", "futures-market-1", "futures-public-1"] == names(plans)
    assert ["public", "market", "public"] == [plan.route for plan in plans]
    known = attrs.evolve(FUTURES, trade_route="market")
    assert ["futures-market-1", "futures-public-1"] == names(
        plan_connections(known, ["BTCUSDT"], STREAM_KINDS[Market.FUTURES])
    )


def test_other_route():
    """A connection of trades can change its route and back; one whose route is known cannot."""
    trade, _, public = plan_connections(FUTURES, ["BTCUSDT"], [Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH])
    other = trade.on_other_route(FUTURES)
    assert ("futures-trade-1", "market", "market") == (other.name, other.route, other.streams[0].route)
    assert trade == other.on_other_route(FUTURES)
    assert public.on_other_route(FUTURES) is None


def test_same_symbol_twice():
    """It is recorded once."""
    assert 1 == len(plan_connections(SPOT, ["BTCUSDT", "BTCUSDT"], [Kind.TRADE])[0].streams)


def test_nothing_to_record():
    """No connection."""
    assert [] == plan_connections(SPOT, [], [Kind.TRADE])


def test_symbol_too_long_for_any_url():
    """The user is told which."""
    with pytest.raises(UsageError, match="xxx@trade"):
        plan_connections(SPOT, ["X" * 9000], [Kind.TRADE])


def test_every_plan_twice():
    """Each copy has a name of its own; the first copies come first, so that every stream is there early."""
    plans = plan_connections(FUTURES, ["BTCUSDT"], [Kind.TRADE, Kind.DEPTH])
    doubled = repeat_plans(plans, 2)
    names = [plan.name for plan in plans]
    assert [*names, *(f"{name}-b" for name in names)] == [plan.name for plan in doubled]
    assert [0] * len(plans) + [1] * len(plans) == [plan.copy for plan in doubled]
    assert [plan.streams for plan in plans] * 2 == [plan.streams for plan in doubled]
    assert plans == repeat_plans(plans, 1)
