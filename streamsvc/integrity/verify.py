"""The check of a data folder: files, checksums, rows, ids without holes, nothing twice.

Works while the service records: the catalogue is read once, and a file that it does not know is looked up again at the
end, since the publisher renames files before it commits them. Memory is bounded by the largest file and by the number
of gaps, not by the size of the data set.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs
import numpy as np

from streamsvc.errors import DamagedError, UsageError
from streamsvc.integrity.keys import (
    KEY_COLUMNS,
    StreamPart,
    columns_needed,
    key_table,
    shared_keys,
    split_streams,
)
from streamsvc.integrity.report import Gap, Report, StreamCoverage
from streamsvc.integrity.sequence import Coverage
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.schema import COLUMNS, MARKETS_BY_LABEL, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from streamsvc.persistence.manifest import SealedFile

_DAY_NS = 86_400_000_000_000
_HASH_BYTES = 1 << 20


@attrs.frozen(cache_hash=True)
class _StreamKey:
    kind: Kind
    market: Market
    symbol: str
    epoch: int


def verify_folder(root: Path, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Report:
    """Check everything below a data folder.

    Args:
        root: `DATA_DIR`.
        progress: Called with the files done and their total.

    Raises:
        UsageError: it is not a data folder.
        DamagedError: the catalogue cannot be read.
    """
    folder = DataFolder(root)
    if not folder.catalogue.is_file():
        raise UsageError(f"{root} is not a data folder of streamsvc: it has no {folder.catalogue.name}")
    on_disk = _files_on_disk(folder)
    report = Report()
    with Catalogue.open_to_read(folder.catalogue) as catalogue:
        files = catalogue.sealed_files()
        report.quarantined = catalogue.quarantined_messages()
        check = _Check(folder, report)
        for done, file in enumerate(files, start=1):
            check.add_file(file)
            progress(done, len(files))
        check.finish()
        known = {file.path for file in catalogue.sealed_files()}
        for reason, size_bytes in catalogue.damage().items():
            report.errors.append(f"journal: {size_bytes:,} bytes held no whole frame ({reason})")
    report.errors += [f"{path}: the catalogue does not know it" for path in sorted(on_disk - known)]
    report.errors += [f"journal/failed/{name}: could not be sealed" for name in folder.failed_segments()]
    report.unsealed_segments = len(folder.segments())
    return report


def _files_on_disk(folder: DataFolder) -> set[str]:
    """Everything under `parquet/` that is not a folder: a reader's `**` would find it."""
    return {
        str(path.relative_to(folder.root)) for path in folder.parquet.rglob("*") if path.is_symlink() or path.is_file()
    }


class _Check:
    """Collects what files hold of every stream, and compares at the end."""

    def __init__(self, folder: DataFolder, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._parts: dict[_StreamKey, list[tuple[SealedFile, StreamPart]]] = defaultdict(list)

    def add_file(self, file: SealedFile) -> None:
        """Check one file by itself and remember what it holds of each stream."""
        self._report.files += 1
        path = self._folder.root / file.path
        try:
            columns = self._read_checked(path, file)
        except (DamagedError, FileNotFoundError) as fault:
            self._report.errors.append(f"{file.path}: {fault}")
            return
        kind, market = Kind.from_label(file.kind), MARKETS_BY_LABEL[file.market]
        for (symbol, epoch), part in split_streams(kind, market, columns).items():
            if part.duplicates:
                self._report.errors.append(f"{file.path}: {part.duplicates:,} rows of {symbol} are there twice")
            self._parts[_StreamKey(kind, market, symbol, epoch)].append((file, part))

    def _read_checked(self, path: Path, file: SealedFile) -> dict[str, NDArray[Any]]:
        """The columns that matter, once everything about the file itself is as the catalogue says."""
        if not path.is_file():
            raise DamagedError("the catalogue knows it, but it is not there")
        if path.stat().st_size != file.size_bytes or _sha256(path) != file.sha256:
            raise DamagedError("its bytes are not those that were sealed (checksum)")
        kind = Kind.from_label(file.kind)
        groups = list(read_row_groups(path, [*dict.fromkeys([*columns_needed(kind), "exchange_time"])]))
        columns = {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}
        rows = len(columns["symbol"])
        self._report.rows += rows
        if rows != file.rows:
            raise DamagedError(f"it has {rows:,} rows, the catalogue says {file.rows:,}")
        days = np.unique(columns["exchange_time"] // _DAY_NS)
        if [file.date] != [str(np.datetime64(int(day), "D")) for day in days]:
            raise DamagedError(f"it holds other days than {file.date}")
        if missing := set(COLUMNS[kind]) - set(next(read_row_groups(path))):
            raise DamagedError(f"it lacks the columns {', '.join(sorted(missing))}")
        return columns

    def finish(self) -> None:
        """Compare the files of each stream with each other."""
        for key in sorted(self._parts, key=lambda key: (key.market, key.symbol, key.kind, key.epoch)):
            parts = self._parts[key]
            coverage = Coverage()
            coverage.add(piece for _, part in parts for piece in part.ranges)
            gaps = coverage.gaps()
            labels = key.market.label, key.symbol, key.kind.label
            self._report.gaps += [Gap(*labels, key.epoch, gap.first, gap.last) for gap in gaps]
            self._report.coverage.append(
                StreamCoverage(
                    *labels,
                    rows=sum(part.rows for _, part in parts),
                    first_id=min(part.first_key for _, part in parts),
                    last_id=max(part.last_key for _, part in parts),
                    gaps=len(gaps),
                )
            )
            self._find_shared(key, parts)

    def _find_shared(self, key: _StreamKey, parts: list[tuple[SealedFile, StreamPart]]) -> None:
        """Rows that stand in two files; only files whose keys overlap are read again."""
        parts = sorted(parts, key=lambda pair: (pair[1].first_key, pair[1].last_key))
        for place, (file, part) in enumerate(parts):
            for other, other_part in parts[place + 1 :]:
                if other_part.first_key > part.last_key:
                    break
                count = shared_keys(self._keys_of(file, key), self._keys_of(other, key))
                if count:
                    self._report.errors.append(
                        f"{file.path}, {other.path}: {count:,} rows of {key.symbol} are in both files"
                    )

    def _keys_of(self, file: SealedFile, key: _StreamKey) -> NDArray[np.int64]:
        names = [*dict.fromkeys(["symbol", *KEY_COLUMNS[key.kind]])]
        tables = [
            key_table(key.kind, group)[group["symbol"].astype(str) == key.symbol]
            for group in read_row_groups(self._folder.root / file.path, names)
        ]
        return np.concatenate(tables)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
