"""`streamsvc compact DIR`."""

import pytest
from compaction_samples import all_rows, assert_agreed, compact_all, rows_of
from persistence_samples import Crash, FailingFiles
from verify_samples import DAY_MS, TIME_MS, Recorded, mark_price, trade

from streamsvc.cli import main
from streamsvc.errors import UsageError
from streamsvc.persistence.compaction_command import compact_folder
from streamsvc.persistence.lock import locked

DAY_NS = DAY_MS * 10**6
AFTER_NS = TIME_MS * 10**6 + 2 * DAY_NS


@pytest.fixture
def recorded(tmp_path):
    recorded = Recorded(tmp_path / "data")
    for number in (2, 1):
        recorded.publish(trade(number), trade(10 + number, time_ms=TIME_MS + DAY_MS), mark_price(number))
    return recorded


def test_all_finished_days_are_compacted_and_told(recorded, capsys):
    before = all_rows(recorded.folder)
    assert 0 == main(["compact", str(recorded.root)])
    assert [
        "2023-11-14 futures markPrice: 2 files became 1, 2 rows",
        "2023-11-14 spot trade: 2 files became 1, 2 rows",
        "2023-11-15 spot trade: 2 files became 1, 2 rows",
    ] == capsys.readouterr().out.splitlines()
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)
    assert (0, "") == (main(["compact", str(recorded.root)]), capsys.readouterr().out)


def test_one_day_is_compacted_alone(recorded, capsys):
    assert 0 == main(["compact", str(recorded.root), "--day", "2023-11-15"])
    assert ["2023-11-15 spot trade: 2 files became 1, 2 rows"] == capsys.readouterr().out.splitlines()
    assert 3 == len(rows_of(recorded.folder))


def test_the_day_that_goes_on_is_left_alone(recorded):
    """Its first file lies in the folder to which the publisher adds the next."""
    told = []
    assert compact_folder(recorded.root, None, TIME_MS * 10**6 + DAY_NS, tell=told.append, pause=lambda: None)
    assert {"2023-11-14"} == {line[:10] for line in told}
    with pytest.raises(UsageError, match="2023-11-15 is not over"):
        compact_folder(recorded.root, "2023-11-15", TIME_MS * 10**6 + DAY_NS, tell=told.append, pause=lambda: None)


def test_a_damaged_day_is_told_and_the_others_are_compacted(recorded, capsys):
    path = recorded.root / recorded.publish(trade(3))[0]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert 1 == main(["compact", str(recorded.root)])
    first, second, third = capsys.readouterr().out.splitlines()
    assert "2023-11-14 spot trade: left as it is, parquet/trade/" in second
    assert "became 1" in first
    assert "became 1" in third
    assert_agreed(recorded.folder)


def test_a_foreign_file_is_told_and_stays(recorded, capsys):
    foreign = next(recorded.folder.parquet.glob("trade/*/*")) / "mine.csv"
    foreign.touch()
    assert 1 == main(["compact", str(recorded.root)])
    assert "left as it is, its folder holds what the catalogue does not know" in capsys.readouterr().out
    assert foreign.exists()


def test_a_folder_in_use_is_refused(recorded, capsys):
    with locked(recorded.folder):
        assert 2 == main(["compact", str(recorded.root)])
    assert "in use by another instance" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["."], ["nowhere"], [".", "--day", "yesterday"]])
def test_wrong_usage_changes_nothing(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert 2 == main(["compact", *arguments])
    assert [] == list(tmp_path.iterdir())


def test_a_compaction_that_was_killed_is_ended_first(recorded, capsys):
    with pytest.raises(Crash):
        compact_all(recorded, FailingFiles(2, Crash()))
    before = all_rows(recorded.folder)
    assert 0 == main(["compact", str(recorded.root)])
    assert "2023-11-14 futures markPrice" not in capsys.readouterr().out
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)
