"""Ids that the loop has seen and the journal has lost: how the catalogue finds them.

Bytes of a segment that changed on the disk, a segment that cannot be sealed or that somebody removed: whichever ids lay
there, nobody misses them, for the loop takes them for recorded. So the catalogue then holds every stream suspect, at
the last id that it has of it. From there on it notes which ids come, and the loop is asked how far each stream has
come. Its answer (`gap.StreamCounted`) goes the way of all messages, so when it is committed, whatever was seen before
it must lie between the two: what does not, and is not in the ledger, is lost.

Nothing of this is done, and no row looked at, while no stream is suspect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.persistence import gap_table
from streamsvc.persistence.gap_table import GapRow
from streamsvc.schema import CHAINED_KINDS, MARKETS_BY_LABEL, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamsvc.gap import StreamCounted
    from streamsvc.persistence.gap_table import Connection
    from streamsvc.persistence.manifest import StreamRange

TABLES = """
create table suspects (
    market text not null, symbol text not null, kind text not null, epoch integer not null,
    after_id integer not null, after_ns integer, cause text not null, primary key (market, symbol, kind)
) strict, without rowid;
create table seen (
    market text not null, symbol text not null, kind text not null, epoch integer not null,
    first_id integer not null, last_id integer not null, first_ns integer, last_ns integer
) strict;
create index seen_of_stream on seen (market, symbol, kind, epoch, first_id)
"""

DAMAGE, RESTART = "damage", "restart"
"""Causes: the journal lost what was seen; nobody knew where an earlier run had left its streams."""

_CHAINED = ", ".join(f"'{kind.label}'" for kind in sorted(CHAINED_KINDS))
_SUSPECT_ALL = f"""
insert or ignore into suspects
select market, symbol, kind, max(epoch), last_id, last_exchange_ns, ? from streams
where kind in ({_CHAINED}) and last_id is not null group by market, symbol, kind
"""  # noqa: S608 - constants of ours; SQLite takes the other columns from the row with the greatest epoch
_SUSPECTS = """
select market, symbol, kind, epoch, max(after_id, coalesce((
    select max(last_id) from gaps where gaps.market = suspects.market and gaps.symbol = suspects.symbol
    and gaps.kind = suspects.kind and gaps.epoch = suspects.epoch
), after_id)), coalesce(after_ns, 0) from suspects
"""
_SUSPECT = "insert or ignore into suspects values (?, ?, ?, ?, ?, ?, ?)"
_OF_STREAM = "market = ? and symbol = ? and kind = ?"


@attrs.frozen
class LastId:
    """How far a stream has come: its key, its greatest id and exchange time in the data set, and its last receipt.

    The id is None for kinds without ids.
    """

    market: Market
    symbol: str
    kind: Kind
    epoch: int
    last_id: int | None
    last_exchange_ns: int
    last_received_ns: int = 0


@attrs.frozen
class SeenRange:
    """Ids of one stream that lie in a segment without a hole, and the event times of the first and the last."""

    market: Market
    symbol: str
    kind: Kind
    epoch: int
    first_id: int
    last_id: int
    first_ns: int | None
    last_ns: int | None


@attrs.frozen
class Losses:
    """What the loop is to be told after a transaction.

    Attributes:
        gaps: Ids that it takes for recorded, and that are missing.
        suspects: Streams that it is to count, and how far the catalogue has them.
    """

    gaps: Sequence[GapRow] = ()
    suspects: Sequence[LastId] = ()

    def __bool__(self) -> bool:
        return bool(self.gaps or self.suspects)


def suspect_all(connection: Connection, cause: str) -> None:
    """Hold every stream suspect that is not yet, from the last id on that is in the data set now."""
    connection.execute(_SUSPECT_ALL, (cause,))


def suspect_unknown(connection: Connection, seen: Iterable[SeenRange], cause: str) -> None:
    """Hold streams suspect that a damaged segment is the first to have."""
    for one in sorted(seen, key=lambda one: (one.epoch, one.first_id)):
        key = one.market.label, one.symbol, one.kind.label
        if not connection.execute(f"select 1 from streams where {_OF_STREAM}", key).fetchone():  # noqa: S608 - ours
            connection.execute(_SUSPECT, (*key, one.epoch, one.first_id - 1, None, cause))


def suspects(connection: Connection) -> list[LastId]:
    """The streams that are suspect, and how far the catalogue knows of their ids: in files, or as missing."""
    rows = connection.execute(_SUSPECTS)
    return [
        LastId(MARKETS_BY_LABEL[market], symbol, Kind.from_label(kind), *numbers)
        for market, symbol, kind, *numbers in rows
    ]


def has_suspect(connection: Connection, streams: Iterable[StreamRange]) -> bool:
    """Whether any of these streams is suspect."""
    found = set(connection.execute("select market, symbol, kind from suspects").fetchall())
    return any((one.market.label, one.symbol, one.kind.label) in found for one in streams) if found else False


def note_seen(connection: Connection, seen: Iterable[SeenRange]) -> None:
    """Note what a segment holds of the streams that are suspect."""
    found = set(connection.execute("select market, symbol, kind from suspects").fetchall())
    for one in seen:
        key = one.market.label, one.symbol, one.kind.label
        if key in found:
            place = (*key, one.epoch, one.first_id, one.last_id, one.first_ns, one.last_ns)
            connection.execute("insert into seen values (?, ?, ?, ?, ?, ?, ?, ?)", place)


def judge(connection: Connection, counted: StreamCounted, committed_ns: int) -> tuple[list[GapRow], list[GapRow]]:
    """The loop says how far a stream has come: what it takes for recorded must be there; the stream is cleared.

    Returns:
        The rows that the ledger did not have, and what the loop is to be told: these, and what is still open though
        the loop has put it down as come. What it knows to be missing is left to it.
    """
    key = counted.market, counted.symbol, counted.kind
    suspect = connection.execute(f"select epoch, after_id, after_ns, cause from suspects where {_OF_STREAM}", key)  # noqa: S608 - ours
    row = suspect.fetchone()
    if row is None:
        return [], []
    epoch, after_id, after_ns, cause = row
    query = f"select first_id, last_id, first_ns, last_ns from seen where {_OF_STREAM} and epoch = ? order by first_id"  # noqa: S608 - ours
    seen = connection.execute(query, (*key, counted.epoch)).fetchall()
    if epoch != counted.epoch:
        # The ids have started over since: what is known of the new ones begins with those that came.
        after_id, after_ns = (seen[0][0] - 1, None) if seen else (counted.next_id - 1, None)
    opened = []
    for hole in _holes(after_id, after_ns, seen, counted):
        first_id, last_id, first_ns, last_ns = hole
        missing = GapRow(
            *key, counted.epoch, first_id, last_id, first_ns, last_ns, cause, None,
            gap_table.OPEN, None, committed_ns, None,
        )  # fmt: skip
        opened += gap_table.open_row(connection, missing)
    still_open = gap_table.open_rows_before(connection, key, counted.epoch, counted.next_id)
    told = [part for each in still_open for part in gap_table.parts_outside(each, counted.missing)]
    connection.execute(f"delete from suspects where {_OF_STREAM}", key)  # noqa: S608 - ours
    connection.execute(f"delete from seen where {_OF_STREAM}", key)  # noqa: S608 - ours
    return opened, told


def _holes(
    after_id: int,
    after_ns: int | None,
    seen: Sequence[tuple[int, int, int | None, int | None]],
    counted: StreamCounted,
) -> list[tuple[int, int, int | None, int | None]]:
    """What was not seen behind an id and before the next one: ids, and the times around them (pure)."""
    holes, expected, before_ns = [], after_id + 1, after_ns
    for first, last, first_ns, last_ns in [*seen, (counted.next_id, counted.next_id, counted.event_ns, None)]:
        end = min(first, counted.next_id)
        if expected < end:
            holes.append((expected, end - 1, before_ns, first_ns))
        if last >= expected:
            expected, before_ns = last + 1, last_ns
    return holes
