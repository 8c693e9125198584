"""Plans while streams come and go."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.schema import Kind, Market
from streamsvc.streams.plan import change_plans, plan_connections, repeat_plans
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot

FEW = 7
VENUES = {
    Market.SPOT: BinanceSpot("wss://spot.test"),
    Market.FUTURES: BinanceFutures("wss://futures.test"),
}
KINDS = (Kind.TRADE, Kind.DEPTH, Kind.AGG_TRADE)
SYMBOLS = [f"S{number}USDT" for number in range(12)]


def narrow(market, **limits):
    """A market whose connections carry little."""
    venue = VENUES[market]
    return attrs.evolve(venue, limits=attrs.evolve(venue.limits, **({"streams_per_connection": FEW} | limits)))


def streams_of(venue, wanted):
    return [venue.stream(symbol, kind) for symbol, kind in sorted(wanted)]


def places(plans):
    """Where each stream is."""
    return {stream.name: plan.name for plan in plans for stream in plan.streams}


wanted_sets = st.lists(
    st.frozensets(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(KINDS)), max_size=30), min_size=1, max_size=8
)


@pytest.mark.parametrize("market", list(Market))
@pytest.mark.parametrize("url_bytes", [8000, 140])
@settings(deadline=None, max_examples=60)
@given(steps=wanted_sets)
def test_any_sequence_of_changes(market, url_bytes, steps):
    """Every wanted stream is on one connection of its route, no other is, limits hold, and what stays never moves."""
    venue = narrow(market, url_bytes=url_bytes)
    plans, before = [], frozenset()
    for wanted in steps:
        old = places(plans)
        removed = {stream.name for stream in streams_of(venue, before - wanted)}
        plans = change_plans(venue, plans, added=streams_of(venue, wanted - before), removed=removed)
        carried = [stream for plan in plans for stream in plan.streams]
        assert sorted(stream.name for stream in streams_of(venue, wanted)) == sorted(one.name for one in carried)
        assert len(plans) == len({plan.name for plan in plans})
        now = places(plans)
        stayed = {stream.name for stream in streams_of(venue, before & wanted)}
        assert {name: old[name] for name in stayed} == {name: now[name] for name in stayed}
        for plan in plans:
            assert 0 < len(plan.streams) <= FEW
            assert {plan.route} == {stream.route for stream in plan.streams}
            assert len(venue.url(plan.route, plan.streams)) <= url_bytes
        copies = repeat_plans(plans, 2)
        assert [plan.name for plan in plans] * 2 == [plan.first_name for plan in copies]
        before = wanted


def test_room_is_filled_before_another_connection_is_made():
    """In the order of the connections; what has ended makes room in the same change."""
    venue = narrow(Market.SPOT)
    plans = plan_connections(venue, SYMBOLS[:7], [Kind.TRADE, Kind.DEPTH])
    assert [7, 7] == [len(plan.streams) for plan in plans]
    added = streams_of(venue, {(symbol, Kind.AGG_TRADE) for symbol in SYMBOLS[:6]})
    removed = {stream.name for stream in plans[1].streams[:2]}
    changed = change_plans(venue, plans, added=added, removed=removed)
    assert [("spot-1", 7), ("spot-2", 7), ("spot-3", 4)] == [(plan.name, len(plan.streams)) for plan in changed]


def test_a_name_is_free_again_when_its_connection_has_said_goodbye():
    venue = narrow(Market.SPOT)
    plans = plan_connections(venue, SYMBOLS[:1], [Kind.TRADE])
    (trade,) = plans[0].streams
    assert [] == change_plans(venue, plans, removed={trade.name})
    assert ["spot-2"] == [plan.name for plan in change_plans(venue, [], added=[trade], taken=["spot-1"])]
    assert ["spot-1"] == [plan.name for plan in change_plans(venue, [], added=[trade])]


def test_a_stream_joins_a_connection_on_the_route_that_it_has_found():
    """The route of futures trades is found by trying; who comes later need not try again."""
    venue = narrow(Market.FUTURES)
    (plan,) = plan_connections(venue, SYMBOLS[:1], [Kind.TRADE])
    moved = plan.on_other_route(venue)
    (joined,) = change_plans(venue, [moved], added=[venue.stream(SYMBOLS[1], Kind.TRADE)])
    assert ("futures-trade-1", ["market", "market"]) == (joined.name, [stream.route for stream in joined.streams])
