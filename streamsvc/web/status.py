"""The document of `/status`: everything that the page and `streamsvc top` show. Looking changes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc import __version__
from streamsvc.schema import Market
from streamsvc.web.verdict import Situation, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.live import Live
    from streamsvc.venues.venue import Stream
    from streamsvc.watchdog.health import Verdict as StreamVerdict
    from streamsvc.web.looking import DiskLook


@attrs.frozen
class Watched:
    """A running recorder as it is shown.

    Attributes:
        live: Its parts.
        wall_ns: The wall clock.
        is_stopping: Whether it is on its way out.
        patience_sec: How long a blocking call of the writer may take, as its manager sees it.
        reserve_bytes: `DISK_RESERVE_MB` in bytes.
    """

    live: Live
    wall_ns: Callable[[], int]
    is_stopping: Callable[[], bool]
    patience_sec: float | None
    reserve_bytes: int

    @property
    def is_alive(self) -> bool:
        """Whether the writer makes progress, or is in a pause that it has declared."""
        return self.live.is_writer_alive(self.patience_sec)

    def stream_verdicts(self) -> dict[Stream, StreamVerdict]:
        """How each stream is doing."""
        return self.live.watch.verdicts(trio.current_time())

    def verdict(self, disk: DiskLook) -> Verdict:
        """How all of it is doing."""
        live, now = self.live, trio.current_time()
        verdicts = self.stream_verdicts()
        connections = live.supervisor.statistics()
        stalled = [stream for stream, verdict in verdicts.items() if verdict.value == "stalled"]
        return judge(
            Situation(
                state=live.persistence.state.state,
                is_writer_alive=self.is_alive,
                is_stopping=self.is_stopping(),
                streams=len(verdicts),
                symbols=len({(stream.market, stream.symbol) for stream in verdicts}),
                stalled=tuple((_name(stream), self.age_sec(stream, now) or 0.0) for stream in stalled),
                suspect=sum(verdict.value == "suspect" for verdict in verdicts.values()),
                connections=len(connections.connections),
                connections_up=connections.up,
                gaps_open=disk.with_status("open"),
                gaps_unrepairable=disk.with_status("unrepairable"),
                segments_failed=live.persistence.backlog.failed,
            )
        )

    def unready(self) -> list[str]:
        """Why it is not ready; empty where it records, nothing is stalled and the disk has room."""
        state, verdicts = self.live.persistence.state.state, list(self.stream_verdicts().values())
        stalled = sum(verdict.value == "stalled" for verdict in verdicts)
        reasons = {
            "stopping": self.is_stopping(),
            "the writer hangs": not self.is_alive,
            f"the writer is {state}": state != "recording",
            "no stream flows": not any(verdict.value == "ok" for verdict in verdicts),
            f"{stalled} streams are stalled": bool(stalled),
        }
        return [reason for reason, holds in reasons.items() if holds]

    def age_sec(self, stream: Stream, now: float) -> float | None:
        """Seconds since its last message on any connection."""
        slots = (self.live.health.slot(stream.market, stream.name, copy) for copy in range(self.live.health.copies))
        ages = [age for slot in slots if (age := slot.age_sec(now)) is not None]
        return min(ages, default=None)


def _name(stream: Stream) -> str:
    return f"{stream.symbol} {stream.kind.label} of {stream.market.label}"


def document(watched: Watched, disk: DiskLook) -> dict[str, Any]:
    """The whole document; `now_ms` and `started_ms` are wall clock, ages are seconds."""
    live, now = watched.live, trio.current_time()
    now_ms = watched.wall_ns() // 1_000_000
    state, backlog, channel = live.persistence.state, live.persistence.backlog, live.channel()
    report, verdict = live.watch.statistics(), watched.verdict(disk)
    uptime_sec = now - live.started_at
    return {
        "version": __version__,
        "now_ms": now_ms,
        "started_ms": now_ms - round(uptime_sec * 1000),
        "uptime_sec": round(uptime_sec, 1),
        "verdict": attrs.asdict(verdict),
        "is_ready": not watched.unready(),
        "writer": {"state": state.state, "mode": state.mode},
        "streams": _stream_counts(watched) | {"degraded": report.degraded},
        "matrix": [_matrix(watched, market) for market in _markets(watched)],
        "connections": _connections(watched),
        "rates": {"messages_per_sec": round(report.messages_per_sec, 1)},
        "counts": {
            **attrs.asdict(live.intake.counts),
            "backfilled": live.intake.fetched.rows,
            "reconnects": live.supervisor.statistics().reconnects,
        },
        "latency": {market.label: _latency(watched, market) for market in _markets(watched)},
        "gaps": {
            **{status: disk.with_status(status) for status in ("open", "repaired", "unrepairable")},
            "latest": list(disk.latest_gaps),
        },
        "journal": {
            "unsealed_bytes": backlog.size_bytes + state.segment_bytes,
            "unsealed_segments": backlog.segments,
            "unsynced_age_sec": round(unsynced_age_sec(live), 3),
            "written_bytes": state.written_bytes,
            "segments_closed": state.segments_closed,
        },
        "queue": {"used_bytes": channel.used_bytes, "limit_bytes": channel.limit_bytes},
        "disk": {"free_bytes": disk.free_bytes, "reserve_bytes": watched.reserve_bytes},
        "files": {"parquet_files": disk.parquet_files, "parquet_bytes": disk.parquet_bytes},
        "rest": {
            market.label: {
                "weight_used": governor.minute_weight,
                "weight_limit": governor.weight_limit,
                "closed_sec": round(governor.closed_sec, 1),
            }
            for market, governor in sorted(live.probes.governors.items())
        },
        "cvd_mismatches": sum(live.analytics.mismatches.values()),
        "process": {"rss_bytes": resident_bytes(), "tasks": trio.lowlevel.current_statistics().tasks_living},
    }


def unsynced_age_sec(live: Live) -> float:
    """How long the oldest written and not synced byte of the journal has waited; 0: there is none."""
    since = live.persistence.state.unsynced_since
    return 0.0 if since is None else trio.current_time() - since


def resident_bytes() -> int:
    """What this process has in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a file of the kernel, read often
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _markets(watched: Watched) -> list[Market]:
    present = {stream.market for stream in watched.live.health.streams()}
    return [market for market in Market if market in present]


