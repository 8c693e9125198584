"""`RAW_ARCHIVE`: a sealed segment is kept byte for byte, once, wherever the process ends."""

import errno
import signal
import subprocess
import sys

import pytest
from compaction_samples import make_compactor
from persistence_samples import (
    DAY_MS,
    NAME,
    RECEIVED_NS,
    Crash,
    FailingFiles,
    block,
    make_folder,
    make_publisher,
    put_segment,
    segment_bytes,
    spot_trade,
)
from verify_samples import Recorded

from streamsvc.errors import DamagedError, DiskFullError, UsageError
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.archive import archive_place, archived_dates, archived_segments, require_archive
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.compression import decompress_file
from streamsvc.persistence.files import Files
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.recovery import recover
from streamsvc.persistence.retention import remove_archived
from streamsvc.persistence.seal import seal_segment

BLOCKS = [block([spot_trade(1), spot_trade(2, p="-1")]), block([spot_trade(3)], received_ns=RECEIVED_NS + 10**9)]
DATE = "2023-11-14"
PLACE = f"archive/{DATE}/000001-deadbeef-000000.from-{DATE}.journal.zst"


def seal(folder, name=NAME, *, keeps_raw=True):
    return seal_segment(str(folder.segment(name)), str(folder.tmp), keeps_raw=keeps_raw)


def restart(folder, files=None):
    """What every start does: recover, then seal and publish what lies there, oldest first."""
    publisher = make_publisher(folder, files)
    for segment in recover(publisher, 77).segments:
        publisher.publish(segment.name, seal(folder, segment.name))


def kept(folder):
    """What lies in the archive: bytes by place."""
    found = {}
    for path in folder.archive.rglob("*"):
        if path.is_file():
            target = folder.root / "decompressed"
            decompress_file(path, target)
            found[str(path.relative_to(folder.root))] = target.read_bytes()
    return found


def assert_complete(folder):
    """The segment is in the data set and in the archive, once, and nowhere else."""
    assert {PLACE: segment_bytes(BLOCKS)} == kept(folder)
    assert [2] == [file.rows for file in Catalogue(folder.catalogue).sealed_files()]
    assert ([], []) == (folder.segments(), list(folder.tmp.iterdir()))


@pytest.fixture
def folder(tmp_path):
    folder = make_folder(tmp_path / "data")
    put_segment(folder, BLOCKS)
    return folder


def steps(tmp_path_factory):
    folder, files = make_folder(tmp_path_factory.mktemp("count")), FailingFiles()
    put_segment(folder, BLOCKS)
    restart(folder, files)
    return len(files.calls)


def test_a_sealed_segment_is_kept_byte_for_byte(folder):
    restart(folder)
    assert_complete(folder)


def test_without_the_setting_nothing_is_kept(folder):
    make_publisher(folder).publish(NAME, seal(folder, keeps_raw=False))
    assert not folder.archive.exists()


def test_a_crash_at_every_call_of_the_disk_keeps_the_segment_exactly_once(tmp_path, tmp_path_factory):
    for at in range(1, steps(tmp_path_factory) + 1):
        folder = make_folder(tmp_path / str(at))
        put_segment(folder, BLOCKS)
        with pytest.raises(Crash):
            restart(folder, FailingFiles(at, Crash()))
        assert folder.segments() or PLACE in kept(folder)
        restart(folder)
        assert_complete(folder)


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_around_the_commit_keeps_it_exactly_once(folder, monkeypatch, is_after):
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


def test_it_is_on_the_disk_before_the_segment_goes(folder, monkeypatch):
    """Under its name, and the name synced, before the commit after which the segment is removed."""
    synced, seen_synced, commit = {}, {}, Catalogue.commit

    class WatchedFiles(Files):
        def sync_folder(self, path):
            super().sync_folder(path)
            synced[path] = sorted(entry.name for entry in path.iterdir())

    def look(*args):
        seen_synced.update(synced)
        commit(*args)

    monkeypatch.setattr(Catalogue, "commit", look)
    restart(folder, WatchedFiles())
    path = folder.root / PLACE
    assert "archive" in seen_synced[folder.root]
    assert [DATE] == seen_synced[folder.archive]
    assert [path.name] == seen_synced[path.parent]
    assert_complete(folder)


def test_no_room_at_any_step_is_tried_again_and_loses_nothing(tmp_path, tmp_path_factory):
    for at in range(1, steps(tmp_path_factory) + 1):
        folder = make_folder(tmp_path / str(at))
        put_segment(folder, BLOCKS)
        publisher, manifest = make_publisher(folder, FailingFiles(at, errno.ENOSPC)), seal(folder)
        for _ in range(2):
            try:
                publisher.publish(NAME, manifest)
            except DiskFullError:
                assert folder.segments() or PLACE in kept(folder)
        restart(folder)
        assert_complete(folder)


