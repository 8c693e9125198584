"""Compaction within the service: beside the publisher, over restarts, in a process of its own."""

from functools import partial

import pytest
import trio
from compaction_samples import all_rows, assert_agreed, compact_all
from persistence_samples import Crash, FailingFiles, inline, make_publisher
from verify_samples import Recorded, trade

from streamsvc.integrity.audit import unknown_gaps
from streamsvc.persistence.adoption import Adoption
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.compaction import make_compactor
from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.compaction_catalogue import CompactionCatalogue
from streamsvc.persistence.compaction_day import Day
from streamsvc.persistence.recovery import recover
from streamsvc.persistence.seal import seal_segment
from streamsvc.persistence.workers import open_sealers

DAY = Day("trade", "spot", "2023-11-14")


@pytest.fixture
def recorded(tmp_path):
    recorded = Recorded(tmp_path)
    recorded.publish(trade(2), trade(1, symbol="ETHUSDT"))
    recorded.publish(trade(1))
    return recorded


@pytest.mark.parametrize("at", range(1, 5))
def test_a_start_ends_what_a_kill_left_half_done(recorded, at):
    """Before `tmp/` is emptied, where the one or the other folder lies."""
    before = all_rows(recorded.folder)
    with pytest.raises(Crash):
        compact_all(recorded, FailingFiles(at, Crash()))
    recover(make_publisher(recorded.folder), 7)
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)


async def test_compacted_files_are_taken_into_a_new_catalogue(recorded):
    compact_all(recorded)
    recorded.publish(trade(3))
    before = [(file.path, file.rows, file.sha256) for file in Catalogue(recorded.folder.catalogue).sealed_files()]
    for path in recorded.root.glob("catalogue.sqlite*"):
        path.unlink()
    publisher = make_publisher(recorded.folder)
    recovered = recover(publisher, 7)

    async def seal(path, tmp):
        return await inline(seal_segment, str(path), str(tmp))

    told = []
    await Adoption(publisher, seal, inline, recovered, 5.0, partial(inline, unknown_gaps), told.append).run()
    assert [("BTCUSDT", 3), ("ETHUSDT", 1)] == [(one.symbol, one.last_id) for one in told[0].suspects]
    assert before == [(file.path, file.rows, file.sha256) for file in publisher.catalogue.sealed_files()]
    compact_all(recorded)
    assert_agreed(recorded.folder)


def test_nobody_publishes_while_folders_are_exchanged(recorded):
    """The publisher waits for the compactor's lock, and the other way round."""
    publisher = make_publisher(recorded.folder)
    compactor = make_compactor(publisher)
    assert publisher.changing is compactor.changing
    states = []
    name = recorded.put_segment(trade(3))
    manifest = seal_segment(str(recorded.folder.segment(name)), str(recorded.folder.tmp))

    def watched(transaction):
        return lambda *args: (states.append(publisher.changing.locked()), transaction(*args))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalogue, "commit", watched(Catalogue.commit))
        patch.setattr(CompactionCatalogue, "replace", watched(CompactionCatalogue.replace))
        publisher.publish(name, manifest)
        built = build_day(str(recorded.root), compactor.plan(DAY))
        assert compactor.replace(built)
    assert [True, True] == states
    assert not publisher.changing.locked()


async def test_a_day_is_built_in_a_process_of_its_own(recorded):
    compactor = make_compactor(make_publisher(recorded.folder))
    before = all_rows(recorded.folder)
    with trio.fail_after(60):
        async with open_sealers(1) as sealers:
            built = await sealers.build_day(str(recorded.root), compactor.plan(DAY))
    assert compactor.replace(built)
    compactor.discard(built)
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)
