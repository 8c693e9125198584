"""The end of a recorder: signals, time, a second signal, Ctrl-C of a terminal."""

from __future__ import annotations

import signal

import pytest
from recorded import (
    data_set_rows,
    holes,
    journal_rows,
    merge,
    missing_or_changed,
    rows_by_run,
    segments,
    verified,
)
from recorder_process import SLOW_RECORDER, until

from streamsvc.persistence.layout import DataFolder


def has_reached(data, ids):
    """Whether journal and data set together hold every stream up to these ids."""
    seen = {}
    for rows in (journal_rows(data), data_set_rows(data)):
        for stream, counts in rows.items():
            seen[stream] = max(seen.get(stream, 0), *counts)
    return all(seen.get(stream, 0) >= last for stream, last in ids.items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_seals(stage, start, number):
    """All that the exchange had sent and the recorder had written is sealed when it leaves, with exit code 0."""
    recorder = start(stage, PARQUET_ROTATE_SEC="60")
    await recorder.saw("ready")
    await until(lambda: len(stage.sent()) == 14, "every stream has spoken")
    sent = stage.sent()
    await until(lambda: has_reached(recorder.data, sent), "all of it is written")
    written = journal_rows(recorder.data)

    recorder.signal(number)

    assert 0 == await recorder.ended()
    report = verified(recorder.data)
    assert [] == report.gaps
    rows = data_set_rows(recorder.data)
    assert [] == missing_or_changed(written, rows)
    assert {} == {stream: last for stream, last in sent.items() if last > max(rows[stream])}
    assert [signal.Signals(number).name] == [event["reason"] for event in recorder.events("stopping")]
    assert "stopped" == recorder.names()[-1]
    assert "" == recorder.errors()


async def test_the_drain_is_cut_at_its_deadline(stage, start):
    """What cannot be sealed within DRAIN_SEC stays in the journal, and that is no failure."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_SEAL_SEC="3600", DRAIN_SEC="1")
    await until(lambda: len(segments(recorder.data)) > 1, "a closed segment")

    assert 0 == await recorder.stop()

    assert [] != recorder.events("drain_cut")
    written = journal_rows(recorder.data)
    assert {} == data_set_rows(recorder.data)
    following = start(stage)
    await following.saw("journal_recovered")
    await following.saw("ready")
    assert 0 == await following.stop()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))


async def test_a_second_signal_stops_at_once(stage, start):
    """It does not wait for sealers; exit code 1, and the next start finds everything that was written."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_SEAL_SEC="3600", DRAIN_SEC="3600")
    await until(lambda: len(segments(recorder.data)) > 1, "a closed segment")
    recorder.signal(signal.SIGTERM)
    await recorder.saw("stopping")

    recorder.signal(signal.SIGINT)

    assert 1 == await recorder.ended()
    assert "stopping_at_once" == recorder.names()[-1]
    written = journal_rows(recorder.data)
    assert written
    following = start(stage)
    await following.saw("ready")
    code = await following.stop()
    assert 0 == code, following.errors()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ignored", [{}, {"IGNORED_SIGNAL": str(int(signal.SIGINT))}], ids=["", "background job"])
async def test_a_signal_while_modules_load(stage, start, number, ignored):
    """It is neither lost nor a crash: the recorder stops in good order as soon as it can."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_LOAD_SEC="1", **ignored)
    await until(lambda: recorder.is_holding(number), "signals are held back")

    recorder.signal(number)

    assert 0 == await recorder.ended()
    assert ["starting", "stopping"] == recorder.names()[:2]
    assert "stopped" == recorder.names()[-1]
    assert "" == recorder.errors()


async def test_ctrl_c_in_a_terminal_lets_sealers_finish(stage, start):
    """The terminal sends SIGINT to the workers as well: the segment in work is finished, not begun again."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_SEAL_SEC="0.8", PARQUET_ROTATE_SEC="1")
    tmp = DataFolder(recorder.data).tmp
    await until(lambda: tmp.is_dir() and any(tmp.iterdir()) and len(recorder.sealers()) == 1, "a sealer at work")
    (worker,) = recorder.sealers()

    recorder.signal_group(signal.SIGINT)

    await recorder.saw("rotated")
    assert [worker] == recorder.sealers()
    assert 0 == await recorder.ended()
    assert [] == recorder.events("seal_failed")
    assert "" == recorder.errors()
    assert [] == verified(recorder.data).gaps


@pytest.mark.parametrize("event", ["starting", "connection_opened", "ready"])
async def test_ctrl_c_while_workers_start(stage, start, event):
    """Ctrl-C finds workers before they can ignore it: what was received is sealed all the same."""
    recorder = start(stage)
    await recorder.saw(event)

    recorder.signal_group(signal.SIGINT)

    assert 0 == await recorder.ended()
    assert [] == verified(recorder.data).gaps


async def test_run_hours_are_over(stage, start):
    """It stops by itself as a signal stops it."""
    recorder = start(stage, RUN_HOURS="0.0002")

    assert 0 == await recorder.ended()

    assert ["RUN_HOURS"] == [event["reason"] for event in recorder.events("stopping")]
    report = verified(recorder.data)
    assert [] == report.gaps
    assert report.rows


async def test_a_fault_that_nobody_expects(stage, start):
    """The process ends with its traceback and 1, after the writer has written; the next start loses nothing."""
    recorder = start(stage)
    await recorder.saw("rotated")
    written = journal_rows(recorder.data)
    merge(written, data_set_rows(recorder.data))
    data_set = recorder.data / "parquet"
    data_set.rename(recorder.data / "away")
    data_set.touch()

    assert 1 == await recorder.ended()

    assert "NotADirectoryError" in recorder.errors()
    assert "crashed" in recorder.names()
    merge(written, journal_rows(recorder.data))
    data_set.unlink()
    (recorder.data / "away").rename(data_set)
    following = start(stage)
    await following.saw("ready")
    assert 0 == await following.stop()
    verified(following.data)
    assert [] == missing_or_changed(written, data_set_rows(following.data))
    assert {} == {
        run: jumps for run, rows in rows_by_run(following.data, with_fetched=False).items() if (jumps := holes(rows))
    }


async def test_the_tree_of_tasks_is_told_at_any_time(stage, start):
    """While it records, and while it drains; nothing else changes."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_SEAL_SEC="2")
    await recorder.saw("ready")
    recorder.signal(signal.SIGUSR1)
    told = await recorder.saw("task_tree")
    assert any("Supervisor" in line or "spot-1" in line for line in told["lines"])
    await recorder.saw("rotated")
    recorder.signal(signal.SIGTERM)
    await recorder.saw("stopping")
    recorder.signal(signal.SIGUSR1)
    await until(lambda: len(recorder.events("task_tree")) == 2, "it is told again")
    assert 0 == await recorder.ended()
    verified(recorder.data)
