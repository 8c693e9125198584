"""The watch: what it says of streams and what it asks for, under the clock that jumps."""

from __future__ import annotations

import math

import pytest
import trio
from structlog.testing import capture_logs

from streamsvc.schema import Kind, Market
from streamsvc.venues.venue import Stream
from streamsvc.watchdog.health import Health, Timeouts
from streamsvc.watchdog.watch import LATE_EVENTS_MAX, LATE_REPEAT_SEC, HealthReport, Watch, run_watch

INTERVAL_SEC = 25.0
TIMEOUTS = Timeouts(trade_sec=150, book_sec=180, first_message_sec=60)
NAMES = {"market": "futures", "symbol": "BTCUSDT", "kind": "trade", "connection": "futures-1"}


def stream(kind: Kind = Kind.TRADE, symbol: str = "BTCUSDT") -> Stream:
    return Stream(Market.FUTURES, kind, symbol, f"{symbol.lower()}@{kind.label}", "public")


class Desk:
    """A watch over a few streams, with the supervisor's two requests noted."""

    def __init__(self, *streams: Stream, can_repair: bool = True) -> None:
        self.health = Health(streams)
        self.streams = list(streams)
        self.asked: list[tuple[float, str, str]] = []
        self.can_repair = can_repair
        self.now = 0.0
        self.watch = Watch(
            self.health,
            TIMEOUTS,
            resubscribe=lambda stream, _copy: self._note("resubscribe", stream),
            replace=lambda stream, _copy: self._note("replace", stream),
            now=0.0,
        )
        self.events: list[dict] = []

    def _note(self, step: str, stream: Stream) -> bool:
        self.asked.append((self.now, step, stream.name))
        return self.can_repair

    def connect(self) -> None:
        self.health.subscribed(self.streams, self.now, connection="futures-1")

    def flow(self, stream: Stream, messages: int = 1) -> None:
        slot = self.health.slot(stream.market, stream.name)
        slot.messages += messages
        slot.last_message = self.now

    def look(self, seconds: float = INTERVAL_SEC) -> HealthReport:
        self.now += seconds
        with capture_logs() as events:
            report = self.watch.look(self.now)
        self.events += events
        return report

    def named(self, *names: str) -> list[dict]:
        return [event for event in self.events if event["event"] in names]


def test_trades_die_while_the_book_flows():
    """The stall is told once with its age, repaired in steps, and its end is told with what it cost."""
    trade, depth = stream(), stream(Kind.DEPTH)
    desk = Desk(trade, depth)
    desk.connect()
    for _ in range(4):
        desk.flow(trade, 10)
        desk.flow(depth, 20)
        desk.look()
    for _ in range(14):
        desk.flow(depth)
        desk.look()
    assert [{"event": "stream_stalled", "log_level": "warning", "age_sec": 175} | NAMES] == desk.named("stream_stalled")
    assert [(250.0, "resubscribe", trade.name), (400.0, "replace", trade.name)] == desk.asked
    assert [
        {"event": "stream_repair", "log_level": "warning", "step": "resubscribe", "repairs": 1, "age_sec": 175}
        | {"stalled_streams": 1}
        | NAMES,
        {"event": "stream_repair", "log_level": "warning", "step": "replace", "repairs": 2, "age_sec": 325}
        | {"stalled_streams": 1}
        | NAMES,
    ] == desk.named("stream_repair")
    desk.flow(trade)
    report = desk.look()
    recovered = {"event": "stream_recovered", "log_level": "info", "silence_sec": 375, "repairs": 2}
    assert [recovered | NAMES] == desk.named("stream_recovered")
    assert (2, 0) == (report.ok, report.stalled)


@pytest.mark.parametrize("silence_after_sec", range(0, 100, 7))
def test_a_stall_is_noticed_one_interval_late_at_most(silence_after_sec):
    """Wherever between two looks the stream dies."""
    desk = Desk(stream())
    desk.connect()
    desk.now = float(silence_after_sec)
    desk.flow(stream())
    desk.now = math.ceil(silence_after_sec / INTERVAL_SEC) * INTERVAL_SEC
    while not desk.named("stream_stalled"):
        desk.look()
    assert desk.now - silence_after_sec <= TIMEOUTS.trade_sec + 2 * INTERVAL_SEC
    assert desk.named("stream_stalled")[0]["age_sec"] <= TIMEOUTS.trade_sec + INTERVAL_SEC


