"""One instance a data folder."""

import subprocess
import sys

import pytest

from streamsvc.errors import UsageError
from streamsvc.persistence.files import Files
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.lock import locked

HOLD = (
    "import sys, pathlib\n"
    "from streamsvc.persistence.layout import DataFolder\n"
    "from streamsvc.persistence.lock import locked\n"
    "with locked(DataFolder(pathlib.Path(sys.argv[1]))):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


def test_a_second_instance_is_refused_until_the_first_has_ended(tmp_path):
    with locked(DataFolder(tmp_path)), pytest.raises(UsageError, match="in use by another instance"):
        locked(DataFolder(tmp_path)).__enter__()
    with locked(DataFolder(tmp_path)):
        pass


def test_the_kernel_drops_the_lock_of_a_killed_process(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert b"held\n" == other.stdout.readline()
        with pytest.raises(UsageError):
            locked(DataFolder(tmp_path)).__enter__()
        other.kill()
    with locked(DataFolder(tmp_path)):
        pass


def test_children_do_not_inherit_it(tmp_path):
    """A worker outlives its killed parent, and must not hold its folder."""
    with locked(DataFolder(tmp_path)):
        child = subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        child.stdout.readline()
    with locked(DataFolder(tmp_path)):
        child.communicate(b"\n")
    assert 0 == child.returncode


def test_the_folder_is_made(tmp_path):
    with locked(DataFolder(tmp_path / "a" / "b")):
        assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_that_cannot_be_used_is_named(tmp_path, kind):
    """A link in the lock's place is not followed."""
    root = tmp_path / "data"
    if kind == "file":
        root.write_text("x")
    else:
        root.mkdir()
        (tmp_path / "precious").write_text("x")
        (root / "streamsvc.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="data cannot be used"):
        locked(DataFolder(root)).__enter__()


def test_the_folders_that_were_made_are_on_the_disk(tmp_path, monkeypatch):
    """A power cut must not take the data folder; one that was there before costs nothing."""
    synced = []
    monkeypatch.setattr(Files, "sync_folder", lambda _files, folder: synced.append(folder))
    for _ in range(2):
        with locked(DataFolder(tmp_path / "a" / "b")):
            pass
    assert [tmp_path / "a", tmp_path] == synced
