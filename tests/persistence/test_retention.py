"""Old days leave the data set: all of a day or nothing, and the catalogue with it."""

import errno

import pytest
from compaction_samples import assert_agreed, compact_all, make_compactor, rows_of
from persistence_samples import Crash, FailingFiles
from verify_samples import DAY_MS, TIME_MS, Recorded, trade

from streamsvc.errors import DiskFullError
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.compaction_catalogue import CompactionCatalogue
from streamsvc.persistence.compaction_day import Day
from streamsvc.persistence.retention import first_kept_date, remove_day

OLD, NEXT = (Day("trade", "spot", date) for date in ("2023-11-14", "2023-11-15"))


@pytest.fixture
def recorded(tmp_path):
    return fill(Recorded(tmp_path))


def fill(recorded):
    for number in (1, 2):
        recorded.publish(trade(number), trade(number + 2, time_ms=TIME_MS + DAY_MS))
    return recorded


def days(recorded):
    return sorted({name.split("/")[1] for name in rows_of(recorded.folder)})


def remove(recorded, files=None):
    """As the service does it: recover, then remove what is too old."""
    compactor = make_compactor(recorded, files)
    compactor.recover()
    return [remove_day(compactor, day) for day in compactor.catalogue.days_before("2023-11-15")]


@pytest.mark.parametrize(("retention_days", "date"), [(1, "2023-11-13"), (2, "2023-11-12"), (365, "2022-11-14")])
def test_full_days_are_kept_beside_the_one_that_goes_on(retention_days, date):
    assert date == first_kept_date(TIME_MS * 10**6, retention_days)


@pytest.mark.parametrize("is_compacted", [False, True])
def test_an_old_day_goes_with_its_files_and_entries(recorded, is_compacted):
    if is_compacted:
        compact_all(recorded)
    assert [True] == remove(recorded)
    assert ["date=2023-11-15"] == days(recorded)
    assert_agreed(recorded.folder)
    assert [] == verify_folder(recorded.root).errors
    assert [] == remove(recorded)


def test_how_far_streams_had_come_is_still_known(recorded):
    """Else the next start would take ids that are no longer kept for ones that are still to come."""
    before = Catalogue(recorded.folder.catalogue).last_ids()
    remove(recorded)
    assert before == Catalogue(recorded.folder.catalogue).last_ids()


def test_a_crash_at_every_call_of_the_disk_leaves_all_of_the_day_or_nothing(tmp_path):
    files = FailingFiles()
    remove(fill(Recorded(tmp_path / "count")), files)
    assert ["remove_tree", "replace", "sync_folder", "remove_tree"] == files.calls
    for at in range(1, len(files.calls) + 1):
        recorded = fill(Recorded(tmp_path / str(at)))
        with pytest.raises(Crash):
            remove(recorded, FailingFiles(at, Crash()))
        make_compactor(recorded).recover()
        assert_agreed(recorded.folder)
        remove(recorded)
        assert ["date=2023-11-15"] == days(recorded)
        assert_agreed(recorded.folder)


@pytest.mark.parametrize("step", ["intend", "replace"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_around_every_transaction_too(recorded, monkeypatch, step, is_after):
    transaction = getattr(CompactionCatalogue, step)

    def crash(*args):
        if is_after:
            transaction(*args)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(CompactionCatalogue, step, crash)
        with pytest.raises(Crash):
            remove(recorded)
    make_compactor(recorded).recover()
    assert_agreed(recorded.folder)
    remove(recorded)
    assert ["date=2023-11-15"] == days(recorded)
    assert_agreed(recorded.folder)


def test_a_full_disk_is_waited_for(recorded):
    """What is to be deleted may be what fills it: nothing is left half done."""
    with pytest.raises(DiskFullError):
        remove(recorded, FailingFiles(1, errno.ENOSPC, only="sync_folder"))
    remove(recorded)
    assert ["date=2023-11-15"] == days(recorded)
    assert_agreed(recorded.folder)


def test_a_folder_with_foreign_files_stays(recorded):
    foreign = recorded.root / OLD.path / "mine.csv"
    foreign.touch()
    assert [False] == remove(recorded)
    assert foreign.exists()
    assert 5 == len(list(recorded.folder.parquet.glob("trade/*/*/*")))


def test_files_that_somebody_deleted_are_not_missed(recorded):
    for path in (recorded.root / OLD.path).iterdir():
        path.unlink()
    (recorded.root / OLD.path).rmdir()
    assert [True] == remove(recorded)
    assert_agreed(recorded.folder)


def test_rows_that_come_late_for_a_removed_day_go_with_the_next_round(recorded):
    remove(recorded)
    recorded.publish(trade(9))
    assert ["date=2023-11-14", "date=2023-11-15"] == days(recorded)
    remove(recorded)
    assert ["date=2023-11-15"] == days(recorded)
    assert_agreed(recorded.folder)
