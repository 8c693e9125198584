"""The end: on request, after its hours, with too little time, or because a part fails; and the run after it."""

import errno
from functools import partial

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import depth, scripted, trade

from streamsvc.errors import UsageError
from streamsvc.schema import Kind, Market
from streamsvc.service import run
from streamsvc.shutdown import Shutdown
from streamsvc.simulator.market import Activity

SPOT = Market.SPOT
BUSY = Activity(trades_per_sec=40, quotes_per_sec=40)


def talkative(world, *, interval_sec=0.01):
    """A market that trades a hundred times a second, whoever listens."""

    async def converse(talk):
        symbol = talk.streams[0].split("@")[0].upper()
        await talk.play(interval_sec, lambda number: [trade(symbol, number, number * 10)])

    world.servers["spot.test"] = scripted(converse)


async def test_a_stop_under_load(world):
    """Everything received is in the data set, in one piece; STOPPING comes at once, and the last beat after it."""
    exchange = await world.open_exchange(activity=BUSY, symbols=("BTCUSDT", "ETHUSDT"), markets=(SPOT, Market.FUTURES))
    wanted = {"spot_symbols": ("BTCUSDT", "ETHUSDT"), "futures_symbols": ("BTCUSDT",)}
    async with world.recording(**wanted) as recording:
        await trio.sleep(20)
        stopped_at = trio.current_time()
        recording.shutdown.request("SIGTERM")
        await recording.live.ended.wait()
        assert trio.current_time() <= stopped_at + 1
    assert [stopped_at] == world.notified.times("STOPPING=1")
    report = world.verify_complete()
    assert {} == lacking(report) == withheld(exchange, report)
    assert [] == world.log.events("drain_cut")


@pytest.mark.parametrize("moment", range(20))
async def test_a_stop_at_any_moment(world, moment):
    """Whatever is under way between socket and journal: what was read is recorded, nothing is shed."""
    talkative(world)
    async with world.recording(spot_kinds=(Kind.TRADE,)):
        await trio.sleep(1 + moment * 0.0005)
    world.verify_complete()


async def test_a_stop_of_its_own(world):
    """RUN_HOURS after the first attempts the service drains and ends like on a signal."""
    await world.open_exchange()
    async with world.recording(run_hours=0.5) as recording:
        with trio.fail_after(1801):
            await recording.live.ended.wait()
    assert [1800.0] == world.log.times("stopping", reason="RUN_HOURS")
    assert [1800.0] == world.notified.times("STOPPING=1")
    world.verify_complete()


async def test_a_stop_before_the_first_attempt_has_come_to_anything(world):
    """A dial that hangs does not keep a service that is told to go."""
    world.is_blackholed = True

    shutdown = Shutdown()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run, world.settings(), world.surroundings(), shutdown=shutdown))
        await trio.sleep(5)
        assert 1 == len(world.dials)
        shutdown.request("SIGTERM")
    assert trio.current_time() <= 6
    assert [] == world.notified.times("READY=1")
    world.verify_complete()


async def test_a_drain_that_is_cut(world):
    """After DRAIN_SEC the rest stays in the journal and is told; the next run seals it, and nothing is there twice."""
    talkative(world, interval_sec=0.1)
    world.sealers.takes_sec = 25.0
    async with world.recording(spot_kinds=(Kind.TRADE,), parquet_rotate_sec=20, drain_sec=10, save_concurrency=1):
        await trio.sleep(130)
        stopped_at = trio.current_time()
    assert trio.current_time() <= stopped_at + 10 + 1
    (cut,) = world.log.events("drain_cut")
    report = world.verify()
    assert cut["segments"] == report.unsealed_segments == len(world.leftovers()) >= 2
    assert not world.stored_rows() - world.expected_rows()
    assert world.stored_rows() != world.expected_rows()
    world.sealers.takes_sec = 0.0
    await world.recover()
    report = world.verify_complete()
    assert [] == report.gaps


async def test_a_stop_while_the_unsealed_journal_may_not_grow(world):
    """UNSEALED_MAX_MB slows a service down; one that ends writes what it holds all the same."""

    async def converse(talk):
        await talk.play(0.1, lambda number: [depth("BTCUSDT", number, number * 100, padding_bytes=12_000)])

    world.servers["spot.test"] = scripted(converse)
    world.sealers.takes_sec = 1000.0
    limits = {"unsealed_max_mb": 3, "segment_max_mb": 1, "queue_max_mb": 1, "drain_sec": 5}
    async with world.recording(spot_kinds=(Kind.DEPTH,), latency_warn_ms=10**13, **limits):
        await world.log.wait("paused_unsealed")
        await trio.sleep(10)
    world.sealers.takes_sec = 0.0
    await world.recover(spot_kinds=(Kind.DEPTH,))
    world.verify_complete()


async def test_a_stop_while_the_disk_hangs(world):
    """A disk that comes back within the drain loses nothing; the stop waits for the call that is under way."""
    talkative(world)
    async with world.recording(spot_kinds=(Kind.TRADE,), drain_sec=20):
        await trio.sleep(10)
        world.disk.hang(8)
        await trio.sleep(1)
        stopped_at = trio.current_time()
    assert trio.current_time() <= stopped_at + 20
    world.verify_complete()


