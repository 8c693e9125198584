"""Differences are carried out: who is told of what, in which order, and what is said."""

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from streamsvc.roster.choice import Choice
from streamsvc.roster.roster import Roster
from streamsvc.schema import Kind, Market
from streamsvc.settings.selection import Selection
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot

SPOT = Market.SPOT
VENUES = {SPOT: BinanceSpot("wss://spot.test"), Market.FUTURES: BinanceFutures("wss://futures.test")}


def selections(*symbols, kinds=(Kind.TRADE, Kind.DEPTH)):
    return {SPOT: Selection(symbols, (), kinds), Market.FUTURES: Selection(kinds=kinds)}


class Stage:
    """Everybody whom the roster tells: what they were told lies in `told`."""

    def __init__(self, *symbols, limit=5000):
        self.told = []
        self.on_ended = None
        self.keep_fault = None
        self.roster = Roster(
            Choice(selections(*symbols), limit=limit),
            venues=VENUES,
            intake=self,
            supervisor=self,
            keep=self.keep,
        )
        self.roster.begin_market = lambda one: self.told.append(("begin", one.market))
        self.roster.on_removed = lambda *place: self.told.append(("removed", *place))

    async def keep(self, recorded):
        await trio.lowlevel.checkpoint()
        if self.keep_fault is not None:
            raise self.keep_fault
        self.told.append(("keep", sorted(recorded[SPOT])))

    def add(self, streams):
        self.told.append(("add", [stream.name for stream in streams]))

    def change(self, market, *, added=(), removed=()):
        self.told.append(("change", market, len(added), len(removed)))

    def remove(self, streams):
        self.told.append(("remove", [stream.name for stream in streams]))

    async def select(self, *symbols, **changes):
        self.told.clear()
        self.roster.select(selections(*symbols, **changes), "test")
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def running(nursery):
    async def begin(*symbols, **options):
        stage = Stage(*symbols, **options)
        nursery.start_soon(stage.roster.run)
        await trio.testing.wait_all_tasks_blocked()
        return stage

    return begin


async def test_what_is_added_and_what_ends(running):
    """Kept first, known before it is asked for, forgotten when nothing of it comes any more."""
    stage = await running("A", "B")
    assert [("begin", SPOT)] == stage.told
    with capture_logs() as events:
        await stage.select("B", "C")
    assert [
        ("keep", ["A", "B", "C"]),
        ("add", ["c@trade", "c@depth@100ms"]),
        ("change", SPOT, 2, 2),
        ("remove", ["a@trade", "a@depth@100ms"]),
    ] == stage.told
    (event,) = events
    assert ("symbols_changed", ["C"], ["A"], 2, "test") == (
        event["event"],
        event["added"],
        event["removed"],
        event["symbols"],
        event["source"],
    )
    for kind in (Kind.TRADE, Kind.DEPTH):
        stage.told.clear()
        stage.on_ended(VENUES[SPOT].stream("A", kind))
        await trio.testing.wait_all_tasks_blocked()
    assert [("removed", SPOT, "A"), ("keep", ["B", "C"])] == stage.told


async def test_a_kind_that_ends_removes_no_symbol(running):
    stage = await running("A")
    await stage.select("A", kinds=(Kind.TRADE,))
    stage.on_ended(VENUES[SPOT].stream("A", Kind.DEPTH))
    await trio.testing.wait_all_tasks_blocked()
    assert [] == [told for told in stage.told if told[0] == "removed"]


async def test_the_same_once_more_changes_nothing(running):
    stage = await running("A", "B")
    await stage.select("B", "A")
    assert [] == stage.told


async def test_what_cannot_be_kept_is_recorded_all_the_same(running):
    """And said."""
    stage = await running("A")
    stage.keep_fault = OSError(28, "No space left on device")
    with capture_logs() as events:
        await stage.select("A", "B")
    assert ("change", SPOT, 2, 0) in stage.told
    assert ["symbols_not_kept", "symbols_changed"] == [event["event"] for event in events]


async def test_more_than_can_be_recorded(running):
    """What is left out is named, once."""
    with capture_logs() as events:
        stage = await running("A", "B", "C", limit=2)
        await stage.select("A", "B", "C", kinds=(Kind.TRADE,))
    left_out = [event for event in events if event["event"] == "symbols_left_out"]
    assert [(["C"], 1, 2)] == [(event["symbols"], event["count"], event["limit"]) for event in left_out]
