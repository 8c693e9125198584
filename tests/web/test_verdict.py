"""How a recorder is doing, in a word and a sentence: every case, and which comes first."""

import pytest

from streamsvc.web.verdict import Situation, judge

FINE = {"state": "recording", "streams": 9, "symbols": 3, "connections": 2, "connections_up": 2}
STALLED = (("BTCUSDT trade of spot", 200.0),)


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, "ok", "Recording 9 streams of 3 symbols; nothing is missing."),
        ({"streams": 1, "symbols": 1}, "ok", "Recording 1 stream of 1 symbol; nothing is missing."),
        (
            {"gaps_unrepairable": 2},
            "ok",
            "Recording 9 streams of 3 symbols; all flow. 2 earlier gaps cannot be repaired.",
        ),
        ({"segments_failed": 1}, "warn", "1 segment could not be sealed."),
        ({"gaps_open": 1}, "warn", "1 gap open, being repaired where REST has it."),
        ({"suspect": 2}, "warn", "2 streams without a first message."),
        ({"connections_up": 1}, "warn", "1 connection of 2 down."),
        ({"stalled": STALLED}, "bad", "Silent and being repaired: BTCUSDT trade of spot (3 min)."),
        ({"connections_up": 0}, "bad", "No connection to the exchange is up."),
        ({"state": "paused_unsealed"}, "bad", "The sealers are behind: intake is paused until journal is sealed."),
        ({"state": "paused_disk"}, "bad", "The disk is full: intake is paused until there is room."),
        ({"is_writer_alive": False}, "bad", "The disk hangs: the writer makes no progress."),
        ({"is_stopping": True}, "bad", "The service is stopping."),
    ],
)
def test_each_case(changes, level, text):
    verdict = judge(Situation(**FINE | changes))
    assert (level, text) == (verdict.level, verdict.text)


def test_the_worst_comes_first_and_the_others_are_told():
    verdict = judge(Situation(**FINE | {"gaps_open": 3, "stalled": STALLED, "state": "paused_disk"}))
    assert ("bad", "The disk is full: intake is paused until there is room.") == (verdict.level, verdict.text)
    assert ["the disk is full", "silent and being repaired", "3 gaps open"] == [
        reason.split(":")[0].split(",")[0] for reason in verdict.reasons
    ]


def test_many_stalled_streams_are_counted():
    stalled = tuple((f"S{number} trade of spot", 10.0 * number) for number in range(12))
    text = judge(Situation(**FINE | {"stalled": stalled})).text
    assert "S11 trade of spot (110 s), S10 trade of spot (100 s), S9 trade of spot (90 s) and 9 more" in text
