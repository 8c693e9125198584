"""The buffer, its flushes, its bound, and a disk that fails."""

import errno

import pytest
import trio
from recorder_support import NO_ROOM, READ_ONLY, Rig, in_line

from streamsvc.errors import UsageError
from streamsvc.recorder import NotWrittenError, RecorderClosedError, RecordError, open_trade_recorder


async def test_a_record_waits_until_there_are_enough(rig, autojump_clock):
    async with rig.open(buffer_size=3, flush_interval_sec=100) as recorder:
        for n in range(2):
            await recorder.write_trade({"n": n})
        await trio.sleep(50)
        assert ([], 2) == (rig.numbers(), recorder.statistics().buffered)
        await recorder.write_trade({"n": 2})
        await trio.sleep(0.01)
        assert ([0, 1, 2], 0) == (rig.numbers(), recorder.statistics().buffered)


async def test_a_record_waits_no_longer_than_the_interval(rig, autojump_clock):
    async with rig.open(flush_interval_sec=5) as recorder:
        await trio.sleep(100)
        await recorder.write_trade({"n": 0})
        await trio.sleep(4.9)
        assert [] == rig.numbers()
        await trio.sleep(0.2)
        assert [0] == rig.numbers()


async def test_a_flush_is_on_the_disk(rig, autojump_clock):
    """Synced, whatever flushes do else."""
    async with rig.open(sync_each_flush=False, flush_interval_sec=0.1) as recorder:
        rig.disk.calls.clear()
        await recorder.write_trade({"n": 0})
        await trio.sleep(1)
        assert [0] == rig.numbers()
        assert "sync" not in rig.disk.calls
        await recorder.flush()
        assert "sync" in rig.disk.calls
        rig.disk.calls.clear()
        await recorder.flush()
        assert "sync" not in rig.disk.calls
        await recorder.write_trade({"n": 1})
        await recorder.flush()
        assert ["write", "sync"] == rig.disk.calls


async def test_a_batch_is_written_at_once(rig, autojump_clock):
    """With one call, behind what waited."""
    async with rig.open(flush_interval_sec=100) as recorder:
        await recorder.write_trade({"n": 0})
        await recorder.write_trades_batch([{"n": n} for n in range(1, 1000)])
        assert list(range(1000)) == rig.numbers()
        assert 1 == rig.disk.calls.count("write")
        await recorder.write_trades_batch([])


async def test_leaving_writes_what_waits(rig, autojump_clock):
    async with rig.open(flush_interval_sec=100) as recorder:
        await recorder.write_trade({"n": 0})
    assert [0] == rig.numbers()
    with pytest.raises(RecorderClosedError):
        await recorder.write_trade({"n": 1})
    with pytest.raises(RecorderClosedError):
        await recorder.write_trades_batch([{"n": 1}])
    with pytest.raises(RecorderClosedError):
        await recorder.flush()


async def test_leaving_by_an_exception_or_a_cancellation_writes_what_waits(rig, autojump_clock):
    """The exception comes out as it is."""
    with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012
        async with rig.open() as recorder:
            await recorder.write_trade({"n": 0})
            raise ZeroDivisionError
    assert caught.value.__context__ is None
    with trio.move_on_after(1):
        async with rig.open(flush_interval_sec=100) as recorder:
            await recorder.write_trade({"n": 1})
            await trio.sleep_forever()
    assert [0, 1] == rig.numbers()


async def test_what_cannot_be_written_touches_nothing_else(rig, autojump_clock):
    async with rig.open() as recorder:
        await recorder.write_trade({"n": 0})
        with pytest.raises(RecordError):
            await recorder.write_trade({"n": object()})
        with pytest.raises(RecordError):
            await recorder.write_trades_batch([{"n": 7}, {"n": object()}])
        await recorder.write_trade({"n": 1})
    assert [0, 1] == rig.numbers()


async def test_many_tasks(rig, autojump_clock):
    """The order within a task is kept."""

    async def write(recorder, task):
        for n in range(100):
            if n % 10 == task % 10:
                await recorder.write_trades_batch([{"task": task, "n": n}])
            else:
                await recorder.write_trade({"task": task, "n": n})

    async with rig.open(buffer_size=7) as recorder, trio.open_nursery() as nursery:
        for task in range(20):
            nursery.start_soon(write, recorder, task)
    records = rig.records()
    assert 2000 == len(records)
    for task in range(20):
        assert list(range(100)) == [record["n"] for record in records if record["task"] == task]


