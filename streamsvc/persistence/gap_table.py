"""The gap ledger's table: notes of the journal become rows, within the transaction that commits their segment.

A row is a closed range of missing ids of one stream and epoch. Rows of one stream never overlap: a change of a part
cuts its row, and what is left of it keeps its story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from streamsvc.gap import REMOVED, REMOVED_REASON, GapFilled, GapGivenUp, GapOpened, StreamCounted, decode_note
from streamsvc.schema import CHAINED_KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamsvc.persistence.manifest import QuarantinedId

TABLE = """
create table gaps (
    gap integer primary key, market text not null, symbol text not null, kind text not null, epoch integer not null,
    first_id integer not null, last_id integer not null, first_time_ns integer, last_time_ns integer,
    cause text not null, connection integer, status text not null, reason text,
    opened_ns integer not null, closed_ns integer
) strict;
create index gaps_of_stream on gaps (market, symbol, kind, epoch, first_id)
"""

_CHAINED = frozenset(kind.label for kind in CHAINED_KINDS)

OPEN, REPAIRED, UNREPAIRABLE, UNRECORDED = "open", "repaired", "unrepairable", "unrecorded"
"""What is unrecorded is no loss: nobody had asked for it."""

_ALL = """
select market, symbol, kind, epoch, first_id, last_id, first_time_ns, last_time_ns, cause, connection, status, reason,
    opened_ns, closed_ns
from gaps where ?1 is null or status = ?1 order by market, symbol, kind, epoch, first_id
"""
_OVERLAPPING = """
select gap, market, symbol, kind, epoch, first_id, last_id, first_time_ns, last_time_ns, cause, connection, status,
    reason, opened_ns, closed_ns
from gaps where market = ? and symbol = ? and kind = ? and epoch = ? and first_id <= ? and last_id >= ?
    and status != 'repaired'
