"""What somebody must hear of, and when."""

import attrs
from recorder_metrics import DAY_SEC, GB, Phase, connections, gaps, lag, latency, streams, writer
from stories import (
    ALONE,
    BYTES,
    CLOSED,
    CRASHING,
    CVD,
    DISK_IN_DAYS,
    FAILED,
    FREE,
    GAPS_OPEN,
    MANY_STALLED,
    NO_ANSWER,
    NO_DATA,
    NOT_UP,
    RECONNECTS,
    RESTARTED,
    RUNNING,
    SEGMENT_FAILED,
    SEGMENTS,
    SHORT_LIVED,
    STALLED,
    START,
    TRADES_LOST,
    UNSYNCED,
    WELL,
    Story,
    away,
    back,
    firing,
    restarts,
)

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
