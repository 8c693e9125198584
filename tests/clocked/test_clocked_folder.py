"""Somebody else's hands in the data folder: files that are removed while they live, a disk that may not be written."""

import errno
import shutil

import pytest
import trio
from clocked_script import scripted, trade

from streamsvc.errors import DamagedError
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind

TRADES = {"spot_kinds": (Kind.TRADE,), "parquet_rotate_sec": 20, "latency_warn_ms": 10**13}


@pytest.fixture
def folder(world):
    """The data folder of a world that trades ten times a second."""

    async def converse(talk):
        await talk.play(0.1, lambda number: [trade("BTCUSDT", number, number * 100)])

    world.servers["spot.test"] = scripted(converse)
    return DataFolder(world.folder)


async def test_a_segment_that_is_removed_while_it_is_written(world, folder):
    """The log says that it cannot be sealed, recording goes on, and the ledger has the ids that went with it."""
    async with world.recording(**TRADES):
        await trio.sleep(30)
        (removed,) = folder.segments()
        folder.segment(removed).unlink()
        await trio.sleep(60)
    (aside,) = world.log.events("segment_set_aside", level="error")
    assert str(removed) == aside["segment"]
    report = world.verify()
    assert (1, 0) == (report.exit_code, report.unknown)
    assert [] == world.leftovers()
    lost = world.expected_rows() - world.stored_rows()
    (gap,) = report.gaps
    assert "damage" == gap.cause
    assert lost.total() == gap.last_missing_id - gap.first_missing_id + 1 > 190
    assert not world.stored_rows() - world.expected_rows()


async def test_the_sealers_folder_is_removed_while_it_is_used(world, folder):
    """It is made again: no segment is set aside for that."""
    async with world.recording(**TRADES):
        await trio.sleep(30)
        shutil.rmtree(folder.tmp)
        await trio.sleep(60)
    assert [] == world.log.events("seal_failed")
    world.verify_complete()


async def test_a_catalogue_that_is_removed_while_it_is_used(world, folder):
    """The process ends and says so; the next start makes it again from the files, and no row is lost or there twice."""
    with pytest.RaisesGroup(pytest.RaisesExc(DamagedError), flatten_subgroups=True):
        async with world.recording(**TRADES) as recording:
            await trio.sleep(50)
            for path in folder.root.glob("catalogue.sqlite*"):
                path.unlink()
            await recording.live.ended.wait()
    await world.recover()
    world.verify()
    assert [] == world.leftovers()
    assert world.expected_rows() == world.stored_rows()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["write", "create", "replace"])
async def test_a_disk_that_may_not_be_written_any_more(world, folder, code, call):
    """Remounted read-only, or its rights taken away: the process ends with that reason, and what it wrote is kept."""
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, check=lambda fault: fault.errno == code), flatten_subgroups=True):
        async with world.recording(**TRADES) as recording:
            await trio.sleep(30)
            world.files.fail(call, code, times=10**9)
            with trio.fail_after(60):
                await recording.live.ended.wait()
    assert [] == world.log.events("paused_disk")
    world.files.fail(call, 0, times=0)
    written = world.lives[0].persistence.state.messages
    await world.recover()
    report = world.verify()
    assert [] == world.leftovers()
    assert written <= report.rows + report.derived_rows
    assert world.stored_rows() <= world.expected_rows()
