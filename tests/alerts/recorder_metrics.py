"""What recorders export over time, as input of `promtool test rules`: a healthy one, and what it is told to suffer.

Times are those of promtool: they begin at 0, which is 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TARGET = 'job="streamsvc",instance="127.0.0.1:9464"'
MARKETS = ("spot", "futures")
KINDS = ("trade", "aggTrade", "depth", "bookTicker")
GB = 1024**3
DAY_SEC = 86400.0

LATENCY_BOUNDS = (-5.0, -1.0, 0.0, 0.1, 1.0, 5.0)
LAG_BOUNDS = (0.02, 0.5, 1.0, 5.0)


def spread(name: str, bounds: Sequence[float], value: float, per_sec: float, labels: str = "") -> dict[str, float]:
    """The rates of a histogram's buckets of which all observations have one value."""
    rates = {f'{name}_bucket{{{labels}le="{bound:g}"}}': per_sec * (value <= bound) for bound in bounds}
    return rates | {f'{name}_bucket{{{labels}le="+Inf"}}': per_sec}


def latency(market: str, seconds: float) -> dict[str, float]:
    """The rates of a market whose messages are so old when they come."""
    return spread("binance_ws_latency_seconds", LATENCY_BOUNDS, seconds, 100.0, f'market="{market}",')


def lag(seconds: float) -> dict[str, float]:
    """The rates where it takes so long from receipt to the journal."""
    return spread("msg_lag_seconds", LAG_BOUNDS, seconds, 200.0)


def streams(market: str, **states: int) -> dict[str, float]:
    """The values of a market's streams by state; those that are not named are 0."""
    names = ("ok", "suspect", "stalled", "disconnected")
    return {f'streamsvc_streams{{market="{market}",state="{name}"}}': states.get(name, 0) for name in names}


def connections(market: str, *, up: int, down: int) -> dict[str, float]:
    """The values of a market's connections."""
    return {
        f'streamsvc_connections{{market="{market}",state="up"}}': up,
        f'streamsvc_connections{{market="{market}",state="down"}}': down,
    }


def gaps(market: str, kind: str, status: str, count: int) -> dict[str, float]:
    """The value of the gaps of one kind and status."""
    return {f'streamsvc_gaps{{market="{market}",kind="{kind}",status="{status}"}}': count}


def writer(state: str) -> dict[str, float]:
    """The values of the writer's state."""
    names = ("recording", "paused_disk", "paused_unsealed", "draining", "closed")
    return {f'streamsvc_writer_state{{state="{name}"}}': name == state for name in names}


LAST_MESSAGE = {market: f'streamsvc_last_message_timestamp_seconds{{market="{market}"}}' for market in MARKETS}
STARTED = ("streamsvc_start_time_seconds", "process_start_time_seconds")
"""When, as the recorder and the kernel say."""


def healthy_gauges() -> dict[str, float]:
    """60 streams on 3 connections a market; some order-book gaps of long ago; half of a disk free."""
    values: dict[str, float] = {
        **dict.fromkeys(STARTED, -DAY_SEC),
        "streamsvc_journal_unsynced_age_seconds": 0.4,
        "streamsvc_journal_unsealed_segments": 1.0,
        "streamsvc_journal_unsealed_bytes": 20e6,
        "streamsvc_queue_bytes": 1000.0,
        "streamsvc_queue_limit_bytes": 64e6,
        "streamsvc_disk_free_bytes": 500.0 * GB,
        "streamsvc_disk_reserve_bytes": 0.5 * GB,
    }
    values |= writer("recording")
    for market in MARKETS:
        values |= streams(market, ok=60) | connections(market, up=3, down=0)
        for kind in KINDS:
            for status in ("open", "repaired", "unrepairable"):
                values |= gaps(market, kind, status, 3 if status != "open" else 0)
        values[LAST_MESSAGE[market]] = 0.0
        values[f'streamsvc_rest_weight_used{{market="{market}"}}'] = 40.0
        values[f'streamsvc_rest_weight_limit{{market="{market}"}}'] = 3000.0
        values[f'streamsvc_rest_closed_seconds{{market="{market}"}}'] = 0.0
    return values


