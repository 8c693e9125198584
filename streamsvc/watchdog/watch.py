"""The watch: looks at every stream once an interval, says what stalls, and asks for repairs.

A look is synchronous; only the wait between two looks is not. A stall is noticed at most one interval late. Events:
`stream_suspect` once a subscription, `stream_stalled` and `stream_recovered` once a stall, `stream_repair` per repair,
`stream_late` at a bounded rate, `health` at every look.

With `REDUNDANCY` each of the connections that carry a stream is watched and repaired on its own: its events name the
connection. The totals of `health` count streams, by the copy of each that does best; `degraded` are those of the `ok`
that have another one that is not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from streamsvc.log import logger
from streamsvc.schema import TRADE_KINDS
from streamsvc.watchdog.health import Verdict
from streamsvc.watchdog.repairs import RepairPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from streamsvc.schema import Market
    from streamsvc.venues.venue import Stream
    from streamsvc.watchdog.health import Health, StreamHealth, Timeouts

LATE_EVENTS_MAX: Final = 5
"""Per look: a clock that is off makes every stream late at once."""
LATE_REPEAT_SEC: Final = 600.0
COPY_LAG_SEC: Final = 30.0
"""A copy that is silent while another goes on for longer than this has stalled; less may be its lag."""


@attrs.frozen
class HealthReport:
    """The totals of one look.

    Attributes:
        ok: Streams that flow, or may be silent, over one connection at least.
        degraded: Those of them that do not on another connection that carries them too.
        suspect: Streams that have not delivered their first message.
        stalled: Streams that have stalled and not flowed again, whatever is being tried.
        disconnected: Streams of which no connection is up.
        late: Streams that had late messages since the look before.
        messages: Messages since the look before.
        messages_per_sec: Their rate.
    """

    ok: int = 0
    degraded: int = 0
    suspect: int = 0
    stalled: int = 0
    disconnected: int = 0
    late: int = 0
    messages: int = 0
    messages_per_sec: float = 0.0


@attrs.define(eq=False)
class _Watched:
    """What the watch remembers of a copy of a stream between two looks."""

    slot: StreamHealth
    messages: int = 0
    last_message: float | None = None
    late_messages: int = 0
    late_told_at: float = float("-inf")
    late_untold: int = 0
    suspect_told_for: float | None = None
    silent_since: float | None = None
    repairs: int = 0

    @property
    def is_stalled(self) -> bool:
        return self.silent_since is not None


_BEST_FIRST = (Verdict.OK, Verdict.SUSPECT, Verdict.STALLED, Verdict.DISCONNECTED)


def _names(slot: StreamHealth) -> dict[str, str]:
    stream, connection = slot.stream, {"connection": slot.connection} if slot.connection else {}
    return {"market": stream.market.label, "symbol": stream.symbol, "kind": stream.kind.label, **connection}


class Watch:
    """Judges streams, logs what changes, asks for repairs.

    Args:
        health: The streams; marked by others, who add and remove them at any time.
        timeouts: When silence counts.
        resubscribe: Asks that a copy of a stream be unsubscribed and subscribed again; False if that cannot be begun
            now.
        replace: Asks that the connection of a copy of a stream be replaced; False if that cannot be begun now.
        now: Monotonic time of the start, seconds.
    """

    def __init__(
        self,
        health: Health,
        timeouts: Timeouts,
        *,
        resubscribe: Callable[[Stream, int], bool],
        replace: Callable[[Stream, int], bool],
        now: float,
    ) -> None:
        self.timeouts = timeouts
        self._begin = {"resubscribe": resubscribe, "replace": replace}
        self._policy = RepairPolicy()
        self._health = health
        self._watched: dict[StreamHealth, _Watched] = {}
        self._copies: list[list[_Watched]] = []
        self._looked_at = now
        self._report = HealthReport()

    def statistics(self) -> HealthReport:
        """The totals of the last look."""
        return self._report

    def verdicts(self, now: float) -> dict[Stream, Verdict]:
        """How each stream is doing on its best connection. Stalled is what the log has called so and not recovered."""
        self._follow_streams()
        return {
            copies[0].slot.stream: min((_shown(each, now, self.timeouts) for each in copies), key=_BEST_FIRST.index)
            for copies in self._copies
        }

    def silent_trades(self, now: float) -> list[Stream]:
        """Streams of trades that count as stalled now, unless they are only quiet."""
        self._follow_streams()
        silent = {
            slot.stream: None
            for copies in self._copies
            if copies[0].slot.stream.kind in TRADE_KINDS
            for slot in _unproved(copies)
            if slot.verdict(now, self.timeouts) is Verdict.STALLED
        }
        return list(silent)

    def newly_silent(self, now: float) -> list[Stream]:
        """Streams that the next look will find stalled, has not told of yet, and of whose symbol nothing else came."""
        self._follow_streams()
        silent: list[tuple[StreamHealth, float]] = []
        for watched in self._watched.values():
            slot = watched.slot
            if not watched.is_stalled and slot.verdict(now, self.timeouts) is Verdict.STALLED:
                silent.append((slot, now - (self.timeouts.of(slot.stream.kind) or 0.0)))
        if not silent:
            return []
        heard: dict[tuple[Market, str], float] = {}
        for slot in self._watched:
            place = slot.stream.market, slot.stream.symbol
            heard[place] = max(
                heard.get(place, -math.inf), -math.inf if slot.last_message is None else slot.last_message
            )
        return list(
            dict.fromkeys(one.stream for one, since in silent if heard[one.stream.market, one.stream.symbol] <= since)
        )

    def excuse(self, streams: Collection[Stream], now: float) -> None:
        """There is nothing that these streams should say: their silence counts from now on."""
        for slot in self._watched:
            if slot.stream in streams:
                slot.quiet_at = now

    def mark_quiet(self, streams: Collection[Stream], now: float) -> None:
        """The exchange has sent nothing more on these streams: their silence counts from now on."""
        self._follow_streams()
        for copies in self._copies:
            if not any(watched.slot.stream in streams for watched in copies):
                continue
            for slot in _unproved(copies):
                slot.quiet_at = now
                self._watched[slot].silent_since = None
                logger.info("stream_quiet", **_names(slot), age_sec=int(slot.age_sec(now) or 0.0))

    def _follow_streams(self) -> None:
        """Watch the streams that there are now."""
        slots = self._health.slots()
        if len(slots) == len(self._watched) and all(slot in self._watched for slot in slots):
            return
        self._policy.forget(self._watched.keys() - set(slots))
        self._watched = {slot: self._watched.get(slot) or _Watched(slot) for slot in slots}
        copies: dict[tuple[Market, str], list[_Watched]] = {}
        for watched in self._watched.values():
            copies.setdefault((watched.slot.stream.market, watched.slot.stream.name), []).append(watched)
        self._copies = list(copies.values())

    def look(self, now: float) -> HealthReport:
        """Look at every stream, log what has changed, begin the repairs that are due; returns the totals."""
        elapsed_sec = now - self._looked_at
        self._looked_at = now
        counts = dict.fromkeys(Verdict, 0)
        messages = 0
        stalled: list[tuple[StreamHealth, float]] = []
        late: list[_Watched] = []
        degraded = 0
        self._follow_streams()
        for copies in self._copies:
            states = []
            for watched in copies:
                slot = watched.slot
                fresh = slot.messages - watched.messages
                messages += fresh
                slot.messages_per_sec = fresh / elapsed_sec if elapsed_sec > 0 else 0.0
                verdict = slot.verdict(now, self.timeouts)
                self._follow(watched, verdict, now)
                watched.messages, watched.last_message = slot.messages, slot.last_message
                if slot.late_messages > watched.late_messages:
                    late.append(watched)
                if verdict is Verdict.STALLED:
                    stalled.append((slot, self.timeouts.of(slot.stream.kind) or 0.0))
                is_stalled = watched.is_stalled and verdict is not Verdict.DISCONNECTED
                states.append(Verdict.STALLED if is_stalled else verdict)
            best = min(states, key=_BEST_FIRST.index)
            counts[best] += 1
            degraded += best is Verdict.OK and any(state is not Verdict.OK for state in states)
        self._repair(stalled, now)
        self._tell_late(late, now)
        self._report = HealthReport(
            ok=counts[Verdict.OK],
            degraded=degraded,
            suspect=counts[Verdict.SUSPECT],
            stalled=counts[Verdict.STALLED],
            disconnected=counts[Verdict.DISCONNECTED],
            late=len({watched.slot.stream for watched in late}),
            messages=messages,
            messages_per_sec=messages / elapsed_sec if elapsed_sec > 0 else 0.0,
        )
        fields: dict[str, Any] = attrs.asdict(self._report)
        logger.info("health", **fields | {"messages_per_sec": round(self._report.messages_per_sec)})
        return self._report

    def _follow(self, watched: _Watched, verdict: Verdict, now: float) -> None:
        """Log where the stream's state has changed since the last look."""
        slot = watched.slot
        if watched.silent_since is not None and slot.last_message != watched.last_message:
            silence_sec = int((slot.last_message or now) - watched.silent_since)
            logger.info("stream_recovered", **_names(slot), silence_sec=silence_sec, repairs=watched.repairs)
            watched.silent_since = None
        if verdict is Verdict.STALLED and not watched.is_stalled:
            age_sec = slot.age_sec(now) or 0.0
            watched.silent_since = now - age_sec
            watched.repairs = 0
            logger.warning("stream_stalled", **_names(slot), age_sec=int(age_sec))
        # A stream that is known to be stalled is not called suspect after each repair.
        is_told = watched.suspect_told_for == slot.subscribed_at or watched.is_stalled
        if verdict is Verdict.SUSPECT and slot.subscribed_at is not None and not is_told:
            watched.suspect_told_for = slot.subscribed_at
            fields = {"stream": slot.stream.name, "route": slot.stream.route}
            logger.warning("stream_suspect", **_names(slot), **fields, waited_sec=int(now - slot.subscribed_at))

    def _repair(self, stalled: list[tuple[StreamHealth, float]], now: float) -> None:
        for repair in self._policy.due(stalled, now):
            slot = repair.slot
            if not self._begin[repair.step](slot.stream, slot.copy):
                continue  # It is still due at the next look.
            repaired = self._policy.note(repair, now)
            for other in repaired:
                self._watched[other].repairs += 1
            age_sec = int(slot.age_sec(now) or 0.0)
            logger.warning(
                "stream_repair",
                **_names(slot),
                step=repair.step,
                repairs=self._watched[slot].repairs,
                age_sec=age_sec,
                stalled_streams=len(repaired),
            )

    def _tell_late(self, late: list[_Watched], now: float) -> None:
        """Log the latest streams, each of them not too often; what is not told now is told with the next event."""
        late.sort(key=lambda watched: -watched.slot.latency_ms)
        room = LATE_EVENTS_MAX
        for watched in late:
            slot = watched.slot
            watched.late_untold += slot.late_messages - watched.late_messages
            watched.late_messages = slot.late_messages
            if not room or now - watched.late_told_at < LATE_REPEAT_SEC:
                continue
            room -= 1
            watched.late_told_at = now
            logger.warning("stream_late", **_names(slot), latency_ms=slot.latency_ms, late_messages=watched.late_untold)
            watched.late_untold = 0


