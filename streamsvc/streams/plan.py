"""Which streams share a connection. Pure.

As few connections as the exchange's limits allow, since each costs an attempt, a share of memory and wake-ups; every
stream on its route; the streams of one symbol on one connection where that costs no other. The same streams always give
the same plan, so names in logs keep their meaning.

While it runs streams come and go. One that stays never moves to another connection, since a move costs a SUBSCRIBE and
a takeover: what is new goes where there is room, in the order of the connections, and beyond that on new ones.
"""

from __future__ import annotations

from itertools import count
from string import ascii_lowercase
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from streamsvc.schema import Kind, Market
    from streamsvc.venues.venue import Stream, Venue


@attrs.frozen
class ConnectionPlan:
    """What one connection carries.

    Attributes:
        name: Unique and lasting, e.g. `spot-1`, `futures-public-2`, `futures-trade-1`.
        market: The market.
        route: The part of the exchange's URL that serves the streams.
        base_url: The WebSocket base URL, without path: whose budget of attempts is used.
        streams: Its streams, which all have this route.
        copy: Which of the connections that carry these streams at once it is, from 0.
    """

    name: str
    market: Market
    route: str
    base_url: str
    streams: tuple[Stream, ...]
    copy: int = 0

    @property
    def first_name(self) -> str:
        """The name of the first of the connections that carry these streams at once."""
        return self.name.rpartition("-")[0] if self.copy else self.name

    def on_other_route(self, venue: Venue) -> ConnectionPlan | None:
        """The same connection on the route to try next; None: the route of its streams is known."""
        streams = tuple(other for stream in self.streams if (other := venue.other_route(stream)) is not None)
        if len(streams) != len(self.streams):
            return None
        return attrs.evolve(self, route=streams[0].route, streams=streams)


def plan_connections(venue: Venue, symbols: Iterable[str], kinds: Sequence[Kind]) -> list[ConnectionPlan]:
    """Spread a market's symbols and kinds over connections within the exchange's limits.

    Streams whose route is not known for certain get connections of their own, which can change the route.

    Raises:
        UsageError: a symbol is so long that no URL can carry it.
    """
    streams = [venue.stream(symbol, kind) for symbol in dict.fromkeys(symbols) for kind in dict.fromkeys(kinds)]
    return change_plans(venue, [], added=streams)


def change_plans(
    venue: Venue,
    plans: Iterable[ConnectionPlan],
    *,
    added: Iterable[Stream] = (),
    removed: Collection[str] = (),
    taken: Collection[str] = (),
) -> list[ConnectionPlan]:
    """What a market's connections carry when streams have come and gone.

    Args:
        venue: The market.
        plans: What they carry now, the first copies; each may meanwhile be on another route than it began with.
        added: Streams that none of them carries, symbol by symbol.
        removed: Names of streams that end; they make room before others come.
        taken: Names that no new connection may have, beside those of the plans.

    Returns:
        The plans that carry anything, in the same order, new ones last. A stream that stays is where it was.

    Raises:
        UsageError: a symbol is so long that no URL can carry it.
    """
    left = {plan.name: attrs.evolve(plan, streams=_without(plan, removed)) for plan in plans}
    names = {*left, *taken}
    for prefix, streams in _groups(venue, added).items():
        waiting = streams
        for name, plan in left.items():
            if waiting and _prefix_of(name) == prefix and plan.streams:
                left[name], waiting = _filled(venue, plan, waiting)
        for part in _split(venue, waiting):
            name = _free_name(prefix, names)
            names.add(name)
            left[name] = ConnectionPlan(name, venue.market, part[0].route, venue.base_url, tuple(part))
    return [plan for plan in left.values() if plan.streams]


def _groups(venue: Venue, streams: Iterable[Stream]) -> dict[str, list[Stream]]:
    """Streams that may share connections, by the beginning of those connections' names."""
    groups: dict[str, list[Stream]] = {}
    for stream in streams:
        label = stream.route if venue.other_route(stream) is None else stream.kind.label
        groups.setdefault("-".join(filter(None, (venue.market.label, label))), []).append(stream)
    return groups


def _prefix_of(name: str) -> str:
    return name.rpartition("-")[0]


def _free_name(prefix: str, taken: Collection[str]) -> str:
    return next(name for number in count(1) if (name := f"{prefix}-{number}") not in taken)


def _without(plan: ConnectionPlan, removed: Collection[str]) -> tuple[Stream, ...]:
    return tuple(stream for stream in plan.streams if stream.name not in removed) if removed else plan.streams


def _filled(venue: Venue, plan: ConnectionPlan, waiting: list[Stream]) -> tuple[ConnectionPlan, list[Stream]]:
    """A connection with as many more streams as it may carry, and those that remain."""
    most = max(0, venue.limits.streams_per_connection - len(plan.streams))
    on_route = [
        stream if stream.route == plan.route else attrs.evolve(stream, route=plan.route) for stream in waiting[:most]
    ]
    if not on_route or len(venue.url(plan.route, [*plan.streams, on_route[0]])) > venue.limits.url_bytes:
        return plan, waiting
    room = _fit(venue, on_route, 0, plan.streams)
    return attrs.evolve(plan, streams=(*plan.streams, *on_route[:room])), waiting[room:]


def repeat_plans(plans: Sequence[ConnectionPlan], copies: int) -> list[ConnectionPlan]:
    """Carry every stream over so many connections at once: `spot-1`, `spot-1-b`, …; the first copies come first."""
    return [
        plan if copy == 0 else attrs.evolve(plan, name=f"{plan.name}-{ascii_lowercase[copy]}", copy=copy)
        for copy in range(copies)
        for plan in plans
    ]


def _split(venue: Venue, streams: list[Stream]) -> list[list[Stream]]:
    """Cut streams, which lie symbol by symbol, into parts that fit a connection each."""
    dense = _cut(venue, streams, keep_symbols=False)
    whole = _cut(venue, streams, keep_symbols=True)
    return whole if len(whole) == len(dense) else dense


def _cut(venue: Venue, streams: list[Stream], *, keep_symbols: bool) -> list[list[Stream]]:
    parts = []
    start = 0
    while start < len(streams):
        end = _fit(venue, streams, start)
        if end == start:
            raise UsageError(f"the URL of {streams[start].name!r} is longer than {venue.limits.url_bytes} bytes")
        if keep_symbols and end < len(streams):
            border = end
            while border > start and streams[border].symbol == streams[border - 1].symbol:
                border -= 1
            end = border if border > start else end
        parts.append(streams[start:end])
        start = end
    return parts


def _fit(venue: Venue, streams: Sequence[Stream], start: int, carried: Sequence[Stream] = ()) -> int:
    """Where the longest run of streams from `start` ends that one connection may carry beside what it carries."""
    room = max(0, venue.limits.streams_per_connection - len(carried))
    fits, fits_not = start, min(len(streams), start + room) + 1
    while fits_not - fits > 1:
        middle = (fits + fits_not) // 2
        url = venue.url(streams[start].route, [*carried, *streams[start:middle]])
        if len(url) <= venue.limits.url_bytes:
            fits = middle
        else:
            fits_not = middle
    return fits
