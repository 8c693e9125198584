"""The whole persistence nursery under a clock that jumps, with sealing in line: starts and ends of all sorts."""

import contextlib
import errno
import subprocess
import sys
from functools import partial

import pytest
import structlog
import trio
from persistence_samples import FailingFiles, block, futures_depth, inline, make_folder, put_segment, spot_trade

from streamsvc.batch import open_block_channel
from streamsvc.errors import UsageError
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.persistence.nursery import run_persistence
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.persistence.quarantine import Quarantine
from streamsvc.persistence.seal import seal_segment
from streamsvc.persistence.tools import Tools
from streamsvc.persistence.workers import SealerDiedError
from streamsvc.schema import Kind, Market
from streamsvc.settings import Settings


async def seal_in_line(segment, tmp):
    await trio.lowlevel.checkpoint()
    return seal_segment(str(segment), str(tmp))


async def seal_never(_segment, _tmp):
    await trio.sleep_forever()


class Rig:
    def __init__(self, tmp_path, *, seal=seal_in_line, files=None, **settings):
        self.folder = DataFolder(tmp_path)
        self.settings = Settings(data_dir=tmp_path, **({"disk_reserve_mb": 0, "drain_sec": 20} | settings))
        self.sender, self.receiver = open_block_channel(1 << 20)
        self.quarantine = Quarantine()
        self.tools = Tools(
            run_blocking=inline,
            seal=seal,
            build_day=partial(inline, build_day),
            wall_ns=lambda: 5,
            rows_by_symbol=dict,
            files=files or FailingFiles(),
        )

    async def start(self, nursery):
        return await nursery.start(run_persistence, self.settings, self.receiver, self.quarantine, self.tools)

    def ids(self):
        return sorted(
            number
            for file in Catalogue(self.folder.catalogue).sealed_files()
            for group in read_row_groups(self.folder.root / file.path)
            for number in group["trade_id"].tolist()
        )


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as events:
        yield events


async def test_what_was_put_is_in_the_data_set_when_it_ends(tmp_path, autojump_clock):
    rig = Rig(tmp_path, parquet_rotate_sec=10)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        with rig.sender:
            for number in range(100):
                rig.sender.put_nowait(block([spot_trade(number)]))
                await trio.sleep(1)
    assert (list(range(100)), []) == (rig.ids(), rig.folder.segments())


async def test_old_segments_are_sealed_beside_the_recording(tmp_path, autojump_clock):
    """Recording begins at once, however long the sealing of what lies there takes."""
    folder = make_folder(tmp_path)
    put_segment(folder, [block([spot_trade(1)])], SegmentName(1, 9, 0))

    async def slow(segment, tmp):
        await trio.sleep(100)
        return await seal_in_line(segment, tmp)

    rig = Rig(tmp_path, seal=slow, drain_sec=1000)
    async with trio.open_nursery() as nursery:
        persistence = await rig.start(nursery)
        with rig.sender:
            rig.sender.put_nowait(block([spot_trade(2)]))
            await trio.sleep(0.1)
            assert (1, []) == (persistence.state.messages, rig.ids())
    assert [1, 2] == rig.ids()


async def test_what_does_not_fit_into_the_drain_stays_in_the_journal(tmp_path, log, autojump_clock):
    """A hanging sealer does not hold up the end; the next start seals what is left."""
    rig = Rig(tmp_path, seal=seal_never)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        with rig.sender:
            rig.sender.put_nowait(block([spot_trade(1)]))
    assert 20 == pytest.approx(trio.current_time(), abs=0.1)
    assert [1] == [event["segments"] for event in log if event["event"] == "drain_cut"]
    rig = Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        rig.sender.close()
    assert [1] == rig.ids()


async def test_a_crash_elsewhere_takes_the_same_way_out(tmp_path, autojump_clock):
    """Whoever brings the nursery down: what was put is written, and what fits is sealed."""
    rig = Rig(tmp_path)
    with pytest.RaisesGroup(RuntimeError):
        async with trio.open_nursery() as nursery:
            await rig.start(nursery)
            with rig.sender:
                for number in range(10):
                    rig.sender.put_nowait(block([spot_trade(number)]))
                raise RuntimeError("a bug in a stream task")
    assert list(range(10)) == rig.ids()


async def test_a_sender_that_stays_open_does_not_hold_up_a_cancellation_for_ever(tmp_path, autojump_clock):
    rig = Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        rig.sender.put_nowait(block([spot_trade(1)]))
        nursery.cancel_scope.cancel()
    assert 25 == trio.current_time()
    assert 1 == len(rig.folder.segments())
    rig.sender.close()


async def test_a_cancellation_during_the_drain_stops_at_once(tmp_path, autojump_clock):
    """That is what a second signal does."""
    rig = Rig(tmp_path, seal=seal_never)
    async with trio.open_nursery() as nursery:
        persistence = await rig.start(nursery)
        with rig.sender:
            rig.sender.put_nowait(block([spot_trade(1)]))
        await trio.sleep(1)
        assert persistence.is_draining
        nursery.cancel_scope.cancel()
    assert 1 == trio.current_time()
    assert 1 == len(rig.folder.segments())


