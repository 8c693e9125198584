"""A disk that is slow, hangs, is full or fails: what is kept, what is given up on purpose, and what memory it takes."""

import errno
from functools import partial

import pytest
import trio
from clocked_script import depth, scripted
from clocked_world import WATCHDOG_SEC

from streamsvc.errors import DiskFullError
from streamsvc.schema import Kind
from streamsvc.service import run
from streamsvc.shutdown import Shutdown

QUEUE_BYTES = 1 << 20
BIG = {"spot_kinds": (Kind.DEPTH,), "queue_max_mb": 1, "orderbook_timeout": 1e6, "latency_warn_ms": 10**13}


def open_market(world, *, padding_bytes=12_000):
    """A market whose book says much ten times a second, whoever listens; returns how large one message is."""

    async def converse(talk):
        await talk.play(0.1, lambda number: [depth("BTCUSDT", number, number * 100, padding_bytes=padding_bytes)])

    world.servers["spot.test"] = scripted(converse)
    return len(depth("BTCUSDT", 100, 10_000, padding_bytes=padding_bytes))


async def highest_of(look, seconds, every_sec=0.05):
    """The greatest value seen within a time."""
    highest = look()
    with trio.move_on_after(seconds):
        while True:
            await trio.sleep(every_sec)
            highest = max(highest, look())
    return highest


async def test_a_disk_that_hangs_for_15_seconds(world):
    """Reading slows down, no connection counts as idle or half-open, and not one message is lost."""
    message_bytes = open_market(world)
    assert message_bytes * 10 * 15 > QUEUE_BYTES + world.capacity_bytes
    async with world.recording(**BIG, stream_idle_sec=8, ping_interval_sec=4, ping_timeout_sec=3) as recording:
        await trio.sleep(20)
        world.disk.hang(15)
        channel = recording.live.channel
        used = await highest_of(lambda: channel().used_bytes, 15)
        assert QUEUE_BYTES <= used <= QUEUE_BYTES + world.capacity_bytes
        await trio.sleep(20)
    assert 1 == len(world.dials)
    assert [] == world.log.events("watchdog_withheld")
    report = world.verify_complete()
    assert [] == report.gaps
    assert report.coverage[0].last_id >= 549


async def test_a_disk_that_hangs_for_five_minutes(world):
    """After BACKPRESSURE_SEC the connection is closed on purpose; memory is bounded; systemd is told; it goes on."""
    message_bytes = open_market(world)
    async with world.recording(**BIG) as recording:
        await trio.sleep(20)
        world.disk.hang(300)
        channel = recording.live.channel
        used = await highest_of(lambda: channel().used_bytes, 299)
        assert used <= QUEUE_BYTES + world.capacity_bytes
        (lost,), (lost_at,) = world.log.events("connection_lost"), world.log.times("connection_lost")
        assert "shed" == lost["cause"]
        full_sec = (QUEUE_BYTES + message_bytes) / (10 * message_bytes)
        assert 20 + full_sec + 20 - 1 <= lost_at <= 20 + full_sec + 20 + 5
        assert 1 == len(world.dials)  # Another connection makes no sense before there is room.
        (withheld_at,) = world.log.times("watchdog_withheld")
        assert 20 + WATCHDOG_SEC <= withheld_at <= 20 + WATCHDOG_SEC + WATCHDOG_SEC / 3 + 1
        beats = world.notified.times("WATCHDOG=1")
        assert [] == [at for at in beats if at >= withheld_at]
        await trio.sleep(30)
        (resumed_at,) = world.log.times("watchdog_resumed")
        assert 320 <= resumed_at <= 320 + WATCHDOG_SEC / 3
        (_, opened_at) = world.log.times("connection_opened")
        assert opened_at <= 320 + 2
    counts = world.counts()
    assert counts["shed"] == sum(event["messages"] for event in world.log.events("messages_shed")) > 0
    assert len(world.heard()) == counts["received"] == counts["accepted"] + counts["shed"]
    report = world.verify()
    assert [] == world.leftovers()
    assert ["shed"] == [gap.cause for gap in report.gaps]
    assert world.expected_rows() >= world.stored_rows()
    assert counts["accepted"] == len(world.stored_rows())


