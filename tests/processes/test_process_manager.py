"""What surrounds the process: systemd's socket, and whoever reads its output."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest
import trio
from recorded import data_set_rows, journal_rows, missing_or_changed, segments, verified
from recorder_process import SLOW_RECORDER, until

from streamsvc.schema import Market


async def test_a_life_as_systemd_hears_it(stage, start, manager):
    """READY once, then beats and a status; STOPPING once, and beats until the drain is over."""
    recorder = start(
        stage,
        command=SLOW_RECORDER,
        SLOW_SEAL_SEC="1",
        NOTIFY_SOCKET=str(manager.path),
        WATCHDOG_USEC="300000",
        HEALTH_CHECK_INTERVAL="0.2",
    )
    await until(lambda: "READY=1" in manager.lines(), "READY")
    await until(lambda: len(segments(recorder.data)) > 1, "a closed segment")
    recorder.signal(signal.SIGTERM)

    assert 0 == await recorder.ended()

    lines, names = manager.lines(), manager.names()
    assert (1, 1) == (lines.count("READY=1"), lines.count("STOPPING=1"))
    ready, stopping = names.index("READY"), names.index("STOPPING")
    assert ready < stopping
    assert {"WATCHDOG", "STATUS"} <= set(names[ready:stopping])
    assert "WATCHDOG" in names[stopping:]
    assert "STATUS=recording" in lines[names.index("STATUS", ready + 1)].partition(",")[0]


async def test_a_loop_that_stands_still(stage, start, manager):
    """No beat comes any more; SIGABRT shows where it stood, and costs what a kill costs."""
    watched = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "300000", "PYTHONFAULTHANDLER": "1"}
    recorder = start(stage, command=SLOW_RECORDER, **watched)
    await recorder.saw("rotated")
    recorder.signal(signal.SIGUSR2)
    await until(lambda: "standing still" in recorder.errors(), "the loop stands still")
    written, seen = journal_rows(recorder.data), len(manager.lines())
    await trio.sleep(0.9)
    assert seen == len(manager.lines())
    assert recorder.is_running

    recorder.signal(signal.SIGABRT)

    assert -signal.SIGABRT == await recorder.ended()
    assert "slow_recorder.py" in recorder.errors()
    await until(lambda: not recorder.orphans(), "no worker stays behind")
    following = start(stage)
    await following.saw("ready")
    assert 0 == await following.stop()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))


@pytest.mark.parametrize("fault", ["refuse_connections", "stall_handshakes"])
async def test_ready_though_the_exchange_is_down(stage, start, manager, fault):
    """READY follows the first attempts, whatever became of them: a dead exchange is no restart loop."""
    for market in Market:
        getattr(stage.exchange, fault)(market)
    recorder = start(stage, NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="300000", CONNECT_TIMEOUT_SEC="0.5")

    await until(lambda: "READY=1" in manager.lines(), "READY")

    names = (await recorder.saw("ready"))["event"], *recorder.names()
    failed = [event["connection"] for event in recorder.events("connection_failed")]
    assert {"spot-1", "futures-public-1"} <= set(failed[: names.index("ready", 1)])
    seen = len(manager.lines())
    await until(lambda: "WATCHDOG=1" in manager.lines()[seen:], "a beat without a market")
    for market in Market:
        stage.exchange.lift(market)
    await recorder.saw("connection_opened", 2)
    assert 0 == await recorder.stop()


async def test_nobody_reads_the_log_for_a_while(stage, start):
    """A full pipe costs lines of the log at most: recording and sealing go on, and so does the log afterwards."""
    readable, writable = os.pipe()
    try:
        filling = b"x" * fcntl.fcntl(writable, fcntl.F_GETPIPE_SZ)
        os.write(writable, filling)
        recorder = start(stage, stdout=writable)
        await until(lambda: any((recorder.data / "parquet").rglob("*.parquet")), "a sealed file")
        await until(lambda: journal_rows(recorder.data), "more in the journal")

        os.set_blocking(readable, False)
        text = bytearray()

        def has_log():
            text.extend(os.read(readable, 65536) if len(text) <= len(filling) else b"")
            return len(text) > len(filling)

        await until(has_log, "the log goes on")
        assert text[len(filling) :].startswith(b'{"')
        assert b'"starting"' in text
        assert 0 == await recorder.stop()
    finally:
        os.close(readable)
        os.close(writable)
    assert [] == verified(recorder.data).gaps


@pytest.mark.parametrize("is_read", [False, None], ids=["never read", "gone"])
async def test_nobody_ever_reads_the_log(stage, start, is_read):
    """A pipe that stays full, or whose reader has gone, keeps nobody from stopping in good order."""
    readable, writable = os.pipe()
    try:
        if is_read is None:
            os.close(readable)
        else:
            os.write(writable, b"x" * fcntl.fcntl(writable, fcntl.F_GETPIPE_SZ))
        recorder = start(stage, stdout=writable)
        await until(lambda: any((recorder.data / "parquet").rglob("*.parquet")), "a sealed file")

        assert 0 == await recorder.stop()
    finally:
        if is_read is not None:
            os.close(readable)
        os.close(writable)
    assert [] == verified(recorder.data).gaps
    assert "" == recorder.errors()
