"""Finished days are compacted: all files of a day become one a symbol, and a reader never sees it happen half.

A builder prepares the day's new folder under `tmp/` (see `compaction_build`). Then, while nobody publishes:
1. the catalogue notes what is about to happen;
2. the two folders change places in one step, and their parents are synced;
3. one transaction has the catalogue list what is there now, and removes the note.
The old folder, which then lies under `tmp/`, is removed a little later (`discard`): a reader that had opened it before
the exchange and lists it after must find the old names, and no folder that is being emptied. A crash before 2 leaves
the old folder and its entries, one after 3 the new ones; between them the note tells the next start what to look for:
`settle` looks which folder is there, and ends the work or forgets it. A reader that still has an old listing finds
names that are gone, and begins again: whatever is in the new folder under an old name is the very same file.

Rows that come later for such a day (a backfill) lie beside the compacted files, and the next compaction merges them.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DamagedError, DiskFullError
from streamsvc.persistence.compaction_catalogue import CompactionCatalogue, Intent
from streamsvc.persistence.compaction_day import BUILD_PREFIX, DayWork
from streamsvc.persistence.compaction_exchange import exchange

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from streamsvc.persistence.compaction_day import BuiltDay, Day
    from streamsvc.persistence.files import Files
    from streamsvc.persistence.layout import DataFolder
    from streamsvc.persistence.publish import Publisher

_ROOM_FACTOR = 4
"""Free space that is asked for, in sizes of the day: its new files, and what sorting spills."""


@attrs.frozen(kw_only=True)
class Compactor:
    """Compacts the days of one data folder, whose lock we hold. Every method blocks.

    Attributes:
        folder: The data folder.
        files: The disk.
        catalogue: Its catalogue.
        changing: Held while names of the data set and their entries change together; the publisher's is the same.
        reserve_bytes: Space on the disk that is not ours to fill.
        exchange: Has two folders change places; see `compaction_exchange`.
    """

    folder: DataFolder
    files: Files
    catalogue: CompactionCatalogue
    changing: threading.Lock
    reserve_bytes: int
    exchange: Callable[[Path, Path], None] = exchange

    def recover(self) -> None:
        """Bring catalogue and folders together where a process ended, or room did, between them. Twice is fine.

        To be called at the start before `tmp/` is emptied, and after any fault of a method here or of a builder: what
        builders left is removed, so none may be at work.

        Raises:
            DiskFullError: there is no room. Call it again later, and nothing else before.
            OSError: the disk failed.
        """
        with self.changing:
            for intent in self.catalogue.intents():
                self.settle(intent)
        for path in self.folder.tmp.glob(f"{BUILD_PREFIX}*"):
            if not path.is_symlink():
                self.files.remove_tree(path)

    def plan(self, day: Day) -> DayWork | None:
        """What is to be merged of a day; None while its folder holds what the catalogue does not know.

        That is a file which is about to be committed, or a foreign one: neither may be lost by an exchange.

        Raises:
            DiskFullError: there may be no room to build it.
        """
        with self.changing:
            work = DayWork(day, tuple(self.catalogue.files_of(day)))
            if not self._is_unchanged(work):
                return None
        needed, free = _ROOM_FACTOR * work.size_bytes + self.reserve_bytes, self.files.free_bytes(self.folder.root)
        if free < needed:
            raise DiskFullError(f"{day.path}: compaction asks for {needed:,} bytes of room, there are {free:,}")
        return work

    def replace(self, built: BuiltDay) -> bool:
        """Make a built folder the day's folder; whatever comes of it, `discard` is to be called afterwards.

        Returns:
            Whether it was done. It is not where the day has changed since `plan`: it is to be planned again.

        Raises:
            UsageError: the file system cannot exchange folders.
            DamagedError: the rows that were made are not as many as those that were merged.
            DiskFullError: there was no room.
            OSError: the disk failed.
        """
        work, merged = built.work, frozenset(built.merged)
        if not built.made or built.rows != sum(file.rows for file in work.files if file.path in merged):
            raise DamagedError(f"{work.day.path}: compaction made {built.rows:,} rows, which is not what it read")
        folder, path = Path(built.folder), self.folder.root / work.day.path
        with self.changing:
            is_unchanged = self._is_unchanged(work)
            if is_unchanged:
                intent = Intent(work.day, built.merged, built.made)
                self.catalogue.intend(intent)
                self.exchange(folder / path.name, path)
                self.files.sync_folder(folder)
                self.settle(intent)
        return is_unchanged

    def discard(self, built: BuiltDay) -> None:
        """Remove a builder's folder: what was not wanted, or what the day's folder was before."""
        self.files.remove_tree(Path(built.folder))

    def settle(self, intent: Intent) -> None:
        """Look which of two states a day's folder is in, and have the catalogue agree. `changing` is held.

        Raises:
            DiskFullError: there was no room.
            OSError: the disk failed.
        """
        # The files that were merged are in the old folder only, and came and went with it.
        if not any((self.folder.root / path).exists() for path in intent.merged):
            parent = (self.folder.root / intent.day.path).parent
            if parent.is_dir():
                self.files.sync_folder(parent)
            self.catalogue.replace(intent)
        else:
            self.catalogue.forget(intent)

    def _is_unchanged(self, work: DayWork) -> bool:
        """Whether the day's folder has these files and nothing else."""
        names = {PurePosixPath(file.path).name for file in work.files}
        return bool(names) and names == names_in(self.folder.root / work.day.path)


def make_compactor(publisher: Publisher, reserve_bytes: int = 0) -> Compactor:
    """The compactor beside a publisher: of the same folder, and never changing it at the same time."""
    return Compactor(
        folder=publisher.folder,
        files=publisher.files,
        catalogue=CompactionCatalogue(publisher.folder.catalogue),
        changing=publisher.changing,
        reserve_bytes=reserve_bytes,
    )


def names_in(folder: Path) -> set[str]:
    """Everything that lies in a folder; nothing where it is none, or a link."""
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() and not folder.is_symlink() else set()
