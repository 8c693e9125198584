"""A disk that is full, read-only, or fails: real file systems, real errors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest
from recorded import data_set_rows, journal_rows, merge, missing_or_changed, segments, verified
from recorder_process import until

from streamsvc.persistence.layout import DataFolder

MB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk):
    """Have somebody else take all that is left of a disk."""
    with (disk / "filler").open("ab", buffering=0) as filler:
        for piece in (MB, 4096, 1):
            try:
                while filler.write(b"x" * piece) == piece:
                    pass
            except OSError:
                continue


async def test_the_disk_is_full_for_a_while(stage, start, small_disk):
    """Recording pauses and says so; with room again it goes on, and nothing is missing."""
    recorder = start(stage, place=small_disk.parent, DATA_DIR=str(small_disk / "data"), SAVE_CONCURRENCY="2")
    await recorder.saw("rotated")
    fill(small_disk)
    await recorder.saw("paused_disk")
    written = journal_rows(recorder.data)
    assert recorder.is_running

    (small_disk / "filler").unlink()

    await recorder.saw("disk_resumed")
    sent = stage.sent()
    await until(lambda: sent.keys() == journal_rows(recorder.data).keys(), "every stream goes on")
    assert 0 == await recorder.stop()
    assert [] == verified(recorder.data).gaps
    assert [] == missing_or_changed(written, data_set_rows(recorder.data))
    assert [] == recorder.events("connection_lost")
    assert [] == recorder.events("segment_set_aside")


async def test_the_reserve_is_reached(stage, start, small_disk):
    """Below DISK_RESERVE_MB nothing is written any more, while there is still room to seal what is there."""
    recorder = start(stage, place=small_disk.parent, DATA_DIR=str(small_disk / "data"), DISK_RESERVE_MB="10")
    await recorder.saw("connection_opened")
    await until(lambda: journal_rows(recorder.data), "something in the journal")
    (small_disk / "filler").write_bytes(b"x" * 15 * MB)

    await recorder.saw("paused_disk")
    await until(lambda: not journal_rows(recorder.data), "all is sealed")

    assert [] == recorder.events("seal_paused")
    (small_disk / "filler").unlink()
    await recorder.saw("disk_resumed")
    assert 0 == await recorder.stop()
    assert [] == verified(recorder.data).gaps


async def test_the_disk_stays_full_to_the_end(stage, start, small_disk):
    """A stop does not wait for room beyond DRAIN_SEC; what could not be written is said, with exit code 1."""
    place = small_disk.parent
    recorder = start(stage, place=place, DATA_DIR=str(small_disk / "data"), DRAIN_SEC="1")
    await recorder.saw("rotated")
    fill(small_disk)
    await recorder.saw("paused_disk")
    written = journal_rows(recorder.data)

    assert 1 == await recorder.stop()

    assert 0 < recorder.events("journal_incomplete")[0]["messages_lost"]
    assert "Traceback" not in recorder.errors()
    (small_disk / "filler").unlink()
    following = start(stage, place=place, DATA_DIR=str(small_disk / "data"))
    await following.saw("ready")
    assert 0 == await following.stop()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))


@pytest.fixture
def tamper_with():
    """Makes system calls of a running process on one file fail or hang."""
    tracers = []

    def begin(pid, call, path, how):
        strace = shutil.which("strace")
        if strace is None:
            pytest.skip("strace is not there")
        command = [strace, "-f", "-p", str(pid), "-o", os.devnull, "-P", path]
        command += ["-e", f"trace={call}", "-e", f"inject={call}:{how}"]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        tracers.append(tracer)
        said = tracer.stderr.readline()
        if "attached" not in said:
            pytest.skip(f"strace is not permitted here: {said.strip()}")
        return tracer

    yield begin
    for tracer in tracers:
        tracer.kill()
        tracer.communicate()


@pytest.mark.parametrize("call", ["fdatasync", "write"])
async def test_the_disk_fails(stage, start, tamper_with, call):
    """A sync or a write that failed is never repeated: the process ends with its traceback; recovery finds the rest."""
    recorder = start(stage, JOURNAL_SYNC_SEC="0.2", PARQUET_ROTATE_SEC="60")
    await until(lambda: journal_rows(recorder.data), "something in the journal")
    (name,) = segments(recorder.data)
    written = journal_rows(recorder.data)

    tamper_with(recorder.pid, call, DataFolder(recorder.data).segment(name), "error=EIO")

    assert 1 == await recorder.ended()
    assert "OSError: [Errno 5] Input/output error" in recorder.errors()
    assert "crashed" == recorder.names()[-1]
    merge(written, journal_rows(recorder.data))
    following = start(stage)
    await following.saw("ready")
    assert 0 == await following.stop()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))


async def test_a_sync_that_never_returns(stage, start, tamper_with):
    """A drain cannot end on such a disk, but a second signal ends it at once; recovery finds what was written."""
    recorder = start(stage, JOURNAL_SYNC_SEC="0.2", PARQUET_ROTATE_SEC="60", DRAIN_SEC="0.5")
    await until(lambda: journal_rows(recorder.data), "something in the journal")
    (name,) = segments(recorder.data)
    journal = DataFolder(recorder.data).segment(name)
    tracer = tamper_with(recorder.pid, "fdatasync", journal, "delay_enter=3600s")
    recorder.signal(signal.SIGTERM)
    await recorder.saw("stopping")
    await recorder.saw("drain_cut")
    assert recorder.is_running

    recorder.signal(signal.SIGTERM)

    await recorder.saw("stopping_at_once")
    tracer.kill()  # It keeps the call from returning, and for that the dead process as well.
    assert 1 == await recorder.ended()
    written = journal_rows(recorder.data)
    following = start(stage)
    await following.saw("ready")
    assert 0 == await following.stop()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))
