"""What a check of a data folder found, as JSON and for people."""

from __future__ import annotations

from typing import Any

import attrs

from streamsvc.schema import MARKETS_BY_LABEL, Kind

COMPLETE, KNOWN_LOSS, DAMAGED = 0, 1, 3
_LINES_MAX = 50


@attrs.frozen
class Gap:
    """Ids of one stream that are missing.

    Attributes:
        market: `spot` or `futures`.
        symbol: The symbol.
        kind: The kind's label.
        epoch: How many times the exchange had started its ids over.
        first_missing_id: The first one; of `kline_1m`, whose candles have no id, the minute's number since 1970.
        last_missing_id: The last one.
        status: `open` or `unrepairable`, as the ledger has it; `unknown` if the ledger does not know of it.
        cause: Why they did not come, as the ledger has it, else `unknown`.
        reason: Why they cannot be fetched, for people; None unless it is so.
        connection: The number of the connection that brought what lies behind them.
        first_time_ns: Event time of the last message before them, if it is known.
        last_time_ns: Event time of the first message behind them, if it is known.
        opened_ns: When they were told.
    """

    market: str
    symbol: str
    kind: str
    epoch: int
    first_missing_id: int
    last_missing_id: int
    status: str = "unknown"
    cause: str = "unknown"
    reason: str | None = None
    connection: int | None = None
    first_time_ns: int | None = None
    last_time_ns: int | None = None
    opened_ns: int | None = None


@attrs.frozen
class StreamCoverage:
    """What is there of one stream, all epochs together.

    Attributes:
        market: `spot` or `futures`.
        symbol: The symbol.
        kind: The kind's label.
        rows: Rows; an order-book level is one.
        first_id: The first id, of depth the first update's last one. Of kinds without ids it is a time in ns: of
            `kline_1m` the least `event_time`, of the others the least `exchange_time`.
        last_id: The last one.
        gaps: How many gaps lie between; None where the ids of the kind do not chain, so that nobody can say.
    """

    market: str
    symbol: str
    kind: str
    rows: int
    first_id: int
    last_id: int
    gaps: int | None


@attrs.define
class Report:
    """The result of `verify`.

    Attributes:
        files: Sealed files that were looked at.
        rows: Rows in them.
        gaps: Missing ids.
        errors: Damage, and rows that are there twice: a sentence each.
        coverage: Every stream.
        unsealed_segments: Journal segments that wait for their sealing; their rows are not looked at.
        quarantined: Messages that were kept as text because they could not be decoded.
        torn_bytes: Bytes at the ends of segments that were never written whole: what a kill or a power cut leaves.
    """

    files: int = 0
    rows: int = 0
    gaps: list[Gap] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    coverage: list[StreamCoverage] = attrs.Factory(list)
    unsealed_segments: int = 0
    quarantined: int = 0
    torn_bytes: int = 0

    @property
    def exit_code(self) -> int:
        """0 complete; 1 ids are missing, and the ledger knows; 3 damage, or ids are missing that it does not know."""
        if self.errors or self.unknown:
            return DAMAGED
        return KNOWN_LOSS if self.gaps else COMPLETE

    @property
    def unknown(self) -> int:
        """Gaps that the ledger does not know."""
        return sum(gap.status == "unknown" for gap in self.gaps)

    def add_error(self, sentence: str) -> None:
        """Note damage. Names in it may come from outside: what a terminal would obey, or is no Unicode, is escaped."""
        self.errors.append(
            "".join(
                character if character.isprintable() else character.encode("unicode_escape").decode()
                for character in sentence
            )
        )

    def sort(self) -> None:
        """Bring gaps and streams into the order in which people look for them: market, symbol, kind."""
        self.gaps.sort(key=lambda gap: (*_place(gap), gap.epoch, gap.first_missing_id))
        self.coverage.sort(key=_place)

    def as_json(self) -> dict[str, Any]:
        """The report as `verify --json` prints it."""
        return {
            "files": self.files,
            "rows": self.rows,
            "gaps": [attrs.asdict(gap) for gap in self.gaps],
            "errors": self.errors,
            "coverage": {
                f"{stream.market}/{stream.symbol}/{stream.kind}": attrs.asdict(
                    stream, filter=attrs.filters.include("rows", "first_id", "last_id", "gaps")
                )
                for stream in self.coverage
            },
            "unsealed_segments": self.unsealed_segments,
            "quarantined": self.quarantined,
            "torn_bytes": self.torn_bytes,
        }

    def verdict(self) -> str:
        """One sentence."""
        what = f"{self.files:,} files, {self.rows:,} rows"
        if self.errors or self.unknown:
            gaps = f"{len(self.gaps):,} gaps, of which the ledger does not know {self.unknown:,}"
            return f"DAMAGED: {what}; {len(self.errors):,} errors, {gaps}"
        if self.gaps:
            return f"INCOMPLETE: {what}; {len(self.gaps):,} gaps, all in the ledger"
        return f"COMPLETE: {what}; no id is missing of any kind whose ids chain, nothing is there twice"


def _place(of: Gap | StreamCoverage) -> tuple[int, str, int]:
    return MARKETS_BY_LABEL[of.market], of.symbol, Kind.from_label(of.kind)


def print_report(report: Report) -> None:
    """Print it for people: the verdict last, where the eye is."""
    from streamsvc.terminal import console, table  # noqa: PLC0415 - only people need rich

    out = console()
    out.print(
        table(
            "streams",
            ("market", "symbol", "kind", "rows", "first id", "last id", "gaps"),
            [
                (s.market, s.symbol, s.kind, s.rows, str(s.first_id), str(s.last_id), "-" if s.gaps is None else s.gaps)
                for s in report.coverage
            ],
            numbers=("rows", "first id", "last id", "gaps"),
        )
    )
    if any(stream.gaps is None for stream in report.coverage):
        out.print("-: the ids of this kind do not chain, so nobody can tell whether one is missing; times count as ids")
    if report.gaps:
        rows = [
            (g.market, g.symbol, g.kind, str(g.first_missing_id), str(g.last_missing_id),
             g.last_missing_id - g.first_missing_id + 1, g.status, g.cause)
            for g in report.gaps[:_LINES_MAX]
        ]  # fmt: skip
        headings = ("market", "symbol", "kind", "first missing", "last missing", "ids", "status", "cause")
        out.print(table("gaps", headings, rows, numbers=headings[3:6]))
        _print_more(out, len(report.gaps))
    for error in report.errors[:_LINES_MAX]:
        out.print(f"error: {error}")
    _print_more(out, len(report.errors))
    if report.unsealed_segments:
        out.print(f"{report.unsealed_segments:,} journal segments are not sealed yet: `streamsvc run` seals them")
    if report.torn_bytes:
        out.print(f"{report.torn_bytes:,} bytes at the ends of segments were not written whole: a kill leaves such")
    if report.quarantined:
        out.print(f"{report.quarantined:,} messages could not be decoded: see the folder quarantine/")
    out.print(report.verdict(), style="bold")


def _print_more(out: Any, count: int) -> None:
    if count > _LINES_MAX:
        out.print(f"... and {count - _LINES_MAX:,} more; --json has all")
