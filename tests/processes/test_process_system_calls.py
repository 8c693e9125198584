"""The real program from its first breath under `strace`: the n-th system call of a kind fails, or is the last one.

`strace` counts in every thread and every worker by itself, so that a sealer's calls are met as well as the recorder's.
By default a few places are tried; `--system-calls N` tries each of the first N.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest
from recorded import data_set_rows, journal_rows, merge, missing_or_changed, verified
from recorder_process import COMMAND, until

FAULTS = {
    "fdatasync-EIO": ("fdatasync", "error=EIO", 3),  # Of the journal, or of SQLite's.
    "fsync-EIO": ("fsync", "error=EIO", 2),  # Of a folder, or of a sealer's files.
    "rename-KILL": ("/^rename", "signal=KILL", 1),
    "unlink-KILL": ("/^unlink", "signal=KILL", 1),
    "pwrite-KILL": ("pwrite64", "signal=KILL", 10),  # Within a transaction of the catalogue.
    "rename-EIO": ("/^rename", "error=EIO", None),
    "unlink-EIO": ("/^unlink", "error=EIO", None),
    "mkdir-ENOSPC": ("/^mkdir", "error=ENOSPC", None),
    "fdatasync-KILL": ("fdatasync", "signal=KILL", None),
    "fsync-KILL": ("fsync", "signal=KILL", None),
    "pwrite-EIO": ("pwrite64", "error=EIO", None),
    "ftruncate-EIO": ("ftruncate", "error=EIO", None),
}
"""Which system calls, what becomes of one of them, and which one by default: one that ends the recorder itself."""

ROTATIONS = 3
"""After so many a recorder that still runs will not be met any more."""


def pytest_generate_tests(metafunc):
    if "place" in metafunc.fixturenames:
        count = metafunc.config.getoption("--system-calls")
        places = [
            pytest.param((call, how, number, not count), id=f"{name}-{number}")
            for name, (call, how, default) in FAULTS.items()
            for number in (range(1, count + 1) if count else [default] if default else [])
        ]
        metafunc.parametrize("place", places)


@pytest.fixture(scope="module")
def strace():
    """How to start a program under `strace` without becoming its parent; what follows are its options."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not there")
    command = [path, "-D", "-f", "-qq", "-o", os.devnull]
    tried = subprocess.run([*command, "-e", "trace=fsync", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace is not permitted here: {tried.stderr.strip()}")
    return command


async def test_a_system_call_fails_or_is_the_last(stage, start, strace, place):
    """Whoever is met by it, the process ends or has it done again: what was written is there once after a restart."""
    call, how, number, must_end = place
    options = ["-e", f"trace={call}", "-e", f"inject={call}:{how}:when={number}"]
    recorder = start(stage, command=(*strace, *options, *COMMAND), JOURNAL_SYNC_SEC="0.2")
    await until(
        lambda: not recorder.is_running or len(recorder.events("rotated")) >= ROTATIONS, "its end, or rotations"
    )
    has_ended = not recorder.is_running
    code = await (recorder.ended() if has_ended else recorder.stop())
    print(f"ended by itself: {has_ended}, with {code}")
    assert has_ended or not must_end
    if code == 1:
        assert "Traceback" in recorder.errors()
        assert "crashed" in recorder.names() or "ready" not in recorder.names()
    elif code == 2:
        assert "starting" not in recorder.names()  # The folder could not be made.
    else:
        assert code in ((-signal.SIGKILL,) if has_ended else (0, -signal.SIGKILL))
        assert code == 0 or "KILL" in how
    await until(lambda: not recorder.orphans(), "the orphans have left")
    written = journal_rows(recorder.data)
    if (recorder.data / "catalogue.sqlite").exists():
        merge(written, data_set_rows(recorder.data))

    following = start(stage)
    await following.saw("ready")
    await following.saw("rotated")
    assert 0 == await following.stop(), following.errors()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))
