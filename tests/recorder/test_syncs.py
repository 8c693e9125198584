"""What a flush confirms, where writes are not synced; and which of them go to the file without a thread."""

import pytest
import trio
from recorder_support import NO_ROOM, flush_told, in_line

from streamsvc.recorder import NotWrittenError, open_trade_recorder

LOST = OSError(5, "Input/output error")
UNSYNCED = {"sync_each_flush": False, "flush_interval_sec": 0.1}


@pytest.mark.parametrize("is_more_waiting", [True, False])
async def test_a_sync_that_failed_is_told_once(rig, is_more_waiting, autojump_clock):
    """Written lines are in nobody's memory any more, and the disk says once that it has lost something."""
    async with rig.open(**UNSYNCED) as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        if is_more_waiting:
            await recorder.write_trade({"n": 1})
        rig.disk.faults["sync"] = [LOST]
        with pytest.raises(NotWrittenError, match="not known what the disk has") as caught:
            await recorder.flush()
        assert not caught.value.is_held
        await recorder.flush()
        assert 1 == recorder.statistics().failed_flushes
    assert [0, 1][: 1 + is_more_waiting] == rig.numbers()


async def test_everybody_who_flushes_meanwhile_is_told(rig, autojump_clock):
    faults = []
    async with rig.open(**UNSYNCED) as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.disk.faults["sync"] = [LOST]
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(flush_told, recorder, faults)
    assert 3 == len(faults)


async def test_a_sync_that_nobody_waited_for(rig, log, autojump_clock):
    """The next flush is told: a rotation syncs too."""
    async with rig.open(**UNSYNCED, rotation_size_mb=0.001) as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.disk.faults["sync"] = [LOST]
        await recorder.write_trades_batch([{"n": 1, "text": "x" * 1000}])
        assert 1 == len(log.events("trade_file_not_rotated"))
        with pytest.raises(NotWrittenError):
            await recorder.flush()
        await recorder.flush()


async def test_with_a_sync_at_each_flush_nothing_is_in_doubt(rig, autojump_clock):
    """What was not synced is written again."""
    async with rig.open() as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.disk.faults["sync"] = [LOST, LOST]
        await recorder.write_trades_batch([{"n": 1}])
        await recorder.flush()
    assert [0, 1] == rig.numbers()


async def test_the_end_with_a_sync_that_fails(rig, autojump_clock):
    with pytest.raises(NotWrittenError, match="not known what the disk has"):  # noqa: PT012
        async with rig.open(**UNSYNCED) as recorder:
            await recorder.write_trades_batch([{"n": 0}])
            rig.disk.faults["sync"] = [LOST]
    assert [0] == rig.numbers()


async def test_a_file_that_somebody_moved_is_synced_before_it_is_let_go(rig, autojump_clock):
    """Else a flush would confirm lines that are in no file that it syncs."""
    async with rig.open(**UNSYNCED) as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.path.rename(rig.folder / "old.jsonl")
        rig.disk.calls.clear()
        await recorder.write_trades_batch([{"n": 1}])
        assert ["sync", "open", "write"] == rig.disk.calls


async def threads_used(rig, write_sec, **options):
    """How many of the writes went through a thread."""
    used = 0

    async def count(function, *arguments):
        nonlocal used
        used += getattr(getattr(function, "func", None), "__name__", "") == "append"
        return await in_line(function, *arguments)

    real = rig.disk.write

    def write(descriptor, data):
        autojump = trio.lowlevel.current_clock()
        autojump.jump(write_sec)
        return real(descriptor, data)

    rig.disk.write = write
    async with open_trade_recorder(trades_file=rig.path, files=rig.disk, run_blocking=count, **options) as recorder:
        for n in range(5):
            await recorder.write_trades_batch([{"n": n}])
            await trio.sleep(3)
        await recorder.write_trades_batch([{"n": 5, "text": "x" * 300_000}])
    return used


async def test_small_unsynced_writes_take_no_thread(rig, autojump_clock):
    assert 1 == await threads_used(rig, 0.0001, sync_each_flush=False)


async def test_a_slow_disk_is_left_to_threads_for_a_while(rig, autojump_clock):
    """So that it holds up nobody else: the first in ten seconds finds out."""
    assert 4 == await threads_used(rig, 0.1, sync_each_flush=False)


async def test_synced_writes_take_threads(rig, autojump_clock):
    assert 6 == await threads_used(rig, 0.0001)


async def test_a_batch_whose_task_is_cancelled_while_it_waits_is_written(rig, autojump_clock):
    """It was taken; nothing is taken back."""
    rig.disk.faults["write"] = [NO_ROOM] * 5
    async with rig.open() as recorder:
        with trio.move_on_after(0.01):
            await recorder.write_trades_batch([{"n": 0}])
            raise AssertionError
        await trio.sleep(30)
        assert [0] == rig.numbers()
