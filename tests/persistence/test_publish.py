"""From prepared files to the data set: every row exactly once, wherever the process ends."""

import errno
import json
import struct
import subprocess
import sys
import zlib

import duckdb
import pytest
from persistence_samples import (
    NAME,
    RECEIVED_NS,
    Crash,
    FailingFiles,
    block,
    futures_depth,
    make_folder,
    make_publisher,
    put_segment,
    spot_trade,
)

from streamsvc.errors import DiskFullError, NewerVersionError, UsageError
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.files import Files
from streamsvc.persistence.journal import encode_header
from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.persistence.recovery import recover
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import Kind, Market

DAY_MS = 86_400_000
SECOND = SegmentName(1, 5, 1)
BLOCKS = [
    block([spot_trade(1), spot_trade(2, p="-1"), spot_trade(3, p="0.1234567890123456")]),
    block([spot_trade(4, time_ms=1_700_000_000_000 + DAY_MS)]),
    block([futures_depth(1, [["1", "2"]], [["3", "4"]])], Kind.DEPTH, Market.FUTURES),
]


def trade_ids(folder: DataFolder) -> list[int]:
    """The ids of all trades that a reader's `**` finds."""
    return sorted(
        number
        for path in folder.parquet.glob("trade/**/*")
        if path.is_file()
        for group in read_row_groups(path)
        for number in group["trade_id"].tolist()
    )


def restart(folder: DataFolder, files: Files | None = None):
    """What every start does: recover, then seal and publish what lies there, oldest first."""
    publisher = make_publisher(folder, files)
    for segment in recover(publisher, 77).segments:
        publisher.publish(segment.name, seal_segment(str(folder.segment(segment.name)), str(folder.tmp)))


def assert_complete(folder: DataFolder) -> None:
    """Every row once, the catalogue agrees with the files, and nothing is left over."""
    assert [1, 3, 4] == trade_ids(folder)
    catalogue = Catalogue(folder.catalogue)
    on_disk = {str(path.relative_to(folder.root)) for path in folder.parquet.rglob("*") if path.is_file()}
    assert on_disk == {file.path for file in catalogue.sealed_files()}
    assert 1 == catalogue.quarantined_messages()
    assert ([], []) == (folder.segments(), list(folder.tmp.iterdir()))
    lines = [json.loads(line) for path in folder.quarantine.iterdir() for line in path.read_bytes().splitlines()]
    assert ["inexact", "negative"] == sorted(line["reason"] for line in lines)


def calls_of_a_publication(tmp_path_factory) -> int:
    folder = make_folder(tmp_path_factory.mktemp("count"))
    put_segment(folder, BLOCKS)
    files = FailingFiles()
    restart(folder, files)
    return len(files.calls)


def test_a_segment_becomes_part_of_the_data_set(tmp_path):
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    restart(folder)
    assert_complete(folder)
    last = {(each.market, each.kind): each.last_id for each in Catalogue(folder.catalogue).last_ids()}
    assert {(Market.SPOT, Kind.TRADE): 4, (Market.FUTURES, Kind.DEPTH): 19} == last


def test_a_crash_at_every_call_of_the_disk_leaves_every_row_exactly_once(tmp_path, tmp_path_factory):
    """The n-th call is the last one of the process, for every n; the next start completes the work."""
    steps = calls_of_a_publication(tmp_path_factory)
    assert steps > 15
    for at in range(1, steps + 1):
        folder = make_folder(tmp_path / str(at))
        put_segment(folder, BLOCKS)
        with pytest.raises(Crash):
            restart(folder, FailingFiles(at, Crash()))
        restart(folder)
        assert_complete(folder)


def test_a_crash_at_every_call_of_the_recovery_too(tmp_path, tmp_path_factory):
    """A crash loop converges."""
    steps = calls_of_a_publication(tmp_path_factory)
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    for at in range(1, steps + 1):
        try:
            restart(folder, FailingFiles(at, Crash()))
        except Crash:
            continue
    restart(folder)
    assert_complete(folder)


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_around_the_commit_leaves_every_row_exactly_once(tmp_path, monkeypatch, is_after):
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    commit = Catalogue.commit

    def crash(*args):
        if is_after:
            commit(*args)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "commit", crash)
        with pytest.raises(Crash):
            restart(folder)
    restart(folder)
    assert_complete(folder)


