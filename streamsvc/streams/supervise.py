"""The stream nursery: one supervised task a connection, which tries again for ever.

Events, beside those of `connection.py`: `connection_lost` (an open connection has ended: connection, attempt, cause,
detail, status, seconds it lived), `connection_failed` (it could not be opened; the same fields), `connection_retry`
(after_sec), `attempts_delayed` (the budget of attempts is used up, or the exchange bans us: after_sec), `route_changed`
(from_route, to_route), with a `stream_suspect` (market, symbol, kind, stream, route, waited_sec) for what was silent
there, `pings_dropped` (more pings came than are answered: count), `connection_renewed` (another one has taken over).
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import attrs
import trio

from streamsvc.errors import ConnectionFaultError
from streamsvc.log import logger
from streamsvc.streams.backoff import Backoff, is_alarming, is_ban
from streamsvc.streams.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamsvc.schema import Market
    from streamsvc.streams.attempts import AttemptBudget
    from streamsvc.streams.connection import Port
    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.streams.transport import Wiring
    from streamsvc.venues.venue import Stream, Venue

_SUSPECTS_LOGGED_MAX = 10
_SILENT_CONNECTIONS_MAX = 3
"""A route that has delivered is left after so many connections in a row that delivered nothing."""

TAKEOVER_SEC_MAX = 60.0
"""A successor that is up for so long takes over, though its streams may all be quiet."""

_LOOK_SEC = 0.1
OVERLAP_SEC = 3.0
"""So long both connections are read once the successor delivers: the old one still brings what was sent before."""

_DELAY_LOGGED_SEC = 1.0
"""Shorter delays are the spreading of attempts; longer ones mean that the budget is used up."""


@attrs.frozen
class ConnectionStatistics:
    """A look at one connection.

    Attributes:
        state: `waiting` (for its next attempt), `connecting`, or `up`.
        route: The route that it is on or will try next.
        streams: How many it carries.
        up_since: `trio.current_time()` of the handshake, None while it is not up.
        attempts: Attempts so far.
        losses: How often it was open and ended.
    """

    state: str
    route: str
    streams: int
    up_since: float | None
    attempts: int
    losses: int


@attrs.frozen
class SupervisorStatistics:
    """A look at all connections, by name."""

    connections: Mapping[str, ConnectionStatistics]

    @property
    def up(self) -> int:
        """Connections that are up."""
        return sum(connection.state == "up" for connection in self.connections.values())

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        return sum(connection.attempts for connection in self.connections.values())

    @property
    def reconnects(self) -> int:
        """Attempts beyond the first of each connection."""
        return sum(max(0, connection.attempts - 1) for connection in self.connections.values())


class _Attempt:
    """One attempt as its line sees it."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.fault: ConnectionFaultError | None = None
        self.changed = trio.lowlevel.ParkingLot()
        self.ended = trio.Event()

    async def wait_renewal(self) -> bool:
        """Wait until it should have a successor; False when it has ended before."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_renewal, nursery.cancel_scope)
            await self.ended.wait()
            nursery.cancel_scope.cancel()
        return not self.ended.is_set()

    async def _until_renewal(self, scope: trio.CancelScope) -> None:
        while self.connection is None:
            await self.changed.park()
        await self.connection.renewal.wait()
        scope.cancel()


class _Line:
    """A connection across its attempts."""

    def __init__(self, plan: ConnectionPlan, venue: Venue, budget: AttemptBudget, backoff: Backoff) -> None:
        self.plan = plan
        self.venue = venue
        self.budget = budget
        self.backoff = backoff
        self.current: Connection | None = None
        self.attempts = 0
        self.losses = 0
        self.must_wait_room = False  # The last connection was shed: another makes sense only when there is room.
        self.is_route_proved = False  # Streams have flowed on it.
        self.silent_connections = 0  # In a row, up to now.
        self.is_queued = False  # Behind the budget of attempts.
        self.is_settled = False  # Its first attempt has come to something, or cannot be made yet.

    def statistics(self) -> ConnectionStatistics:
        up_since = self.current.opened_at if self.current is not None else None
        state = "up" if up_since is not None else "connecting" if self.current is not None else "waiting"
        return ConnectionStatistics(
            state, self.plan.route, len(self.plan.streams), up_since, self.attempts, self.losses
        )


class Supervisor:
    """Keeps all connections of a run up.

    Args:
        plans: What to connect.
        venues: The market of each plan.
        open_port: Makes the port of an attempt, whose number is unique within the run and greater than 0.
        open_budget: Makes the budget of attempts of a market; called once for every base URL.
        wiring: What all connections share.
    """

    def __init__(
        self,
        plans: Sequence[ConnectionPlan],
        *,
        venues: Mapping[Market, Venue],
        open_port: Callable[[ConnectionPlan, int], Port],
        open_budget: Callable[[Venue], AttemptBudget],
        wiring: Wiring,
    ) -> None:
        self._open_port = open_port
        self._wiring = wiring
        self._numbers = itertools.count(1)
        self._all_settled = trio.Event()
        budgets = {venue.base_url: open_budget(venue) for venue in venues.values()}
        settings = wiring.settings
        self._lines = [
            _Line(
                plan,
                venues[plan.market],
                budgets[plan.base_url],
                Backoff(settings.reconnect_min_sec, settings.reconnect_max_sec, wiring.rng),
            )
            for plan in plans
        ]
        self._line_by_stream = {
            (stream.market, stream.name): line for line in self._lines for stream in line.plan.streams
        }

    def statistics(self) -> SupervisorStatistics:
        """A look at all connections."""
        return SupervisorStatistics({line.plan.name: line.statistics() for line in self._lines})

    def resubscribe(self, stream: Stream) -> bool:
        """Ask for UNSUBSCRIBE and SUBSCRIBE of a stream; False: its connection is not up, or that is under way."""
        line = self._line_by_stream.get((stream.market, stream.name))
        return line is not None and line.current is not None and line.current.resubscribe(stream.name)

    def replace(self, stream: Stream) -> bool:
        """Ask for another connection in place of the stream's; False: it is not up."""
        line = self._line_by_stream.get((stream.market, stream.name))
        return line is not None and line.current is not None and line.current.replace()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The body of the stream nursery; it ends by cancellation, or with an unexpected error.

        `task_status` is told when every connection's first attempt has succeeded, failed, or is held back by the
        budget of attempts.
        """
        self._settle()
        async with trio.open_nursery() as nursery:
            for line in self._lines:
                nursery.start_soon(self._supervise, line, name=line.plan.name)
            await self._all_settled.wait()
            task_status.started()

    def _settle(self, *lines: _Line) -> None:
        for line in lines:
            line.is_settled = True
        if all(line.is_settled for line in self._lines):
            self._all_settled.set()

    async def _supervise(self, line: _Line) -> None:
        while True:
            fault = await self._succession(line)
            self._settle(line)
            after_sec = line.backoff.next_sec(fault)
            if is_ban(fault):
                line.budget.hold(after_sec)
            logger.info("connection_retry", connection=line.plan.name, after_sec=round(after_sec, 3))
            await trio.sleep(after_sec)

    async def _succession(self, line: _Line) -> ConnectionFaultError:
        """Attempts that take over from one another before the exchange ends them; returns why the last one ended."""
        current = _Attempt()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_attempt, line, current)
            while await current.wait_renewal():
                successor = _Attempt()
                nursery.start_soon(self._run_attempt, line, successor)
                if not await self._delivers(successor):
                    assert successor.fault is not None
                    # The old one goes on meanwhile.
                    await trio.sleep(line.backoff.next_sec(successor.fault))
                    continue
                await trio.sleep(OVERLAP_SEC)
                if current.connection is not None:
                    current.connection.retire()
                await current.ended.wait()
                current = successor
        assert current.fault is not None
        return current.fault

    async def _delivers(self, attempt: _Attempt) -> bool:
        """Wait until an attempt delivers, or is up for long without a message; False when it has ended."""
        while not attempt.ended.is_set():
            connection = attempt.connection
            if connection is not None and connection.opened_at is not None:
                up_sec = trio.current_time() - connection.opened_at
                if connection.delivered_at is not None or up_sec >= TAKEOVER_SEC_MAX:
                    return True
            await trio.sleep(_LOOK_SEC)
        return False

    async def _run_attempt(self, line: _Line, attempt: _Attempt) -> None:
        attempt.fault = await self._attempt(line, attempt)
        attempt.ended.set()

    async def _attempt(self, line: _Line, attempt: _Attempt) -> ConnectionFaultError:
        """Make one attempt, and return why it ended."""
        number = next(self._numbers)
        port = self._open_port(line.plan, number)
        cause = "shutdown"
        try:
            if line.must_wait_room:
                await port.wait_room()
            await self._wait_budget(line)
            fault = await self._connect(line, number, port, attempt)
            cause = fault.cause
        except Exception:
            cause = "crash"
            raise
        finally:
            port.close(cause)
        return fault

    async def _connect(self, line: _Line, number: int, port: Port, attempt: _Attempt) -> ConnectionFaultError:
        line.attempts += 1
        connection = Connection(line.plan, number, venue=line.venue, port=port, wiring=self._wiring)
        if not line.is_route_proved and line.plan.on_other_route(line.venue) is not None:
            connection.first_message_sec = self._wiring.settings.first_message_sec
        connection.on_opened = functools.partial(self._opened, line, connection)
        line.current = line.current or connection
        attempt.connection = connection
        attempt.changed.unpark_all()
        try:
            await connection.run()
        except ConnectionFaultError as fault:
            self._judge(line, connection, fault, number)
            return fault
        finally:
            if line.current is connection:
                line.current = None

    def _opened(self, line: _Line, connection: Connection) -> None:
        line.current = connection
        self._settle(line)

    async def _wait_budget(self, line: _Line) -> None:
        line.is_queued = True
        try:
            await line.budget.wait(functools.partial(self._delayed, line))
        finally:
            line.is_queued = False

    def _delayed(self, line: _Line, after_sec: float) -> None:
        """The budget holds an attempt back, and with it all that are queued behind."""
        if after_sec < _DELAY_LOGGED_SEC:
            return
        logger.warning("attempts_delayed", connection=line.plan.name, after_sec=round(after_sec, 3))
        self._settle(*(other for other in self._lines if other.budget is line.budget and other.is_queued))

    def _judge(self, line: _Line, connection: Connection, fault: ConnectionFaultError, number: int) -> None:
        """Log the end of an attempt, and learn from it for the next one."""
        was_open = connection.opened_at is not None
        lived_sec = 0.0 if connection.opened_at is None else trio.current_time() - connection.opened_at
        log = logger.bind(connection=line.plan.name, attempt=number)
        if fault.cause == "renewed":
            log.info("connection_renewed", seconds=round(lived_sec, 3))
            return
        line.losses += was_open
        (log.error if is_alarming(fault) else log.warning)(
            "connection_lost" if was_open else "connection_failed",
            cause=fault.cause,
            detail=fault.detail,
            status=fault.status,
            seconds=round(lived_sec, 3),
        )
        if connection.pings_dropped:
            log.warning("pings_dropped", count=connection.pings_dropped)
        if connection.delivered_sec >= self._wiring.settings.stable_sec:
            line.backoff.reset()
        line.must_wait_room = fault.cause == "shed"
        self._judge_route(line, connection, fault)

    def _judge_route(self, line: _Line, connection: Connection, fault: ConnectionFaultError) -> None:
        """A stream asked for on a wrong route is accepted and silent: try the other one, where there is one."""
        if connection.delivered_at is not None:
            line.is_route_proved, line.silent_connections = True, 0
        if connection.delivered_at is not None or fault.cause != "idle":
            return
        line.silent_connections += 1
        plan, other = line.plan, line.plan.on_other_route(line.venue)
        if other is None or (line.is_route_proved and line.silent_connections < _SILENT_CONNECTIONS_MAX):
            return
        for stream in plan.streams[:_SUSPECTS_LOGGED_MAX]:
            logger.warning(
                "stream_suspect",
                market=stream.market.label,
                symbol=stream.symbol,
                kind=stream.kind.label,
                stream=stream.name,
                route=stream.route,
                waited_sec=int(self._wiring.settings.first_message_sec),
            )
        logger.warning("route_changed", connection=plan.name, from_route=plan.route, to_route=other.route)
        line.plan, line.is_route_proved, line.silent_connections = other, False, 0