async def test_everything_that_is_given_up_is_counted(world):
    """Received = recorded + shed, also where the tap brings more while the connection is being closed."""
    open_market(world, padding_bytes=2000)
    async with world.recording(**BIG, backpressure_sec=1, read_tick_ms=0):
        for _ in range(8):
            await trio.sleep(20)
            world.disk.hang(70)
            await trio.sleep(71)
    counts = world.counts()
    assert 8 == len(world.log.events("connection_lost", cause="shed"))
    assert len(world.heard()) == counts["received"] == counts["accepted"] + counts["shed"]


async def test_megabytes_through_a_disk_that_hangs_again_and_again(world):
    """Whatever the pattern of pauses shorter than BACKPRESSURE_SEC: nothing is lost, and the queue keeps its limit."""
    message_bytes = open_market(world)
    async with world.recording(**BIG, segment_max_mb=1) as recording:
        for _ in range(8):
            await trio.sleep(7)
            world.disk.hang(18)
            used = await highest_of(lambda: recording.live.channel().used_bytes, 18, 0.2)
            assert used <= QUEUE_BYTES + world.capacity_bytes
        await trio.sleep(30)
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert [] == report.gaps
    assert report.coverage[0].last_id * message_bytes > 20 << 20


@pytest.mark.parametrize("how", ["reserve", "enospc", "short", "descriptors"])
async def test_a_full_disk(world, how):
    """Intake pauses and says so; the journal ends with a whole frame; systemd is content; with room it goes on."""
    open_market(world, padding_bytes=1000)
    async with world.recording(**BIG) as recording:
        await trio.sleep(20)
        before = world.files.calls["write"]
        if how == "reserve":
            world.files.free = (512 << 20) - 1
        elif how == "descriptors":
            await world.log.wait("rotated")
            world.files.fail("create", errno.EMFILE, times=10**9)
        else:
            world.files.write_bytes_max = 1000 if how == "short" else None
            world.files.fail("write", errno.ENOSPC, after=1 if how == "short" else 0, times=10**9)
        await world.log.wait("paused_disk")
        await trio.sleep(0.1)
        assert "paused_disk" == recording.live.persistence.state.state
        assert [] != world.log.events("rotated")  # Sealing makes room: the open segment went to the sealers.
        await trio.sleep(300)
        assert "paused_disk" == recording.live.persistence.state.state
        assert 1 == len(world.log.events("paused_disk"))
        assert world.files.calls["write"] - before < 1000
        assert recording.live.channel().used_bytes <= QUEUE_BYTES + world.capacity_bytes
        world.files.free = 1 << 40
        world.files.fail("create", 0, times=0)
        world.files.fail("write", 0, times=0)
        await world.log.wait("disk_resumed")
        await trio.sleep(30)
        assert "recording" == recording.live.persistence.state.state
    assert [] == world.log.events("watchdog_withheld")
    report = world.verify()
    assert [] == world.leftovers()
    counts = world.counts()
    assert len(world.heard()) == counts["received"] == counts["accepted"] + counts["shed"]
    assert counts["accepted"] == len(world.stored_rows())
    assert report.coverage[0].last_id > 3200
    assert ["disk"] == [gap.cause for gap in report.gaps]


async def test_a_disk_that_is_full_at_the_start(world):
    """The start waits for room, and systemd with it; then it goes on as if nothing had been."""
    open_market(world)
    async with world.recording(**BIG):
        await trio.sleep(20)
    world.files.fail("sync_folder", errno.ENOSPC, times=10)
    started_at = trio.current_time()
    async with world.recording(**BIG):
        assert started_at + 10 * 5 == trio.current_time()
        await trio.sleep(20)
    assert (1, 1) == (len(world.log.events("paused_disk")), len(world.log.events("disk_resumed")))
    assert 10 == len(world.notified.times("EXTEND_TIMEOUT_USEC=65000000"))
    assert world.verify().coverage[0].last_id > 100


async def test_a_stop_while_the_start_waits_for_the_disk(world):
    """It ends in good order: there is nothing to write yet."""
    shutdown = Shutdown()
    world.files.fail("sync_folder", errno.ENOSPC, times=10**9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run, world.settings(), world.surroundings(), shutdown=shutdown))
        await world.log.wait("paused_disk")
        shutdown.request("test")
    assert ["stopped"] == [event["event"] for event in world.log.events("stopped")]
    assert [] == world.dials


