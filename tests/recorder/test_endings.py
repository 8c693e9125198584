"""What others do at the same time: flushes, cancellations, ends, folders that move, disks that fail just then."""

import gzip
import json
from contextlib import closing

import pytest
import trio
from recorder_support import NO_ROOM, flush_told, in_line

from streamsvc.recorder import NotWrittenError, RecorderClosedError, open_trade_recorder, read_trades
from streamsvc.recorder.reading import _Walk

LOST = OSError(5, "Input/output error")
SMALL = {"rotation_size_mb": 0.001, "flush_interval_sec": 0.1}
LONG = "x" * 600


async def slowly(function, *arguments):
    """Blocking work that takes a second."""
    result = await in_line(function, *arguments)
    await trio.sleep(1)
    return result


async def test_a_flush_waits_for_a_sync_that_is_under_way(rig, autojump_clock):
    """It can confirm nothing before; and it is told if that fails."""
    options = {"files": rig.disk, "now": rig.now, "sync_each_flush": False}
    told = []

    async def slow_sync(function, *arguments):
        if getattr(function, "__name__", "") == "sync":
            await trio.sleep(1)
        return await in_line(function, *arguments)

    async with open_trade_recorder(trades_file=rig.path, run_blocking=slow_sync, **options) as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        rig.disk.faults["sync"] = [LOST]
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flush_told, recorder, told)
            await trio.sleep(0.5)
            nursery.start_soon(flush_told, recorder, told)
    assert [1.05, 1.05] == [round(at - begin, 3) for at, _ in told]  # The pause after a failure is in it.


@pytest.mark.parametrize("fault", [{"sync": [NO_ROOM] * 1000}, {"write": [12, *[NO_ROOM] * 1000]}])
async def test_what_the_last_error_brings_is_not_in_the_file(rig, fault, autojump_clock):
    """Whoever writes it elsewhere has each record once."""
    with pytest.raises(NotWrittenError) as caught:  # noqa: PT012
        async with rig.open(close_sec_max=1) as recorder:
            await recorder.write_trades_batch([{"n": 0}])
            rig.disk.faults = fault
            await recorder.write_trade({"n": 1})
            await recorder.write_trade({"n": 2})
    assert b'{"n":1}\n{"n":2}\n' == caught.value.lines
    assert '{"n":0}\n' == rig.path.read_text()


async def test_a_write_that_ends_after_the_limit_is_no_loss(rig, log, autojump_clock):
    options = {"files": rig.disk, "now": rig.now, "run_blocking": slowly, "close_sec_max": 0.5}
    async with open_trade_recorder(trades_file=rig.path, flush_interval_sec=0.001, **options) as recorder:
        await recorder.write_trade({"n": 0})
        await trio.sleep(0.1)
    assert [0] == rig.numbers()
    assert [] == log.events("trades_lost")


async def test_a_cancelled_block_compresses_what_it_rotated(rig, autojump_clock):
    with trio.move_on_after(5):
        async with rig.open(**SMALL | {"flush_interval_sec": 100}) as recorder:
            await recorder.write_trade({"n": 0, "text": LONG})
            await recorder.write_trade({"n": 1, "text": LONG})
            await trio.sleep_forever()
    assert [".gz"] == [name[-3:] for name in rig.names() if name.startswith("trades")]


async def test_a_cancelled_block_on_a_disk_that_takes_nothing(rig, autojump_clock):
    """The error comes as it is, and not in a group."""
    with pytest.raises(NotWrittenError) as caught:  # noqa: PT012, SIM117
        with trio.CancelScope() as scope:
            async with rig.open(close_sec_max=1) as recorder:
                rig.disk.faults["write"] = [NO_ROOM] * 1000
                await recorder.write_trade({"n": 0})
                scope.cancel()
                await trio.sleep(1)
    assert b'{"n":0}\n' == caught.value.lines


async def test_a_call_that_outlives_the_block(rig, autojump_clock):
    """It is refused: its records were given back, and the file may be another recorder's."""
    faults = []
    async with trio.open_nursery() as nursery:
        with pytest.raises(NotWrittenError):  # noqa: PT012
            async with rig.open(close_sec_max=1) as recorder:
                rig.disk.faults["write"] = [NO_ROOM] * 1000
                await recorder.write_trade({"n": 0})
                nursery.start_soon(flush_told, recorder, faults)  # noqa: ASYNC111 - that it ends before is what is tested
                await trio.sleep(0.1)
        rig.disk.faults = {}
    assert [RecorderClosedError] == [type(fault) for _, fault in faults]
    assert [] == rig.numbers()


