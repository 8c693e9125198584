"""The catalogue: one SQLite file that says which files make up the data set and how far every stream has come.

The process that holds the folder's lock writes it: the start, the adoption, and the publisher with one transaction a
segment. `verify` reads. A connection lives for one call and in the
thread of that call.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from streamsvc.errors import DamagedError, DiskFullError, NewerVersionError, UsageError
from streamsvc.gap import StreamCounted, decode_note
from streamsvc.persistence import gap_table, losses
from streamsvc.persistence.catalogue_schema import SCHEMA_VERSION, statements_since
from streamsvc.persistence.ledger_file import Change
from streamsvc.persistence.losses import LastId as LastId  # noqa: PLC0414 - readers take it from here
from streamsvc.persistence.losses import Losses
from streamsvc.persistence.manifest import SealedFile as SealedFile  # noqa: PLC0414 - readers take it from here
from streamsvc.schema import MARKETS_BY_LABEL, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.losses import SeenRange
    from streamsvc.persistence.manifest import Manifest

    Keep = Callable[[Change], None]
    """Has a change of the ledger on the disk, before its transaction makes it true."""

_BUSY_SEC = 30.0

RESTORE, ADOPT, AUDIT = "restore", "adopt", "audit"
"""The tasks of a new catalogue: to take in what the ledger's file says, and the files of a catalogue that was lost; and
then to look for what these lack and nobody knows of."""


class Catalogue:
    """The catalogue of a data folder. Every method blocks.

    Args:
        path: The SQLite file.
        is_read_only: Whether it is only read: it is then not made where there is none.

    Every method raises:
        DiskFullError: there is no room, or no descriptor to open it with; nothing was changed.
        DamagedError: the file is no catalogue, or a damaged one.
    """

    def __init__(self, path: Path, *, is_read_only: bool = False) -> None:
        self._path = path
        self._mode = "ro" if is_read_only else "rwc"

    def prepare(self) -> None:
        """Make the catalogue, or see that it is whole and that this version can use it.

        Raises:
            UsageError: it cannot be opened or written.
            NewerVersionError: a newer version wrote it.
        """
        if self._damage_mark.exists():
            raise self._damaged("found while it was used")
        with self._transaction(is_first=True) as connection:
            version = self._version(connection)
            if version:
                (found,) = connection.execute("pragma quick_check(1)").fetchone()
                if found != "ok":
                    raise self._damaged(found)
            if version < SCHEMA_VERSION:
                for statement in statements_since(version):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
            if not version:
                connection.executemany("insert into pending values (?)", [(RESTORE,), (ADOPT,)])

    @classmethod
    @contextmanager
    def open_to_read(cls, path: Path) -> Iterator[Self]:
        """The catalogue of a folder that others may be writing.

        Raises:
            UsageError: it cannot be opened.
            NewerVersionError: a newer version wrote it.
        """
        catalogue = cls(path, is_read_only=True)
        with catalogue._connection(is_first=True) as connection:
            catalogue._version(connection)
            yield catalogue

    def begin_run(self, at_least: int, token: int, started_ns: int) -> int:
        """Note a new run; returns its number, greater than all before and not below `at_least`."""
        with self._transaction() as connection:
            (last,) = connection.execute("select coalesce(max(run), 0) from runs").fetchone()
            run = max(int(last) + 1, at_least)
            connection.execute("insert into runs values (?, ?, ?)", (run, token, started_ns))
        return run

    def commit(
        self, manifest: Manifest, committed_ns: int, keep: Keep = lambda _: None, seen: Sequence[SeenRange] = ()
    ) -> Losses:
        """Note everything that a segment became, all or nothing. The segment was not committed before.

        Args:
            manifest: What it became.
            committed_ns: The wall clock.
            keep: Where changes of the ledger go, before this makes them true.
            seen: The ids in the segment, where `wants_ids` says that they are needed.

        Returns:
            What the loop is to be told.
        """
        segment = manifest.segment
        with self._transaction() as connection:
            is_damaged = bool(manifest.damage) and not is_pending(connection, ADOPT)
            if is_damaged:
                losses.suspect_all(connection, losses.DAMAGE)
                losses.suspect_unknown(connection, seen, losses.DAMAGE)
            connection.execute(
                "insert into segments values (?, ?, ?, ?, ?, ?)",
                (
                    segment,
                    committed_ns,
                    manifest.messages,
                    manifest.inexact_decimals,
                    manifest.first_received_ns,
                    manifest.last_received_ns,
                ),
            )
            _insert_files(connection, manifest)
            connection.executemany(
                "insert into quarantined values (?, ?, ?)",
                [(segment, reason, count) for reason, count in manifest.quarantined.items()],
            )
            connection.executemany(
                "insert into quarantined_ids values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        segment,
                        item.market.label,
                        item.symbol,
                        item.kind.label,
                        item.epoch,
                        item.first_id,
                        item.last_id,
                        item.reason,
                    )
                    for item in manifest.quarantined_ids
                ],
            )
            connection.executemany(
                "insert into damage values (?, ?, ?)",
                [(segment, reason, size) for reason, size in manifest.damage.items()],
            )
            losses.note_seen(connection, seen)
            gap_table.apply_notes(connection, manifest.notes)
            opened = gap_table.apply_quarantined(connection, manifest.quarantined_ids, committed_ns)
            told, counted = list(opened), _counted(manifest.notes)
            # Of a damaged segment no count holds: what came behind it may be what is lost.
            for note in counted if not is_damaged else ():
                more_opened, more_told = losses.judge(connection, note, committed_ns)
                opened += more_opened
                told += more_told
            if opened or len(counted) < len(manifest.notes):
                keep(Change(segment, manifest.notes, opened))
            return Losses(told, losses.suspects(connection) if is_damaged else ())

    def adopt(self, manifest: Manifest) -> None:
        """Note files that lie in the data set though no catalogue says so. Their segment is not thereby committed."""
        with self._transaction() as connection:
            _insert_files(connection, manifest)

    def is_pending(self, task: str) -> bool:
        """Whether a task is still to be done."""
        with self._connection() as connection:
            return is_pending(connection, task)

    def is_committed(self, segment: str) -> bool:
        """Whether everything of a segment is in the data set."""
        with self._connection() as connection:
            return connection.execute("select 1 from segments where segment = ?", (segment,)).fetchone() is not None

    def has_file(self, path: str) -> bool:
        """Whether a file, named below `DATA_DIR`, belongs to the data set."""
        with self._connection() as connection:
            return connection.execute("select 1 from files where path = ?", (path,)).fetchone() is not None

    def sealed_files(self) -> list[SealedFile]:
        """All files of the data set, by path."""
        with self._connection() as connection:
            return [SealedFile(*row) for row in connection.execute(ALL_FILES)]

    def files_and_gaps(self) -> tuple[list[SealedFile], list[GapRow]]:
        """All files of the data set, by path, and the gap ledger, at one moment."""
        with self._connection() as connection:
            connection.execute("begin")
            files = [SealedFile(*row) for row in connection.execute(ALL_FILES)]
            return files, gap_table.rows(connection)

    def last_ids(self) -> list[LastId]:
        """How far every stream has come."""
        with self._connection() as connection:
            query = "select market, symbol, kind, epoch, last_id, last_exchange_ns, last_received_ns from streams "
            return [
                LastId(MARKETS_BY_LABEL[market], symbol, Kind.from_label(kind), *numbers)
                for market, symbol, kind, *numbers in connection.execute(query + "order by epoch")
            ]

    def gaps(self, status: str | None = None) -> list[GapRow]:
        """The gap ledger, of one status or all."""
        with self._connection() as connection:
            return gap_table.rows(connection, status)

    def bans(self, now_ns: int) -> dict[str, int]:
        """Until when REST hosts have banned us, ns since 1970; no longer than they said, if the clock was set back."""
        with self._connection() as connection:
            rows = connection.execute("select host, until_ns, until_ns - opened_ns from bans")
            return {host: min(until_ns, now_ns + length_ns) for host, until_ns, length_ns in rows}

    def note_ban(self, host: str, until_ns: int, status: int, reason: str, opened_ns: int) -> None:
        """A REST host has banned us."""
        with self._transaction() as connection:
            connection.execute(
                "insert or replace into bans values (?, ?, ?, ?, ?)", (host, until_ns, status, reason, opened_ns)
            )

    def quarantined_messages(self) -> int:
        """Messages that sealers could not record."""
        with self._connection() as connection:
            return int(connection.execute("select coalesce(sum(messages), 0) from quarantined").fetchone()[0])

    def damage(self) -> dict[str, int]:
        """Bytes of journal that held no whole frame, by reason."""
        with self._connection() as connection:
            return dict(connection.execute("select reason, sum(size_bytes) from damage group by reason"))

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("pragma user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise NewerVersionError(
                f"{self._path} was written by a newer version of streamsvc (schema {version}, this one knows "
                f"{SCHEMA_VERSION}). Run the newer version on this folder."
            )
        return version

    @contextmanager
    def _transaction(self, *, is_first: bool = False) -> Iterator[sqlite3.Connection]:
        with self._connection(is_first=is_first) as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise

    @contextmanager
    def _connection(self, *, is_first: bool = False) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(str(self._path))}?mode={self._mode}"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SEC, isolation_level=None)) as connection:
                if self._mode == "rwc":
                    connection.execute("pragma journal_mode = wal")
                    connection.execute("pragma synchronous = full")
                yield connection
        except sqlite3.DatabaseError as fault:
            mapped = self._mapped(fault, is_first=is_first)
            if mapped is None:
                raise
            if isinstance(mapped, DamagedError) and self._mode == "rwc" and not is_first:
                # A start that sees no damage must not end at the same place again.
                self._damage_mark.touch()
            raise mapped from fault

    def _mapped(
        self, fault: sqlite3.DatabaseError, *, is_first: bool
    ) -> DiskFullError | DamagedError | UsageError | None:
        code = getattr(fault, "sqlite_errorcode", None)
        if code in _NO_ROOM:
            return DiskFullError(f"{self._path}: {fault}")
        if is_first and code is not None and code & 0xFF in _NOT_ALLOWED:
            return UsageError(f"{self._path} cannot be used: {fault}")
        # What could be opened at the start and now cannot lacks a descriptor: no setting of the user's mends that.
        if code is not None and code & 0xFF == sqlite3.SQLITE_CANTOPEN:
            return DiskFullError(f"{self._path}: {fault}")
        if code is not None and code & 0xFF in _DAMAGED:
            return self._damaged(str(fault))
        return None

    @property
    def _damage_mark(self) -> Path:
        return self._path.with_name(f"{self._path.name}.is-damaged")

    def _damaged(self, detail: str) -> DamagedError:
        return DamagedError(
            f"{self._path} is damaged ({detail}). The next start of `streamsvc run` moves it aside, and takes the "
            "files of the data set and the gap ledger into a new catalogue."
        )


ALL_FILES = (
    "select path, kind, market, date, rows, size_bytes, sha256, first_exchange_ns, last_exchange_ns "
    "from files order by path"
)


_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_NOT_ALLOWED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
# A statement that SQLite cannot make sense of means other tables than ours.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


def is_pending(connection: sqlite3.Connection, task: str) -> bool:
    """Whether a task is still to be done."""
    return connection.execute("select 1 from pending where task = ?", (task,)).fetchone() is not None


def _counted(notes: Iterable[bytes]) -> list[StreamCounted]:
    return [note for note in map(decode_note, notes) if isinstance(note, StreamCounted)]


def _insert_files(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """The files of a manifest, and how far they bring the streams."""
    connection.executemany(
        "insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_file_row(manifest.segment, file) for file in manifest.files],
    )
    connection.executemany(
        "insert into streams values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set "
        "last_id = max(coalesce(last_id, excluded.last_id), coalesce(excluded.last_id, last_id)), "
        "last_exchange_ns = max(last_exchange_ns, excluded.last_exchange_ns), "
        "last_received_ns = max(last_received_ns, excluded.last_received_ns), "
        "messages = messages + excluded.messages",
        [
            (
                stream.market.label,
                stream.symbol,
                stream.kind.label,
                stream.epoch,
                stream.last_id,
                stream.last_exchange_ns,
                stream.last_received_ns,
                stream.messages,
            )
            for stream in manifest.streams
        ],
    )


def _file_row(segment: str, file: SealedFile) -> tuple[Any, ...]:
    return (
        file.path,
        segment,
        file.kind,
        file.market,
        file.date,
        file.rows,
        file.size_bytes,
        file.sha256,
        file.first_exchange_ns,
        file.last_exchange_ns,
    )
