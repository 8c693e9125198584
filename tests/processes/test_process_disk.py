"""A disk that is full, read-only, or fails: real file systems, real errors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import attrs
import pytest
from recorded import data_set_rows, journal_rows, merge, missing_or_changed, segments, verified
from recorder_process import until
from small_disk import fill

from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.simulator.market import Activity

MB = 1 << 20
SYMBOLS = ("BTCUSDT", "ETHUSDT")


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


async def test_the_disk_is_full_for_longer_than_reading_may_wait(stage_of, start, small_disk, manager):
    """Reading pauses within its bounds, and the log and systemd's status say so; with room again it goes on.

    What the exchange said meanwhile is in the ledger, trades are fetched, and what had been written is there once.
    """
    stage = await stage_of(symbols=dict.fromkeys(SYMBOLS, Activity(200, 400)))
    kinds = {"SPOT_KINDS": "trade,depth", "FUTURES_KINDS": "depth"}
    streams = {("spot", symbol, kind) for symbol in SYMBOLS for kind in ("trade", "depth")}
    streams |= {("futures", symbol, "depth") for symbol in SYMBOLS}
    bounds = {"BACKPRESSURE_SEC": "0.5", "QUEUE_MAX_MB": "1", "GAP_GRACE_SEC": "0.5"}
    systemd = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "2000000", "HEALTH_CHECK_INTERVAL": "0.2"}
    data = small_disk / "data"
    recorder = start(stage, place=small_disk.parent, DATA_DIR=str(data), **kinds, **bounds, **systemd)
    await recorder.saw("rotated")
    await until(lambda: len(stage.sent()) == len(streams), "every stream has spoken")

    fill(small_disk)

    await recorder.saw("paused_disk")
    await until(lambda: manager.statuses()[-1].startswith("paused_disk"), "the status")
    await recorder.saw("connection_lost", 2)
    written = journal_rows(recorder.data)
    assert {"shed"} == {event["cause"] for event in recorder.events("connection_lost")}
    beats = manager.lines().count("WATCHDOG=1")
    await until(lambda: manager.lines().count("WATCHDOG=1") > beats, "a beat in the pause")

    (small_disk / "filler").unlink()

    await recorder.saw("disk_resumed")
    await until(lambda: streams <= {gap_stream(event) for event in recorder.events("gap_opened")}, "a gap each")
    await until(lambda: streams <= {gap_stream(attrs.asdict(row)) for row in gap_rows(data)}, "the gaps in the ledger")
    await until(lambda: not [row for row in gap_rows(data) if row.status == "open"], "repairs")
    await until(lambda: manager.statuses()[-1].startswith("recording"), "the status of a recording")
    assert 0 == await recorder.stop()
    report = verified(data)
    assert 1 == report.exit_code
    assert {(market, symbol, "depth") for market, symbol, _kind in streams} == set(
        map(gap_stream, map(attrs.asdict, report.gaps))
    )
    assert {gap.cause for gap in report.gaps} <= {"shed", "disk"}
    assert [] == missing_or_changed(written, data_set_rows(data))


def gap_stream(fields):
    return fields["market"], fields["symbol"], fields["kind"]


def gap_rows(data):
    return Catalogue(DataFolder(data).catalogue, is_read_only=True).gaps()


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


async def test_the_disk_is_full_at_the_start(stage, start, small_disk):
    """The start waits; a stop ends it in good order, and room lets it go on where the run before it ended."""
    place, data = small_disk.parent, small_disk / "data"
    before = start(stage, place=place, DATA_DIR=str(data))
    await before.saw("rotated")
    assert 0 == await before.stop()
    fill(small_disk)
    stopped = start(stage, place=place, DATA_DIR=str(data), DISK_RETRY_SEC="0.1")
    await stopped.saw("paused_disk")
    assert 0 == await stopped.stop()

    waiting = start(stage, place=place, DATA_DIR=str(data), DISK_RETRY_SEC="0.1")
    await waiting.saw("paused_disk")
    assert [] == waiting.events("ready")
    (small_disk / "filler").unlink()

    await waiting.saw("ready")
    assert 0 == await waiting.stop()
    assert [] == [gap for gap in verified(data).gaps if gap.cause != "restart"]


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