async def test_a_second_instance_on_the_same_folder(world):
    """It is refused before it records anything, and the first one does not notice."""
    await world.open_exchange()
    async with world.recording():
        await trio.sleep(10)
        dials = len(world.dials)
        with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match="in use"), flatten_subgroups=True):
            async with world.recording():
                pass
        assert dials == len(world.dials)
        await trio.sleep(10)
    world.verify_complete()


async def test_a_day_of_runs(world):
    """Run after run in one folder: each seals what the one before left, and the ids of all of them are one chain."""
    talkative(world, interval_sec=0.5)
    for number in range(6):
        world.sealers.takes_sec = 30.0 if number % 2 else 0.0
        async with world.recording(spot_kinds=(Kind.TRADE,), parquet_rotate_sec=20, drain_sec=5):
            await trio.sleep(50)
    world.sealers.takes_sec = 0.0
    await world.recover()
    world.verify_complete()


async def test_a_crash_in_a_stream_task(world):
    """An unexpected error ends the service with that error, after everything received is written and sealed."""
    talkative(world)
    symbols = tuple(f"{'币' * 60}{number:04}" for number in range(10))
    with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError, match="a bug"), flatten_subgroups=True):
        async with world.recording(spot_symbols=("BTCUSDT", *symbols)) as recording:
            assert 1 < len(recording.live.supervisor.statistics().connections)
            await trio.sleep(10)
            _, end = world.wires[-1]
            end.crash(ZeroDivisionError("a bug"))
            await recording.live.ended.wait()
    (stopping_at,) = world.log.times("stopping", reason="failure")
    assert stopping_at <= world.log.times("ready")[0] + 10 + 0.1
    report = world.verify_complete()
    assert [] == report.gaps
    assert 2 <= len(report.coverage)
    assert all(stream.rows > 900 for stream in report.coverage)


async def test_a_crash_while_dialling(world):
    """What `dial` raises unexpectedly is no connection fault: it comes out, and what was recorded stays."""
    await world.open_exchange()
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="a bug"), flatten_subgroups=True):
        async with world.recording() as recording:
            await trio.sleep(30)
            world.dial_fault = KeyError("a bug")
            world.reset_all()
            await recording.live.ended.wait()
    world.verify_complete()


async def test_two_parts_that_crash(world):
    """One failure during the way out of another hides neither."""
    talkative(world)
    world.sealers.takes_sec = 1.0
    with pytest.RaisesGroup(ZeroDivisionError, OSError, flatten_subgroups=True):
        async with world.recording(spot_kinds=(Kind.TRADE,)) as recording:
            await trio.sleep(10)
            world.files.fail("sync", errno.EIO)
            world.wires[-1][1].crash(ZeroDivisionError("a bug"))
            await recording.live.ended.wait()


@pytest.mark.parametrize("call", ["write", "sync"])
@pytest.mark.parametrize("after", [0, 1, 7])
async def test_a_disk_that_fails(world, call, after):
    """EIO ends the process with that error, nothing is tried again; the next run has everything that was written."""
    talkative(world)
    is_eio = pytest.RaisesExc(OSError, check=lambda fault: fault.errno == errno.EIO)
    with pytest.RaisesGroup(is_eio, flatten_subgroups=True):
        async with world.recording(spot_kinds=(Kind.TRADE,)) as recording:
            await trio.sleep(5)
            calls = world.files.calls[call]
            world.files.fail(call, errno.EIO, after=after, times=10**9)
            failed_at = trio.current_time()
            await recording.live.ended.wait()
    assert calls + after + 1 == world.files.calls[call]
    assert trio.current_time() <= failed_at + 15
    assert [] == [name for name, end in world.wires if not end.is_closed]
    world.files.fail(call, 0, times=0)
    written = world.lives[0].persistence.state.messages
    await world.recover()
    report = world.verify()
    assert [] == world.leftovers()
    assert [] == report.gaps
    stored = world.stored_rows()
    assert written - report.derived_rows <= len(stored) <= len(world.heard())
    assert stored <= world.expected_rows()


@pytest.mark.parametrize("size_bytes", [1, 17, 400])
async def test_writes_that_are_short(world, size_bytes):
    """A disk that takes little at a time costs only time."""
    talkative(world)
    world.files.write_bytes_max = size_bytes
    async with world.recording(spot_kinds=(Kind.TRADE,)):
        await trio.sleep(3)
    world.verify_complete()


async def test_a_crash_in_the_watchdogs_look(world):
    """Recording ends in good order, and the error is raised after it."""
    talkative(world)

    def look(_now):
        raise LookupError("a bug")

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a bug"), flatten_subgroups=True):
        async with world.recording(spot_kinds=(Kind.TRADE,)) as recording:
            await trio.sleep(10)
            recording.live.watch.look = look
            await recording.live.ended.wait()
    assert [25.0] == [round(at, 2) for at in world.log.times("stopping", reason="failure")]
    report = world.verify_complete()
    assert [] == report.gaps
