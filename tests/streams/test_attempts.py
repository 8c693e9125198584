"""The budget of connection attempts: any window, several instances, a file that anybody may have written."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import struct
import subprocess
import sys
import time

import pytest
import trio

from streamsvc.streams import attempts
from streamsvc.streams.attempts import (
    AttemptBudget,
    AttemptLimits,
    MemoryStore,
    SharedStore,
    memory_budget,
    shared_path,
)
from streamsvc.venues.venue import Limits

LIMITS = AttemptLimits.of(Limits(streams_per_connection=1, url_bytes=1, messages_per_sec=1))


async def in_line(function):
    await trio.lowlevel.checkpoint()
    return function()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "attempts"


def most_within(times, seconds):
    return max(sum(start <= time <= start + seconds for time in times) for start in times)


async def test_a_thousand_at_once(autojump_clock):
    """60 within any minute, 300 within any five, 50 ms apart; in the order of asking; none is starved."""
    budget = AttemptBudget(MemoryStore(LIMITS))
    times = []

    async def attempt(number):
        await budget.wait(lambda _: None)
        times.append((trio.current_time(), number))

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(attempt, number)
            await trio.testing.wait_all_tasks_blocked()
    only = [time for time, _ in times]
    assert list(range(1000)) == [number for _, number in times]
    assert most_within(only, 60) <= 60
    assert most_within(only, 300) <= 300
    assert min(late - early for early, late in itertools.pairwise(only)) > 0.0499
    assert only[-1] - only[0] < 1000 * 61 / 60 + 60


async def test_random_demand_for_days(autojump_clock):
    """The limits hold over every window, whatever the demand."""
    rng = random.Random(7)
    budget = AttemptBudget(MemoryStore(AttemptLimits(((30, 300.0), (10, 60.0), (1, 0.05)))))
    times = []
    for _ in range(3000):
        await trio.sleep(rng.expovariate(1 / 4))
        await budget.wait(lambda _: None)
        times.append(trio.current_time())
    assert all(late - early > 299.999 for early, late in zip(times, times[30:], strict=False))
    assert all(late - early > 59.999 for early, late in zip(times, times[10:], strict=False))


async def test_hold(autojump_clock):
    """While the exchange bans us nothing goes through, and who asks is told how long it takes."""
    budget = AttemptBudget(MemoryStore(LIMITS))
    delays = []
    began_at = trio.current_time()
    budget.hold(600)
    budget.hold(5)
    await budget.wait(delays.append)
    assert ([600], 600) == (delays, trio.current_time() - began_at)


async def test_cancelled_wait_lets_the_next_one_through(autojump_clock):
    """The queue does not break."""
    budget = AttemptBudget(MemoryStore(AttemptLimits(((1, 10.0),))))
    await budget.wait(lambda _: None)
    with trio.move_on_after(1):
        await budget.wait(lambda _: None)
    began_at = trio.current_time()
    await budget.wait(lambda _: None)
    assert 9 == trio.current_time() - began_at


async def test_two_instances_share(path):
    """What one uses, the other does not have."""
    limits = AttemptLimits(((3, 1000.0),))
    one, other = (SharedStore(limits, path, in_line) for _ in range(2))
    assert [0, 0, 0] == [await store.take() for store in (one, other, one)]
    assert 990 < await other.take() <= 1000
    assert 990 < await one.take() <= 1000


async def test_after_a_crash(path):
    """A new process begins with what the last one has used."""
    limits = AttemptLimits(((3, 1000.0),))
    for _ in range(3):
        assert 0 == await SharedStore(limits, path, in_line).take()
    assert 990 < await SharedStore(limits, path, in_line).take()


def test_several_processes_at_once(path):
    """Together they get as many as one would."""
    code = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from streamsvc.streams.attempts import AttemptLimits, SharedStore\n"
        "async def in_line(function):\n"
        "    await trio.lowlevel.checkpoint()\n"
        "    return function()\n"
        "async def main():\n"
        "    store = SharedStore(AttemptLimits(((50, 1000.0),)), Path(sys.argv[1]), in_line)\n"
        "    print(sum([await store.take() == 0 for _ in range(40)]))\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    granted = [int(process.communicate()[0]) for process in processes]
    assert 50 == sum(granted)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 1000,
        b"{}",
        struct.pack("<3d", float("nan"), float("inf"), -float("inf")),
        struct.pack("<3d", 1e300, time.clock_gettime(time.CLOCK_BOOTTIME) + 1e6, -5.0),
        os.urandom(100_000),
    ],
)
async def test_content_that_means_nothing(path, content):
    """It is ignored, and replaced by our own; the file stays small."""
    path.write_bytes(content)
    store = SharedStore(AttemptLimits(((2, 1000.0),)), path, in_line)
    assert [0, 0] == [await store.take() for _ in range(2)]
    assert 990 < await store.take()
    assert 16 == path.stat().st_size


async def test_somebody_empties_the_file(path):
    """That widens nobody's budget: a process keeps to its own count as well."""
    store = SharedStore(AttemptLimits(((2, 1000.0),)), path, in_line)
    for _ in range(2):
        assert 0 == await store.take()
        path.write_bytes(b"")
    assert 990 < await store.take()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "locked", "nowhere"])
async def test_file_that_is_none(path, kind, tmp_path):
    """Links are not followed, nothing is waited for; the process goes on with its own count."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    holder = None
    if kind == "link":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "locked":
        holder = path.open("wb")
        fcntl.flock(holder, fcntl.LOCK_EX)
    else:
        path = tmp_path / "no" / "such" / "folder"
    store = SharedStore(AttemptLimits(((2, 1000.0),)), path, in_line)
    assert [0, 0] == [await store.take() for _ in range(2)]
    assert 990 < await store.take()
    assert b"precious" == target.read_bytes()
    if holder is not None:
        holder.close()


def test_path_says_nothing_that_a_user_wrote(monkeypatch):
    """Two exchanges have two files, whatever their names, in memory where there is such a folder."""
    paths = {shared_path(url) for url in ("wss://a.test", "wss://b.test", "wss://../../etc/passwd")}
    assert 3 == len(paths)
    assert 1 == len({path.parent for path in paths})
    assert all("etc" not in path.name for path in paths)
    monkeypatch.setattr(attempts.os, "access", lambda *_: False)
    assert shared_path("wss://a.test").parent.is_dir()


def test_services_of_systemd_share_the_folder_of_their_unit(tmp_path):
    """Two instances that name the same folder have the same file in it."""
    paths = {
        shared_path("wss://a.test", {"RUNTIME_DIRECTORY": folders}) for folders in (f"{tmp_path}", f"{tmp_path}:/run/x")
    }
    assert [tmp_path] == [path.parent for path in paths]


async def test_budget_of_a_market(autojump_clock, spot):
    """Its own limit, a minute's, and a spacing."""
    budget = memory_budget(spot)
    began_at = trio.current_time()
    for _ in range(60):
        await budget.wait(lambda _: None)
    assert 59 * 0.05 == pytest.approx(trio.current_time() - began_at)
