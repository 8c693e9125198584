"""Which streams share a connection. Pure.

As few connections as the exchange's limits allow, since each costs an attempt, a share of memory and wake-ups; every
stream on its route; the streams of one symbol on one connection where that costs no other. The same streams always give
the same plan, so names in logs keep their meaning.
"""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    groups: dict[str, list[Stream]] = {}
    for symbol in dict.fromkeys(symbols):
        for kind in dict.fromkeys(kinds):
            stream = venue.stream(symbol, kind)
            label = stream.route if venue.other_route(stream) is None else stream.kind.label
            groups.setdefault(label, []).append(stream)
    plans = []
    for label, streams in groups.items():
        prefix = "-".join(filter(None, (venue.market.label, label)))
        for number, part in enumerate(_split(venue, streams), 1):
            plans.append(ConnectionPlan(f"{prefix}-{number}", venue.market, part[0].route, venue.base_url, tuple(part)))
    return plans


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
        if keep_symbols and end < len(streams):
            border = end
            while border > start and streams[border].symbol == streams[border - 1].symbol:
                border -= 1
            end = border if border > start else end
        parts.append(streams[start:end])
        start = end
    return parts


def _fit(venue: Venue, streams: list[Stream], start: int) -> int:
    """Where the longest run of streams from `start` ends that one connection may carry."""
    fits, fits_not = start, min(len(streams), start + venue.limits.streams_per_connection) + 1
    while fits_not - fits > 1:
        middle = (fits + fits_not) // 2
        if len(venue.url(streams[start].route, streams[start:middle])) <= venue.limits.url_bytes:
            fits = middle
        else:
            fits_not = middle
    if fits == start:
        raise UsageError(f"the URL of {streams[start].name!r} is longer than {venue.limits.url_bytes} bytes")
    return fits