def test_no_room_at_any_step_is_tried_again_and_loses_nothing(tmp_path, tmp_path_factory):
    """The publisher is called again with the same manifest when there is room."""
    for at in range(1, calls_of_a_publication(tmp_path_factory) + 1):
        folder = make_folder(tmp_path / str(at))
        put_segment(folder, BLOCKS)
        publisher = make_publisher(folder, FailingFiles(at, errno.ENOSPC))
        manifest = seal_segment(str(folder.segment(NAME)), str(folder.tmp))
        for _ in range(2):
            try:
                publisher.publish(NAME, manifest)
            except DiskFullError:
                continue
        restart(folder)
        assert_complete(folder)


def test_names_are_on_the_disk_before_the_catalogue_knows_them(tmp_path, monkeypatch):
    """And the segment goes last: a power cut between any two steps finds either the segment or all of its files.

    What changes in the ledger is synced within the transaction.
    """
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    files = FailingFiles()
    commit = Catalogue.commit

    def commit_told(*args):
        files.calls.append("begin")
        losses = commit(*args)
        files.calls.append("commit")
        return losses

    monkeypatch.setattr(Catalogue, "commit", commit_told)
    restart(folder, files)
    begin, place = files.calls.index("begin"), files.calls.index("commit")
    assert ["sync_folder", "unlink"] == files.calls[begin - 1 : begin] + files.calls[place + 1 : place + 2]
    assert ["create", "write", "sync", "sync_folder"] == files.calls[begin + 1 : place]
    last_rename = max(index for index, call in enumerate(files.calls) if call == "replace")
    assert last_rename < files.calls.index("sync_folder", last_rename) < place
    assert 1 == files.calls.count("unlink")


def test_publishing_twice_changes_nothing(tmp_path):
    """An orphan's work, or a segment that came back, is recognised."""
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    restart(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.parquet.rglob("*.parquet")}
    put_segment(folder, BLOCKS)
    manifest = seal_segment(str(folder.segment(NAME)), str(folder.tmp))
    make_publisher(folder).publish(NAME, manifest)
    assert before == {path: path.stat().st_mtime_ns for path in folder.parquet.rglob("*.parquet")}
    assert_complete(folder)


def test_a_segment_that_came_back_after_its_commit_is_only_removed(tmp_path):
    """A power cut may undo the removal of a segment."""
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    restart(folder)
    put_segment(folder, BLOCKS)
    assert [] == recover(make_publisher(folder), 1).segments
    assert_complete(folder)


def test_an_orphan_that_still_seals_makes_no_row_twice(tmp_path):
    """The worker of a killed parent goes on while the new process recovers, seals and publishes."""
    folder = make_folder(tmp_path)
    path = put_segment(folder, BLOCKS)
    code = (
        "import sys, time, streamsvc.persistence.seal as seal\n"
        "write = seal.write_file\n"
        "def slow(*args):\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    write(*args)\n"
        "seal.write_file = slow\n"
        "seal.seal_segment(*sys.argv[1:])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(folder.tmp)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as orphan:  # fmt: skip
        assert "writing\n" == orphan.stdout.readline()
        restart(folder)
        assert [1, 3, 4] == trade_ids(folder)
        orphan.stdin.write("\n" * 10)
        orphan.stdin.close()
        orphan.wait(20)
    assert [] == list(folder.tmp.iterdir())
    restart(folder)
    assert_complete(folder)


def test_runs_are_numbered_upwards_whatever_is_left_of_the_folder(tmp_path):
    """So names sort in the order of writing: from the catalogue, the journal and what failed, whichever knows more."""
    folder = make_folder(tmp_path)
    assert [1, 2] == [recover(make_publisher(folder), 7).run.run for _ in range(2)]
    put_segment(folder, [], SegmentName(8, 7, 0))
    assert 9 == recover(make_publisher(folder), 7).run.run
    folder.catalogue.unlink()
    (folder.failed / f"{SegmentName(20, 7, 0)}.journal").touch()
    assert SegmentName(21, 7, 0) == recover(make_publisher(folder), 7).run


def test_segments_are_recovered_oldest_first(tmp_path):
    folder = make_folder(tmp_path)
    names = [SegmentName(2, 1, 0), SegmentName(1, 9, 10), SegmentName(1, 9, 2)]
    for name in names:
        put_segment(folder, [], name)
    assert sorted(names) == [segment.name for segment in recover(make_publisher(folder), 0).segments]


def test_foreign_files_and_links_are_neither_followed_nor_deleted(tmp_path):
    folder = make_folder(tmp_path / "data")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (folder.tmp / "link").symlink_to(outside)
    (folder.journal / f"{NAME}.journal").symlink_to(outside / "precious")
    (folder.journal / "notes.txt").write_text("x")
    (folder.parquet / "mine.csv").write_text("x")
    restart(folder)
    assert (outside / "precious").exists()
    assert (folder.tmp / "link").is_symlink()
    assert (folder.journal / f"{NAME}.journal").is_symlink()
    assert (folder.journal / "notes.txt").exists()
    assert (folder.parquet / "mine.csv").exists()
    assert [] == folder.segments()


def test_a_segment_of_a_newer_version_stops_the_start_and_stays(tmp_path):
    folder = make_folder(tmp_path)
    path = folder.segment(NAME)
    header = bytearray(encode_header(NAME))
    header[8] = 9
    struct.pack_into("<I", header, len(header) - 4, zlib.crc32(header[:-4]))
    path.write_bytes(header)
    with pytest.raises(NewerVersionError):
        recover(make_publisher(folder), 1)
    assert path.exists()


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path):
    folder = DataFolder(tmp_path / "file")
    (tmp_path / "file").write_text("x")
    publisher = make_publisher(make_folder(tmp_path / "data"))
    with pytest.raises(UsageError, match="cannot be used"):
        recover(type(publisher)(folder, Files(), publisher.catalogue, publisher.quarantine, publisher.wall_ns), 1)