async def test_statistics(rig, autojump_clock):
    """They do not change once they are given."""
    async with rig.open(flush_interval_sec=100, buffer_size=2) as recorder:
        before = recorder.statistics()
        await recorder.write_trade({"n": 0})
        await recorder.flush()
        rig.disk.faults["write"] = [NO_ROOM]
        await recorder.write_trades_batch([{"n": 1}, {"n": 2}])
        await recorder.write_trade({"n": 3})
        now = recorder.statistics()
    assert (0, 0, None) == (before.total_writes, before.total_flushes, before.last_flush_time)
    assert (4, 3 * len('{"n":0}\n'), 2, 1, 1) == (
        now.total_writes,
        now.total_bytes_written,
        now.total_flushes,
        now.buffered,
        now.failed_flushes,
    )
    assert rig.now() >= now.last_flush_time >= rig.now().replace(second=0)


@pytest.mark.parametrize("faults", [[NO_ROOM], [READ_ONLY, NO_ROOM, OSError(errno.EIO, "I/O error")], [3], [0, 5, 1]])
@pytest.mark.parametrize("call", ["write", "sync"])
async def test_a_flush_that_fails_is_tried_again(rig, faults, call, autojump_clock):
    """Everything is kept, in order; what a write left behind is cut off."""
    async with rig.open(buffer_size=3) as recorder:
        rig.disk.faults[call] = [
            fault if call == "write" or isinstance(fault, Exception) else NO_ROOM for fault in faults
        ]
        for n in range(10):
            await recorder.write_trade({"n": n})
        await recorder.flush()
        assert list(range(10)) == rig.numbers()
        assert len(faults) == recorder.statistics().failed_flushes


