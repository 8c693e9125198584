"""What the supervisor knows of a connection: across its attempts, and of one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from streamsvc.schema import Market

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamsvc.errors import ConnectionFaultError
    from streamsvc.streams.attempts import AttemptBudget
    from streamsvc.streams.backoff import Backoff
    from streamsvc.streams.connection import Connection
    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.venues.venue import Stream, Venue


@attrs.frozen
class ConnectionStatistics:
    """A look at one connection.

    Attributes:
        market: The market.
        state: `waiting` (for its next attempt), `connecting`, or `up`.
        route: The route that it is on or will try next.
        streams: How many it carries.
        up_since: `trio.current_time()` of the handshake, None while it is not up.
        attempts: Attempts so far.
        losses: How often it was open and ended.
    """

    market: Market
    state: str
    route: str
    streams: int
    up_since: float | None
    attempts: int
    losses: int


@attrs.frozen
class SupervisorStatistics:
    """A look at all connections.

    Attributes:
        connections: Those that are wanted, by name.
        ended_attempts: Attempts of connections that no stream was left for.
        ended_reconnects: Those of them beyond the first of each, by market.
    """

    connections: Mapping[str, ConnectionStatistics]
    ended_attempts: int = 0
    ended_reconnects: Mapping[Market, int] = attrs.Factory(dict)

    @property
    def up(self) -> int:
        """Connections that are up."""
        return sum(connection.state == "up" for connection in self.connections.values())

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        return self.ended_attempts + sum(connection.attempts for connection in self.connections.values())

    @property
    def reconnects(self) -> int:
        """Attempts beyond the first of each connection."""
        return sum(map(self.reconnects_of, Market))

    def reconnects_of(self, market: Market) -> int:
        """The same of one market."""
        own = (connection for connection in self.connections.values() if connection.market is market)
        return self.ended_reconnects.get(market, 0) + sum(max(0, connection.attempts - 1) for connection in own)


class Attempt:
    """One attempt as its line sees it.

    Args:
        is_successor: Whether it is to take over from a connection that is up.
    """

    def __init__(self, *, is_successor: bool = False) -> None:
        self.is_successor = is_successor
        self.connection: Connection | None = None
        self.fault: ConnectionFaultError | None = None
        self.changed = trio.lowlevel.ParkingLot()
        self.ended = trio.Event()

    @property
    def is_behind(self) -> bool:
        """Whether it may still bring something that its successor does not."""
        return self.connection is not None and self.connection.is_behind

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


class Line:
    """A connection across its attempts.

    Attributes:
        plan: What it carries, or should carry as soon as the exchange has been asked.
        scope: Cancelled when no stream is left for it.
    """

    def __init__(self, plan: ConnectionPlan, venue: Venue, budget: AttemptBudget, backoff: Backoff) -> None:
        self.plan = plan
        self.venue = venue
        self.budget = budget
        self.backoff = backoff
        self.scope = trio.CancelScope()
        self.connections: list[Connection] = []  # Those that are, two while one takes over; the oldest first.
        self.attempts = 0
        self.losses = 0
        self.must_wait_room = False  # The last connection was shed: another makes sense only when there is room.
        self.is_route_proved = False  # Streams have flowed on it.
        self.silent_connections = 0  # In a row, up to now.
        self.is_queued = False  # Behind the budget of attempts.
        self.is_settled = False  # Its first attempt has come to something, or cannot be made yet.

    def aim(self, streams: Sequence[Stream]) -> None:
        """It should carry these from now on, on the route that it is on: the next URL names them."""
        on_route = tuple(attrs.evolve(stream, route=self.plan.route) for stream in streams)
        self.plan = attrs.evolve(self.plan, streams=on_route)
        for connection in self.connections:
            connection.aim(on_route)

    @property
    def current(self) -> Connection | None:
        """The newest that is open, which repairs are for; the newest at all if none is open, None if there is none."""
        opened = [connection for connection in self.connections if connection.opened_at is not None]
        return next(reversed(opened or self.connections), None)

    def statistics(self) -> ConnectionStatistics:
        """A look at the connection."""
        current = self.current
        up_since = current.opened_at if current is not None else None
        state = "up" if up_since is not None else "connecting" if current is not None else "waiting"
        return ConnectionStatistics(
            self.plan.market, state, self.plan.route, len(self.plan.streams), up_since, self.attempts, self.losses
        )