"""
_INSERT = """
insert into gaps (market, symbol, kind, epoch, first_id, last_id, first_time_ns, last_time_ns, cause, connection,
    status, reason, opened_ns, closed_ns)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Connection(Protocol):
    """A connection to the catalogue, within a transaction where something is changed."""

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Run a statement."""


@attrs.frozen
class GapRow:
    """A row of the ledger.

    Attributes:
        market: The market's label.
        symbol: The symbol.
        kind: The kind's label.
        epoch: How many times the exchange had started its ids over.
        first_id: The first missing id.
        last_id: The last one.
        first_time_ns: Event time of the last message before it, None if it is not known.
        last_time_ns: Event time of the first message behind it, None if it is not known.
        cause: Why they did not come.
        connection: The number of the connection that brought what lies behind it, None if it is not known.
        status: `open`, `repaired`, `unrepairable` or `unrecorded`.
        reason: Why it cannot be repaired, None unless it is so.
        opened_ns: When it was told.
        closed_ns: When it was repaired or given up.
    """

    market: str
    symbol: str
    kind: str
    epoch: int
    first_id: int
    last_id: int
    first_time_ns: int | None
    last_time_ns: int | None
    cause: str
    connection: int | None
    status: str
    reason: str | None
    opened_ns: int
    closed_ns: int | None


def rows(connection: Connection, status: str | None = None) -> list[GapRow]:
    """The rows of the ledger, of one status or all, in order."""
    return [GapRow(*row) for row in connection.execute(_ALL, (status,))]


def apply_notes(connection: Connection, notes: Iterable[bytes]) -> None:
    """Note what the notes of a segment say, in their order."""
    for text in notes:
        match decode_note(text):
            case GapOpened() as opened:
                open_row(connection, _row_of(opened))
            case GapFilled() as filled:
                _change(connection, filled, REPAIRED if filled.was_announced else None, None)
            case GapGivenUp() as given_up:
                _change(connection, given_up, UNREPAIRABLE, given_up.reason)
            case StreamCounted():
                pass  # It says nothing of the ledger; see `losses`.


def apply_quarantined(connection: Connection, ids: Iterable[QuarantinedId], committed_ns: int) -> list[GapRow]:
    """Note messages whose ids were seen and that could not be recorded; what brings them again repairs them.

    Returns:
        The rows that are new.
    """
    opened = []
    for item in ids:
        if item.kind not in CHAINED_KINDS or (item.kind is Kind.KLINE_1M and not item.last_id):
            continue
        row = GapRow(
            market=item.market.label,
            symbol=item.symbol,
            kind=item.kind.label,
            epoch=item.epoch,
            first_id=item.first_id,
            last_id=item.last_id,
            first_time_ns=None,
            last_time_ns=None,
            cause="quarantined",
            connection=None,
            status=OPEN,
            reason=None,
            opened_ns=committed_ns,
            closed_ns=None,
        )
        opened += open_row(connection, row)
    return opened


def open_row(connection: Connection, row: GapRow) -> list[GapRow]:
    """Insert what of a row no other says is missing already; returns that.

    One hole may be told of twice: by the loop, and by who finds that a segment is lost.
    """
    known: list[tuple[int, int]] = []
    if row.kind in _CHAINED:
        place = (row.market, row.symbol, row.kind, row.epoch, row.last_id, row.first_id)
        known = [(other[5], other[6]) for other in connection.execute(_OVERLAPPING, place)]
    opened = parts_outside(row, known)
    for part in opened:
        _insert(connection, part)
    return opened


def parts_outside(row: GapRow, ranges: Iterable[tuple[int, int]]) -> list[GapRow]:
    """What of a row lies in none of these closed ranges, ascending (pure)."""
    parts, first = [], row.first_id
    for known_first, known_last in [*sorted(ranges), (row.last_id + 1, row.last_id + 1)]:
        if first < known_first:
            parts.append(attrs.evolve(row, first_id=first, last_id=min(known_first - 1, row.last_id)))
        first = max(first, known_last + 1)
        if first > row.last_id:
            break
    return parts


def open_rows_before(connection: Connection, stream: tuple[str, str, str], epoch: int, end_id: int) -> list[GapRow]:
    """The open rows of a stream (market, symbol, kind) and epoch whose ids are below one."""
    place = (*stream, epoch, end_id - 1, 0)
    rows = [GapRow(*values) for _, *values in connection.execute(_OVERLAPPING, place).fetchall()]
    return [row for row in rows if row.status == OPEN and row.last_id < end_id]


def _row_of(note: GapOpened) -> GapRow:
    is_removed = note.cause == REMOVED
    return GapRow(
        market=note.market,
        symbol=note.symbol,
        kind=note.kind,
        epoch=note.epoch,
        first_id=note.first_id,
        last_id=note.last_id,
        first_time_ns=note.first_time_ns,
        last_time_ns=note.last_time_ns,
        cause=note.cause,
        connection=note.connection,
        status=UNRECORDED if is_removed else OPEN,
        reason=REMOVED_REASON if is_removed else None,
        opened_ns=note.opened_ns,
        closed_ns=note.opened_ns if is_removed else None,
    )


def _insert(connection: Connection, row: GapRow) -> None:
    connection.execute(_INSERT, attrs.astuple(row))


def _change(connection: Connection, note: GapFilled | GapGivenUp, status: str | None, reason: str | None) -> None:
    """Give a range another status, None: remove it; a part of a row is cut out of it."""
    place = (note.market, note.symbol, note.kind, note.epoch, note.last_id, note.first_id)
    for gap, *values in connection.execute(_OVERLAPPING, place).fetchall():
        row = GapRow(*values)
        first, last = max(row.first_id, note.first_id), min(row.last_id, note.last_id)
        connection.execute("delete from gaps where gap = ?", (gap,))
        for left_first, left_last in ((row.first_id, first - 1), (last + 1, row.last_id)):
            if left_first <= left_last:
                _insert(connection, attrs.evolve(row, first_id=left_first, last_id=left_last))
        if status is not None:
            _insert(
                connection,
                attrs.evolve(row, first_id=first, last_id=last, status=status, reason=reason, closed_ns=note.closed_ns),
            )
