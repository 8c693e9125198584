"""What compaction and retention ask of the catalogue and note there.

A day's folder and its entries cannot change in one step, so the change is noted before (`intend`) and made true after
the folders were exchanged (`replace`) or found not to be (`forget`). The notes have a table of their own, which is made
when it is first needed.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import attrs

from streamsvc.persistence.catalogue import Catalogue, SealedFile
from streamsvc.persistence.compaction_day import Day

_TABLE = (
    "create table if not exists compactions (kind text not null, market text not null, date text not null, "
    "merged text not null, made text not null, primary key (kind, market, date)) strict, without rowid"
)
_COLUMNS = "path, kind, market, date, rows, size_bytes, sha256, first_exchange_ns, last_exchange_ns"
_OF_DAY = "kind = ? and market = ? and date = ?"
_FORGET = f"delete from compactions where {_OF_DAY}"  # noqa: S608 - constants of ours


@attrs.frozen
class Intent:
    """A day whose folder is about to be exchanged, or was.

    Attributes:
        day: Which one.
        merged: The paths of files that are in the old folder only.
        made: The files that are in the new one only.
    """

    day: Day
    merged: tuple[str, ...]
    made: tuple[SealedFile, ...]


class CompactionCatalogue(Catalogue):
    """The catalogue as compaction and retention use it. Every method blocks and raises what `Catalogue` says."""

    def days_with_rotations(self, before: str) -> list[Day]:
        """The days before a date, oldest first, that have files which were not compacted."""
        query = (
            # The name of a segment has no dot, that of a compacted file has one.
            "select distinct kind, market, date from files where date < ? and instr(segment, '.') = 0 "
            "order by date, kind, market"
        )
        with self._connection() as connection:
            return [Day(*row) for row in connection.execute(query, (before,))]

    def days_before(self, date: str) -> list[Day]:
        """The days before a date, oldest first."""
        query = "select distinct kind, market, date from files where date < ? order by date, kind, market"
        with self._connection() as connection:
            return [Day(*row) for row in connection.execute(query, (date,))]

    def newest_exchange_ns(self) -> int | None:
        """The newest time that an exchange itself has stamped on what was recorded; None where nothing bears one."""
        query = (
            "select max(last_exchange_ns) from streams "
            "where kind in ('trade', 'aggTrade', 'depth', 'kline_1m', 'markPrice')"
        )
        with self._connection() as connection:
            (newest_ns,) = connection.execute(query).fetchone()
        return None if newest_ns is None else int(newest_ns)

    def files_of(self, day: Day) -> list[SealedFile]:
        """The files of a day, by path."""
        query = f"select {_COLUMNS} from files where {_OF_DAY} order by path"  # noqa: S608 - constants of ours
        with self._connection() as connection:
            return [SealedFile(*row) for row in connection.execute(query, attrs.astuple(day))]

    def intend(self, intent: Intent) -> None:
        """Note that a day's folder is about to be exchanged."""
        made = json.dumps([attrs.astuple(file) for file in intent.made])
        with self._transaction() as connection:
            connection.execute(_TABLE)
            connection.execute(
                "insert into compactions values (?, ?, ?, ?, ?)",
                (*attrs.astuple(intent.day), json.dumps(intent.merged), made),
            )

    def intents(self) -> list[Intent]:
        """The days that were about to be exchanged when the process ended."""
        with self._connection() as connection:
            if not connection.execute("select 1 from sqlite_master where name = 'compactions'").fetchone():
                return []
            rows = connection.execute("select kind, market, date, merged, made from compactions").fetchall()
        return [
            Intent(
                Day(kind, market, date),
                tuple(json.loads(merged)),
                tuple(SealedFile(*file) for file in json.loads(made)),
            )
            for kind, market, date, merged, made in rows
        ]

    def replace(self, intent: Intent) -> None:
        """The folders were exchanged: the catalogue lists what is there now. All or nothing."""
        with self._transaction() as connection:
            connection.executemany("delete from files where path = ?", [(path,) for path in intent.merged])
            connection.executemany(
                f"insert into files ({_COLUMNS}, segment) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - ours
                [(*attrs.astuple(file), PurePosixPath(file.path).stem) for file in intent.made],
            )
            connection.execute(_FORGET, attrs.astuple(intent.day))

    def forget(self, intent: Intent) -> None:
        """The folders were not exchanged."""
        with self._transaction() as connection:
            connection.execute(_FORGET, attrs.astuple(intent.day))

    def remove_files(self, day: Day) -> None:
        """A day is no longer part of the data set."""
        with self._transaction() as connection:
            connection.execute(f"delete from files where {_OF_DAY}", attrs.astuple(day))  # noqa: S608 - ours