async def test_a_disk_that_fails_ends_everything_and_the_senders_know(tmp_path, autojump_clock):
    rig = Rig(tmp_path, files=FailingFiles(1, errno.EIO, only="sync"))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Input/output"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await rig.start(nursery)
            with rig.sender:
                rig.sender.put_nowait(block([spot_trade(1)]))
                await trio.sleep(5)
                with pytest.raises(trio.BrokenResourceError):
                    await rig.sender.wait_room()


async def test_a_second_instance_is_refused_before_it_changes_anything(tmp_path, autojump_clock):
    rig, other = Rig(tmp_path), Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        (rig.folder.tmp / "of-a-sealer").mkdir()
        with pytest.raises(UsageError, match="in use by another instance"):
            await run_persistence(other.settings, other.receiver, other.quarantine, other.tools)
        assert (rig.folder.tmp / "of-a-sealer").exists()
        rig.sender.close()
    other.sender.close()


async def test_a_lost_catalogue_is_made_again_from_the_files(tmp_path, autojump_clock, log):
    """Nothing has to be sealed again, and the streams go on from where they were."""
    rig = Rig(tmp_path, parquet_rotate_sec=1)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        with rig.sender:
            for number in range(3):
                depth = futures_depth(number + 1, [["1", "2"]] * 3, [["3", "4"]])
                rig.sender.put_nowait(block([spot_trade(number), spot_trade(number, symbol="ÄÖ")]))
                rig.sender.put_nowait(block([depth], Kind.DEPTH, Market.FUTURES))
                await trio.sleep(5)
    catalogue = Catalogue(rig.folder.catalogue)
    before = catalogue.sealed_files(), sorted(map(repr, catalogue.last_ids()))
    (rig.folder.parquet / "foreign.parquet").write_bytes(b"x")
    whole = rig.folder.root / before[0][0].path
    cut = whole.parent / f"{SegmentName(1, 2, 3)}.parquet"
    cut.write_bytes(whole.read_bytes()[:100])
    rig.folder.catalogue.unlink()

    rig = Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        await trio.sleep(10)
        rig.sender.close()
    assert before == (catalogue.sealed_files(), sorted(map(repr, catalogue.last_ids())))
    assert ["file_not_adopted", "files_adopted"] == [event["event"] for event in log if "adopted" in event["event"]]
    assert cut.exists()
    assert (rig.folder.parquet / "foreign.parquet").exists()


async def test_an_adoption_that_was_cut_is_done_by_the_next_start(tmp_path, autojump_clock):
    rig = Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        with rig.sender:
            rig.sender.put_nowait(block([spot_trade(1)]))
    rig.folder.catalogue.unlink()
    for seal in (seal_never, seal_in_line):
        rig = Rig(tmp_path, seal=seal)
        async with trio.open_nursery() as nursery:
            await rig.start(nursery)
            await trio.sleep(10)
            rig.sender.close()
    assert [1] == rig.ids()


async def test_texts_of_the_loop_are_in_quarantine_when_it_ends(tmp_path, autojump_clock):
    rig = Rig(tmp_path)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        rig.quarantine.put(market=Market.SPOT, connection=1, received_ns=2, reason="malformed", text=b"{")
        rig.sender.close()
    (path,) = rig.folder.quarantine.iterdir()
    assert b'"text":"{"' in path.read_bytes()


def test_the_recorders_process_never_loads_what_sealers_need():
    """pandas, numpy and fastparquet cost half a second and 100 MB: sealers only."""
    code = (
        "import sys, streamsvc.persistence.nursery, streamsvc.persistence.workers, streamsvc.persistence.tools\n"
        "print([name for name in ('numpy', 'pandas', 'fastparquet', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), SealerDiedError("killed")])
async def test_a_file_that_cannot_be_read_does_not_stop_the_recording(tmp_path, autojump_clock, log, fault):
    """It is told, the other files are taken in, and the next start tries it again."""
    rig = Rig(tmp_path, parquet_rotate_sec=1)
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        with rig.sender:
            for number in range(3):
                rig.sender.put_nowait(block([spot_trade(number)]))
                await trio.sleep(5)
    rig.folder.catalogue.unlink()
    broken = min(rig.folder.parquet.rglob("*.parquet"))

    async def seal(path, tmp):
        if path == broken:
            raise fault
        return await seal_in_line(path, tmp)

    for each, expected in ((seal, [1, 2]), (seal_in_line, [0, 1, 2])):
        rig = Rig(tmp_path, seal=each)
        async with trio.open_nursery() as nursery:
            await rig.start(nursery)
            await trio.sleep(10)
            rig.sender.close()
        assert expected == rig.ids()
    assert [str(broken)] == [event["path"] for event in log if event["event"] == "file_not_adopted"]


@pytest.mark.parametrize("raw_archive", [False, True])
async def test_an_archive_on_another_disk_stops_the_start_where_it_is_needed(tmp_path, autojump_clock, raw_archive):
    """Before anything is recorded that could not be published; who does not use it may have put it elsewhere."""
    rig = Rig(tmp_path, raw_archive=raw_archive)
    rig.folder.archive.symlink_to("/proc")
    rig.sender.close()
    expected = pytest.raises(UsageError, match="another disk") if raw_archive else contextlib.nullcontext()
    with expected:
        await run_persistence(rig.settings, rig.receiver, rig.quarantine, rig.tools)
