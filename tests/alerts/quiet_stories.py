"""What nobody should be woken for, nor find a ticket."""

import attrs
from recorder_metrics import GB, Phase, gaps, lag, latency, streams, writer
from stories import (
    ALONE,
    BYTES,
    CLOSED,
    FREE,
    NO_ANSWER,
    RECONNECTS,
    RUNNING,
    SEGMENTS,
    START,
    UNSYNCED,
    WELL,
    Story,
    away,
    back,
    day_with_retention,
    restarts,
)

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
