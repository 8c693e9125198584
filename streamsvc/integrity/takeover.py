"""Whose order-book updates are recorded while several connections bring the same stream (pure).

Spot's connections may cut the same updates into different windows. Each one's chain is sound by itself; mixed, every
update would be recorded about twice, and a reader who joins each `U` to the `u` before would find a break at every
change. So one connection is primary, and what another brings is held until it is known whether it is needed:

- what the primary has passed falls away;
- when the primary is gone, leaves a hole, or says nothing for `HELD_SEC` while another goes on, the other's held
  updates join the chain: the first of them with the overlap that `binance.md` allows at a takeover, and it is primary
  from then on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Container

HELD_SEC = 2.0
"""How far another connection may be ahead before it takes over: twenty updates at the usual speed."""
HELD_MAX = 50
"""Updates of one stream that are held of each connection; one more and it takes over."""


@attrs.frozen
class Held:
    """An update that is held.

    Attributes:
        first: The first update id that it covers.
        last: The last one.
        held_at: When it came, monotonic seconds.
        received_ns: When it came, wall clock.
        head: What the loop reads of it.
        text: The message.
    """

    first: int
    last: int
    held_at: float
    received_ns: int
    head: Any
    text: bytes


class Takeover:
    """The connections of one stream.

    Attributes:
        primary: The connection whose updates are recorded, 0 before the first.
        held: What waits, by connection; none of them is empty.
    """

    __slots__ = ("held", "primary")

    def __init__(self) -> None:
        self.primary = 0
        self.held: dict[int, deque[Held]] = {}

    def must_hold(self, connection: int, first: int, last: int, expected: int | None) -> bool:
        """Whether an update of a connection waits: it neither goes on where the chain ends, nor lies in its past.

        Args:
            connection: Who brought it.
            first: The first update id that it covers.
            last: The last one.
            expected: The id that continues the chain, None where nothing came before.
        """
        if connection == self.primary or expected is None or not self.primary:
            return False
        return connection in self.held or (first != expected and last >= expected)

    def hold(self, connection: int, update: Held) -> None:
        """Keep an update until `passed` or `take`."""
        self.held.setdefault(connection, deque()).append(update)

    def passed(self, expected: int) -> int:
        """The chain has come this far: drop what it has passed; returns how many that were."""
        dropped = 0
        for connection, held in list(self.held.items()):
            while held and held[0].last < expected:
                held.popleft()
                dropped += 1
            if not held:
                del self.held[connection]
        return dropped

    def filling(self, expected: int) -> int | None:
        """The connection whose held updates go on where the chain ends, before which the primary has left a hole."""
        return next((connection for connection, held in self.held.items() if held[0].first <= expected), None)

    def due(self, carriers: Container[int], now: float) -> int | None:
        """The connection that takes over now, None if none does.

        Args:
            carriers: The connections that carry the stream.
            now: Monotonic time, seconds.
        """
        for connection, held in self.held.items():
            if self.primary not in carriers or now - held[0].held_at >= HELD_SEC or len(held) > HELD_MAX:
                return connection
        return None

    def take(self, connection: int) -> list[Held]:
        """A connection takes over: the updates that were held of it, in order."""
        self.primary = connection
        return list(self.held.pop(connection))

    def clear(self) -> int:
        """The ids have started over: what is held belongs to no chain any more; returns how much that was."""
        dropped = sum(map(len, self.held.values()))
        self.held.clear()
        return dropped