def test_quarantine_has_a_limit_and_says_what_it_left_out(tmp_path):
    """Full means full: nothing kept is deleted, and the lines that were cut are counted."""
    folder = make_folder(tmp_path)
    bad = [spot_trade(number, p="-1") for number in range(50)]
    put_segment(folder, [block(bad)])
    publisher = make_publisher(folder, quarantine_bytes=2000)
    published = publisher.publish(NAME, seal_segment(str(folder.segment(NAME)), str(folder.tmp)))
    (path,) = folder.quarantine.iterdir()
    lines = path.read_bytes().splitlines()
    assert 50 == published.cut_lines + len(lines)
    assert 2000 >= path.stat().st_size > 1500
    assert all(json.loads(line) for line in lines)


def test_a_segment_that_cannot_be_sealed_is_set_aside(tmp_path):
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    make_publisher(folder).set_aside(NAME)
    assert ([], [NAME]) == (folder.segments(), folder.failed_segments())


def test_the_data_set_is_read_by_duckdb_as_the_readme_says(tmp_path):
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    put_segment(folder, [block([spot_trade(5, symbol="ETHUSDT")])], SECOND)
    restart(folder)
    rows = duckdb.sql(
        f"select market, date::text, symbol, trade_id, price, epoch_ns(receive_time) "
        f"from read_parquet('{folder.parquet}/trade/**/*.parquet', hive_partitioning = true) order by trade_id"
    ).fetchall()
    assert [
        ("spot", "2023-11-14", "BTCUSDT", 1, 37.5, RECEIVED_NS),
        ("spot", "2023-11-14", "BTCUSDT", 3, 0.1234567890123456, RECEIVED_NS),
        ("spot", "2023-11-15", "BTCUSDT", 4, 37.5, RECEIVED_NS),
        ("spot", "2023-11-14", "ETHUSDT", 5, 37.5, RECEIVED_NS),
    ] == rows


def test_a_segment_that_somebody_removed_is_not_missed(tmp_path):
    """There is nothing to set aside, and no reason to stop the recording."""
    folder = make_folder(tmp_path)
    make_publisher(folder).set_aside(NAME)
    assert ([], []) == (folder.segments(), folder.failed_segments())


def test_a_segment_that_is_there_and_cannot_be_set_aside_is_told(tmp_path):
    folder = make_folder(tmp_path)
    put_segment(folder, BLOCKS)
    folder.failed.rmdir()
    with pytest.raises(FileNotFoundError):
        make_publisher(folder).set_aside(NAME)
    assert [NAME] == folder.segments()


def test_the_folders_of_a_new_data_set_are_on_the_disk_before_anything_lies_in_them(tmp_path):
    """A power cut must not take the journal's folder with the journal in it."""

    class WatchedFiles(Files):
        synced = ()

        def sync_folder(self, folder):
            self.synced += ((folder, sorted(path.name for path in folder.iterdir() if path.is_dir())),)
            super().sync_folder(folder)

    files = WatchedFiles()
    folder = DataFolder(tmp_path)
    recover(make_publisher(folder, files), 1)
    assert (tmp_path, ["journal", "parquet", "quarantine", "tmp"]) == files.synced[0]
