"""What a check of a data folder found, as JSON and for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from streamsvc.integrity.sequence import Coverage, IdRange
from streamsvc.persistence.gap_table import UNRECORDED
from streamsvc.schema import CHAINED_KINDS, MARKETS_BY_LABEL, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.schema import Market

_COUNTED = frozenset(kind.label for kind in CHAINED_KINDS)

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
        status: `open`, `unrepairable` or `unrecorded`, as the ledger has it; `unknown` if it does not know of it.
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

    @property
    def is_loss(self) -> bool:
        """Whether anybody had asked for them."""
        return self.status != UNRECORDED

    @property
    def ids(self) -> int | None:
        """How many are missing; None of a kind whose ids do not count its messages."""
        return self.last_missing_id - self.first_missing_id + 1 if self.kind in _COUNTED else None


def gap_of(row: GapRow) -> Gap:
    """A gap as the ledger has it."""
    return Gap(
        market=row.market,
        symbol=row.symbol,
        kind=row.kind,
        epoch=row.epoch,
        first_missing_id=row.first_id,
        last_missing_id=row.last_id,
        status=row.status,
        cause=row.cause,
        reason=row.reason,
        connection=row.connection,
        first_time_ns=row.first_time_ns,
        last_time_ns=row.last_time_ns,
        opened_ns=row.opened_ns,
    )


def unknown_gaps(
    stream: tuple[Market, str, Kind], epoch: int, rows: Iterable[GapRow], missing: Iterable[IdRange]
) -> list[Gap]:
    """What is missing of a stream and epoch, and is in none of the ledger's rows of it."""
    market, symbol, kind = stream
    known = Coverage()
    known.add(IdRange(row.first_id, row.last_id) for row in rows)
    return [
        Gap(market.label, symbol, kind.label, epoch, part.first, part.last)
        for each in missing
        for part in known.lacking(each)
    ]


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
        gaps: How many gaps there are. Where the ids of the kind do not chain, nobody can see them in the files: then
            those that the ledger knows, and None where it knows none.
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
        rows: Rows in them that an exchange sent.
        derived_rows: Rows in them that were derived from those; the coverage has no streams of them.
        gaps: Missing ids.
        errors: Damage, and rows that are there twice: a sentence each.
        coverage: Every stream.
        unsealed_segments: Journal segments that wait for their sealing; their rows are not looked at.
        quarantined: Messages that were kept as text because they could not be decoded.
        torn_bytes: Bytes at the ends of segments that were never written whole: what a kill or a power cut leaves.
        repaired: Gaps of the ledger that were filled.
        repaired_ids: Ids in them, of kinds whose ids count their messages.
        unsealed_messages: Whole messages in those segments; None unless the check is deep.
        day: The day that was looked at; None: all.
        is_deep: Whether everything was read again.
    """

    files: int = 0
    rows: int = 0
    derived_rows: int = 0
    gaps: list[Gap] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    coverage: list[StreamCoverage] = attrs.Factory(list)
    unsealed_segments: int = 0
    quarantined: int = 0
    torn_bytes: int = 0
    repaired: int = 0
    repaired_ids: int = 0
    unsealed_messages: int | None = None
    day: str | None = None
    is_deep: bool = False

    @property
    def exit_code(self) -> int:
        """0 complete; 1 ids are missing, and the ledger knows; 3 damage, or ids are missing that it does not know.

        What nobody had asked for is not missing.
        """
        if self.errors or self.unknown:
            return DAMAGED
        return KNOWN_LOSS if self.losses else COMPLETE

    @property
    def losses(self) -> int:
        """Gaps of what somebody had asked for."""
        return sum(gap.is_loss for gap in self.gaps)

    @property
    def unknown(self) -> int:
        """Gaps that the ledger does not know."""
        return sum(gap.status == "unknown" for gap in self.gaps)

    @property
    def missing_ids(self) -> int:
        """Missing ids of all gaps, of kinds whose ids count their messages."""
        return sum(gap.ids or 0 for gap in self.gaps if gap.is_loss)

    @property
    def gaps_by_status(self) -> dict[str, int]:
        """How many gaps there are of each status."""
        return dict(sorted(Counter(gap.status for gap in self.gaps).items()))

    def add_repaired(self, row: GapRow) -> None:
        """Count a gap that was filled."""
        self.repaired += 1
        self.repaired_ids += gap_of(row).ids or 0

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
            "derived_rows": self.derived_rows,
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
            "missing_ids": self.missing_ids,
            "gaps_by_status": self.gaps_by_status,
            "repaired": self.repaired,
            "repaired_ids": self.repaired_ids,
            "unsealed_messages": self.unsealed_messages,
            "day": self.day,
            "deep": self.is_deep,
            "exit_code": self.exit_code,
            "verdict": self.verdict(),
        }

    def verdict(self) -> str:
        """One sentence."""
        what = f"{self.files:,} files, {self.rows:,} rows" + (f" of {self.day}" if self.day else "")
        if self.errors or self.unknown:
            gaps = f"{self.losses:,} gaps, of which the ledger does not know {self.unknown:,}"
            return f"DAMAGED: {what}; {len(self.errors):,} errors, {gaps}"
        if self.losses:
            return f"INCOMPLETE: {what}; {self.losses:,} gaps, all in the ledger"
        return f"COMPLETE: {what}; no id is missing of any kind whose ids chain, nothing is there twice"


_KIND_PLACES = {kind.label: int(kind) for kind in Kind}
_LAST = 2**31


def _place(of: Gap | StreamCoverage) -> tuple[int, str, int, str]:
    """What a newer version wrote, of kinds and markets that we do not know, comes last."""
    return MARKETS_BY_LABEL.get(of.market, _LAST), of.symbol, _KIND_PLACES.get(of.kind, _LAST), of.kind


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
    if any(stream.kind not in _COUNTED for stream in report.coverage):
        out.print(
            "gaps of kinds whose ids do not chain are what the ledger knows (-: nothing), since nobody can see them in "
            "the files; times count as ids"
        )
    if report.gaps:
        rows = [
            (g.market, g.symbol, g.kind, str(g.first_missing_id), str(g.last_missing_id),
             "-" if g.ids is None else g.ids, g.status, g.cause)
            for g in report.gaps[:_LINES_MAX]
        ]  # fmt: skip
        headings = ("market", "symbol", "kind", "first missing", "last missing", "ids", "status", "cause")
        out.print(table("gaps", headings, rows, numbers=headings[3:6]))
        _print_more(out, len(report.gaps))
    if report.gaps or report.repaired:
        statuses = [f"{count:,} {status}" for status, count in report.gaps_by_status.items()]
        repaired = f"{report.repaired:,} repaired ({report.repaired_ids:,} ids)"
        out.print(f"gaps: {', '.join([*statuses, repaired])}; {report.missing_ids:,} ids are missing")
    for error in report.errors[:_LINES_MAX]:
        out.print(f"error: {error}")
    _print_more(out, len(report.errors))
    if report.derived_rows:
        out.print(f"{report.derived_rows:,} more rows are derived: CVD, bars, order flow imbalance, prices")
    if report.unsealed_segments:
        holding = "" if report.unsealed_messages is None else f", with {report.unsealed_messages:,} messages"
        out.print(f"{report.unsealed_segments:,} journal segments{holding} are not sealed yet: `streamsvc run` does it")
    if report.torn_bytes:
        out.print(f"{report.torn_bytes:,} bytes at the ends of segments were not written whole: a kill leaves such")
    if report.quarantined:
        out.print(f"{report.quarantined:,} messages could not be decoded: see the folder quarantine/")
    out.print(report.verdict(), style="bold")


def _print_more(out: Any, count: int) -> None:
    if count > _LINES_MAX:
        out.print(f"... and {count - _LINES_MAX:,} more; --json has all")
