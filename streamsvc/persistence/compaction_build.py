"""A builder: the files of a day become one a symbol, in a folder of the builder's own. Runs in a worker process.

It only prepares, like a sealer: it touches neither the data set nor the catalogue. Every row of the files is in what it
makes, once, and the same files give the same names and bytes. It takes nothing from a file whose checksum is not that
of its sealing: compaction must not put a fresh checksum on damaged rows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from streamsvc.errors import DamagedError
from streamsvc.persistence.compaction_day import BUILD_PREFIX, BuiltDay, DayWork
from streamsvc.persistence.compaction_names import compacted_name, is_compacted, may_hold
from streamsvc.persistence.compaction_sort import DaySort
from streamsvc.persistence.files import Files, no_room_mapped
from streamsvc.persistence.manifest import SealedFile
from streamsvc.persistence.parquet import read_coded, write_file
from streamsvc.schema import COLUMNS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


def build_day(root: str, work: DayWork) -> BuiltDay:
    """Build the folder of a compacted day, synced, in `<root>/tmp/compact-<kind>-<market>-<date>-<pid>/`.

    Memory: see `compaction_sort`; measured 200 MB for trades in their order and 270 where every run reaches over the
    whole day, whatever its size, beside 300 bytes a block and the day's different texts. Disk, until the old folder is
    removed: the day once more, and up to twice more while it is sorted.

    Args:
        root: `DATA_DIR`.
        work: The day. Of files that were compacted before only those are merged whose symbol has other rows as well.

    Raises:
        DamagedError: a file does not hold what the catalogue says.
        DiskFullError: there is no room. What had been made is removed, as with every other fault.
        OSError: a file is gone or cannot be read, or the disk failed.
    """
    day = work.day
    folder = Path(root) / "tmp" / f"{BUILD_PREFIX}{day.kind}-{day.market}-{day.date}-{os.getpid()}"
    try:
        with no_room_mapped():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            return _Builder(Path(root), folder, work).build()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Builder:
    def __init__(self, root: Path, folder: Path, work: DayWork) -> None:
        self._root = root
        self._folder = folder
        self._work = work
        self._kind = Kind.from_label(work.day.kind)
        self._target = folder / PurePosixPath(work.day.path).name

    def build(self) -> BuiltDay:
        self._target.mkdir()
        spill_path = self._folder / "spill"
        with spill_path.open("w+b") as spill:
            sort = DaySort(self._kind, spill, sum(file.rows for file in self._work.files))
            merged = self._read(sort)
            made = [self._write(sort, symbol, merged) for symbol in sort.symbols()]
        spill_path.unlink()
        for file in self._work.files:
            if file not in merged:
                # The file itself: a symbol without new rows costs nothing.
                os.link(self._root / file.path, self._target / PurePosixPath(file.path).name)
        for path in (self._target, self._folder, self._folder.parent):
            Files().sync_folder(path)
        return BuiltDay(self._work, str(self._folder), tuple(made), tuple(file.path for file in merged))

    def _read(self, sort: DaySort) -> list[SealedFile]:
        """Read all rotations, then those compacted files whose symbols occur in them; returns what was read."""
        files = self._work.files
        merged = [file for file in files if not is_compacted(PurePosixPath(file.path).name)]
        for file in merged:
            self._add(sort, file)
        symbols = sort.symbols()
        for file in files:
            name = PurePosixPath(file.path).name
            if is_compacted(name) and any(may_hold(name, symbol) for symbol in symbols):
                self._add(sort, file)
                merged.append(file)
        return merged

    def _add(self, sort: DaySort, file: SealedFile) -> None:
        path, rows_before = self._root / file.path, sort.rows
        if path.is_symlink() or _sha256(path) != file.sha256:
            raise DamagedError(f"{file.path}: its bytes are not those that were sealed (checksum)")
        for group in read_coded(path, list(COLUMNS[self._kind])):
            sort.add(group)
        rows = sort.rows - rows_before
        if rows != file.rows:
            raise DamagedError(f"{file.path}: it has {rows:,} rows, the catalogue says {file.rows:,}")

    def _write(self, sort: DaySort, symbol: str, merged: Iterable[SealedFile]) -> SealedFile:
        name = compacted_name(symbol, [f"{file.path} {file.sha256}" for file in merged])
        path = self._target / name
        counted = _Counted(sort.row_groups(symbol))
        with path.open("wb") as raw:
            write_file(raw, COLUMNS[self._kind], sort.texts_of(symbol), counted)
            raw.flush()
            os.fsync(raw.fileno())
        day = self._work.day
        return SealedFile(
            path=f"{day.path}/{name}",
            kind=day.kind,
            market=day.market,
            date=day.date,
            rows=counted.rows,
            size_bytes=path.stat().st_size,
            sha256=_sha256(path),
            first_exchange_ns=counted.first_exchange_ns,
            last_exchange_ns=counted.last_exchange_ns,
        )


class _Counted:
    """Row groups on their way into a file, and what the catalogue wants to know of them."""

    def __init__(self, groups: Iterable[dict[str, NDArray[Any]]]) -> None:
        self._groups = groups
        self._times: list[int] = []
        self.rows = 0

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for group in self._groups:
            self.rows += len(group["symbol"])
            times = [int(group["exchange_time"].min()), int(group["exchange_time"].max()), *self._times]
            self._times = [min(times), max(times)]
            yield group

    @property
    def first_exchange_ns(self) -> int:
        return self._times[0]

    @property
    def last_exchange_ns(self) -> int:
        return self._times[1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
