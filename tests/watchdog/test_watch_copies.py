"""A stream that several connections carry: each copy is judged, told and repaired on its own."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream
from streamsvc.watchdog.health import Health, Timeouts, Verdict
from streamsvc.watchdog.watch import COPY_LAG_SEC, Watch

INTERVAL_SEC = 25.0
TIMEOUTS = Timeouts(trade_sec=150, book_sec=180, first_message_sec=60)
NAMES = ("futures-1", "futures-1-b")
TRADE, DEPTH = (
    Stream(Market.FUTURES, kind, "BTCUSDT", f"btcusdt@{kind.label}", "public") for kind in (Kind.TRADE, Kind.DEPTH)
)


class Desk:
    """A watch over streams with two copies each, both of which are up."""

    def __init__(self, *streams):
        self.health = Health(streams, copies=2)
        self.streams = streams
        self.asked = []
        self.now = 0.0
        self.watch = Watch(
            self.health,
            TIMEOUTS,
            resubscribe=lambda stream, copy: self._note("resubscribe", stream, copy),
            replace=lambda stream, copy: self._note("replace", stream, copy),
            now=0.0,
        )
        for copy, name in enumerate(NAMES):
            self.health.subscribed(streams, 0.0, connection=name, copy=copy)
        self.events = []

    def _note(self, step, stream, copy):
        self.asked.append((step, stream.name, copy))
        return True

    def slot(self, stream, copy):
        return self.health.slot(Market.FUTURES, stream.name, copy)

    def flow(self, stream, copy, *, is_accepted=True):
        slot = self.slot(stream, copy)
        slot.messages += is_accepted
        slot.last_message = self.now

    def look(self, seconds=INTERVAL_SEC):
        self.now += seconds
        with capture_logs() as events:
            report = self.watch.look(self.now)
        self.events += events
        return report

    def named(self, name):
        return [(event["connection"], event["kind"]) for event in self.events if event["event"] == name]


def flow_and_look(desk, looks, *, silent=()):
    for _ in range(looks):
        for one in desk.streams:
            for copy in (0, 1):
                if (one, copy) not in silent:
                    desk.flow(one, copy, is_accepted=copy == 0)
        report = desk.look()
    return report


def test_one_silent_copy_is_not_hidden_by_the_other():
    """It alone is told and repaired, on its own connection; the stream counts as well, and as degraded."""
    desk = Desk(TRADE, DEPTH)
    flow_and_look(desk, 4)
    report = flow_and_look(desk, 7, silent={(TRADE, 1)})
    assert (2, 1, 0) == (report.ok, report.degraded, report.stalled)
    assert [("futures-1-b", "trade")] == desk.named("stream_stalled")
    assert [("resubscribe", TRADE.name, 1)] == desk.asked
    flow_and_look(desk, 8, silent={(TRADE, 1)})
    assert [("resubscribe", TRADE.name, 1), ("replace", TRADE.name, 1)] == desk.asked


def test_a_copy_whose_messages_are_all_repeated_flows():
    """It brings what the other one has brought before: it is well, and it recovers like any other."""
    desk = Desk(TRADE)
    flow_and_look(desk, 7, silent={(TRADE, 1)})
    report = flow_and_look(desk, 1)
    assert [("futures-1-b", "trade")] == desk.named("stream_recovered")
    assert (1, 0) == (report.ok, report.degraded)
    assert 0 == desk.slot(TRADE, 1).messages


def test_a_stream_is_down_only_where_no_copy_is_up():
    desk = Desk(TRADE)
    desk.health.unsubscribed([TRADE], 1)
    report = flow_and_look(desk, 1)
    assert (1, 1, 0) == (report.ok, report.degraded, report.disconnected)
    desk.health.unsubscribed([TRADE], 0)
    report = desk.look()
    assert (0, 0, 1) == (report.ok, report.degraded, report.disconnected)


def test_a_copy_is_up_while_any_of_its_connections_is():
    """One that takes over, or fails to, is no break."""
    desk = Desk(TRADE)
    desk.health.subscribed([TRADE], 5.0, connection="futures-1", copy=0)
    desk.health.unsubscribed([TRADE], 0)
    assert Verdict.OK is desk.slot(TRADE, 0).verdict(10.0, TIMEOUTS)
    desk.health.unsubscribed([TRADE], 0)
    assert Verdict.DISCONNECTED is desk.slot(TRADE, 0).verdict(10.0, TIMEOUTS)


@pytest.mark.parametrize(("behind_sec", "asked"), [(COPY_LAG_SEC + 1, []), (COPY_LAG_SEC, [TRADE])])
def test_silent_trades_of_which_another_copy_shows_that_they_stall(behind_sec, asked):
    """The exchange is asked only where no copy has gone on for longer than a lag explains."""
    desk = Desk(TRADE)
    desk.flow(TRADE, 1)
    desk.now = behind_sec
    desk.flow(TRADE, 0)
    desk.now = TIMEOUTS.trade_sec + 1
    assert asked == desk.watch.silent_trades(desk.now)
    desk.watch.mark_quiet([TRADE], desk.now)
    verdict = Verdict.OK if asked else Verdict.STALLED
    assert verdict is desk.slot(TRADE, 1).verdict(desk.now, TIMEOUTS)


def test_trades_that_are_silent_on_all_copies():
    """One question; the answer that they are only quiet holds for both."""
    desk = Desk(TRADE)
    for copy in (0, 1):
        desk.flow(TRADE, copy)
    desk.now = TIMEOUTS.trade_sec + 1
    assert [TRADE] == desk.watch.silent_trades(desk.now)
    desk.watch.mark_quiet([TRADE], desk.now)
    assert [] == desk.watch.silent_trades(desk.now)
    assert 1 == desk.look().ok
    assert [] == desk.asked
