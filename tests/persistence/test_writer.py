"""The writer under a clock that jumps: when it writes, syncs and closes, and what it does when the disk does not."""

import errno
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
from persistence_samples import FailingFiles, block, inline, make_folder

from streamsvc.batch import Block, open_block_channel
from streamsvc.errors import DiskFullError
from streamsvc.persistence.journal import read_segment
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.sealing import Backlog
from streamsvc.persistence.segment import PIECE_BYTES
from streamsvc.persistence.tools import Tools
from streamsvc.persistence.writer import Writer
from streamsvc.schema import Market
from streamsvc.settings import Settings

RUN = SegmentName(3, 0xABC, 0)
MB = 1 << 20


async def no_seal(_segment, _tmp):
    raise AssertionError("nothing is sealed here")


class Rig:
    """A writer, its channel, its disk, and what came of it."""

    def __init__(self, tmp_path, files=None, run_blocking=inline, **settings):
        self.folder = make_folder(tmp_path)
        self.files = files or FailingFiles()
        self.rows = {}
        self.settings = Settings(data_dir=tmp_path, **({"disk_reserve_mb": 0, "journal_write_ms": 20} | settings))
        self.tools = Tools(
            run_blocking=run_blocking,
            seal=no_seal,
            build_day=no_seal,
            wall_ns=lambda: 0,
            rows_by_symbol=lambda: self.rows,
            files=self.files,
        )
        self.sender, self.receiver = open_block_channel(64 * MB)
        self.backlog = Backlog()
        self.writer = Writer(self.settings, self.tools, RUN, self.receiver, self.backlog)
        self.state = self.writer.state

    def blocks(self):
        """All blocks in the journal, in order; damage fails the test."""
        items = []
        for name in self.folder.segments():
            items += read_segment(self.folder.segment(name).read_bytes(), name)
        assert all(isinstance(item, Block) for item in items)
        return items


class SizedFiles(FailingFiles):
    """A disk that remembers the size of every write."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def write(self, descriptor, data):
        self.sizes.append(len(data))
        return super().write(descriptor, data)


class FullFiles(FailingFiles):
    """A disk that takes no byte while it is full."""

    is_full = True

    def write(self, descriptor, data):
        if self.is_full:
            raise DiskFullError("No space left on device")
        return super().write(descriptor, data)


@asynccontextmanager
async def running(rig):
    """The writer runs while the body does, and ends when its sender is closed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.writer.run)
        with rig.sender:
            yield rig


def numbered(number, size=8):
    return block([str(number).zfill(size).encode()])


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as events:
        yield events


def names_of(events):
    return [event["event"] for event in events]


async def test_everything_is_written_and_handed_on_when_the_channel_ends(tmp_path, autojump_clock):
    rig = Rig(tmp_path)
    async with running(rig):
        for number in range(100):
            rig.sender.put_nowait(numbered(number))
            if number % 7 == 0:
                await trio.sleep(0.003)
    assert [numbered(number) for number in range(100)] == rig.blocks()
    assert ("closed", 100, 1) == (rig.state.state, rig.state.messages, rig.backlog.segments)
    assert rig.state.written_bytes == rig.state.synced_bytes == rig.backlog.size_bytes


async def test_what_arrives_is_written_within_journal_write_ms(tmp_path, autojump_clock):
    rig = Rig(tmp_path)
    async with running(rig):
        for number in range(50):
            rig.sender.put_nowait(numbered(number))
            await trio.sleep(0.02)
            assert number + 1 == rig.state.messages
            await trio.sleep(number / 1000)


async def test_one_blocking_call_a_gathering(tmp_path, autojump_clock):
    """Many small blocks in a short time cost one write."""
    rig = Rig(tmp_path)
    async with running(rig):
        for number in range(1000):
            rig.sender.put_nowait(numbered(number))
        await trio.sleep(0.1)
        assert 1 == rig.files.calls.count("write")


async def test_a_burst_is_written_in_pieces_of_a_limited_size(tmp_path, autojump_clock):
    """What the writer holds beside the channel is bounded."""
    rig = Rig(tmp_path, SizedFiles())
    frame_bytes = 10_000
    async with running(rig):
        for number in range(400):
            rig.sender.put_nowait(numbered(number, size=frame_bytes - 100))
        await trio.sleep(1)
    assert PIECE_BYTES <= max(rig.files.sizes) <= PIECE_BYTES + frame_bytes
    assert sum(rig.files.sizes) == rig.state.written_bytes


