"""A view of the running service for those who show it: systemd's status line, the demo's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamsvc.analytics.live import Analytics
    from streamsvc.batch import BlockChannelStatistics
    from streamsvc.intake import Intake
    from streamsvc.integrity.clock_offset import ClockOffset
    from streamsvc.integrity.probe import Probes
    from streamsvc.persistence.nursery import Persistence
    from streamsvc.schema import Market
    from streamsvc.streams.supervise import Supervisor
    from streamsvc.watchdog.health import Health
    from streamsvc.watchdog.notify import Notifier
    from streamsvc.watchdog.watch import Watch

_STUCK_SEC = 60.0
"""A blocking call of the writer that takes longer means a hung disk, where systemd has no patience of its own."""


@attrs.frozen
class Live:
    """The parts of a running service. Looking changes nothing.

    Attributes:
        watch: The totals of its last look.
        health: Every stream.
        supervisor: Every connection.
        persistence: The writer and the backlog.
        intake: What became of the messages.
        channel: The channel to the writer.
        analytics: What is derived of every symbol.
        probes: The ways of the REST requests of each market.
        started_at: When it began, monotonic seconds.
        ended: Set when everything is written and the drain is over.
    """

    watch: Watch
    health: Health
    supervisor: Supervisor
    persistence: Persistence
    intake: Intake
    channel: Callable[[], BlockChannelStatistics]
    analytics: Analytics
    probes: Probes
    started_at: float = attrs.field(factory=trio.current_time)
    ended: trio.Event = attrs.field(factory=trio.Event)

    def is_writer_alive(self, patience_sec: float | None) -> bool:
        """Whether the writer makes progress, has nothing to do, or is in a pause that it has declared.

        A hung disk shows as one blocking call that does not end within `patience_sec` (None: a minute).
        """
        busy_since = self.persistence.state.busy_since
        return busy_since is None or trio.current_time() - busy_since < (patience_sec or _STUCK_SEC)

    @property
    def clock_offsets(self) -> Mapping[Market, ClockOffset]:
        """How far the exchange's clock is ahead of ours, of each market where that was measured."""
        return self.intake.latency.offsets

    def summary(self) -> dict[str, int | str]:
        """Totals, for the log."""
        counts, state = self.intake.counts, self.persistence.state
        return {
            "received": counts.received,
            "duplicates": counts.duplicates,
            "backfilled": self.intake.fetched.rows,
            "notices": counts.notices,
            "quarantined": counts.quarantined,
            "shed": counts.shed,
            "written_bytes": state.written_bytes,
            "segments_closed": state.segments_closed,
            "unsealed_segments": self.persistence.backlog.segments,
        }

    def status_lines(self) -> tuple[str, str]:
        """Two short lines for people: what the service does, and how much of it."""
        report, state, connections = self.watch.statistics(), self.persistence.state, self.supervisor.statistics()
        waiting = self.persistence.backlog.segments
        degraded = f" ({report.degraded} on one connection only)" if report.degraded else ""
        first = (
            f"{state.state} ({state.mode}); {connections.up}/{len(connections.connections)} connections up; "
            f"streams: {report.ok} ok{degraded}, {report.stalled} stalled, {report.suspect} suspect, "
            f"{report.disconnected} down"
        )
        second = (
            f"{report.messages_per_sec:,.0f} messages/s, {self.intake.counts.accepted:,} in all; "
            f"{connections.reconnects} reconnects; {max(state.segments_closed - waiting, 0)} segments sealed, "
            f"{waiting} waiting"
        )
        return first, second

    def status_line(self) -> str:
        """The same in one line."""
        return "; ".join(self.status_lines())

    async def tell_status(self, notifier: Notifier, interval_sec: float) -> None:
        """Keep systemd's status line fresh, until cancelled."""
        while True:
            notifier.status(self.status_line())
            await trio.sleep(interval_sec)
