"""When a stalled stream is repaired, and how. Pure: the clock is an argument.

Repairs of a stream alternate while it says nothing: subscribe it again, then replace its connection. The first comes at
once, the second after the stream's timeout, every further one after twice the wait of the one before, up to
`WAIT_MAX_SEC`. The waits start over only when the stream has gone `WAIT_MAX_SEC` without a stall: a quiet symbol, which
stalls, trades and stalls again, is repaired more and more rarely, while a busy stream that dies is repaired at once.

Replacing a connection interrupts its neighbours, so connections have limits of their own: `REPLACE_MIN_SEC` between two
replacements, and a wait that doubles too for streams that have been through one since their waits started over. A
replacement counts as a repair of every stalled stream of that connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from streamsvc.watchdog.health import StreamHealth

Step = Literal["resubscribe", "replace"]

WAIT_MAX_SEC: Final = 6 * 3600.0
REPLACE_MIN_SEC: Final = 1800.0
RESUBSCRIBES_MAX: Final = 10
"""Per connection and look: twice as many messages to the exchange, within what it takes in a few seconds."""

_DOUBLINGS_MAX = 30


def doubled(wait_sec: float, times: int) -> float:
    """A wait that has doubled some times, at most `WAIT_MAX_SEC`."""
    return min(wait_sec * 2.0 ** min(times, _DOUBLINGS_MAX), WAIT_MAX_SEC)


@attrs.frozen
class Repair:
    """A repair that is due."""

    slot: StreamHealth
    step: Step


@attrs.define
class _StreamRepairs:
    """What was tried for a stream since its waits started over.

    Attributes:
        timeout_sec: The stream's timeout, the first wait.
        tried: Repairs.
        replaced: Those of them that replaced its connection.
        next_at: When the next one may be.
        last_stalled: When it was found stalled last.
        last_step: The last repair.
        last_message: When the last message had come by then: another one, and the stream has flowed in between.
    """

    timeout_sec: float
    tried: int = 0
    replaced: int = 0
    next_at: float = float("-inf")
    last_stalled: float = float("-inf")
    last_step: Step = "replace"
    last_message: float | None = None

    def step(self, slot: StreamHealth) -> Step:
        """The next repair: the cheap one first whenever the stream has flowed since the last."""
        if slot.last_message != self.last_message or self.last_step == "replace":
            return "resubscribe"
        return "replace"

    def note(self, step: Step, slot: StreamHealth, now: float) -> None:
        """A repair was begun."""
        self.next_at = now + doubled(self.timeout_sec, self.tried)
        self.tried += 1
        self.replaced += step == "replace"
        self.last_step = step
        self.last_message = slot.last_message


@attrs.define
class _ConnectionRepairs:
    replaced: int = 0
    last_at: float = float("-inf")

    def may_replace(self, now: float, *, is_first_of_stream: bool) -> bool:
        wait_sec = REPLACE_MIN_SEC if is_first_of_stream else doubled(REPLACE_MIN_SEC, self.replaced)
        return now - self.last_at >= wait_sec

    def note(self, now: float) -> None:
        if now - self.last_at > 2 * WAIT_MAX_SEC:
            self.replaced = 0
        self.replaced += 1
        self.last_at = now


class RepairPolicy:
    """Decides which repairs are due. Ask `due` at each look, carry repairs out, and `note` those that were begun."""

    def __init__(self) -> None:
        self._streams: dict[StreamHealth, _StreamRepairs] = {}
        self._connections: dict[str, _ConnectionRepairs] = {}

    def due(self, stalled: Iterable[tuple[StreamHealth, float]], now: float) -> list[Repair]:
        """The repairs to begin now.

        Args:
            stalled: Every stream that is stalled at this look, with its timeout in seconds.
            now: Monotonic time, seconds.

        Returns:
            At most one repair a stream; of a connection either one replacement or `RESUBSCRIBES_MAX` resubscribings,
            streams with the fewest repairs and the most messages first.
        """
        by_connection: dict[str, list[StreamHealth]] = {}
        for slot, timeout_sec in stalled:
            repairs = self._streams.setdefault(slot, _StreamRepairs(timeout_sec))
            if now - repairs.last_stalled > WAIT_MAX_SEC:
                repairs = self._streams[slot] = _StreamRepairs(timeout_sec)
            repairs.last_stalled = now
            if now >= repairs.next_at:
                by_connection.setdefault(slot.connection, []).append(slot)
        found: list[Repair] = []
        for connection, slots in by_connection.items():
            slots.sort(key=lambda slot: (self._streams[slot].tried, -slot.messages))
            found += self._due_of_connection(connection, slots, now)
        return found

    def _due_of_connection(self, connection: str, slots: list[StreamHealth], now: float) -> list[Repair]:
        limits = self._connections.setdefault(connection, _ConnectionRepairs())
        for slot in slots:
            repairs = self._streams[slot]
            if repairs.step(slot) == "replace" and limits.may_replace(now, is_first_of_stream=not repairs.replaced):
                return [Repair(slot, "replace")]
        waiting = [slot for slot in slots if self._streams[slot].step(slot) == "resubscribe"]
        return [Repair(slot, "resubscribe") for slot in waiting[:RESUBSCRIBES_MAX]]

    def forget(self, slots: Collection[StreamHealth]) -> None:
        """These streams have ended."""
        for slot in slots:
            self._streams.pop(slot, None)

    def note(self, repair: Repair, now: float) -> list[StreamHealth]:
        """A repair was begun; returns the streams that it is a repair of."""
        if repair.step == "resubscribe":
            self._streams[repair.slot].note("resubscribe", repair.slot, now)
            return [repair.slot]
        connection = repair.slot.connection
        self._connections[connection].note(now)
        # Streams that are stalled at this look; the others of the connection are only interrupted.
        repaired = [
            slot
            for slot, repairs in self._streams.items()
            if slot.connection == connection and repairs.last_stalled == now
        ]
        for slot in repaired:
            self._streams[slot].note("replace", slot, now)
        return repaired
