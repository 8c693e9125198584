"""The sealers' loop: order, failures, a full disk, and what a segment's end looks like in the log."""

import errno
from pathlib import Path

import attrs
import pytest
import structlog
import trio
from persistence_samples import FailingFiles, block, inline, make_folder, make_publisher, put_segment, spot_trade

from streamsvc.errors import DiskFullError
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.seal import seal_segment
from streamsvc.persistence.sealing import Backlog, Sealing
from streamsvc.persistence.segment import ClosedSegment
from streamsvc.persistence.workers import SealerDiedError


async def seal_in_line(segment, tmp):
    await trio.lowlevel.checkpoint()
    return seal_segment(str(segment), str(tmp))


class Rig:
    """A backlog of segments with one trade each, and a sealing that publishes them."""

    def __init__(self, tmp_path, seal=seal_in_line, *, segments=3, files=None):
        self.folder = make_folder(tmp_path)
        self.publisher = make_publisher(self.folder, files)
        self.backlog = Backlog()
        self.names = [SegmentName(1, 1, sequence) for sequence in range(segments)]
        for name in self.names:
            path = put_segment(self.folder, [block([spot_trade(name.sequence)])], name)
            self.backlog.add(ClosedSegment(name, path.stat().st_size, 60.0, "extreme"))
        self.sealing = Sealing(self.backlog, self.publisher, seal, inline, lambda: 4, 3, 5.0)

    async def run(self, sealers=1):
        self.backlog.end()
        async with trio.open_nursery() as nursery:
            for _ in range(sealers):
                nursery.start_soon(self.sealing.run)

    def published(self):
        return [SegmentName.parse(Path(file.path).stem) for file in self.publisher.catalogue.sealed_files()]


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as events:
        yield events


async def test_segments_are_published_and_told(tmp_path, log, autojump_clock):
    rig = Rig(tmp_path)
    await rig.run()
    assert (rig.names, [], 0, 0) == (
        rig.published(), rig.folder.segments(), rig.backlog.segments, rig.backlog.size_bytes,
    )  # fmt: skip
    rotated = [event for event in log if event["event"] == "rotated"]
    expected = {"mode": "extreme", "seconds": 60.0, "rows": 1, "reconnects": 4, "oldest_trade_age_ms": 0}
    assert [expected] * 3 == [{key: event[key] for key in expected} for event in rotated]
    assert {"bytes", "oldest_book_age_ms"} <= set(rotated[0])


async def test_several_sealers_publish_in_order(tmp_path, log, autojump_clock):
    """The first one is slowest, and at most as many as there are sealers lie prepared."""
    active = peak = 0

    async def slow_first(segment, tmp):
        nonlocal active, peak
        active += 1
        peak = max(peak, active)
        await trio.sleep(10 if segment.name.endswith("000000.journal") else 1)
        active -= 1
        return seal_segment(str(segment), str(tmp))

    rig = Rig(tmp_path, slow_first, segments=5)
    await rig.run(sealers=2)
    assert [str(name) for name in rig.names] == [event["segment"] for event in log if event["event"] == "rotated"]
    assert 2 == peak


async def test_a_sealer_that_dies_is_started_again_and_its_segment_sealed_once(tmp_path, log, autojump_clock):
    deaths = 2

    async def mortal(segment, tmp):
        nonlocal deaths
        if deaths:
            deaths -= 1
            raise SealerDiedError("killed")
        return await seal_in_line(segment, tmp)

    rig = Rig(tmp_path, mortal)
    await rig.run()
    assert rig.names == rig.published()
    assert 2 == sum(event["event"] == "seal_failed" for event in log)


async def test_a_segment_that_cannot_be_sealed_is_set_aside_and_the_others_go_on(tmp_path, log, autojump_clock):
    attempts = []

    async def picky(segment, tmp):
        if segment.name.endswith("000001.journal"):
            attempts.append(segment)
            raise ValueError("cannot")
        return await seal_in_line(segment, tmp)

    rig = Rig(tmp_path, picky)
    await rig.run(sealers=2)
    assert ([rig.names[0], rig.names[2]], [rig.names[1]], 3) == (
        rig.published(), rig.folder.failed_segments(), len(attempts),
    )  # fmt: skip
    (event,) = (event for event in log if event["event"] == "segment_set_aside")
    assert "ValueError: cannot" in event["detail"]
    assert (0, 0) == (rig.backlog.segments, rig.backlog.size_bytes)


async def test_a_full_disk_is_waited_for_and_is_no_failure(tmp_path, autojump_clock):
    """However long it takes, in the sealer and in the publisher."""
    full = 10

    async def seal(segment, tmp):
        nonlocal full
        if full:
            full -= 1
            raise DiskFullError("no room")
        return await seal_in_line(segment, tmp)

    rig = Rig(tmp_path, seal, files=FailingFiles(2, errno.ENOSPC))
    await rig.run()
    assert (rig.names, []) == (rig.published(), rig.folder.failed_segments())
    assert 55 <= trio.current_time()


async def test_a_disk_that_fails_under_the_publisher_ends_the_process(tmp_path, autojump_clock):
    rig = Rig(tmp_path, files=FailingFiles(1, errno.EIO, only="replace"))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Input/output")):
        await rig.run()
    assert rig.names == rig.folder.segments()


async def test_an_empty_backlog_waits_for_segments_or_the_end(tmp_path, autojump_clock):
    rig = Rig(tmp_path, segments=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.sealing.run)
        await trio.sleep(100)
        name = SegmentName(1, 1, 0)
        put_segment(rig.folder, [block([spot_trade(1)])], name)
        rig.backlog.add(ClosedSegment(name, 100))
        await trio.sleep(1)
        assert [name] == rig.published()
        rig.backlog.end()


@pytest.mark.parametrize("call", ["replace", "sync_folder"])
async def test_a_full_disk_is_waited_for_when_a_segment_is_set_aside(tmp_path, call, autojump_clock):
    async def never(_segment, _tmp):
        raise ValueError("cannot")

    rig = Rig(tmp_path, never, files=FailingFiles(1, errno.ENOSPC, only=call))
    await rig.run()
    assert (rig.names, []) == (rig.folder.failed_segments(), rig.folder.segments())


async def test_a_segment_that_vanishes_when_its_ids_are_needed_is_given_up(tmp_path, log, autojump_clock):
    """It cannot be told what was in it, so nothing of it is published: its ids enter the ledger."""
    rig = Rig(tmp_path, segments=1)
    with rig.publisher.catalogue._transaction() as connection:
        connection.execute("delete from pending")
        connection.execute("insert into suspects values ('spot', 'BTCUSDT', 'trade', 0, 7, null, 'damage')")
    told = []

    async def seal(segment, tmp):
        manifest = await seal_in_line(segment, tmp)
        segment.unlink()
        return manifest

    publisher = attrs.evolve(rig.publisher, read_ids=Path.read_bytes)
    rig.sealing = attrs.evolve(rig.sealing, publisher=publisher, seal=seal, tell_losses=told.append)
    await rig.run()
    assert ([], 0) == (rig.published(), rig.backlog.segments)
    assert [7] == [one.last_id for losses in told for one in losses.suspects]
    assert 1 == sum(event["event"] == "segment_set_aside" for event in log)
