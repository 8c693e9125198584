"""Data folders with finished days, and their compaction as the service does it, in line."""

from __future__ import annotations

import threading

from streamsvc.persistence.compaction import Compactor
from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.compaction_catalogue import CompactionCatalogue
from streamsvc.persistence.compaction_exchange import exchange
from streamsvc.persistence.files import Files
from streamsvc.persistence.parquet import read_row_groups

AFTER = "2023-11-17"
"""A day after all that `verify_samples` makes."""


def make_compactor(recorded, files=None, *, reserve_bytes=0):
    """A compactor of a folder; the exchange of folders counts as a call of the disk where calls are counted."""
    files = files or Files()

    def counted_exchange(one, other):
        if hasattr(files, "_count"):
            files._count("exchange")
        exchange(one, other)

    return Compactor(
        folder=recorded.folder,
        files=files,
        catalogue=CompactionCatalogue(recorded.folder.catalogue),
        changing=threading.Lock(),
        reserve_bytes=reserve_bytes,
        exchange=counted_exchange,
    )


def compact_all(recorded, files=None):
    """Recover, then compact every day that needs it; returns what was built."""
    compactor = make_compactor(recorded, files)
    compactor.recover()
    done = []
    for day in compactor.catalogue.days_with_rotations(AFTER):
        work = compactor.plan(day)
        assert work is not None, day
        built = build_day(str(recorded.root), work)
        assert compactor.replace(built)
        compactor.discard(built)
        done.append(built)
    return done


def rows_of(folder, kind="trade"):
    """All rows that a reader's `**` finds, as tuples by file."""
    found = {}
    for path in sorted((folder.parquet / kind).rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder.parquet / kind))] = [
                tuple(row)
                for group in read_row_groups(path)
                for row in zip(*(column.tolist() for column in group.values()), strict=True)
            ]
    return found


def all_rows(folder, kind="trade"):
    """The same of all files together, in any order."""
    return sorted(row for rows in rows_of(folder, kind).values() for row in rows)


def assert_agreed(folder):
    """The catalogue lists what is there, nothing is left over, and no note waits."""
    catalogue = CompactionCatalogue(folder.catalogue)
    on_disk = {str(path.relative_to(folder.root)) for path in folder.parquet.rglob("*") if path.is_file()}
    assert on_disk == {file.path for file in catalogue.sealed_files()}
    assert ([], []) == (catalogue.intents(), list(folder.tmp.iterdir()))
