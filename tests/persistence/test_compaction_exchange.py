"""Two folders change places."""

import ctypes
import errno

import pytest

from streamsvc.errors import DiskFullError, UsageError
from streamsvc.persistence import compaction_exchange
from streamsvc.persistence.compaction_exchange import exchange, require_exchange


@pytest.fixture
def folders(tmp_path):
    one, other = tmp_path / "one", tmp_path / "币"
    for folder in (one, other):
        folder.mkdir()
        (folder / f"of-{folder.name}").touch()
    return one, other


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_two_folders_change_places(folders):
    exchange(*folders)
    assert (["of-币"], ["of-one"]) == tuple(map(names, folders))


def test_a_folder_that_is_not_there_changes_nothing(folders, tmp_path):
    with pytest.raises(FileNotFoundError):
        exchange(folders[0], tmp_path / "none")
    assert ["of-one"] == names(folders[0])


class Library:
    """A C library whose `renameat2` fails."""

    def __init__(self, code):
        def renameat2(*_args):
            ctypes.set_errno(code)
            return -1

        self.renameat2 = renameat2


@pytest.mark.parametrize(
    ("library", "fault"),
    [
        (Library(errno.EINVAL), UsageError),
        (Library(errno.ENOSYS), UsageError),
        (Library(errno.EOPNOTSUPP), UsageError),
        (object(), UsageError),
        (Library(errno.ENOSPC), DiskFullError),
        (Library(errno.EIO), OSError),
    ],
)
def test_what_the_system_refuses_is_told_by_what_can_be_done(folders, monkeypatch, library, fault):
    """A file system that lacks it is the user's to choose; a library without the call is the same."""
    monkeypatch.setattr(compaction_exchange.ctypes, "CDLL", lambda *_args, **_more: library)
    with pytest.raises(fault):
        exchange(*folders)
    assert ["of-one"] == names(folders[0])


def test_trying_leaves_nothing_behind(tmp_path, monkeypatch):
    require_exchange(tmp_path)
    assert [] == names(tmp_path)
    monkeypatch.setattr(compaction_exchange.ctypes, "CDLL", lambda *_args, **_more: Library(errno.EINVAL))
    with pytest.raises(UsageError, match="cannot exchange two folders"):
        require_exchange(tmp_path)
    assert [] == names(tmp_path)
