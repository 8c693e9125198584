"""Verify and compaction: the same rows in other files, and a check that goes on while files are merged."""

import pytest
from compaction_samples import compact_all, make_compactor
from verify_samples import DAY_MS, TIME_MS, Recorded, futures_depth, trade

from streamsvc.integrity import contents
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence import compaction_sort
from streamsvc.persistence.retention import remove_day


@pytest.fixture
def recorded(tmp_path):
    recorded = Recorded(tmp_path)
    recorded.publish(trade(2), trade(1, symbol="ETHUSDT"), trade(5, time_ms=TIME_MS + DAY_MS))
    recorded.publish(trade(1), futures_depth(10, 19, 9), futures_depth(20, 29, 19))
    recorded.publish(trade(7, time_ms=TIME_MS + DAY_MS))
    return recorded


def found(report):
    return report.errors, report.rows, report.gaps, report.coverage


def test_compaction_changes_nothing_that_is_found(recorded):
    before = found(verify_folder(recorded.root))
    compact_all(recorded)
    assert before == found(verify_folder(recorded.root))
    assert [[], 11] == list(before[:2])


def test_a_compacted_file_is_read_one_row_group_at_a_time(recorded, monkeypatch):
    """A day of one symbol need not fit into memory; rows that are there twice are found as well."""
    recorded.publish(trade(2))
    monkeypatch.setattr(compaction_sort, "ROW_GROUP_ROWS", 1)
    compact_all(recorded)
    monkeypatch.setattr(contents.KindCheck, "_read", None)
    monkeypatch.setattr(contents.KindCheck, "_find_shared", lambda *_: None)
    (error,) = verify_folder(recorded.root).errors
    assert "1 rows of BTCUSDT are there twice" in error


@pytest.mark.parametrize("at", range(1, 8))
def test_a_check_begins_again_where_files_were_replaced_meanwhile(recorded, at):
    """Wherever it was: what it finds is what a check finds that nothing disturbed."""
    before = found(verify_folder(recorded.root))
    calls = []

    def progress(_done, _total):
        calls.append(1)
        if len(calls) == at:
            compact_all(recorded)

    assert before == found(verify_folder(recorded.root, progress))


def test_a_check_begins_again_where_a_day_was_removed_meanwhile(recorded):
    compactor = make_compactor(recorded)
    removed = []

    def progress(_done, _total):
        if not removed:
            removed.extend(remove_day(compactor, day) for day in compactor.catalogue.days_before("2023-11-15"))

    report = verify_folder(recorded.root, progress)
    assert ([], 2) == (report.errors, report.rows)