def test_no_room_while_it_is_compressed_leaves_the_segment_as_it_was(folder, monkeypatch):
    """The sealer says so, leaves nothing behind, and is called again when there is room."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("streamsvc.persistence.seal.compress_into", full)
        with pytest.raises(DiskFullError):
            seal(folder)
    assert ([NAME], []) == (folder.segments(), list(folder.tmp.iterdir()))
    restart(folder)
    assert_complete(folder)


def test_a_segment_that_comes_back_is_not_kept_twice(folder):
    """A power cut may undo the removal, an orphan may seal it again."""
    restart(folder)
    put_segment(folder, BLOCKS)
    manifest = seal(folder)
    make_publisher(folder).publish(NAME, manifest)
    assert_complete(folder)
    put_segment(folder, BLOCKS)
    restart(folder)
    assert_complete(folder)


def test_a_sealer_that_is_killed_while_it_compresses_leaves_nothing_behind(folder):
    code = (
        "import sys, time, streamsvc.persistence.seal as seal\n"
        "def slow(file, data):\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    print('compressing', flush=True)\n"
        "    time.sleep(60)\n"
        "seal.compress_into = slow\n"
        "seal.seal_segment(*sys.argv[1:], keeps_raw=True)\n"
    )
    command = [sys.executable, "-c", code, str(folder.segment(NAME)), str(folder.tmp)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sealer:
        assert "compressing\n" == sealer.stdout.readline()
        sealer.kill()
        assert -signal.SIGKILL == sealer.wait(20)
    assert [] != list(folder.tmp.iterdir())
    restart(folder)
    assert_complete(folder)


def test_a_segment_of_many_pieces_is_kept_whole(tmp_path):
    folder = make_folder(tmp_path)
    texts = [spot_trade(number, price=f"{number * 7919 % 100003}.5") for number in range(40_000)]
    put_segment(folder, [block(texts)] * 2)
    content = folder.segment(NAME).read_bytes()
    assert len(content) > 10_000_000
    restart(folder)
    assert [content] == [*kept(folder).values()]
    assert len(content) > 4 * (folder.root / PLACE).stat().st_size


def test_damage_is_kept_as_it_is(folder):
    """The archive does not judge: what can be read of a damaged segment can be read of its copy."""
    content = bytearray(folder.segment(NAME).read_bytes())
    content[60] ^= 1
    folder.segment(NAME).write_bytes(content)
    restart(folder)
    assert {PLACE: bytes(content)} == kept(folder)


@pytest.mark.parametrize("content", [b"", segment_bytes([]), b"x" * 1000])
def test_a_segment_without_a_whole_frame_is_not_kept(tmp_path, content):
    """It holds no message, and no time to keep it under."""
    folder = make_folder(tmp_path)
    folder.segment(NAME).write_bytes(content)
    restart(folder)
    assert ([], {}) == (folder.segments(), kept(folder))


def test_a_segment_lies_under_the_day_of_its_last_receipt(tmp_path):
    """And says in which it began; a clock that went back in between changes nothing."""
    folder = make_folder(tmp_path)
    times = (RECEIVED_NS, RECEIVED_NS + DAY_MS * 10**6, RECEIVED_NS - 5)
    put_segment(folder, [block([spot_trade(n)], received_ns=ns) for n, ns in enumerate(times)])
    restart(folder)
    (segment,) = archived_segments(folder, "2023-11-15")
    assert (NAME, DATE, "2023-11-15") == (segment.name, segment.first_date, segment.last_date)
    assert segment.path == folder.root / archive_place(NAME, times[2], times[1])


def test_foreign_files_and_links_in_the_archive_are_not_taken_for_segments(folder, tmp_path):
    restart(folder)
    day = folder.archive / DATE
    (day / "notes.txt").touch()
    (day / f"{SegmentName(9, 9, 9)}.from-{DATE}.journal.zst").symlink_to(tmp_path)
    (folder.archive / "2023-11-13").symlink_to(tmp_path)
    (folder.archive / "mine").mkdir()
    assert [DATE] == archived_dates(folder)
    assert [NAME] == [segment.name for segment in archived_segments(folder, DATE)]


def test_an_archive_on_another_disk_is_refused_at_the_start(folder):
    require_archive(folder)
    folder.archive.symlink_to("/proc")
    with pytest.raises(UsageError, match="another disk"):
        require_archive(folder)
    folder.archive.unlink()
    folder.archive.touch()
    with pytest.raises(UsageError, match="not a folder"):
        require_archive(folder)


def test_verify_is_not_disturbed(tmp_path):
    recorded = Recorded(tmp_path)
    folder = recorded.folder
    put_segment(folder, [block([spot_trade(1), spot_trade(2)])])
    restart(folder)
    report = verify_folder(tmp_path)
    assert ([], 0) == (report.errors, report.exit_code)


def test_an_old_day_goes_as_a_whole(folder):
    """A crash at every call leaves all of it or nothing, and the next round ends the work."""
    restart(folder)
    content = (folder.root / PLACE).read_bytes()
    files = FailingFiles()
    recorded = Recorded(folder.root)
    assert remove_archived(make_compactor(recorded, files), DATE)
    assert ([], []) == (archived_dates(folder), list(folder.tmp.iterdir()))
    for at in range(1, len(files.calls) + 1):
        (folder.archive / DATE).mkdir(exist_ok=True)
        (folder.root / PLACE).write_bytes(content)
        with pytest.raises(Crash):
            remove_archived(make_compactor(recorded, FailingFiles(at, Crash())), DATE)
        assert (folder.root / PLACE).exists() == (folder.archive / DATE).exists()
        restart(folder)
        if archived_dates(folder):
            assert remove_archived(make_compactor(recorded), DATE)
        assert ([], []) == (archived_dates(folder), list(folder.tmp.iterdir()))


def test_an_old_day_with_foreign_files_stays(folder):
    restart(folder)
    (folder.archive / DATE / "mine").touch()
    assert not remove_archived(make_compactor(Recorded(folder.root)), DATE)
    assert (folder.root / PLACE).exists()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda _: b"junk",
                                    lambda _: b"", lambda data: data + b"junk"])  # fmt: skip
def test_a_file_that_was_cut_or_changed_is_told(folder, change):
    restart(folder)
    path = folder.root / PLACE
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedError, match="deadbeef"):
        decompress_file(path, folder.root / "target")


def test_a_target_that_cannot_be_written_is_not_damage(folder, tmp_path):
    restart(folder)
    with pytest.raises(OSError, match="No such file"):
        decompress_file(folder.root / PLACE, tmp_path / "no" / "folder")
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        decompress_file(folder.root / PLACE, tmp_path / "full")
