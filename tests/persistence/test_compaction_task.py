"""The service's task: an hour after the other, and never in the way of the recording."""

import errno
from functools import partial

import attrs
import pytest
import structlog
import trio
from compaction_samples import all_rows, assert_agreed, make_compactor, rows_of
from persistence_samples import FailingFiles, inline
from verify_samples import DAY_MS, TIME_MS, Recorded, trade

from streamsvc.errors import DiskFullError, StreamsvcError, UsageError
from streamsvc.persistence import compaction_task
from streamsvc.persistence.archive import archived_dates
from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.compaction_day import BUILD_PREFIX
from streamsvc.persistence.compaction_task import FINISHED_SEC, Housekeeping, date_of

MIDNIGHT_MS = (TIME_MS // DAY_MS + 1) * DAY_MS
"""The end of the day in which `TIME_MS` lies."""

FINISHED_MS = MIDNIGHT_MS + FINISHED_SEC * 1000
MOMENT_SEC = 60.0
ROUNDS_SEC = 3600.0


@pytest.fixture
def recorded(tmp_path):
    recorded = Recorded(tmp_path)
    for number in (2, 1):
        recorded.publish(trade(number), trade(2 + number, time_ms=TIME_MS + DAY_MS))
    return recorded


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as events:
        yield events


def told(log):
    return [event["event"] for event in log]


def keeping(recorded, now_ms, *, files=None, build=build_day, retention_days=None):
    """The task, whose wall clock shows `now_ms` and goes on."""
    began = trio.current_time()
    return Housekeeping(
        compactor=make_compactor(recorded, files),
        build=partial(inline, build),
        run_blocking=inline,
        wall_ns=lambda: now_ms * 10**6 + int((trio.current_time() - began) * 10**9),
        retention_days=retention_days,
        disk_retry_sec=5.0,
    )


async def run_for(seconds, task):
    with trio.move_on_after(seconds):
        await task.run()


def compacted_dates(recorded):
    return sorted({name.split("/")[1][5:] for name in rows_of(recorded.folder) if "/BTCUSDT." in name})


@pytest.mark.parametrize(("early_ms", "dates"), [(1, []), (0, ["2023-11-14"])])
async def test_a_day_is_compacted_when_it_is_finished(recorded, log, autojump_clock, early_ms, dates):
    before = all_rows(recorded.folder)
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS - early_ms))
    assert dates == compacted_dates(recorded)
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)
    assert [("day_compacted", "trade", "spot", date, 2, 1, 2) for date in dates] == [
        tuple(event[name] for name in ("event", "kind", "market", "date", "files", "became", "rows")) for event in log
    ]


async def test_the_next_day_is_compacted_when_it_has_finished_too(recorded, autojump_clock):
    await run_for(25 * 3600, keeping(recorded, FINISHED_MS))
    assert ["2023-11-14", "2023-11-15"] == compacted_dates(recorded)


async def test_late_rows_are_merged_by_the_next_round(recorded, autojump_clock):
    task = keeping(recorded, FINISHED_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, 2 * ROUNDS_SEC, task)
        await trio.sleep(MOMENT_SEC)
        recorded.publish(trade(3))
        before = all_rows(recorded.folder)
    assert before == all_rows(recorded.folder)
    assert 3 == len(list(recorded.folder.parquet.rglob("*.parquet")))


async def test_a_day_that_cannot_be_built_stops_nothing(recorded, log, autojump_clock):
    """Neither the recording nor the other days: it is left as it is, and told every hour."""

    def build(root, work):
        if work.day.date == "2023-11-14":
            (recorded.folder.tmp / f"{BUILD_PREFIX}left-by-a-killed-builder").mkdir()
            raise MemoryError
        return build_day(root, work)

    await run_for(1.5 * ROUNDS_SEC, keeping(recorded, FINISHED_MS + DAY_MS, build=build))
    assert ["2023-11-15"] == compacted_dates(recorded)
    assert ["compaction_failed", "day_compacted", "compaction_failed"] == told(log)
    assert_agreed(recorded.folder)


async def test_a_day_for_which_there_is_no_room_does_not_hold_up_the_others(recorded, log, autojump_clock):
    def build(root, work):
        if work.day.date == "2023-11-14":
            raise DiskFullError("full")
        return build_day(root, work)

    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + DAY_MS, build=build))
    assert ["compaction_postponed", "day_compacted"] == told(log)
    assert ["2023-11-15"] == compacted_dates(recorded)
    assert_agreed(recorded.folder)


async def test_a_day_that_cannot_be_exchanged_stops_nothing(recorded, log, autojump_clock):
    def build(root, work):
        built = build_day(root, work)
        return attrs.evolve(built, made=()) if work.day.date == "2023-11-14" else built

    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + DAY_MS, build=build))
    assert ["compaction_failed", "day_compacted"] == told(log)
    assert_agreed(recorded.folder)


