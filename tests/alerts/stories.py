"""The terms in which stories are told of a recorder, and of which alerts fire when: all of them, not only one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from recorder_metrics import DAY_SEC, Phase, connections, streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Firing = frozenset[tuple[str, str]]
"""The labels of an alert that fires, without those of the target."""


def firing(alert: str, severity: str, **labels: str) -> Firing:
    """An alert that fires."""
    return frozenset({"alertname": alert, "severity": severity, **labels}.items())


@attrs.frozen
class Story:
    """What happens, and what is heard of it.

    Attributes:
        situation: A few words, for the test's name.
        phases: What happens; the first should be a while in which all is well.
        heard: All alerts that fire, by the minute.
        step_sec: Time between two scrapes.
        only: The metrics that matter, where a story is long; empty: all.
    """

    situation: str
    phases: Sequence[Phase]
    heard: Mapping[float, Sequence[Firing]]
    step_sec: float = 30.0
    only: Sequence[str] = ()


WELL = Phase(20)
"""Every story begins with it, so that the first thing happens at minute 20."""

START = Phase(0.5, streams("spot") | streams("futures"), is_started=True)
"""A process has started, and nobody has looked at its streams yet."""
RUNNING = streams("spot", ok=60) | streams("futures", ok=60)
ALONE = ("streamsvc_disk_free_bytes", "streamsvc_disk_reserve_bytes")
FREE = "streamsvc_disk_free_bytes"
UNSYNCED = "streamsvc_journal_unsynced_age_seconds"
SEGMENTS = "streamsvc_journal_unsealed_segments"
BYTES = "streamsvc_journal_unsealed_bytes"
FAILED = "streamsvc_segments_failed_total"
RECONNECTS = 'ws_reconnects_total{market="futures"}'
CLOSED = 'streamsvc_rest_closed_seconds{market="futures"}'
CVD = 'streamsvc_cvd_mismatches_total{market="spot"}'

NO_ANSWER = firing("StreamsvcDown", "page", cause="no_answer")
NO_DATA = firing("StreamsvcNoData", "page", market="futures")
STALLED = firing("StreamsvcStreamStalled", "ticket", market="futures")
MANY_STALLED = firing("StreamsvcStreamStalled", "page", market="futures")
NOT_UP = firing("StreamsvcReconnecting", "ticket", cause="not_up", market="futures")
SHORT_LIVED = firing("StreamsvcReconnecting", "ticket", cause="short_lived", market="futures")
GAPS_OPEN = firing("StreamsvcGapsOpen", "ticket", market="futures")
RESTARTED = firing("StreamsvcRestarts", "ticket")
CRASHING = firing("StreamsvcRestarts", "page")
DISK_IN_DAYS = firing("StreamsvcDiskLow", "ticket")
SEGMENT_FAILED = firing("StreamsvcSegmentFailed", "ticket")
TRADES_LOST = firing("StreamsvcGapUnrepairable", "ticket", market="futures", kind="trade")


def restarts(count: int, minutes_each: float) -> list[Phase]:
    """So many processes, each of which lives so long and is followed by a minute without."""
    life = [START, Phase(minutes_each - 0.5, RUNNING), Phase(1, is_up=False)]
    return life * count


def away(minutes: float) -> Phase:
    """The exchange refuses and breaks connections."""
    return Phase(
        minutes,
        streams("futures", disconnected=60) | connections("futures", up=0, down=3),
        {RECONNECTS: 3 / 30},
        silent=["futures"],
    )


def back(minutes: float) -> Phase:
    """It is there again, and everything stands."""
    return Phase(minutes, streams("futures", ok=60) | connections("futures", up=3, down=0))


def day_with_retention(*, used: float, freed: float) -> list[Phase]:
    """A day's files are written, and in the night those of the oldest day are removed."""
    return [Phase(1440, per_sec={FREE: -used / DAY_SEC}), Phase(20, per_sec={FREE: freed / 1200})]
