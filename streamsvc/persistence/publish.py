"""The publisher: the only one who changes the data set and its catalogue. Runs in the main process, in threads.

What a sealer prepared becomes part of the data set in this order, and any step may be the last one before a crash:
1. every file, the compressed segment among them where `RAW_ARCHIVE` keeps it, is renamed to its final name, which is
   made from the segment's, over whatever has that name;
2. the folders are synced;
3. one transaction notes all of them and that the segment is done; what it changes in the gap ledger is appended to the
   ledger's file and synced before it ends;
4. the segment is removed.
Before 3 the segment is still there and is sealed again to the same names. After 3 the segment is known to be done, so
it is only removed. Two sealings of one segment therefore never make a row twice.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DiskFullError, SegmentGoneError
from streamsvc.persistence.ledger_file import LedgerFile
from streamsvc.persistence.losses import Losses, SeenRange
from streamsvc.persistence.manifest import INEXACT_FILE, QUARANTINE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamsvc.persistence.catalogue_ledger import LedgerCatalogue
    from streamsvc.persistence.files import Files
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.layout import DataFolder, SegmentName
    from streamsvc.persistence.manifest import Manifest
    from streamsvc.persistence.quarantine import QuarantineFolder

INEXACT_SHARE = 0.5


@attrs.frozen
class Published:
    """What came of a publication.

    Attributes:
        cut_lines: Quarantined texts for which there was no room.
        losses: What the loop is to be told.
    """

    cut_lines: int = 0
    losses: Losses = Losses()


def _read_nothing(_segment: Path) -> Sequence[SeenRange]:
    return ()


@attrs.frozen
class Publisher:
    """Publishes segments of one data folder. Every method blocks.

    Attributes:
        folder: The data folder.
        files: The disk.
        catalogue: Its catalogue.
        quarantine: Where sealers' texts go.
        wall_ns: The wall clock.
        changing: Held while names of the data set and their entries change together; the compactor's is the same.
        read_ids: Reads the ids in a segment; asked where something was lost.
        ledger: The gap ledger's file.
    """

    folder: DataFolder
    files: Files
    catalogue: LedgerCatalogue
    quarantine: QuarantineFolder
    wall_ns: Callable[[], int]
    changing: threading.Lock = attrs.field(factory=threading.Lock)
    read_ids: Callable[[Path], Sequence[SeenRange]] = _read_nothing
    ledger: LedgerFile = attrs.Factory(lambda self: LedgerFile(self.folder.ledger, self.files), takes_self=True)

    def publish(self, name: SegmentName, manifest: Manifest) -> Published:
        """Make what a sealer prepared of a segment part of the data set, and remove the segment.

        Raises:
            SegmentGoneError: the segment is gone, and its ids would be needed: set it aside. Nothing was changed.
            DiskFullError: there is no room. Call it again later.
            OSError, sqlite3.Error: the disk failed.
        """
        published = Published()
        with self.changing:
            if not self.catalogue.is_committed(str(name)):
                seen: Sequence[SeenRange] = ()
                if self.catalogue.wants_ids(manifest):
                    seen = self._read_ids(name)
                self._place_files(manifest)
                self._place_archived(manifest)
                cut_lines = self._place_quarantine(manifest)
                losses = self.catalogue.commit(manifest, self.wall_ns(), self.ledger.append, seen)
                self._bound_ledger()
                published = Published(cut_lines, losses)
        self.discard(name)
        return published

    def note_missing(self, name: str, missing: Iterable[GapRow]) -> Losses:
        """Have the ledger know what the files lack, as an audit has found; returns what the loop is to be told.

        Args:
            name: Of this change, given once.
            missing: What is missing, whether the ledger knows it by now or not; it counts as opened now.

        Raises:
            DiskFullError: there is no room. Call it again later.
            OSError, sqlite3.Error: the disk failed.
        """
        rows = [attrs.evolve(row, opened_ns=self.wall_ns()) for row in missing]
        with self.changing:
            return self.catalogue.audited(name, rows, self.ledger.append)

    def _read_ids(self, name: SegmentName) -> Sequence[SeenRange]:
        try:
            return self.read_ids(self.folder.segment(name))
        except FileNotFoundError as fault:
            raise SegmentGoneError(f"{fault.filename} is gone, and its ids are needed") from fault

    def _bound_ledger(self) -> None:
        # While there is no room for it, the file may be longer than it should.
        with suppress(DiskFullError):
            if self.ledger.is_grown(self.catalogue.gap_count()):
                self.ledger.rewrite(self.catalogue.gaps())

    def discard(self, name: SegmentName) -> None:
        """Remove a segment that is committed, and what its sealers left."""
        self.files.unlink(self.folder.segment(name))
        self.clear_tmp(name)

    def set_aside(self, name: SegmentName) -> Losses:
        """Move a segment that cannot be sealed to `journal/failed/`; one that is gone has nothing to be moved.

        Where the process ends right after, the next start misses its ids between those of its neighbours.

        Returns:
            What the loop is to be told.

        Raises:
            DiskFullError: there is no room. Call it again later.
            OSError: the disk failed.
        """
        path = self.folder.segment(name)
        try:
            self.files.replace(path, self.folder.failed / path.name)
        except FileNotFoundError:
            if path.exists():
                raise
        self.files.sync_folder(self.folder.failed)
        self.files.sync_folder(self.folder.journal)
        self.clear_tmp(name)
        with self.changing:
            return self.catalogue.lose_segment()

    def clear_tmp(self, name: SegmentName) -> None:
        """Remove what sealers of a segment left; one that still works there fails, which harms nobody."""
        for path in self.folder.tmp.glob(f"{name}-*"):
            if not path.is_symlink():
                self.files.remove_tree(path)

    def _place_files(self, manifest: Manifest) -> None:
        changed: dict[Path, None] = {}
        for file in manifest.files:
            source, target = Path(manifest.folder) / file.path, self.folder.root / file.path
            # After a publication that was cut here, the file already lies under its name.
            if not source.exists() and target.exists():
                changed[target.parent] = None
                continue
            for parent in reversed(list(target.relative_to(self.folder.parquet).parents)[:-1]):
                folder = self.folder.parquet / parent
                if not folder.is_dir():
                    self.files.make_folder(folder)
                    changed[folder.parent] = None
            self.files.replace(source, target)
            changed[target.parent] = None
        for folder in changed:
            self.files.sync_folder(folder)

    def _place_archived(self, manifest: Manifest) -> None:
        if manifest.archived is None:
            return
        source, target = Path(manifest.folder) / manifest.archived, self.folder.root / manifest.archived
        # As above: it may already lie there.
        if source.exists() or not target.exists():
            for folder in (self.folder.archive, target.parent):
                if not folder.is_dir():
                    self.files.make_folder(folder)
                    self.files.sync_folder(folder.parent)
            self.files.replace(source, target)
        self.files.sync_folder(target.parent)

    def _place_quarantine(self, manifest: Manifest) -> int:
        cut_lines = 0
        places = (
            (QUARANTINE_FILE, manifest.quarantine_bytes, 1.0),
            (INEXACT_FILE, manifest.inexact_bytes, INEXACT_SHARE),
        )
        for file_name, size_bytes, share in places:
            source = Path(manifest.folder) / file_name
            if size_bytes and source.exists():
                cut_lines += self.quarantine.take_file(source, f"{manifest.segment}.{file_name}", share)
        if manifest.quarantine_bytes or manifest.inexact_bytes:
            self.files.sync_folder(self.folder.quarantine)
        return cut_lines
