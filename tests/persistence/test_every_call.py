"""From journal to data set: the n-th call of the disk fails or is the last, for every n, and every row is there once.

Calls are counted below all of them, where Python makes them, so that what is written without `Files` counts as well.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from counted_calls import CountedCalls
from persistence_samples import Crash, block, futures_depth, make_publisher, spot_trade

from streamsvc.errors import DiskFullError, UsageError
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.files import Files
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.persistence.recovery import recover
from streamsvc.persistence.seal import seal_segment
from streamsvc.persistence.segment import OpenSegment
from streamsvc.schema import Kind, Market

STEPS_MIN = 60
"""So many calls the whole way takes at least: fewer would mean that some are not counted any more."""


def blocks_of(life):
    """What a life records: two markets, a bad price and one with too many digits; ids of its own."""
    first = 10 * life
    return [
        block([spot_trade(first), spot_trade(first + 1, p="-1"), spot_trade(first + 2, p="0.1234567890123456")]),
        block([futures_depth(first, [["1", "2"]], [["3", "4"]])], Kind.DEPTH, Market.FUTURES),
    ]


def ids_of(life):
    return {("trade", 10 * life), ("trade", 10 * life + 2), ("depth", 100 * life + 9)}


def live(root, life, *, is_recording=True):
    """One life of a recorder: start, record, seal and publish what is there; gives what is safe as it comes to be."""
    publisher = make_publisher(DataFolder(root), Files())
    recovered = recover(publisher, life)
    names = [one.name for one in recovered.segments]
    if is_recording:
        segment = OpenSegment(publisher.files, publisher.folder.segment(recovered.run), recovered.run)
        try:
            for one in blocks_of(life):
                segment.append([one])
            segment.sync()
            yield ids_of(life)
        finally:
            segment.abandon()
        names.append(recovered.run)
    for name in names:
        manifest = with_room(seal_segment, str(publisher.folder.segment(name)), str(publisher.folder.tmp))
        with_room(publisher.publish, name, manifest)


def with_room(work, *args):
    """As the sealing tasks do it: once there is room again, it is tried again."""
    try:
        return work(*args)
    except DiskFullError:
        return work(*args)


def rows_of(root):
    """Every row that a reader's `**` finds, as kind and id; an update of the book once for each of its two levels."""
    rows = []
    for kind, column in (("trade", "trade_id"), ("depth", "final_update_id")):
        for path in sorted((root / "parquet" / kind).rglob("*.parquet")):
            for group in read_row_groups(path, [column]):
                rows += [(kind, number) for number in group[column].tolist()]
    return sorted(rows)


@pytest.fixture
def data_folder(tmp_path):
    """In memory where the machine has such a folder: nobody cuts its power here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def lived(root, life, calls, **how):
    """Live until a call fails; what was safe by then, and whether it came to its end."""
    safe = set()
    with pytest.MonkeyPatch.context() as patch:
        calls.install(patch)
        try:
            for ids in live(root, life, **how):
                safe |= ids
        except (Crash, OSError, DiskFullError, UsageError):
            return safe, False
    return safe, True


def assert_all_is_there_once(root, safe, lives):
    """What was safe is there, nothing is there twice, what else is there was recorded, and nothing is left over."""
    rows = rows_of(root)
    once = sorted(set(rows))
    assert sorted([*once, *(row for row in once if row[0] == "depth")]) == rows
    assert safe <= set(once) <= set().union(*(ids_of(life) for life in lives))
    on_disk = {str(path.relative_to(root)) for path in (root / "parquet").rglob("*") if path.is_file()}
    assert on_disk == {file.path for file in Catalogue(root / "catalogue.sqlite").sealed_files()}
    assert [] == [path for name in ("journal", "tmp") for path in (root / name).rglob("*") if path.is_file()]


def test_the_whole_way_is_counted(data_folder):
    """What fails below is every kind of call that there is."""
    calls = CountedCalls()
    assert (ids_of(1), True) == lived(data_folder, 1, calls)
    assert len(calls.made) >= STEPS_MIN
    wanted = {"open", "write", "fsync", "fdatasync", "replace", "unlink", "mkdir", "rmdir", "close", "commit"}
    assert wanted <= set(calls.made), calls.count()
    assert_all_is_there_once(data_folder, ids_of(1), [1])


@pytest.mark.parametrize("fault", [None, errno.EIO, errno.ENOSPC], ids=["kill", "EIO", "ENOSPC"])
def test_the_nth_call_fails_for_every_n(data_folder, fault):
    """The process ends there, or tries again where there was no room; the next start completes the work."""
    at, ends = 0, []
    while ends[-1:] != [None]:
        at += 1
        root = data_folder / str(at)
        root.mkdir()
        calls = CountedCalls(at, fault)
        safe, has_ended = lived(root, 1, calls)
        ends.append(None if len(calls.made) < at else has_ended)
        assert (set(), True) == lived(root, 2, CountedCalls(), is_recording=False)
        assert_all_is_there_once(root, safe, [1])
    assert at > STEPS_MIN
    assert False in ends


def test_every_start_fails_some_calls_later_than_the_one_before(data_folder):
    """A crash loop that comes further each time converges, whatever the starts before have left."""
    safe, life, has_ended = set(), 0, False
    while not has_ended:
        life += 1
        kept, has_ended = lived(data_folder, life, CountedCalls(11 * life))
        safe |= kept
    assert life > 5
    assert_all_is_there_once(data_folder, safe, range(1, life + 1))