@pytest.mark.parametrize("queue_mb", [1, 16])
async def test_a_disk_that_stays_full_until_the_end(world, queue_mb):
    """Stopping does not wait for room for ever: within DRAIN_SEC it says how many messages were lost, and ends."""
    open_market(world)
    with pytest.RaisesGroup(pytest.RaisesExc(DiskFullError), flatten_subgroups=True):
        async with world.recording(**(BIG | {"queue_max_mb": queue_mb}), drain_sec=10, backpressure_sec=100):
            await trio.sleep(20)
            world.files.fail("write", errno.ENOSPC, times=10**9)
            await trio.sleep(60)
            stopped_at = trio.current_time()
    assert trio.current_time() <= stopped_at + 10 + 6
    (incomplete,) = world.log.events("journal_incomplete")
    report = world.verify()
    assert world.counts()["accepted"] == len(world.stored_rows()) + incomplete["messages_lost"]
    assert [] == report.gaps


async def test_a_disk_that_is_below_its_reserve_until_the_end(world):
    """The reserve is there for this: what is held when the service stops is still written."""
    open_market(world)
    async with world.recording(**BIG, backpressure_sec=100):
        await trio.sleep(20)
        world.files.free = 0
        await trio.sleep(60)
    report = world.verify_complete()
    assert [] == report.gaps


async def test_an_unsealed_journal_that_may_not_grow(world):
    """At UNSEALED_MAX_MB writing pauses until a segment has left the journal; the disk never holds more."""
    open_market(world)
    world.sealers.takes_sec = 40.0

    def journal_bytes():
        return sum(path.stat().st_size for path in (world.folder / "journal").glob("*.journal"))

    async with world.recording(**BIG, unsealed_max_mb=3, segment_max_mb=1, save_concurrency=1) as recording:
        highest = await highest_of(journal_bytes, 300, 1)
        assert (2 << 20) < highest <= (3 << 20) + (64 << 10)
        assert [] == world.log.events("watchdog_withheld")
        world.sealers.takes_sec = 0.0
        await trio.sleep(120)
        assert "recording" == recording.live.persistence.state.state
    assert [] != world.log.events("paused_unsealed")
    assert len(world.log.events("paused_unsealed")) == len(world.log.events("unsealed_resumed"))
    counts = world.counts()
    world.verify()
    assert [] == world.leftovers()
    assert len(world.heard()) == counts["received"] == counts["accepted"] + counts["shed"]
    assert counts["accepted"] == len(world.stored_rows())


async def test_sealing_that_finds_no_room(world):
    """A full disk is no failure of a segment: its sealing is tried until there is room, and recording goes on."""
    exchange = await world.open_exchange()
    async with world.recording(parquet_rotate_sec=20):
        await trio.sleep(30)
        world.files.fail("replace", errno.ENOSPC, times=5)
        await trio.sleep(100)
    assert 5 == len(world.log.events("publish_paused"))
    assert [] == world.log.events("segment_set_aside")
    report = world.verify_complete()
    assert [] == report.gaps
    assert exchange.ledger.records


async def test_a_segment_that_cannot_be_sealed(world):
    """After SEAL_ATTEMPTS it lies in journal/failed/, verify says so, and everything else is recorded."""
    await world.open_exchange()
    async with world.recording(parquet_rotate_sec=20):
        await trio.sleep(30)
        world.sealers.faults.extend([ValueError("a bug")] * 3)
        await trio.sleep(100)
    (aside,) = world.log.events("segment_set_aside")
    assert 3 == len(world.log.events("seal_failed"))
    assert [f"{aside['segment']}.journal"] == world.leftovers()
    report = world.verify(errors=[f"journal/failed/{aside['segment']}"])
    assert 0 == report.unsealed_segments
    assert 4 <= len(world.log.events("rotated"))
    lost = world.expected_rows() - world.stored_rows()
    assert 0 < len(lost) < 60
    assert not world.stored_rows() - world.expected_rows()


async def test_a_sealer_that_dies_twice(world):
    """Its segment is sealed by another one, once."""
    await world.open_exchange()
    async with world.recording(parquet_rotate_sec=20):
        await trio.sleep(30)
        world.sealers.faults.extend([MemoryError(), RuntimeError("killed")])
        await trio.sleep(60)
    assert 2 == len(world.log.events("seal_failed"))
    world.verify_complete()