def test_a_stream_on_the_wrong_route():
    """Suspect once a subscription, with its route; then stalled like any other."""
    desk = Desk(stream())
    desk.connect()
    for _ in range(8):
        desk.look()
    expected = {"event": "stream_suspect", "log_level": "warning", "stream": "btcusdt@trade", "route": "public"}
    assert [expected | {"waited_sec": 75} | NAMES] == desk.named("stream_suspect")
    assert [175] == [event["age_sec"] for event in desk.named("stream_stalled")]
    desk.connect()  # The connection was replaced; a stall that goes on is not told as a suspicion again.
    for _ in range(20):
        desk.look()
    assert 1 == len(desk.named("stream_suspect"))
    assert 1 == len(desk.named("stream_stalled"))


def test_each_subscription_is_suspected_anew():
    desk = Desk(stream())
    for _ in range(2):
        desk.connect()
        for _ in range(5):
            desk.look()
        desk.flow(stream())
        desk.look()
    assert 2 == len(desk.named("stream_suspect"))


def test_a_connection_that_is_down():
    """Disconnected, not stalled: no repair is asked while the supervisor is at it; the age goes on."""
    desk = Desk(stream(), stream(Kind.DEPTH))
    desk.connect()
    desk.flow(stream())
    desk.flow(stream(Kind.DEPTH))
    desk.look()
    desk.health.unsubscribed(desk.streams)
    for _ in range(100):
        report = desk.look()
    assert HealthReport(disconnected=2) == report
    assert [] == desk.asked
    assert [] == desk.named("stream_stalled", "stream_suspect")


def test_a_stall_that_a_lost_connection_interrupts():
    """The stall ends with a message, not with a new connection; it is told once."""
    desk = Desk(stream())
    desk.connect()
    desk.flow(stream())
    for _ in range(7):
        desk.look()
    desk.health.unsubscribed(desk.streams)
    assert (1, 0) == (desk.look().disconnected, desk.watch.statistics().stalled)
    desk.connect()
    assert 1 == desk.look().stalled
    desk.flow(stream())
    assert 1 == desk.look().ok
    assert (1, 1) == (len(desk.named("stream_stalled")), len(desk.named("stream_recovered")))


def test_a_repair_that_cannot_begin_is_asked_for_again_and_not_told():
    desk = Desk(stream(), can_repair=False)
    desk.connect()
    for _ in range(9):
        desk.look()
    assert [175.0, 200.0, 225.0] == [now for now, _, _ in desk.asked]
    assert [] == desk.named("stream_repair")


def test_force_orders_may_be_silent_for_ever():
    desk = Desk(stream(Kind.FORCE_ORDER))
    desk.connect()
    reports = {desk.look() for _ in range(100)}
    assert {HealthReport(ok=1)} == reports
    assert {"health"} == {event["event"] for event in desk.events}


def test_the_report():
    """One small line a look: totals, and the messages since the look before."""
    desk = Desk(stream(), stream(Kind.DEPTH))
    desk.connect()
    desk.flow(stream(), 40)
    desk.flow(stream(Kind.DEPTH), 60)
    assert HealthReport(ok=2, messages=100, messages_per_sec=4.0) == desk.look()
    assert [1.6, 2.4] == [slot.messages_per_sec for slot in desk.health.slots()]
    assert {"event": "health", "log_level": "info", "ok": 2, "suspect": 0, "stalled": 0, "disconnected": 0} | {
        "degraded": 0,
        "late": 0,
        "messages": 100,
        "messages_per_sec": 4,
    } == desk.events[-1]
    assert 0 == desk.look().messages
    assert [0, 0] == [slot.messages_per_sec for slot in desk.health.slots()]


def test_a_look_without_time_between():
    """Two looks at the same moment divide by nothing."""
    desk = Desk(stream())
    desk.connect()
    desk.flow(stream())
    assert 0 == desk.look(0).messages_per_sec