def _stream_counts(watched: Watched) -> dict[str, int]:
    values = [verdict.value for verdict in watched.stream_verdicts().values()]
    return {state: values.count(state) for state in ("ok", "suspect", "stalled", "disconnected")}


def _matrix(watched: Watched, market: Market) -> dict[str, Any]:
    """Symbols by kinds: the state, the age and the rate of each stream."""
    now, health = trio.current_time(), watched.live.health
    verdicts = {
        (stream.symbol, stream.kind): (stream, verdict.value)
        for stream, verdict in watched.stream_verdicts().items()
        if stream.market is market
    }
    symbols = list(dict.fromkeys(symbol for symbol, _ in verdicts))
    kinds = sorted({kind for _, kind in verdicts})
    rates: dict[tuple[str, int], float] = {}
    for slot in health.slots():
        if slot.stream.market is market:
            key = slot.stream.symbol, int(slot.stream.kind)
            rates[key] = rates.get(key, 0.0) + slot.messages_per_sec
    found = [[verdicts.get((symbol, kind)) for kind in kinds] for symbol in symbols]
    ages = [[None if each is None else watched.age_sec(each[0], now) for each in row] for row in found]
    return {
        "market": market.label,
        "kinds": [kind.label for kind in kinds],
        "symbols": symbols,
        "states": [[None if each is None else each[1] for each in row] for row in found],
        "age_sec": [[None if age is None else round(age, 1) for age in row] for row in ages],
        "per_sec": [[round(rates.get((symbol, int(kind)), 0.0), 2) for kind in kinds] for symbol in symbols],
    }


def _connections(watched: Watched) -> list[dict[str, Any]]:
    now = trio.current_time()
    return [
        {
            "name": name,
            "market": connection.market.label,
            "is_up": connection.state == "up",
            "streams": connection.streams,
            "age_sec": None if connection.up_since is None else round(now - connection.up_since, 1),
            "attempts": connection.attempts,
            "reconnects": max(0, connection.attempts - 1),
        }
        for name, connection in watched.live.supervisor.statistics().connections.items()
    ]


def _latency(watched: Watched, market: Market) -> dict[str, Any]:
    latency = watched.live.intake.latency
    histogram, offset = latency.histograms[market], latency.offsets.get(market)
    median, high = histogram.quantile(0.5), histogram.quantile(0.99)
    return {
        "p50_ms": None if median is None else median * 1000,
        "p99_ms": None if high is None else high * 1000,
        "clock_offset_ms": None if offset is None else round(offset.offset_ms),
    }
