"""How a recorder is doing, in a word and a sentence. Pure.

The first that holds, worst first:

1. the service ends, or its writer hangs
2. the disk is full, or the journal has grown to its limit: nothing is recorded
3. no connection is up: nothing comes
4. streams have stalled
5. connections are down
6. streams have not delivered their first message
7. gaps are open, and being repaired
8. segments could not be sealed
9. all flows; gaps that nobody can repair are told, since they are history and no trouble now
"""

from __future__ import annotations

from typing import Literal

import attrs

Level = Literal["ok", "warn", "bad"]
NAMES_MAX = 3


@attrs.frozen
class Verdict:
    """The judgement.

    Attributes:
        level: `ok`, `warn` (something is being repaired), `bad` (something is not recorded).
        text: One sentence for people.
        reasons: Why it is not `ok`, worst first; the first is that of the sentence.
    """

    level: Level
    text: str
    reasons: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Situation:
    """What a verdict is about.

    Attributes:
        state: The writer's.
        is_writer_alive: Whether it makes progress, or is in a pause that it has declared.
        is_stopping: Whether the service is on its way out.
        streams: How many are recorded.
        symbols: Of how many symbols.
        stalled: The names of those that have stalled, e.g. `BTCUSDT trade of spot`, with seconds of silence.
        suspect: How many have not delivered their first message.
        connections: How many there are.
        connections_up: How many of them are up.
        gaps_open: Gaps that may still be repaired.
        gaps_unrepairable: Gaps that nobody can repair.
        segments_failed: Segments that were set aside since the start.
    """

    state: str
    is_writer_alive: bool = True
    is_stopping: bool = False
    streams: int = 0
    symbols: int = 0
    stalled: tuple[tuple[str, float], ...] = ()
    suspect: int = 0
    connections: int = 0
    connections_up: int = 0
    gaps_open: int = 0
    gaps_unrepairable: int = 0
    segments_failed: int = 0


def judge(now: Situation) -> Verdict:
    """What to say of a situation."""
    found = [(level, reason) for level, reason in _troubles(now) if reason]
    if found:
        level: Level = "bad" if any(each == "bad" for each, _ in found) else "warn"
        return Verdict(level, _sentence(found[0][1]), tuple(reason for _, reason in found))
    text = f"Recording {_count(now.streams, 'stream')} of {_count(now.symbols, 'symbol')}; "
    if now.gaps_unrepairable:
        return Verdict("ok", text + f"all flow. {_count(now.gaps_unrepairable, 'earlier gap')} cannot be repaired.")
    return Verdict("ok", text + "nothing is missing.")


def _troubles(now: Situation) -> list[tuple[Level, str]]:
    down = now.connections - now.connections_up
    is_cut_off = bool(now.connections) and not now.connections_up
    return [
        ("bad", "the service is stopping" if now.is_stopping else ""),
        ("bad", "" if now.is_writer_alive else "the disk hangs: the writer makes no progress"),
        ("bad", "the disk is full: intake is paused until there is room" if now.state == "paused_disk" else ""),
        (
            "bad",
            "the sealers are behind: intake is paused until journal is sealed"
            if now.state == "paused_unsealed"
            else "",
        ),
        ("bad", "no connection to the exchange is up" if is_cut_off else ""),
        ("bad", _of_stalled(now.stalled)),
        ("warn", f"{_count(down, 'connection')} of {now.connections} down" if down and not is_cut_off else ""),
        ("warn", f"{_count(now.suspect, 'stream')} without a first message" if now.suspect else ""),
        ("warn", f"{_count(now.gaps_open, 'gap')} open, being repaired where REST has it" if now.gaps_open else ""),
        ("warn", f"{_count(now.segments_failed, 'segment')} could not be sealed" if now.segments_failed else ""),
    ]


def _of_stalled(stalled: tuple[tuple[str, float], ...]) -> str:
    if not stalled:
        return ""
    longest = sorted(stalled, key=lambda each: -each[1])
    named = ", ".join(f"{name} ({_duration(sec)})" for name, sec in longest[:NAMES_MAX])
    more = f" and {len(stalled) - NAMES_MAX} more" if len(stalled) > NAMES_MAX else ""
    return f"silent and being repaired: {named}{more}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _sentence(reason: str) -> str:
    return reason[0].upper() + reason[1:] + "."
