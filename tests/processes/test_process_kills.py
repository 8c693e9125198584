"""SIGKILL at random moments, against an exchange that goes on: nothing written is lost, nothing is there twice."""

from __future__ import annotations

import contextlib
import random
import secrets
import signal
from collections import Counter, defaultdict
from functools import partial

import psutil
import pytest
import trio
from recorded import (
    archive_rows,
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

LANES = 2
"""Recorders that are killed side by side, each with a folder of its own: the machine has idle moments otherwise."""


LONGEST_SEC = {
    "loading": 0.5,
    "recovery": 0.1,
    "recording": 0.5,
    "sealing": 0.2,
    "publishing": 0.05,
    "draining": 0.5,
}
"""How long each moment lasts, about."""


def count_files(data):
    return len([*(data / "parquet").rglob("*.parquet")])


async def random_moment(recorder, rng):
    """Wait for some moment in the life of a recorder that has just been started; gives the moment's name."""
    tmp = DataFolder(recorder.data).tmp
    files_before = count_files(recorder.data)
    moments = {
        "loading": lambda: True,
        "recovery": lambda: recorder.events("starting"),
        "recording": lambda: recorder.events("connection_opened"),
        "sealing": lambda: tmp.is_dir() and any(tmp.iterdir()),
        "publishing": lambda: count_files(recorder.data) > files_before,
        "draining": lambda: recorder.events("connection_opened"),
    }
    name = rng.choice([*moments])
    await until(lambda: moments[name]() or not recorder.is_running, f"the moment of {name}")
    if name == "draining":
        recorder.signal(signal.SIGTERM)
    await trio.sleep(rng.uniform(0, LONGEST_SEC[name]))
    return name


async def kill_again_and_again(begin, kills, rng, moments):
    """Kill recorders of one folder; then let one finish, and hold what it left against what every journal held.

    They keep their segments: the archive holds the same messages as the data set, each once.
    """
    written, recorders = defaultdict(Counter), []
    while kills:
        recorder = begin(PARQUET_ROTATE_SEC="0.8", RAW_ARCHIVE="true")
        recorders.append(recorder)
        moment = await random_moment(recorder, rng)
        await recorder.kill()
        if await recorder.ended() == -signal.SIGKILL:
            moments[moment] += 1
            kills -= 1
        merge(written, journal_rows(recorder.data))
    for recorder in recorders:
        await until(lambda one=recorder: not one.orphans(), "the orphans have left")
    last = begin(DRAIN_SEC="600", RAW_ARCHIVE="true")
    await last.saw("ready")
    assert 0 == await last.stop()

    verified(last.data)
    assert [] == missing_or_changed(written, data_set_rows(last.data))
    in_archive, in_data_set = archive_rows(last.data, last.data / "scratch"), data_set_rows(last.data)
    assert in_archive
    assert [] == missing_or_changed(in_data_set, in_archive) + missing_or_changed(in_archive, in_data_set)
    runs = rows_by_run(last.data, with_fetched=False)
    assert {} == {run: jumps for run, rows in runs.items() if (jumps := holes(rows))}, "ids missing within a run"
    assert len(runs) > 1
    assert [] == [event for one in [*recorders, last] for event in one.events("connection_lost")]


async def test_sigkill_at_random_moments(stage, start, tmp_path, pytestconfig):
    """What the journal held at any kill is in the data set once, and within a run no id is missing."""
    seed = pytestconfig.getoption("--kills-seed")
    seed = secrets.randbits(32) if seed is None else seed
    kills, moments = pytestconfig.getoption("--kills"), Counter()
    print(f"{kills} kills with --kills-seed {seed}")
    async with trio.open_nursery() as nursery:
        for lane in range(LANES):
            share = kills // LANES + (lane < kills % LANES)
            rng = random.Random(f"{seed}-{lane}")
            begin = partial(start, stage, place=tmp_path / f"lane-{lane}")
            nursery.start_soon(kill_again_and_again, begin, share, rng, moments)
    print("killed while", dict(moments))
    assert kills == moments.total()


def is_sealing(recorder):
    """Whether a worker of this very process has its folder in `tmp`."""
    for path in DataFolder(recorder.data).tmp.glob("*"):
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(int(path.name.rpartition("-")[2])).ppid() == recorder.pid:
                return True
    return False


def has_work(recorder):
    """Whether there is a closed segment, and a worker who may not yet have looked at it."""
    return len(segments(recorder.data)) > 1 and recorder.sealers()


@pytest.mark.parametrize("moment", [has_work, is_sealing])
async def test_orphans_still_seal_when_the_next_run_does(stage, start, moment):
    """Workers of killed parents work on segments that later runs seal as well: no row twice, none missing.

    The orphans begin and end before, while and after a later run publishes the same segment.
    """
    written = defaultdict(Counter)
    killed = []
    for orphan_sec in ("0.4", "1.2", "2.4"):
        recorder = start(stage, command=SLOW_RECORDER, SLOW_SEAL_SEC=orphan_sec, PARQUET_ROTATE_SEC="1")
        killed.append(recorder)
        await until(partial(moment, recorder), "a sealer with work")
        await recorder.kill()
        merge(written, journal_rows(recorder.data))
        assert [] != recorder.orphans()
    names = segments(recorder.data)
    assert [] != killed[-1].orphans()

    last = start(stage)
    await last.saw("rotated", len(names))
    for one in killed:
        await until(lambda one=one: not one.orphans(), "the orphans have left")
    assert 0 == await last.stop()

    clean = start(stage)  # What an orphan has made after the last start is removed by the next.
    await clean.saw("ready")
    code = await clean.stop()
    assert 0 == code, clean.errors()
    verified(clean.data)
    assert [] == missing_or_changed(written, data_set_rows(clean.data))


async def test_a_sealer_is_killed_in_the_middle_of_its_work(stage, start):
    """Another one takes its place, and its segment is sealed once."""
    recorder = start(stage, command=SLOW_RECORDER, SLOW_SEAL_SEC="0.8", PARQUET_ROTATE_SEC="1")
    await until(partial(is_sealing, recorder), "a sealer at work")
    written = journal_rows(recorder.data)
    (worker,) = recorder.sealers()

    worker.kill()

    failed = await recorder.saw("seal_failed")
    await recorder.saw("rotated")
    assert "SealerDiedError" in failed["detail"]
    assert [failed["segment"]] == [event["segment"] for event in recorder.events("rotated")][:1]
    assert 0 == await recorder.stop()
    assert [] == recorder.events("segment_set_aside")
    assert [] == verified(recorder.data).gaps
    assert [] == missing_or_changed(written, data_set_rows(recorder.data))


async def test_a_sealer_is_killed_while_it_waits(stage, start):
    """The next segment finds another one: nothing has failed."""
    recorder = start(stage, PARQUET_ROTATE_SEC="1")
    await recorder.saw("rotated")
    for worker in recorder.sealers():
        worker.kill()

    await recorder.saw("rotated", 2)

    assert 0 == await recorder.stop()
    assert [] == verified(recorder.data).gaps