async def test_what_was_written_is_synced_in_time_though_nothing_follows(tmp_path, autojump_clock):
    rig = Rig(tmp_path, journal_sync_sec=1)
    async with running(rig):
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(0.9)
        assert "sync" not in rig.files.calls
        await trio.sleep(0.2)
        assert 1 == rig.files.calls.count("sync")
        assert rig.state.written_bytes == rig.state.synced_bytes > 0


async def test_a_silent_market_costs_nothing(tmp_path, autojump_clock):
    """After the last segment is closed the writer sleeps until something comes."""
    rig = Rig(tmp_path)
    async with running(rig):
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(61)
        calls = len(rig.files.calls)
        await trio.sleep(3600 * 24)
        assert calls == len(rig.files.calls)
        assert ("recording", None) == (rig.state.state, rig.state.busy_since)


async def test_a_segment_is_closed_by_its_age_though_nothing_follows(tmp_path, autojump_clock):
    rig = Rig(tmp_path, parquet_rotate_sec=60)
    async with running(rig):
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(59)
        assert 0 == rig.backlog.segments
        await trio.sleep(2)
        assert 1 == rig.backlog.segments
        rig.sender.put_nowait(numbered(2))
    assert [SegmentName(3, 0xABC, 0), SegmentName(3, 0xABC, 1)] == rig.folder.segments()