def healthy_rates() -> dict[str, float]:
    """What grows, per second."""
    rates = {
        "streamsvc_journal_written_bytes_total": 50_000.0,
        "streamsvc_segments_sealed_total": 1 / 60,
        "streamsvc_segments_failed_total": 0.0,
        "streamsvc_quarantined_total": 0.0,
        "streamsvc_shed_total": 0.0,
        "process_cpu_seconds_total": 0.1,
    }
    rates |= lag(0.01) | spread("streamsvc_seal_seconds", LAG_BOUNDS, 0.4, 1 / 60)
    for market in MARKETS:
        rates |= latency(market, 0.08)
        # Each of three connections is renewed once a day.
        rates[f'ws_reconnects_total{{market="{market}"}}'] = 3 / DAY_SEC
        rates[f'streamsvc_cvd_mismatches_total{{market="{market}"}}'] = 0.0
        for kind in KINDS:
            rates[f'streamsvc_messages_total{{market="{market}",kind="{kind}"}}'] = 50.0
            rates[f'streamsvc_bytes_total{{market="{market}",kind="{kind}"}}'] = 10_000.0
    return rates


@attrs.frozen
class Phase:
    """A part of the story.

    Attributes:
        minutes: How long it lasts.
        values: What is set to another value when it begins, and stays so.
        per_sec: What grows at another rate while it lasts; values may, too.
        silent: Markets of which nothing comes.
        is_target: Whether Prometheus has the target at all.
        is_up: Whether it answers.
        is_ours: Whether it is the recorder that answers.
        is_started: Whether it begins with the start of a process.
    """

    minutes: float
    values: Mapping[str, float] = attrs.field(factory=dict)
    per_sec: Mapping[str, float] = attrs.field(factory=dict)
    silent: Sequence[str] = ()
    is_target: bool = True
    is_up: bool = True
    is_ours: bool = True
    is_started: bool = False


def exported(phases: Sequence[Phase], step_sec: float, only: Sequence[str] = ()) -> list[dict[str, str]]:
    """The samples of all series, for promtool's `input_series`.

    Args:
        phases: The story.
        step_sec: Time between two scrapes.
        only: Names of metrics, where a story is long and nothing else matters in it; empty: all.
    """
    counters = dict.fromkeys(healthy_rates(), 0.0)
    gauges = healthy_gauges()
    names = [name for name in (*counters, *gauges) if not only or name.partition("{")[0] in {*STARTED, *only}]
    samples: dict[str, list[str]] = {name: [] for name in ("up", *names)}
    time_sec = 0.0
    for phase in phases:
        if phase.is_started:
            counters = dict.fromkeys(counters, 0.0)
            gauges |= dict.fromkeys(STARTED, time_sec)
            gauges |= dict.fromkeys(LAST_MESSAGE.values(), 0.0)
        for name, value in phase.values.items():
            (counters if name in counters else gauges)[name] = value
        slopes = healthy_rates() | phase.per_sec
        for _ in range(round(phase.minutes * 60 / step_sec)):
            for market in set(MARKETS) - set(phase.silent):
                gauges[LAST_MESSAGE[market]] = time_sec
            samples["up"].append(f"{phase.is_up:d}" if phase.is_target else "stale")
            is_seen = phase.is_target and phase.is_up and phase.is_ours
            for name in names:
                now = counters[name] if name in counters else gauges[name]
                samples[name].append(f"{float(now):.10g}" if is_seen else "stale")
            for name, slope in slopes.items():
                table = counters if name in counters else gauges
                table[name] += slope * step_sec
            time_sec += step_sec
    return [{"series": _at_target(name), "values": " ".join(values)} for name, values in samples.items()]


def _at_target(name: str) -> str:
    metric, _, labels = name.removesuffix("}").partition("{")
    return f"{metric}{{{TARGET}{',' if labels else ''}{labels}}}"