async def test_a_folder_that_is_not_as_the_catalogue_says_is_left_to_a_later_round(recorded, log, autojump_clock):
    task = keeping(recorded, FINISHED_MS)
    finish = recorded.place_files(trade(9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, 1.5 * ROUNDS_SEC, task)
        await trio.sleep(MOMENT_SEC)
        assert ["compaction_postponed"] == told(log)
        finish()
    assert ["compaction_postponed", "day_compacted"] == told(log)
    assert_agreed(recorded.folder)


async def test_no_room_is_waited_for(recorded, log, autojump_clock):
    """The note of a half-done exchange is settled before anything else, as often as it takes."""

    class FullDisk(FailingFiles):
        is_full = True

        def sync_folder(self, folder):
            if self.is_full and folder.name == "market=spot":
                raise DiskFullError("full")
            super().sync_folder(folder)

    files = FullDisk()
    before = all_rows(recorded.folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, 1.5 * ROUNDS_SEC, keeping(recorded, FINISHED_MS, files=files))
        await trio.sleep(60)
        assert {"compaction_postponed"} == set(told(log))
        assert 13 == len(log)
        files.is_full = False
    assert before == all_rows(recorded.folder)
    assert ["2023-11-14"] == compacted_dates(recorded)
    assert_agreed(recorded.folder)


async def test_a_disk_that_fails_is_no_matter_of_this_task(recorded, autojump_clock):
    """It ends the service: what a failed sync leaves is told by the next start."""
    with pytest.raises(OSError, match="Input/output error"):
        await keeping(recorded, FINISHED_MS, files=FailingFiles(1, errno.EIO, only="sync_folder")).run()


async def test_what_a_kill_left_half_done_is_ended_at_the_start(recorded, autojump_clock):
    with pytest.raises(OSError, match="Input/output error"):
        await keeping(recorded, FINISHED_MS, files=FailingFiles(1, errno.EIO, only="sync_folder")).run()
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS))
    assert ["2023-11-14"] == compacted_dates(recorded)
    assert_agreed(recorded.folder)


async def test_a_clock_that_was_set_years_ahead_removes_nothing(recorded, log, autojump_clock):
    """Days are old by the newest time that the exchange has stamped, too; a clock that is behind keeps more."""
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + 5000 * DAY_MS, retention_days=1))
    assert {"day_compacted"} == set(told(log))
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS - 5000 * DAY_MS, retention_days=1))
    assert ["2023-11-14", "2023-11-15"] == compacted_dates(recorded)


async def test_where_the_exchange_stamps_nothing_the_clock_decides(recorded, log, autojump_clock):
    """As with bookTicker of spot alone."""
    recorded.sql("update streams set kind = 'bookTicker'")
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + 50 * DAY_MS, retention_days=1))
    assert ["day_removed"] * 2 == told(log)


async def test_a_file_system_that_cannot_exchange_folders_is_told_and_old_days_go_nevertheless(
    recorded, log, monkeypatch, autojump_clock
):
    def cannot(_tmp):
        raise UsageError("no renameat2")

    monkeypatch.setattr(compaction_task, "require_exchange", cannot)
    recorded.publish(trade(9, time_ms=TIME_MS + 2 * DAY_MS))
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + DAY_MS, retention_days=1))
    assert ["day_removed", "compaction_impossible"] == told(log)
    assert 3 == len(list(recorded.folder.parquet.rglob("*.parquet")))


async def test_old_days_are_removed_where_that_is_wanted(recorded, log, autojump_clock):
    recorded.publish(trade(9, time_ms=TIME_MS + 6 * DAY_MS))
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + 5 * DAY_MS, retention_days=5))
    assert [("day_removed", "2023-11-14"), ("day_compacted", "2023-11-15")] == [
        (event["event"], event["date"]) for event in log
    ]
    assert_agreed(recorded.folder)


async def test_old_days_of_the_archive_are_removed_with_them(recorded, log, autojump_clock):
    """By the day under which they lie; a day with foreign files stays, and is told."""
    for date in ("2023-11-12", "2023-11-13", "2023-11-14"):
        day = recorded.folder.archive / date
        day.mkdir(parents=True)
        (day / f"000001-deadbeef-000000.from-{date}.journal.zst").touch()
    (recorded.folder.archive / "2023-11-12" / "mine").touch()
    await run_for(MOMENT_SEC, keeping(recorded, MIDNIGHT_MS, retention_days=1))
    assert ["2023-11-12", "2023-11-14"] == archived_dates(recorded.folder)
    assert [("day_not_removed", "archive", "2023-11-12"), ("day_removed", "archive", "2023-11-13")] == [
        (event["event"], event["kind"], event["date"]) for event in log
    ]


async def test_a_day_with_foreign_files_is_not_removed_and_told(recorded, log, autojump_clock):
    next(recorded.folder.parquet.glob("trade/*/*14")).joinpath("mine").touch()
    recorded.publish(trade(9, time_ms=TIME_MS + 2 * DAY_MS))
    await run_for(MOMENT_SEC, keeping(recorded, FINISHED_MS + DAY_MS, retention_days=1))
    assert ["day_not_removed", "compaction_postponed", "day_compacted"] == told(log)


async def test_a_stop_while_a_day_is_built_leaves_it_as_it_was(recorded, autojump_clock):
    async def build(_root, _work):
        await trio.sleep(3600)
        raise StreamsvcError("never")

    task = attrs.evolve(keeping(recorded, FINISHED_MS), build=build)
    before = all_rows(recorded.folder)
    await run_for(60, task)
    assert before == all_rows(recorded.folder)
    assert [] == compacted_dates(recorded)
    assert_agreed(recorded.folder)


def test_a_date_is_of_utc():
    assert ("2023-11-14", "2023-11-15") == (date_of(MIDNIGHT_MS * 10**6 - 1), date_of(MIDNIGHT_MS * 10**6))