async def test_a_folder_that_moved_and_another_recorder_in_its_place(rig, autojump_clock):
    """The first one writes nothing into the second one's file, and goes on when that has ended."""
    folder = rig.folder / "x"
    path = folder / "trades.jsonl"
    options = {"trades_file": path, "pending_file": None, "flush_interval_sec": 0.1}
    async with rig.open(**options) as first:
        await first.write_trades_batch([{"n": 0}])
        folder.rename(rig.folder / "moved")
        async with rig.open(**options) as second:
            await second.write_trades_batch([{"n": 1}])
            await first.write_trade({"n": 2})
            await trio.sleep(1)
            assert [1] == [record["n"] for record in read_trades(path)]
            assert first.statistics().failed_flushes
        await first.flush()
        assert [1, 2] == [record["n"] for record in read_trades(path)]


async def test_a_rest_that_cannot_be_removed(rig, log, autojump_clock):
    """It is told and tried again; recording goes on."""
    rest = rig.folder / "trades_20250101_000000.jsonl.gz.part"
    rest.mkdir()
    async with rig.open() as recorder:
        await recorder.write_trades_batch([{"n": 0}])
        await trio.sleep(1)
        rest.rmdir()
        await trio.sleep(120)
    assert [0] == rig.numbers()
    assert 1 == len(log.events("trade_files_not_compressed"))


async def test_old_files_are_removed_though_nothing_can_be_compressed(rig, autojump_clock):
    """They may be what fills the disk."""
    async with rig.open(**SMALL, keep_files=2) as recorder:
        for n in range(12):
            rig.disk.faults["replace"] = [None, *[NO_ROOM] * 3] if n % 2 else []
            await recorder.write_trades_batch([{"n": n, "text": LONG}])
            await trio.sleep(61)
        assert 2 >= sum(name.startswith("trades_2") for name in rig.names())


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_reader_whose_file_was_removed_passes_over_no_other(rig, is_compressed):
    """It held the live file while that was rotated, and removed after two more."""
    rig.path.write_text('{"n":1}\n')
    with closing(_Walk(rig.path, pytest.fail)) as walk:
        assert [1] == [record["n"] for record in walk.read()]
        rig.path.unlink()
        for n in (2, 3):
            rotated = rig.folder / f"trades_2025110{n}_000000.jsonl"
            content = json.dumps({"n": n}).encode() + b"\n"
            if is_compressed:
                rotated.with_name(rotated.name + ".gz").write_bytes(gzip.compress(content))
            else:
                rotated.write_bytes(content)
        assert [2, 3] == [record["n"] for record in walk.read()]


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_reader_whose_file_was_rotated_reads_it_once(rig, is_compressed):
    rig.path.write_text('{"n":1}\n')
    with closing(_Walk(rig.path, pytest.fail)) as walk:
        assert [1] == [record["n"] for record in walk.read()]
        rotated = rig.path.rename(rig.folder / "trades_20251101_000000.jsonl")
        if is_compressed:
            rotated.with_name(rotated.name + ".gz").write_bytes(gzip.compress(rotated.read_bytes()))
            rotated.unlink()
        rig.path.write_text('{"n":2}\n')
        assert [2] == [record["n"] for record in walk.read()]


async def test_an_id_that_is_used_again_on_a_disk_that_takes_nothing(rig, autojump_clock):
    """It is not open, and the error does not say that it is held."""
    async with rig.open(wait_sec_max=1, flush_interval_sec=100) as recorder:
        await recorder.open_trade("T1", {})
        await recorder.close_trade("T1", {})
        rig.disk.faults["write"] = [NO_ROOM] * 8
        with pytest.raises(NotWrittenError, match="T1 could not be opened") as caught:
            await recorder.open_trade("T1", {})
        assert not caught.value.is_held
        assert {} == recorder.pending()


async def test_a_trade_that_was_not_opened_is_not_in_the_file_at_the_end(rig, autojump_clock):
    """Though the file was replaced before the disk failed."""
    async with rig.open() as recorder:
        rig.disk.sync_folder = fail_once(rig.disk)
        with pytest.raises(NotWrittenError):
            await recorder.open_trade("T1", {})
    assert {} == json.loads((rig.folder / "pending.json").read_text())["open"]


def fail_once(disk):
    real = disk.sync_folder

    def sync_folder(_folder):
        disk.sync_folder = real
        raise LOST

    return sync_folder


async def test_many_writers_on_a_disk_that_fails_try_no_more_often_than_one(rig, autojump_clock):
    async with rig.open() as recorder:
        rig.disk.faults["write"] = [NO_ROOM] * 3
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(recorder.write_trades_batch, [{"n": n}])
        assert 3 == recorder.statistics().failed_flushes
        assert 0.35 == round(trio.current_time() - begin, 3)
    assert list(range(10)) == sorted(rig.numbers())