async def test_a_segment_is_closed_by_its_size(tmp_path, autojump_clock):
    rig = Rig(tmp_path, segment_max_mb=1)
    async with running(rig):
        for number in range(12):
            rig.sender.put_nowait(numbered(number, size=MB // 4))
            await trio.sleep(0.1)
    assert [numbered(number, size=MB // 4) for number in range(12)] == rig.blocks()
    assert 3 == rig.backlog.segments


async def test_extreme_traffic_is_entered_and_left_and_told(tmp_path, log, autojump_clock):
    """One symbol with many rows shortens the rotation; what was accepted before the segment's first write counts."""
    rig = Rig(tmp_path, extreme_traffic_threshold=1000, extreme_rotate_sec=30, parquet_rotate_sec=60)
    async with running(rig):
        rig.rows = {(Market.FUTURES, "BTCUSDT"): 1000}
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(29)
        assert ("extreme", 0) == (rig.state.mode, rig.backlog.segments)
        await trio.sleep(2)
        assert 1 == rig.backlog.segments
        for number in range(40):
            rig.sender.put_nowait(numbered(number))
            await trio.sleep(1)
        assert "normal" == rig.state.mode
    entered, left = (event for event in log if event["event"].startswith("extreme"))
    assert ("extreme_traffic_entered", "futures", "BTCUSDT", 1000) == tuple(
        entered[key] for key in ("event", "market", "symbol", "rows")
    )
    assert "extreme_traffic_left" == left["event"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_full_disk_pauses_and_goes_on(tmp_path, log, at, number, autojump_clock):
    """Nothing is lost, the journal stays valid, the pause is declared, and what was written goes to the sealers."""
    rig = Rig(tmp_path, FailingFiles(at, number, only="write"))
    async with running(rig):
        for each in range(4):
            rig.sender.put_nowait(numbered(each))
            await trio.sleep(0.5)
            if each + 1 == at:
                assert ("paused_disk", each) == (rig.state.state, len(rig.blocks()))
                assert min(each, 1) == rig.backlog.segments
                await trio.sleep(5)
            assert "recording" == rig.state.state
    assert [numbered(each) for each in range(4)] == rig.blocks()
    assert ["paused_disk", "disk_resumed"] == names_of(log)


async def test_free_space_below_the_reserve_pauses(tmp_path, autojump_clock):
    rig = Rig(tmp_path, disk_reserve_mb=10)
    async with running(rig):
        rig.files.free = 10 * MB - 1
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(100)
        assert ("paused_disk", [], 1) == (rig.state.state, rig.blocks(), rig.state.held_messages)
        rig.files.free = 10 * MB
        await trio.sleep(5)
        assert ("recording", 1) == (rig.state.state, len(rig.blocks()))


async def test_a_pause_fills_the_channel_and_no_more(tmp_path, autojump_clock):
    """The writer holds one gathering; everything else waits in the channel, whose limit slows the readers."""
    rig = Rig(tmp_path, disk_reserve_mb=10)
    rig.files.free = 0
    async with running(rig):
        for number in range(40):
            rig.sender.put_nowait(numbered(number, size=MB))
        await trio.sleep(100)
        assert 36 * MB == rig.sender.statistics().used_bytes
        rig.files.free = 100 * MB
        await trio.sleep(10)
    assert 40 == len(rig.blocks())


async def test_the_unsealed_journal_is_bounded(tmp_path, log, autojump_clock):
    """At UNSEALED_MAX_MB the writer waits, in a declared pause, until a segment has left the journal."""
    rig = Rig(tmp_path, unsealed_max_mb=3, segment_max_mb=1)
    async with running(rig):
        for number in range(4):
            rig.sender.put_nowait(numbered(number, size=MB))
            await trio.sleep(0.1)
        assert ("paused_unsealed", 2) == (rig.state.state, len(rig.blocks()))
        assert 3 * MB >= rig.backlog.size_bytes
        for number in range(2):
            job = await rig.backlog.take()
            rig.backlog.leave(job)
            await trio.sleep(0.1)
            assert 3 + number == len(rig.blocks())
        assert "recording" == rig.state.state
    assert ["paused_unsealed", "unsealed_resumed"] == list(dict.fromkeys(names_of(log)))


async def test_a_block_larger_than_the_whole_limit_is_written(tmp_path, autojump_clock):
    """A limit must not stop for ever what fits nowhere."""
    rig = Rig(tmp_path, unsealed_max_mb=2)
    async with running(rig):
        rig.sender.put_nowait(numbered(1, size=3 * MB))
    assert 1 == len(rig.blocks())


@pytest.mark.parametrize("call", ["sync", "sync_folder", "write", "create"])
async def test_a_disk_that_fails_ends_the_writer_at_once(tmp_path, call, autojump_clock):
    """No retry: what was synced is there, and the fault comes out."""
    rig = Rig(tmp_path, FailingFiles(1, errno.EIO, only=call))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Input/output")):
        async with running(rig):
            rig.sender.put_nowait(numbered(1))
            await trio.sleep(100)
    assert rig.files.failed_at == len(rig.files.calls)


async def test_a_disk_that_fails_at_the_nth_call_leaves_everything_synced_before(tmp_path, autojump_clock):
    """For every n: whole frames up to the last sync at least, then nothing or whole frames, then perhaps a torn one."""
    at = 0
    while True:
        at += 1
        rig = Rig(tmp_path / str(at), FailingFiles(at, errno.EIO), segment_max_mb=1, journal_sync_sec=0.1)
        synced = 0
        try:
            async with running(rig):
                for number in range(6):
                    rig.sender.put_nowait(numbered(number, size=MB // 3))
                    await trio.sleep(0.3)
                    if rig.state.synced_bytes == rig.state.written_bytes:
                        synced = rig.state.messages
        except* OSError:
            pass
        blocks = []
        for name in rig.folder.segments():
            items = read_segment(rig.folder.segment(name).read_bytes(), name)
            blocks += [item for item in items if isinstance(item, Block)]
        assert [numbered(number, size=MB // 3) for number in range(len(blocks))] == blocks
        assert synced <= len(blocks)
        if rig.files.failed_at is None:
            break
    assert at > 10


async def test_a_full_disk_at_the_end_is_waited_for_until_it_is_time_to_give_up(tmp_path, log, autojump_clock):
    """What could not be written is counted and told, and the service can end."""
    rig = Rig(tmp_path, FullFiles())
    rig.writer.give_up_at(20)
    with pytest.RaisesGroup(DiskFullError):
        async with running(rig):
            for number in range(7):
                rig.sender.put_nowait(numbered(number, size=MB))
    assert 20 == trio.current_time()
    assert [7] == [event["messages_lost"] for event in log if event["event"] == "journal_incomplete"]


@pytest.mark.parametrize("is_open", [False, True])
async def test_giving_up_ends_however_much_is_queued(tmp_path, log, is_open, autojump_clock):
    """More than one gathering lies in the channel, whose senders may be open or not; all of it is counted."""
    rig = Rig(tmp_path, FullFiles())
    rig.writer.give_up_at(20)
    with pytest.RaisesGroup(DiskFullError):
        async with running(rig):
            for number in range(40):
                rig.sender.put_nowait(numbered(number, size=MB))
            if is_open:
                await trio.sleep_forever()
    assert [40] == [event["messages_lost"] for event in log if event["event"] == "journal_incomplete"]


async def test_a_stop_during_a_long_pause_gives_up_in_its_own_time(tmp_path, log, autojump_clock):
    """The pause that was under way when the stop began does not put off its deadline."""
    rig = Rig(tmp_path, FullFiles(), disk_retry_sec=3600)
    with pytest.RaisesGroup(DiskFullError):
        async with running(rig):
            rig.sender.put_nowait(numbered(1))
            await trio.sleep(10)
            rig.writer.give_up_at(30)
    assert 30 == trio.current_time()
    assert [1] == [event["messages_lost"] for event in log if event["event"] == "journal_incomplete"]


async def test_a_stop_lifts_the_reserve(tmp_path, log, autojump_clock):
    """DISK_RESERVE_MB slows down intake; what was accepted is written where there is room."""
    rig = Rig(tmp_path, disk_reserve_mb=10, disk_retry_sec=3600)
    rig.files.free = 0
    async with running(rig):
        for number in range(12):
            rig.sender.put_nowait(numbered(number, size=MB))
        await trio.sleep(10)
        assert ("paused_disk", []) == (rig.state.state, rig.blocks())
        rig.writer.give_up_at(30)
    assert 12 == len(rig.blocks())
    assert 11 > trio.current_time()
    assert ["paused_disk", "disk_resumed"] == names_of(log)


async def test_a_stop_that_begins_during_a_write_lifts_the_reserve(tmp_path, autojump_clock):
    """The write that was under way still went by the limits of intake, and is repeated without them at once."""

    async def slow(function, *args):
        await trio.sleep(1)
        return function(*args)

    rig = Rig(tmp_path, run_blocking=slow, disk_reserve_mb=10, disk_retry_sec=3600)
    rig.files.free = 0
    async with running(rig):
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(0.5)
        rig.writer.give_up_at(30)
    assert 1 == len(rig.blocks())
    assert 10 > trio.current_time()


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_a_stop_lifts_the_limit_of_the_unsealed_journal(tmp_path, log, is_waiting, autojump_clock):
    """Whether the writer waits at UNSEALED_MAX_MB when the stop begins or comes there afterwards."""
    rig = Rig(tmp_path, unsealed_max_mb=3, segment_max_mb=1, disk_retry_sec=3600)
    async with running(rig):
        if not is_waiting:
            rig.writer.give_up_at(30)
        for number in range(12):
            rig.sender.put_nowait(numbered(number, size=MB))
            await trio.sleep(0.1)
        assert (2 if is_waiting else 12) == len(rig.blocks())
        rig.writer.give_up_at(30)
    assert 12 == len(rig.blocks())
    assert 10 > trio.current_time()
    assert is_waiting == ("unsealed_resumed" in names_of(log))


async def test_a_slow_disk_is_seen_from_outside(tmp_path, autojump_clock):
    """While a blocking call hangs, the state says since when."""

    async def slow(function, *args):
        await trio.sleep(10)
        return function(*args)

    rig = Rig(tmp_path, run_blocking=slow)
    async with running(rig):
        rig.sender.put_nowait(numbered(1))
        await trio.sleep(5)
        assert 0.014 == pytest.approx(rig.state.busy_since)
        await trio.sleep(5.5)
        assert 1 == rig.state.messages
    assert None is rig.state.busy_since


async def test_a_writer_that_is_cancelled_closes_its_file(tmp_path, autojump_clock):
    rig = Rig(tmp_path)
    with trio.move_on_after(5):
        async with running(rig):
            rig.sender.put_nowait(numbered(1))
            await trio.sleep_forever()
    assert ("closed", 1) == (rig.state.state, len(rig.blocks()))
