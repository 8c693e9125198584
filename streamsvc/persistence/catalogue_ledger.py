"""The catalogue as the publisher and the start use it where the gap ledger must stay complete, whatever is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.persistence import gap_table, losses
from streamsvc.persistence.catalogue import ADOPT, AUDIT, RESTORE, Catalogue, is_pending
from streamsvc.persistence.ledger_file import Change
from streamsvc.persistence.losses import Losses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamsvc.persistence.catalogue import Keep
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.losses import LastId
    from streamsvc.persistence.manifest import Manifest

_DAMAGED_KEPT_MAX = 3


class LedgerCatalogue(Catalogue):
    """The catalogue of a folder whose lock we hold. Every method blocks and raises what `Catalogue` says."""

    def set_aside(self, replace: Callable[[Path, Path], None]) -> Path:
        """Move a damaged catalogue away; returns where to. The first ones are kept, and the latest.

        Args:
            replace: Renames a file over another.
        """
        name = self._path.name
        paths = [self._path.with_name(f"{name}.damaged-{number}") for number in range(1, _DAMAGED_KEPT_MAX + 1)]
        target = next((path for path in paths if not path.exists()), paths[-1])
        for suffix in ("", "-wal", "-shm"):
            source = self._path.with_name(name + suffix)
            if source.exists():
                replace(source, target.with_name(target.name + suffix))
        self._damage_mark.unlink(missing_ok=True)
        return target

    def wants_ids(self, manifest: Manifest) -> bool:
        """Whether the ids of a segment are needed for its commit: something is damaged, or was not long ago."""
        with self._connection() as connection:
            return bool(manifest.damage) or losses.has_suspect(connection, manifest.streams)

    def lose_segment(self) -> Losses:
        """A segment will never be committed; returns what the loop is to be told."""
        with self._transaction() as connection:
            # While files are still taken in, nobody knows how far streams had come: it will be looked for afterwards.
            if is_pending(connection, ADOPT):
                return Losses()
            losses.suspect_all(connection, losses.DAMAGE)
            return Losses((), losses.suspects(connection))

    def suspects(self) -> list[LastId]:
        """The streams of which something may be lost, so that the loop is to count them."""
        with self._connection() as connection:
            return losses.suspects(connection)

    def restore(self, changes: Iterable[Change]) -> None:
        """Take in what the ledger's file says, where `RESTORE` is pending."""
        with self._transaction() as connection:
            for change in changes:
                gap_table.apply_notes(connection, change.notes)
                for row in change.opened:
                    gap_table.open_row(connection, row)
            connection.execute("delete from pending where task = ?", (RESTORE,))

    def adopted(self, *, is_new: bool) -> Losses:
        """All files of a lost catalogue were taken in; returns what the loop is to be told: where its streams were.

        Args:
            is_new: The folder has no file of an earlier run: nothing can lack, and nobody needs to look for it.
        """
        with self._transaction() as connection:
            connection.execute("delete from pending where task = ?", (ADOPT,))
            if is_new:
                return Losses()
            connection.execute("insert or ignore into pending values (?)", (AUDIT,))
            losses.suspect_all(connection, losses.RESTART)
            return Losses((), losses.suspects(connection))

    def audited(self, name: str, missing: Iterable[GapRow], keep: Keep) -> Losses:
        """What the files lack was looked for; returns what the loop is to be told.

        Args:
            name: Of this change of the ledger, given once.
            missing: What was found that the ledger does not know.
            keep: See `commit`.
        """
        with self._transaction() as connection:
            opened = [part for row in missing for part in gap_table.open_row(connection, row)]
            if opened:
                keep(Change(name, (), opened))
            connection.execute("delete from pending where task = ?", (AUDIT,))
            return Losses(opened)

    def gap_count(self) -> int:
        """How many rows the gap ledger has."""
        with self._connection() as connection:
            return int(connection.execute("select count(*) from gaps").fetchone()[0])