async def test_a_disk_that_stays_full(rig, log, autojump_clock):
    """Writers wait when memory is full, and are told after a while; nothing that was accepted is lost."""
    rig.disk.faults["write"] = [NO_ROOM] * 40
    accepted = []
    async with rig.open(buffer_mb_max=0.001, wait_sec_max=3, flush_interval_sec=0.1) as recorder:
        begin = trio.current_time()
        with pytest.raises(NotWrittenError, match="no room") as caught:  # noqa: PT012
            for n in range(1000):
                await recorder.write_trade({"n": n, "text": "x" * 50})
                accepted.append(n)
        assert (False, 3) == (caught.value.is_held, round(trio.current_time() - begin))
        assert 5 < len(accepted) < 12
        with pytest.raises(NotWrittenError, match="tried again") as caught:
            await recorder.flush()
        assert caught.value.is_held
        await trio.sleep(400)
        await recorder.write_trade({"n": 7777})
    assert [*accepted, 7777] == rig.numbers()
    waits = [event["retry_sec"] for event in log.events("trades_not_written")]
    assert [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == waits[:9]
    assert 1 == len(log.events("trades_written_again"))


async def test_more_than_memory_may_hold(rig, autojump_clock):
    """It could never be taken, so it is refused at once."""
    async with rig.open(buffer_mb_max=0.001) as recorder:
        with pytest.raises(RecordError, match="more than buffer_mb_max"):
            await recorder.write_trade({"text": "x" * 1000})


async def test_a_writer_that_is_cancelled_while_it_waits(rig, autojump_clock):
    """Its record was not taken."""
    rig.disk.faults["write"] = [NO_ROOM] * 10
    async with rig.open(buffer_mb_max=0.001, flush_interval_sec=0.1) as recorder:
        await recorder.write_trade({"n": 0, "text": "x" * 900})
        with trio.move_on_after(1):
            await recorder.write_trade({"n": 1, "text": "x" * 900})
            raise AssertionError
    assert [0] == rig.numbers()


async def test_a_batch_on_a_disk_that_fails_for_long(rig, autojump_clock):
    """It is held, and says so: to bring it again would write it twice."""
    rig.disk.faults["write"] = [NO_ROOM] * 8
    async with rig.open(wait_sec_max=1) as recorder:
        with pytest.raises(NotWrittenError) as caught:
            await recorder.write_trades_batch([{"n": 0}])
        assert caught.value.is_held
        await trio.sleep(60)
        assert [0] == rig.numbers()


async def test_the_end_on_a_disk_that_takes_nothing(rig, log, autojump_clock):
    """It waits under a limit, and gives back what it could not write."""
    rig.disk.faults["write"] = [NO_ROOM] * 1000
    begin = trio.current_time()
    with pytest.raises(NotWrittenError, match="2 records could not be written") as caught:  # noqa: PT012
        async with rig.open(close_sec_max=10) as recorder:
            await recorder.write_trade({"n": 0})
            await recorder.write_trade({"n": 1})
    assert b'{"n":0}\n{"n":1}\n' == caught.value.lines
    assert 10 == round(trio.current_time() - begin)
    assert 2 == log.events("trades_lost")[0]["records"]
    assert "lines" not in repr(caught.value).replace("`lines`", "")


async def test_a_removed_folder(rig, autojump_clock):
    """It is made again; what was not written yet is not lost."""
    folder = rig.folder / "deep" / "er"
    rig = Rig(folder)
    async with rig.open(pending_file=None) as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.path.unlink()
        (folder / "trades.jsonl.lock").unlink()
        folder.rmdir()
        await recorder.write_trades_batch([{"n": 1}])
        assert [1] == rig.numbers()
        with pytest.raises(UsageError, match="in use"):
            async with rig.open(pending_file=None):
                pass


async def test_a_file_that_is_removed_while_it_is_written(rig, autojump_clock):
    """What went into nothing is written again."""
    async with rig.open() as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        real = rig.disk.sync

        def sync(descriptor):
            rig.path.unlink()
            rig.disk.sync = real

        rig.disk.sync = sync
        await recorder.write_trades_batch([{"n": 1}])
    assert [1] == rig.numbers()


async def test_a_file_that_somebody_else_rotated(rig, autojump_clock):
    """It keeps what is in it; the rest goes to a new one."""
    async with rig.open() as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.path.rename(rig.folder / "old.jsonl")
        await recorder.write_trades_batch([{"n": 1}])
        assert [1] == rig.numbers()
    assert '{"n":0}\n' == (rig.folder / "old.jsonl").read_text()


async def test_a_second_recorder(rig, autojump_clock):
    """It is refused, for the trades and for the pending file."""
    async with rig.open():
        with pytest.raises(UsageError, match="in use by another recorder"):
            async with rig.open():
                pass
        with pytest.raises(UsageError, match=r"pending\.json is in use"):
            async with rig.open(trades_file=rig.folder / "other.jsonl"):
                pass
    async with rig.open():
        pass


@pytest.mark.parametrize(
    ("end", "kept", "torn"),
    [
        (b'{"n":1', [0], b'{"n":1\n'),
        (b'{"n":1}', [0, 1], None),
        (b"\0" * 5000, [0], b"\0" * 5000 + b"\n"),
        (b'{"n":1,"a":"' + b"x" * 200_000, [0], b'{"n":1,"a":"' + b"x" * 200_000 + b"\n"),
        (b"17", [0], b"17\n"),
    ],
)
async def test_a_torn_end(rig, end, kept, torn, autojump_clock):
    """It is cut off and kept; a whole record that only lacks its end is none."""
    rig.path.write_bytes(b'{"n":0}\n' + end)
    async with rig.open() as recorder:
        await recorder.write_trade({"n": 2})
    assert [*kept, 2] == rig.numbers()
    path = rig.folder / "trades.jsonl.torn"
    assert torn == (path.read_bytes() if path.exists() else None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"buffer_size": 0}, "buffer_size is 0; it must be a number between 1 and"),
        ({"buffer_size": 1.5}, "buffer_size is 1.5; it must be a whole number"),
        ({"flush_interval_sec": "1"}, "flush_interval_sec is '1'"),
        ({"rotation_size_mb": -1}, "rotation_size_mb is -1"),
        ({"bufer_size": 1}, "unknown: bufer_size"),
        ({"trades_file": "trades"}, "for example trades.jsonl"),
        ({"trades_file": "/"}, "is a folder"),
        ({"pending_file": "x.jsonl", "trades_file": "x.jsonl"}, "give each its own"),
        ({"keep_files": 0}, "keep_files is 0"),
    ],
)
async def test_a_wrong_option(rig, options, said, autojump_clock):
    """It is named, and nothing is made."""
    with pytest.raises(UsageError, match=said):
        async with rig.open(**options):
            pass
    assert [] == rig.names()


async def test_without_a_file():
    with pytest.raises(UsageError, match="trades_file is missing"):
        async with open_trade_recorder():
            pass


async def test_a_file_that_cannot_be_opened(rig, autojump_clock):
    rig.disk.faults["open"] = [READ_ONLY]
    with pytest.raises(UsageError, match="Read-only"):
        async with rig.open():
            pass


async def test_a_cancelled_call_takes_nothing(rig, autojump_clock):
    async with rig.open() as recorder:
        with trio.CancelScope() as scope:
            scope.cancel()
            await recorder.write_trade({"n": 0})
            raise AssertionError
    assert [] == rig.numbers()


async def test_writers_do_not_run_far_ahead_of_a_slow_disk(rig, autojump_clock):
    """They wait a moment for the flush that is under way."""

    async def slow(function, *arguments):
        await trio.sleep(0.5)
        return await in_line(function, *arguments)

    most = 0
    options = {"files": rig.disk, "run_blocking": slow, "now": rig.now}
    async with open_trade_recorder(trades_file=rig.path, buffer_size=10, **options) as recorder:
        for n in range(500):
            await recorder.write_trade({"n": n})
            most = max(most, recorder.statistics().buffered)
    assert most <= 10 * 8 + 100
    assert list(range(500)) == rig.numbers()