def test_late_messages_are_told_at_a_bounded_rate():
    """A clock that is off makes all streams late: the worst are told, each not too often, nothing is left out."""
    streams = [stream(symbol=f"S{number}") for number in range(50)]
    desk = Desk(*streams)
    desk.connect()
    looks = int(2 * LATE_REPEAT_SEC / INTERVAL_SEC)
    for _ in range(looks):
        for number, slot in enumerate(desk.health.slots()):
            slot.late_messages += 2
            slot.latency_ms = 1000 + number
            desk.flow(slot.stream)
        already = len(desk.named("stream_late"))
        assert 50 == desk.look().late
        assert len(desk.named("stream_late")) - already <= LATE_EVENTS_MAX
    told = desk.named("stream_late")
    assert ("S49", 1049, 2) == (told[0]["symbol"], told[0]["latency_ms"], told[0]["late_messages"])
    assert all(2 >= sum(event["symbol"] == stream.symbol for event in told) for stream in streams)
    assert 2 * (1 + LATE_REPEAT_SEC / INTERVAL_SEC) >= max(event["late_messages"] for event in told) > 2
    assert 0 == desk.look().late


def test_300_quiet_symbols_on_one_connection():
    """Through the watch as through the policy: no storm."""
    streams = [stream(symbol=f"S{number}") for number in range(300)]
    desk = Desk(*streams)
    desk.connect()
    for _ in range(int(12 * 3600 / INTERVAL_SEC)):
        desk.look()
        if desk.asked and desk.asked[-1][:2] == (desk.now, "replace"):
            desk.connect()
    assert 1 <= sum(step == "replace" for _, step, _ in desk.asked) <= 6
    assert sum(step == "resubscribe" for _, step, _ in desk.asked) <= 300 * 6
    assert 300 == len(desk.named("stream_stalled"))


async def nobody_knows(_streams):
    """REST is down."""
    return ()


async def test_looks_come_once_an_interval(mock_clock):
    """A look that takes long makes the next one late, and not all that follow."""
    looks = []

    class Slow:
        def silent_trades(self, _now: float) -> list:
            return []

        def newly_silent(self, _now: float) -> list:
            return []

        def look(self, now: float) -> None:
            looks.append(now - start)
            if len(looks) == 2:
                mock_clock.jump(30)

    start = trio.current_time()
    mock_clock.autojump_threshold = 0
    with trio.move_on_after(131):
        await run_watch(Slow(), INTERVAL_SEC, nobody_knows, nobody_knows)
    assert [25, 50, 80, 105, 130] == pytest.approx(looks)


async def test_a_stall_while_the_task_runs(autojump_clock):
    """The task looks, asks, and ends when it is cancelled."""
    desk = Desk(stream())
    watch = Watch(
        desk.health,
        TIMEOUTS,
        resubscribe=lambda stream, _copy: desk._note("resubscribe", stream),
        replace=lambda stream, _copy: desk._note("replace", stream),
        now=trio.current_time(),
    )
    desk.health.subscribed(desk.streams, trio.current_time(), connection="futures-1")
    with capture_logs() as events, trio.move_on_after(180) as scope:
        await run_watch(watch, INTERVAL_SEC, nobody_knows, nobody_knows)
    assert scope.cancelled_caught
    assert ["resubscribe"] == [step for _, step, _ in desk.asked]
    assert 1 == sum(event["event"] == "stream_stalled" for event in events)


async def test_trades_that_are_only_quiet_are_no_stall(autojump_clock):
    """The exchange says that it has sent nothing: no repair, and it is asked again after the timeout."""
    desk = Desk(stream())
    watch = Watch(
        desk.health,
        TIMEOUTS,
        resubscribe=lambda stream, _copy: desk._note("resubscribe", stream),
        replace=lambda stream, _copy: desk._note("replace", stream),
        now=trio.current_time(),
    )
    asked_at, start = [], trio.current_time()

    async def ask(streams):
        asked_at.append(trio.current_time() - start)
        await trio.sleep(3)
        return set(streams)

    desk.health.subscribed(desk.streams, trio.current_time(), connection="futures-1")
    with capture_logs() as events, trio.move_on_after(600):
        await run_watch(watch, INTERVAL_SEC, ask, nobody_knows)
    assert [] == desk.asked
    assert [175, 350, 525] == pytest.approx(asked_at)
    assert {"health", "stream_quiet"} == {event["event"] for event in events} - {"stream_suspect"}
