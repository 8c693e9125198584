"""What happens to a recorder, and which alerts fire when: all of them, not only the one that is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from recorder_metrics import DAY_SEC, GB, Phase, connections, gaps, lag, latency, streams, writer

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


QUIET = [
    Story(
        "a healthy recorder, and its daily renewals",
        [Phase(30), Phase(5, per_sec={RECONNECTS: 3 / 300}), Phase(100)],
        dict.fromkeys([1, 10, 32, 40, 60, 134], ()),
    ),
    Story(
        "a deploy: two minutes without an answer, and order books that miss as much",
        [
            WELL,
            Phase(2, is_up=False),
            attrs.evolve(START, values=START.values | gaps("spot", "depth", "unrepairable", 9)),
            Phase(90, RUNNING),
        ],
        dict.fromkeys([21, 22, 22.25, 23, 25, 33, 60, 110], ()),
    ),
    Story(
        "a rollback after a deploy",
        [WELL, *restarts(1, 8), START, Phase(60, RUNNING)],
        dict.fromkeys([21, 29, 31, 60], ()),
    ),
    Story(
        "a quiet market: a message every ten minutes",
        [WELL, *[Phase(10, silent=["spot"]), Phase(0.5)] * 9],
        dict.fromkeys([25, 30, 45, 60, 100], ()),
    ),
    Story(
        "ten minutes of maintenance, with gaps that are mended after it",
        [
            WELL,
            away(10),
            attrs.evolve(back(12), values=back(1).values | gaps("futures", "trade", "open", 20)),
            Phase(90, gaps("futures", "trade", "open", 0) | gaps("futures", "trade", "repaired", 23)),
        ],
        dict.fromkeys([25, 29, 30, 32, 41, 60, 100], ()),
    ),
    Story(
        "ten minutes of silence on connections that stay up",
        [
            WELL,
            Phase(3, silent=["futures"]),
            Phase(7, streams("futures", stalled=60), {RECONNECTS: 3 / 420}, silent=["futures"]),
            back(60),
        ],
        dict.fromkeys([24, 29, 30, 40, 60], ()),
    ),
    Story(
        "one stream that stalls and comes back again and again",
        [WELL, *[Phase(8, streams("futures", ok=59, stalled=1)), Phase(2, streams("futures", ok=60))] * 6],
        dict.fromkeys([25, 28, 37, 58, 78], ()),
    ),
    Story(
        "order books that miss updates",
        [WELL, Phase(30, gaps("futures", "depth", "unrepairable", 30))],
        dict.fromkeys([21, 40], ()),
    ),
    Story(
        "no room for a few seconds",
        [WELL, Phase(0.5, writer("paused_disk")), Phase(20, writer("recording"))],
        dict.fromkeys([20.5, 21, 22, 26], ()),
    ),
    Story(
        "a disk on which retention keeps a third free",
        day_with_retention(used=300 * GB, freed=300 * GB) * 3,
        dict.fromkeys([3000, 3600, 4000, 4370], ()),
        step_sec=240,
        only=ALONE,
    ),
    Story(
        "a merge of a day's files, which needs their room twice for a while",
        [
            Phase(1440, {FREE: 60 * GB}),
            Phase(16, per_sec={FREE: -40 * GB / 960}),
            Phase(24),
            Phase(4, per_sec={FREE: 40 * GB / 240}),
            Phase(240),
        ],
        dict.fromkeys([1456, 1470, 1480, 1500, 1520, 1600, 1700], ()),
        step_sec=120,
        only=ALONE,
    ),
    Story(
        "a sync that takes twelve seconds",
        [WELL, Phase(0.25, {UNSYNCED: 12}), Phase(10, {UNSYNCED: 0.3})],
        dict.fromkeys([20, 20.25, 20.5, 21, 25], ()),
        step_sec=15,
    ),
    Story(
        "a journal of yesterday that is sealed beside recording",
        [
            Phase(20),
            Phase(60, is_up=False),
            attrs.evolve(START, values=START.values | {SEGMENTS: 30, BYTES: 1.8 * GB}),
            Phase(12, RUNNING),
            Phase(30, {SEGMENTS: 1, BYTES: 20e6}),
        ],
        dict.fromkeys([20, 81, 90, 92, 100, 115], ()) | {70: [NO_ANSWER]},
    ),
    Story(
        "ten minutes of a market that runs away",
        [WELL, Phase(10, per_sec=latency("futures", 4.0) | lag(0.3)), Phase(30)],
        dict.fromkeys([25, 30, 34, 50], ()),
    ),
    Story(
        "a REST limit of two minutes",
        [WELL, Phase(2, {CLOSED: 120}, {CLOSED: -1}), Phase(10, {CLOSED: 0})],
        dict.fromkeys([21, 22, 30], ()),
    ),
    Story(
        "a few messages that cannot be read",
        [WELL, Phase(10, {"streamsvc_quarantined_total": 5})],
        dict.fromkeys([21, 26, 30], ()),
    ),
]
"""What nobody should be woken for, nor find a ticket."""

LOUD = [
    Story("a recorder that has ended", [WELL, Phase(20, is_up=False)], {22.5: (), 23.5: [NO_ANSWER], 39: [NO_ANSWER]}),
    Story("a port that is somebody else's", [WELL, Phase(20, is_ours=False)], {22.5: (), 23.5: [NO_ANSWER]}),
    Story(
        "a target that nobody scrapes any more",
        [WELL, Phase(20, is_target=False)],
        {29.5: (), 30.5: [firing("StreamsvcDown", "page", cause="no_target")]},
    ),
    Story(
        "an exchange that is away for hours",
        [WELL, away(60)],
        {35: (), 37: [NO_DATA], 39: [NO_DATA], 41: [NO_DATA, NOT_UP], 61: [NO_DATA, NOT_UP, SHORT_LIVED]},
    ),
    Story(
        "a market that says nothing, on connections that stay up, from the start of the process",
        [
            WELL,
            attrs.evolve(START, silent=["futures"]),
            Phase(30, streams("spot", ok=60) | streams("futures", suspect=60), silent=["futures"]),
        ],
        {30: (), 35: (), 37: [NO_DATA]},
    ),
    Story(
        "one stream that stalls",
        [WELL, Phase(20, streams("futures", ok=59, stalled=1))],
        {29.5: (), 30.5: [STALLED], 39: [STALLED]},
    ),
    Story(
        "a kind that stalls",
        [WELL, Phase(20, streams("futures", ok=45, stalled=15)), back(10)],
        {29.5: (), 30.5: [STALLED, MANY_STALLED], 41: ()},
    ),
    Story(
        "connections that live for three minutes",
        [WELL, Phase(60, per_sec={RECONNECTS: 1 / 180})],
        {40: (), 62: [SHORT_LIVED]},
    ),
    Story(
        "one connection that does not come up",
        [WELL, Phase(30, streams("futures", ok=40, disconnected=20) | connections("futures", up=2, down=1))],
        {39.5: (), 40.5: [NOT_UP]},
    ),
    Story(
        "gaps that are not mended",
        [WELL, Phase(40, gaps("futures", "trade", "open", 2) | gaps("futures", "aggTrade", "open", 1))],
        {49.5: (), 50.5: [GAPS_OPEN]},
    ),
    Story(
        "trades that the exchange gives no more",
        [WELL, Phase(400, gaps("futures", "trade", "unrepairable", 5))],
        {20.5: [TRADES_LOST], 200: [TRADES_LOST], 375: [TRADES_LOST]} | {19.5: (), 385: ()},
        step_sec=30,
        only=("streamsvc_gaps",),
    ),
    Story(
        "trades lost while it was down for three hours",
        [
            WELL,
            Phase(180, is_up=False),
            attrs.evolve(START, values=START.values | gaps("spot", "aggTrade", "unrepairable", 4)),
            Phase(20, RUNNING),
        ],
        {202: [firing("StreamsvcGapUnrepairable", "ticket", market="spot", kind="aggTrade")]},
    ),
    Story(
        "a disk that is full",
        [WELL, Phase(10, writer("paused_disk")), Phase(10, writer("recording"))],
        {21: (), 22.5: [firing("StreamsvcDiskPaused", "page")], 35: ()},
    ),
    Story(
        "a disk that takes moments of writing between pauses",
        [WELL, *[Phase(0.5, writer("paused_disk")), Phase(0.5, writer("recording"))] * 10],
        {20.5: (), 29: [firing("StreamsvcDiskPaused", "page")]},
    ),
    Story(
        "a disk that fills within days",
        [Phase(180, {FREE: 300 * GB}), Phase(400, per_sec={FREE: -120 * GB / DAY_SEC})],
        {180: (), 520: (), 545: [DISK_IN_DAYS]},
        step_sec=60,
        only=ALONE,
    ),
    Story(
        "a disk that fills within hours",
        [Phase(180, {FREE: 60 * GB}), Phase(150, per_sec={FREE: -15 * GB / 3600})],
        {200: (), 290: (), 305: [DISK_IN_DAYS], 325: [DISK_IN_DAYS, firing("StreamsvcDiskLow", "page", cause="trend")]},
        only=ALONE,
    ),
    Story(
        "a disk that is nearly full and grows no fuller",
        [Phase(360, {FREE: 0.9 * GB})],
        {
            4: (),
            6: [firing("StreamsvcDiskLow", "page", cause="level")],
            350: [firing("StreamsvcDiskLow", "page", cause="level")],
        },
        step_sec=60,
        only=ALONE,
    ),
    Story(
        "a disk that hangs",
        [WELL, Phase(2, {UNSYNCED: 1}, {UNSYNCED: 1})],
        {20.5: (), 21: [firing("StreamsvcJournalUnsynced", "page")]},
    ),
    Story(
        "a disk whose syncs take five seconds",
        [WELL, Phase(40, {UNSYNCED: 5})],
        {30: (), 40: [firing("StreamsvcJournalUnsynced", "ticket")]},
    ),
    Story(
        "sealers that do not keep up, until the journal is as large as it may be",
        [
            WELL,
            Phase(30, {SEGMENTS: 15}, {SEGMENTS: 1 / 60, BYTES: 1e6}),
            Phase(10, writer("paused_unsealed")),
        ],
        {
            40: (),
            49: [firing("StreamsvcJournalBacklog", "ticket")],
            51: [firing("StreamsvcJournalBacklog", "ticket")],
            54: [firing("StreamsvcJournalBacklog", "ticket"), firing("StreamsvcJournalBacklog", "page")],
        },
    ),
    Story(
        "a segment that cannot be sealed",
        [WELL, Phase(90, {FAILED: 1})],
        {19.5: (), 20.5: [SEGMENT_FAILED], 75: [SEGMENT_FAILED], 85: ()},
    ),
    Story(
        "a segment of an earlier run that fails before the first scrape of a new one",
        [attrs.evolve(START, values=START.values | {FAILED: 1}), Phase(90, RUNNING)],
        {0.5: [SEGMENT_FAILED], 59: [SEGMENT_FAILED], 65: ()},
    ),
    Story(
        "a process that ends three times within an hour",
        [WELL, *restarts(2, 8), START, Phase(60, RUNNING)],
        {37.5: (), 39: [RESTARTED], 79: [RESTARTED], 81: ()},
    ),
    Story(
        "a process that ends whenever it has lived for a minute",
        [WELL, *restarts(20, 1)],
        {22: (), 27: [RESTARTED], 35: [RESTARTED, CRASHING]},
    ),
    Story(
        "a line that is slow",
        [WELL, Phase(30, per_sec=latency("spot", 3.0))],
        {35: (), 39: [firing("StreamsvcLatencyHigh", "ticket", market="spot")]},
    ),
    Story(
        "a clock that is seconds behind",
        [WELL, Phase(30, per_sec=latency("futures", -3.0))],
        {35: (), 39: [firing("StreamsvcLatencyHigh", "ticket", market="futures")]},
    ),
    Story(
        "a loop or a disk that is too slow",
        [WELL, Phase(20, per_sec=lag(3.0))],
        {29: (), 32: [firing("StreamsvcWriteLagHigh", "ticket")]},
    ),
    Story(
        "a ban from REST",
        [WELL, Phase(20, {CLOSED: 7200}, {CLOSED: -1})],
        {24.5: (), 25.5: [firing("StreamsvcRestBanned", "ticket", market="futures")]},
    ),
    Story(
        "messages that are dropped on purpose",
        [WELL, Phase(1, per_sec={"streamsvc_shed_total": 10}), Phase(20)],
        {19.5: (), 21.5: [firing("StreamsvcShed", "ticket")], 38: ()},
    ),
    Story(
        "a kind of message whose shape has changed",
        [WELL, Phase(30, per_sec={"streamsvc_quarantined_total": 1})],
        {24: (), 27: [firing("StreamsvcQuarantined", "ticket")]},
    ),
    Story(
        "a minute that is not what the candle says",
        [WELL, Phase(90, {CVD: 1})],
        {19.5: (), 20.5: [firing("StreamsvcCvdMismatch", "ticket", market="spot")], 85: ()},
    ),
]
"""What somebody must hear of, and when."""
