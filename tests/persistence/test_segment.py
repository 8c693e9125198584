"""The open segment: whole frames or nothing."""

import errno

import pytest
from persistence_samples import NAME, FailingFiles, block

from streamsvc.batch import Block
from streamsvc.errors import DiskFullError
from streamsvc.persistence.files import Files
from streamsvc.persistence.journal import read_segment
from streamsvc.persistence.segment import OpenSegment

ONE, TWO, THREE = block([b"1", b"11"]), block([b"2" * 100]), block([b"3"])


def blocks_in(path):
    items = list(read_segment(path.read_bytes(), NAME))
    assert all(isinstance(item, Block) for item in items)
    return items


def test_what_was_appended_is_read(tmp_path):
    path = tmp_path / "s.journal"
    segment = OpenSegment(Files(), path, NAME)
    written = segment.append([ONE, TWO]) + segment.append([THREE])
    segment.close()
    assert [ONE, TWO, THREE] == blocks_in(path)
    assert (written, 4) == (path.stat().st_size, segment.messages)


def test_short_writes_are_completed(tmp_path):
    path = tmp_path / "s.journal"
    segment = OpenSegment(FailingFiles(is_short=True), path, NAME)
    segment.append([ONE, TWO])
    segment.close()
    assert [ONE, TWO] == blocks_in(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_leaves_the_last_whole_frame_and_the_rest_can_follow(tmp_path, at, number):
    """A write that finds no room leaves nothing half-written, and works again when there is room."""
    path = tmp_path / "s.journal"
    segment = OpenSegment(FailingFiles(at, number, only="write"), path, NAME)
    written = []
    for each in (ONE, TWO, THREE):
        try:
            segment.append([each])
        except DiskFullError:
            assert written == blocks_in(path)
            segment.append([each])
        written.append(each)
    segment.close()
    assert [ONE, TWO, THREE] == blocks_in(path)


def test_too_many_open_files_count_as_a_full_disk(tmp_path):
    with pytest.raises(DiskFullError):
        OpenSegment(FailingFiles(1, errno.EMFILE), tmp_path / "s.journal", NAME)
    assert [] == list(tmp_path.iterdir())


def test_a_sync_without_room_is_no_full_disk(tmp_path):
    """After a sync that failed nobody knows what the disk holds, whatever the reason."""
    segment = OpenSegment(FailingFiles(1, OSError(errno.ENOSPC, "no space"), only="sync"), tmp_path / "s", NAME)
    segment.append([ONE])
    with pytest.raises(OSError, match="no space"):
        segment.sync()
    segment.abandon()


def test_the_folder_is_synced_once_before_the_first_frame(tmp_path):
    """Otherwise a power cut could take the file's name, and with it what was synced."""
    files = FailingFiles()
    segment = OpenSegment(files, tmp_path / "s", NAME)
    for each in (ONE, TWO):
        segment.append([each])
        segment.sync()
    segment.close()
    assert ["create", "sync_folder", "write", "sync", "write", "sync"] == files.calls


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "s.journal"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        OpenSegment(Files(), path, NAME)
    assert b"precious" == path.read_bytes()


def test_an_empty_segment_leaves_no_file(tmp_path):
    OpenSegment(Files(), tmp_path / "s.journal", NAME).close()
    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_opened_to_sync_it_leaves_nothing_behind(tmp_path):
    """Too many open files at that moment are waited for, so the same name must be free the next time."""
    with pytest.raises(DiskFullError):
        OpenSegment(FailingFiles(1, errno.EMFILE, only="sync_folder"), tmp_path / "s.journal", NAME)
    assert [] == list(tmp_path.iterdir())


def test_a_descriptor_is_closed_once(tmp_path):
    """By the second time the number may be another file's."""

    class CountingFiles(FailingFiles):
        closed = 0

        def close(self, descriptor):
            self.closed += 1
            super().close(descriptor)

    files = CountingFiles(1, errno.EIO, only="unlink")
    segment = OpenSegment(files, tmp_path / "s.journal", NAME)
    with pytest.raises(OSError, match="Input/output"):
        segment.close()
    segment.abandon()
    assert 1 == files.closed
