"""The stream nursery: one supervised task a connection, which tries again for ever.

Events, beside those of `connection.py`: `connection_lost` (an open connection has ended: connection, attempt, cause,
detail, status, seconds it lived), `connection_failed` (it could not be opened; the same fields), `connection_retry`
(after_sec), `attempts_delayed` (the budget of attempts is used up, or the exchange bans us: after_sec), `route_changed`
(from_route, to_route), with a `stream_suspect` (market, symbol, kind, stream, route, waited_sec) for what was silent
there, `pings_dropped` (more pings came than are answered: count), `connection_renewed` (another one has taken over),
`connection_ended` (no stream was left for it).
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import trio

from streamsvc.errors import ConnectionFaultError
from streamsvc.log import logger
from streamsvc.streams.backoff import Backoff, is_alarming, is_ban
from streamsvc.streams.connection import Connection
from streamsvc.streams.lines import Attempt, Line, SupervisorStatistics
from streamsvc.streams.plan import change_plans, repeat_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

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

OVERLAP_SEC_MAX = 30.0
"""So long, where the old one lags and has not brought yet what lies before the successor's first messages."""

_DELAY_LOGGED_SEC = 1.0
"""Shorter delays are the spreading of attempts; longer ones mean that the budget is used up."""


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
        self._venues = venues
        self._budgets = {venue.base_url: open_budget(venue) for venue in venues.values()}
        self._lines = [self._make_line(plan) for plan in plans]
        self._line_by_stream = self._find_lines()
        self._nursery: trio.Nursery | None = None
        self._closing: list[str] = []  # Connections that still say goodbye, by the name of the first copy.
        self._ended_attempts = 0
        self._ended_reconnects: dict[Market, int] = {}

    def _make_line(self, plan: ConnectionPlan) -> Line:
        settings = self._wiring.settings
        backoff = Backoff(settings.reconnect_min_sec, settings.reconnect_max_sec, self._wiring.rng)
        return Line(plan, self._venues[plan.market], self._budgets[plan.base_url], backoff)

    def _find_lines(self) -> dict[tuple[Market, str, int], Line]:
        return {
            (stream.market, stream.name, line.plan.copy): line for line in self._lines for stream in line.plan.streams
        }

    def statistics(self) -> SupervisorStatistics:
        """A look at all connections."""
        return SupervisorStatistics(
            {line.plan.name: line.statistics() for line in self._lines},
            self._ended_attempts,
            dict(self._ended_reconnects),
        )

    def change(self, market: Market, *, added: Iterable[Stream] = (), removed: Collection[Stream] = ()) -> None:
        """Carry other streams of a market from now on; those that stay are not touched.

        Args:
            market: The market.
            added: Streams that no connection carries, symbol by symbol.
            removed: Streams that end. A connection that none is left for says goodbye.

        Raises:
            UsageError: a symbol is so long that no URL can carry it; nothing is changed.
        """
        lines = [line for line in self._lines if line.plan.market is market]
        copies = self._wiring.settings.redundancy
        plans = change_plans(
            self._venues[market],
            [line.plan for line in lines if not line.plan.copy],
            added=added,
            removed={stream.name for stream in removed},
            taken=self._closing,
        )
        wanted = {plan.name: plan for plan in repeat_plans(plans, copies)}
        for line in lines:
            plan = wanted.pop(line.plan.name, None)
            if plan is None:
                self._end(line)
            elif [stream.name for stream in plan.streams] != [stream.name for stream in line.plan.streams]:
                line.aim(plan.streams)
        for plan in wanted.values():
            line = self._make_line(plan)
            self._lines.append(line)
            if self._nursery is not None:
                self._nursery.start_soon(self._run_line, line, name=plan.name)
        self._line_by_stream = self._find_lines()
        self._settle()

    def _end(self, line: Line) -> None:
        """No stream is left for a connection."""
        self._lines.remove(line)
        self._ended_attempts += line.attempts
        reconnects = self._ended_reconnects.get(line.plan.market, 0)
        self._ended_reconnects[line.plan.market] = reconnects + max(0, line.attempts - 1)
        if self._nursery is not None:
            # None of their names is given again before all copies have said goodbye.
            self._closing.append(line.plan.first_name)
            line.scope.cancel()

    def resubscribe(self, stream: Stream, copy: int = 0) -> bool:
        """Ask for UNSUBSCRIBE and SUBSCRIBE of a stream on the connection of this copy.

        False: that connection is not up, or this is under way.
        """
        current = self._current(stream, copy)
        return current is not None and current.resubscribe(stream.name)

    def replace(self, stream: Stream, copy: int = 0) -> bool:
        """Ask for another connection in place of the one that carries this copy of a stream; False: it is not up."""
        current = self._current(stream, copy)
        return current is not None and current.replace()

    def _current(self, stream: Stream, copy: int) -> Connection | None:
        line = self._line_by_stream.get((stream.market, stream.name, copy))
        return None if line is None else line.current

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The body of the stream nursery; it ends by cancellation, or with an unexpected error.

        `task_status` is told when every connection's first attempt has succeeded, failed, or is held back by the
        budget of attempts.
        """
        self._settle()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for line in self._lines:
                nursery.start_soon(self._run_line, line, name=line.plan.name)
            await self._all_settled.wait()
            task_status.started()
            await trio.sleep_forever()  # Without a connection too: streams may come later.

    async def _run_line(self, line: Line) -> None:
        with line.scope:
            await self._supervise(line)
        self._closing.remove(line.plan.first_name)
        logger.info("connection_ended", connection=line.plan.name, attempts=line.attempts)

    def _settle(self, *lines: Line) -> None:
        for line in lines:
            line.is_settled = True
        if all(line.is_settled for line in self._lines):
            self._all_settled.set()

    async def _supervise(self, line: Line) -> None:
        while True:
            fault = await self._succession(line)
            self._settle(line)
            await self._wait_retry(line, fault, unless=trio.Event())

    async def _wait_retry(self, line: Line, fault: ConnectionFaultError, *, unless: trio.Event) -> None:
        """Wait until the next attempt may be made, or `unless` is set."""
        after_sec = line.backoff.next_sec(fault)
        if is_ban(fault):
            line.budget.hold(after_sec)
        logger.info("connection_retry", connection=line.plan.name, after_sec=round(after_sec, 3))
        with trio.move_on_after(after_sec):
            await unless.wait()

    async def _succession(self, line: Line) -> ConnectionFaultError:
        """Attempts that take over from one another before the exchange ends them; returns why the last one ended."""
        current = Attempt()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_attempt, line, current)
            while await current.wait_renewal():
                successor = Attempt(is_successor=True)
                nursery.start_soon(self._run_attempt, line, successor)
                if await self._takes_over(successor, current):
                    if current.connection is not None:
                        current.connection.retire()
                    await current.ended.wait()
                    current = successor
                elif not current.ended.is_set():
                    assert successor.fault is not None
                    # The old one goes on meanwhile.
                    await self._wait_retry(line, successor.fault, unless=current.ended)
        assert current.fault is not None
        return current.fault

    async def _takes_over(self, attempt: Attempt, old: Attempt) -> bool:
        """Wait until an attempt delivers, or is up for long without a message, and the old one has brought the rest.

        False when it has ended.
        """
        while not attempt.ended.is_set():
            connection = attempt.connection
            if connection is not None and connection.opened_at is not None:
                up_sec = trio.current_time() - connection.opened_at
                if connection.delivered_at is not None or up_sec >= TAKEOVER_SEC_MAX:
                    await self._overlap(attempt, old)
                    break
            await trio.sleep(_LOOK_SEC)
        return not attempt.ended.is_set()

    async def _overlap(self, attempt: Attempt, old: Attempt) -> None:
        """Read both, until the old one has brought what was sent before, or one of them has ended."""
        with trio.move_on_after(OVERLAP_SEC):
            await attempt.ended.wait()
        with trio.move_on_after(OVERLAP_SEC_MAX - OVERLAP_SEC):
            while not attempt.ended.is_set() and old.is_behind:  # noqa: ASYNC110 - nobody tells when a hole is filled
                await trio.sleep(_LOOK_SEC)

    async def _run_attempt(self, line: Line, attempt: Attempt) -> None:
        attempt.fault = await self._attempt(line, attempt)
        attempt.ended.set()

    async def _attempt(self, line: Line, attempt: Attempt) -> ConnectionFaultError:
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
            port.close("removed" if line.scope.cancel_called else cause)
        return fault

    async def _connect(self, line: Line, number: int, port: Port, attempt: Attempt) -> ConnectionFaultError:
        line.attempts += 1
        connection = Connection(line.plan, number, venue=line.venue, port=port, wiring=self._wiring)
        if not line.is_route_proved and line.plan.on_other_route(line.venue) is not None:
            connection.first_message_sec = self._wiring.settings.first_message_sec
        if not attempt.is_successor:
            # The copies of a plan, which may all have begun now, are not replaced at one moment.
            connection.age_sec_max /= 1 + line.plan.copy
        connection.on_opened = functools.partial(self._settle, line)
        line.connections.append(connection)
        attempt.connection = connection
        attempt.changed.unpark_all()
        try:
            await connection.run()
        except ConnectionFaultError as fault:
            self._judge(line, connection, fault, number)
            return fault
        finally:
            line.connections.remove(connection)

    async def _wait_budget(self, line: Line) -> None:
        line.is_queued = True
        try:
            await line.budget.wait(functools.partial(self._delayed, line))
        finally:
            line.is_queued = False

    def _delayed(self, line: Line, after_sec: float) -> None:
        """The budget holds an attempt back, and with it all that are queued behind."""
        if after_sec < _DELAY_LOGGED_SEC:
            return
        logger.warning("attempts_delayed", connection=line.plan.name, after_sec=round(after_sec, 3))
        self._settle(*(other for other in self._lines if other.budget is line.budget and other.is_queued))

    def _judge(self, line: Line, connection: Connection, fault: ConnectionFaultError, number: int) -> None:
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

    def _judge_route(self, line: Line, connection: Connection, fault: ConnectionFaultError) -> None:
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
