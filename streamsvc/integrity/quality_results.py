"""The quality of a day as numbers, as `report --json` gives them, and in one sentence (pure)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from streamsvc.integrity.latency_histogram import PERCENTILES

if TYPE_CHECKING:
    from streamsvc.integrity.latency_histogram import Latency
    from streamsvc.integrity.report import Gap

_MS = 10**6
_TAIL_NS = 60 * 10**9
"""A day whose last data are older than this at its end was not recorded to its end."""


@attrs.frozen
class Recorded:
    """From when to when a day was recorded.

    Attributes:
        first_ns: Its beginning, or the first data of the folder.
        last_ns: Its end, or the last data of the folder.
        due_ns: Until when it should have been: its end, if it is over and nothing waits to be sealed.
    """

    first_ns: int
    last_ns: int
    due_ns: int

    @property
    def lacking_ns(self) -> int:
        """How much of its end was not recorded."""
        return max(self.due_ns - self.last_ns, 0)


@attrs.frozen
class Snapshots:
    """What the snapshots of an order book were for."""

    after_gap: int
    at_start: int
    by_interval: int


@attrs.frozen
class StreamQuality:
    """A stream's day.

    Attributes:
        market: `spot` or `futures`.
        symbol: The symbol.
        kind: The kind's label.
        rows: Rows; an order-book level is one.
        messages: Messages.
        backfilled: Those of them that were fetched over REST.
        quarantined: Messages that were kept as text.
        first_time_ns: The first exchange time; None where there is no row.
        last_time_ns: The last one.
        ids_present: Ids that are there; None where the kind's ids do not count its messages.
        ids_missing: Ids that are missing, those at midnight included.
        time_due_ns: How much of the day should be there: from its beginning, or the stream's first message.
        time_missing_ns: In how much of that something is missing, by the ledger's times.
        gaps: What is missing.
        repaired: Gaps that were filled.
        repaired_ids: Ids in them.
        silence_sec: The longest time without a message, in whole seconds.
        silence_from_ns: When it began.
        latency: Receive time minus time of sending; None where the exchange sends no time.
        snapshots: Of `depthSnapshot`, what they were for.
        cells: The day as characters; see `timeline`.
    """

    market: str
    symbol: str
    kind: str
    rows: int
    messages: int
    backfilled: int
    quarantined: int
    first_time_ns: int | None
    last_time_ns: int | None
    ids_present: int | None
    ids_missing: int | None
    time_due_ns: int
    time_missing_ns: int
    gaps: list[Gap]
    repaired: int
    repaired_ids: int
    silence_sec: int
    silence_from_ns: int
    latency: Latency | None
    snapshots: Snapshots | None
    cells: str

    @property
    def ids_share(self) -> float | None:
        """The part of the ids that is there."""
        if self.ids_present is None or self.ids_missing is None or not self.ids_present + self.ids_missing:
            return None
        return self.ids_present / (self.ids_present + self.ids_missing)

    @property
    def time_share(self) -> float:
        """The part of the time in which nothing is missing."""
        return 1 - self.time_missing_ns / self.time_due_ns if self.time_due_ns else 1.0

    def as_json(self) -> dict[str, Any]:
        """As `report --json` prints it."""
        return {
            "market": self.market,
            "symbol": self.symbol,
            "kind": self.kind,
            "rows": self.rows,
            "messages": self.messages,
            "backfilled": self.backfilled,
            "quarantined": self.quarantined,
            "first_time_ns": self.first_time_ns,
            "last_time_ns": self.last_time_ns,
            "ids_present": self.ids_present,
            "ids_missing": self.ids_missing,
            "ids_share": self.ids_share,
            "time_share": self.time_share,
            "time_missing_sec": self.time_missing_ns / 10**9,
            "gaps": [attrs.asdict(gap) for gap in self.gaps],
            "gaps_by_status": _counts(gap.status for gap in self.gaps),
            "gaps_by_cause": _counts(gap.cause for gap in self.gaps),
            "repaired": self.repaired,
            "repaired_ids": self.repaired_ids,
            "silence_sec": self.silence_sec,
            "silence_from_ns": self.silence_from_ns,
            "latency_ms": _latency_json(self.latency),
            "snapshots": None if self.snapshots is None else attrs.asdict(self.snapshots),
            "timeline": self.cells,
        }


@attrs.frozen
class DayQuality:
    """A day.

    Attributes:
        date: The UTC day.
        files: Its files.
        recorded: From when to when it was recorded.
        streams: Every stream of which there is something, or something is missing.
        latency: Of all streams together.
        quarantined: Messages that were kept as text, by reason; by time of receipt.
        unsealed_segments: Journal segments that wait; what is in them is not in here.
        errors: Files that could not be read: a sentence each.
    """

    date: str
    files: int
    recorded: Recorded
    streams: list[StreamQuality]
    latency: Latency | None
    quarantined: dict[str, int]
    unsealed_segments: int
    errors: list[str]

    @property
    def gaps(self) -> list[Gap]:
        """Those of all streams."""
        return [gap for stream in self.streams for gap in stream.gaps]

    @property
    def resynchronisations(self) -> int:
        """Snapshots that a gap made necessary."""
        return sum(stream.snapshots.after_gap for stream in self.streams if stream.snapshots)

    def total(self, name: str) -> int:
        """The sum of a number of the streams; those that have none count as zero."""
        return sum(getattr(stream, name) or 0 for stream in self.streams)

    @property
    def ids_share(self) -> float | None:
        """The part of all ids that is there."""
        present, missing = self.total("ids_present"), self.total("ids_missing")
        return present / (present + missing) if present + missing else None

    def as_json(self) -> dict[str, Any]:
        """As `report --json` prints it."""
        gaps = self.gaps
        return {
            "day": self.date,
            "verdict": self.verdict(),
            "files": self.files,
            "rows": self.total("rows"),
            "messages": self.total("messages"),
            "backfilled": self.total("backfilled"),
            "recorded_from_ns": self.recorded.first_ns,
            "recorded_until_ns": self.recorded.last_ns,
            "ids_present": self.total("ids_present"),
            "ids_missing": self.total("ids_missing"),
            "ids_share": self.ids_share,
            "gaps": len(gaps),
            "gaps_by_status": _counts(gap.status for gap in gaps),
            "gaps_by_cause": _counts(gap.cause for gap in gaps),
            "repaired": self.total("repaired"),
            "repaired_ids": self.total("repaired_ids"),
            "resynchronisations": self.resynchronisations,
            "latency_ms": _latency_json(self.latency),
            "quarantined": self.quarantined,
            "unsealed_segments": self.unsealed_segments,
            "errors": self.errors,
            "streams": [stream.as_json() for stream in self.streams],
        }

    def verdict(self) -> str:
        """One sentence."""
        what = f"{self.date}: {len(self.streams):,} streams, {self.total('messages'):,} messages"
        unknown = sum(gap.status == "unknown" for gap in self.gaps)
        losses = sum(gap.is_loss for gap in self.gaps)
        if self.errors or unknown:
            gaps = f"{losses:,} gaps, of which the ledger does not know {unknown:,}"
            return f"DAMAGED: {what}; {len(self.errors):,} files cannot be used, {gaps}"
        if losses or self.recorded.lacking_ns > _TAIL_NS:
            late = f"; its last {self.recorded.lacking_ns / 3.6e12:.1f} h were not recorded"
            share = "" if self.ids_share is None else f", {percent(self.ids_share)} of the ids are there"
            tail = late if self.recorded.lacking_ns > _TAIL_NS else ""
            return f"INCOMPLETE: {what}; {losses:,} gaps, all in the ledger{share}{tail}"
        return f"COMPLETE: {what}; no id is missing of any kind whose ids chain"


def percent(share: float) -> str:
    """A share for people; what is not whole is never shown as whole."""
    return "100 %" if share >= 1 else f"{min(share * 100, 99.9999):.4f} %"


def _counts(words: Any) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _latency_json(latency: Latency | None) -> dict[str, Any] | None:
    if latency is None:
        return None
    percentiles = {f"p{each}": ns / _MS for each, ns in zip(PERCENTILES, latency.percentiles_ns, strict=True)}
    return {
        "messages": latency.messages,
        "min": latency.least_ns / _MS,
        **percentiles,
        "max": latency.greatest_ns / _MS,
    }
