"""Sealers as real processes: killed, interrupted, warmed."""

import contextlib
import os
import signal
import time

import psutil
import pytest
import trio
from persistence_samples import NAME, block, make_folder, make_publisher, put_segment, spot_trade

from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.sealing import Backlog, Sealing
from streamsvc.persistence.segment import ClosedSegment
from streamsvc.persistence.workers import SealerDiedError, open_sealers

DEADLINE_SEC = 60


def workers():
    """The living processes that were started as workers by this one."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # A zombie counts as none.
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


async def wait_for(condition):
    with trio.fail_after(DEADLINE_SEC):
        while not (found := condition()):  # noqa: ASYNC110 - other processes tell us nothing
            await trio.sleep(0.005)
    return found


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


async def test_a_worker_killed_in_the_middle_is_replaced_and_its_segment_sealed_once(folder):
    """SIGKILL while it seals, as the kernel does when memory runs out."""
    put_segment(folder, [block([spot_trade(number) for number in range(1000)])] * 100)
    publisher, backlog = make_publisher(folder), Backlog()
    backlog.add(ClosedSegment(NAME, 1000))
    backlog.end()
    async with open_sealers(1) as sealers, trio.open_nursery() as nursery:
        sealing = Sealing(backlog, publisher, sealers.seal, trio.to_thread.run_sync, lambda: 0, 3, 5.0)
        nursery.start_soon(sealing.run)
        await wait_for(lambda: list(folder.tmp.iterdir()))
        (worker,) = workers()
        worker.kill()
        await wait_for(lambda: not backlog.segments)
    (file,) = publisher.catalogue.sealed_files()
    assert (100_000, [], []) == (file.rows, folder.segments(), list(folder.tmp.iterdir()))


async def test_an_idle_worker_that_was_killed_is_replaced(folder):
    """At worst the next call notices it, and the one after has a new worker."""
    put_segment(folder, [block([spot_trade(1)])])
    async with open_sealers(1) as sealers:
        with pytest.raises(FileNotFoundError):  # A fault of the sealer comes out as it is.
            await sealers.seal(folder.journal / f"{SegmentName(9, 9, 9)}.journal", folder.tmp)
        (worker,) = workers()
        worker.kill()
        with contextlib.suppress(SealerDiedError):
            await sealers.seal(folder.segment(NAME), folder.tmp)
        assert 1 == (await sealers.seal(folder.segment(NAME), folder.tmp)).rows


async def test_the_bodys_fault_comes_out_though_a_worker_left_badly():
    with pytest.raises(KeyError):  # noqa: PT012 - leaving is what is tested
        async with open_sealers(1) as sealers:
            await sealers.warm()
            workers()[0].kill()
            raise KeyError


async def test_workers_ignore_the_terminals_interrupt(folder):
    """Ctrl-C goes to the whole group of processes; the drain still needs the sealers."""
    put_segment(folder, [block([spot_trade(1)])])
    async with open_sealers(2) as sealers:
        await sealers.warm()
        before = {worker.pid for worker in workers()}
        assert 2 == len(before)
        for pid in before:
            os.kill(pid, signal.SIGINT)
        time.sleep(0.05)  # noqa: ASYNC251 - the workers have a moment to die of it
        assert 1 == (await sealers.seal(folder.segment(NAME), folder.tmp)).rows
        assert before == {worker.pid for worker in workers()}


async def test_a_cancellation_kills_the_worker(folder):
    """At the end of the drain nothing waits for a sealer."""
    put_segment(folder, [block([spot_trade(number) for number in range(1000)])] * 300)
    async with open_sealers(1) as sealers, trio.open_nursery() as nursery:
        nursery.start_soon(sealers.seal, folder.segment(NAME), folder.tmp)
        await wait_for(lambda: list(folder.tmp.iterdir()))
        nursery.cancel_scope.cancel()
    assert [] == workers()