def _shown(watched: _Watched, now: float, timeouts: Timeouts) -> Verdict:
    verdict = watched.slot.verdict(now, timeouts)
    if verdict is Verdict.DISCONNECTED or not (watched.is_stalled or verdict is Verdict.STALLED):
        return verdict
    return Verdict.STALLED if watched.is_stalled else Verdict.OK  # It may only be quiet: the next look asks.


def _unproved(copies: Sequence[_Watched]) -> list[StreamHealth]:
    """The copies of a stream of whose silence no other copy has shown that it is a stall."""
    slots = [watched.slot for watched in copies]
    newest = max((slot.last_message for slot in slots if slot.last_message is not None), default=-math.inf)
    return [slot for slot in slots if slot.silent_since is None or newest - slot.silent_since <= COPY_LAG_SEC]


async def run_watch(
    watch: Watch,
    interval_sec: float,
    ask_quiet: Callable[[Sequence[Stream]], Awaitable[Collection[Stream]]],
    ask_ended: Callable[[Sequence[Stream]], Awaitable[Collection[Stream]]],
) -> None:
    """Look once an interval, until cancelled. A look that comes late does not make the next ones late.

    Args:
        watch: What looks.
        interval_sec: The interval.
        ask_quiet: Of silent streams of trades, gives those that are known to be only quiet; its time is bounded.
        ask_ended: Of streams that have just fallen silent, gives those of symbols that are not traded any more; its
            time is bounded too.
    """
    next_look = trio.current_time()
    while True:
        next_look = max(next_look + interval_sec, trio.current_time())
        await trio.sleep_until(next_look)
        if silent := watch.newly_silent(trio.current_time()):
            watch.excuse(await ask_ended(silent), trio.current_time())
        if silent := watch.silent_trades(trio.current_time()):
            watch.mark_quiet(await ask_quiet(silent), trio.current_time())
        watch.look(trio.current_time())
