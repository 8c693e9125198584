"""Many files become few: every row once, whoever reads meanwhile and wherever the process ends."""

import errno
import os
import threading

import duckdb
import pytest
from compaction_samples import AFTER, all_rows, assert_agreed, compact_all, make_compactor, rows_of
from persistence_samples import Crash, FailingFiles
from verify_samples import (
    DAY_MS,
    TIME_MS,
    Recorded,
    candle,
    futures_depth,
    mark_price,
    spot_depth,
    trade,
)

from streamsvc import dataset
from streamsvc.errors import DamagedError, DiskFullError, UsageError
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.compaction_catalogue import CompactionCatalogue
from streamsvc.persistence.compaction_day import Day
from streamsvc.persistence.compaction_names import is_compacted
from streamsvc.persistence.parquet import read_coded
from streamsvc.schema import Market

DAY = Day("trade", "spot", "2023-11-14")


@pytest.fixture
def recorded(tmp_path):
    return fill(Recorded(tmp_path))


def fill(recorded):
    """Three segments of two symbols, out of order."""
    recorded.publish(trade(5), trade(2), trade(1, symbol="ETHUSDT"), trade(3))
    recorded.publish(trade(1), trade(4), trade(2, symbol="ETHUSDT"))
    recorded.publish(trade(6), trade(1, epoch=1))
    return recorded


def ids_of(recorded):
    """The ids of every file's rows, by the encoded symbol."""
    files = rows_of(recorded.folder).items()
    return {name.rpartition("/")[2].partition(".")[0]: [row[4] for row in rows] for name, rows in files}


def test_a_day_becomes_one_file_a_symbol_in_the_order_of_ids(recorded):
    before = all_rows(recorded.folder)
    compact_all(recorded)
    assert {"BTCUSDT": [1, 2, 3, 4, 5, 6, 1], "ETHUSDT": [1, 2]} == ids_of(recorded)
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)


def test_every_kind_keeps_its_rows_to_the_bit(tmp_path):
    recorded = Recorded(tmp_path)
    for number in (3, 1, 2):
        recorded.publish(
            trade(number, price="0.1234567890123456"),
            trade(number, time_ms=TIME_MS + DAY_MS, market=Market.FUTURES),
            futures_depth(10 * number, 10 * number + 9, 10 * number - 1),
            spot_depth(2 * number, 2 * number + 1),
            candle(number),
            mark_price(number),
        )
    kinds = ("trade", "depth", "kline_1m", "markPrice")
    before = {kind: all_rows(recorded.folder, kind) for kind in kinds}
    assert 6 == len(compact_all(recorded))
    assert before == {kind: all_rows(recorded.folder, kind) for kind in kinds}
    assert_agreed(recorded.folder)
    times = [[row[2] for row in rows] for rows in rows_of(recorded.folder, "markPrice").values()]
    assert [sorted(*times)] == times


def test_verify_accepts_what_was_compacted(recorded):
    before = verify_folder(recorded.root)
    compact_all(recorded)
    after = verify_folder(recorded.root)
    assert ([], before.rows, before.gaps, before.coverage) == (after.errors, after.rows, after.gaps, after.coverage)
    assert 2 == after.files


def test_rows_that_were_recorded_twice_stay_twice(recorded):
    """Compaction changes files, not rows: what is there twice is for `verify` to tell."""
    recorded.publish(trade(4), trade(4))
    compact_all(recorded)
    assert [1, 2, 3, 4, 4, 4, 5, 6, 1] == ids_of(recorded)["BTCUSDT"]


def test_a_day_that_is_compacted_is_left_alone(recorded):
    compact_all(recorded)
    assert [] == compact_all(recorded)


def test_rows_that_come_late_are_merged_and_other_symbols_files_stay(recorded):
    compact_all(recorded)
    (untouched,) = recorded.folder.parquet.rglob("ETHUSDT.*")
    before = untouched.stat()
    recorded.publish(trade(0), trade(9), trade(1, symbol="DOTUSDT"))
    (built,) = compact_all(recorded)
    assert {"BTCUSDT": [0, 1, 2, 3, 4, 5, 6, 9, 1], "DOTUSDT": [1], "ETHUSDT": [1, 2]} == ids_of(recorded)
    assert (before.st_ino, before.st_mtime_ns) == (untouched.stat().st_ino, untouched.stat().st_mtime_ns)
    assert (2, 2) == (len(built.made), len(built.merged))
    assert_agreed(recorded.folder)


def test_only_the_files_of_the_symbol_are_read(recorded, monkeypatch):
    """Of a compacted day one, and of what came late all: any may hold its rows."""
    compact_all(recorded)
    (late,) = recorded.publish(trade(3, symbol="ETHUSDT"))
    names = []
    monkeypatch.setattr(
        dataset, "read_coded", lambda path, *args: (names.append(path.name), read_coded(path, *args))[1]
    )
    frame = dataset.load(recorded.root, "trade", "ETHUSDT", "2023-11-14", AFTER)
    assert [1, 2, 3] == frame["trade_id"].tolist()
    assert {"ETHUSDT", "000001-deadbeef-000003"} == {name.partition(".")[0] for name in names}
    assert late.endswith(min(names))


def test_no_name_is_used_for_other_rows(recorded):
    """Else a reader with an old listing would take the new file for the old one, and the late file beside it."""
    compact_all(recorded)
    before = set(ids_of(recorded)), {path.name for path in recorded.folder.parquet.rglob("BTC*.parquet")}
    recorded.publish(trade(7))
    compact_all(recorded)
    after = set(ids_of(recorded)), {path.name for path in recorded.folder.parquet.rglob("BTC*.parquet")}
    assert before[0] == after[0]
    assert set() == before[1] & after[1]


@pytest.mark.parametrize("symbol", ["币安人生USDT", "../../x", "..", "/etc/passwd", "a b", ".hidden", "x" * 300, "X.Y"])
def test_no_symbol_becomes_a_path(tmp_path, symbol):
    recorded = Recorded(tmp_path / "data")
    recorded.publish(trade(2, symbol=symbol), trade(1, symbol="BTCUSDT"))
    recorded.publish(trade(1, symbol=symbol))
    compact_all(recorded)
    names = [path.name for path in recorded.folder.parquet.rglob("*") if path.is_file()]
    assert 2 == len(names)
    assert all(is_compacted(name) and name.isascii() and len(name) < 200 and name[0] != "." for name in names)
    assert ["data"] == [path.name for path in tmp_path.iterdir()]
    assert [1, 2] == dataset.load(recorded.root, "trade", symbol, "2023-11-14", AFTER)["trade_id"].tolist()
    assert [] == verify_folder(recorded.root).errors


def calls_of_a_compaction(tmp_path_factory):
    files = FailingFiles()
    compact_all(fill(Recorded(tmp_path_factory.mktemp("count"))), files)
    return files.calls


def test_a_crash_at_every_call_of_the_disk_leaves_the_old_or_the_new(tmp_path, tmp_path_factory):
    """The n-th call is the last one of the process, for every n; a reader finds every row once even then."""
    calls = calls_of_a_compaction(tmp_path_factory)
    assert ["exchange", "sync_folder", "sync_folder", "remove_tree"] == calls
    for at in range(1, len(calls) + 1):
        recorded = fill(Recorded(tmp_path / str(at)))
        before = all_rows(recorded.folder)
        with pytest.raises(Crash):
            compact_all(recorded, FailingFiles(at, Crash()))
        assert before == all_rows(recorded.folder)
        make_compactor(recorded).recover()
        assert_agreed(recorded.folder)
        assert before == all_rows(recorded.folder)
        compact_all(recorded)
        assert [] == compact_all(recorded)
        assert before == all_rows(recorded.folder)
        assert [] == verify_folder(recorded.root).errors


@pytest.mark.parametrize("step", ["intend", "replace", "forget"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_around_every_transaction_leaves_the_old_or_the_new(recorded, monkeypatch, step, is_after):
    before = all_rows(recorded.folder)
    transaction = getattr(CompactionCatalogue, step)

    def crash(*args):
        if is_after:
            transaction(*args)
        raise Crash

    if step == "forget":
        with pytest.raises(Crash):
            compact_all(recorded, FailingFiles(1, Crash()))
    with monkeypatch.context() as patch:
        patch.setattr(CompactionCatalogue, step, crash)
        with pytest.raises(Crash):
            compact_all(recorded)
    assert before == all_rows(recorded.folder)
    make_compactor(recorded).recover()
    assert_agreed(recorded.folder)
    compact_all(recorded)
    assert {"BTCUSDT", "ETHUSDT"} == set(ids_of(recorded))
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)


def test_a_crash_in_the_recovery_too(tmp_path, tmp_path_factory):
    """A crash loop converges."""
    recorded = fill(Recorded(tmp_path))
    before = all_rows(recorded.folder)
    for at in range(1, 2 * len(calls_of_a_compaction(tmp_path_factory))):
        try:
            compact_all(recorded, FailingFiles(at, Crash()))
        except Crash:
            assert before == all_rows(recorded.folder)
    compact_all(recorded)
    assert {"BTCUSDT", "ETHUSDT"} == set(ids_of(recorded))
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)


def test_no_room_at_any_step_leaves_the_old_or_the_new(tmp_path, tmp_path_factory):
    for at in range(1, len(calls_of_a_compaction(tmp_path_factory))):
        recorded = fill(Recorded(tmp_path / str(at)))
        before = all_rows(recorded.folder)
        with pytest.raises(DiskFullError):
            compact_all(recorded, FailingFiles(at, errno.ENOSPC))
        compact_all(recorded)
        assert before == all_rows(recorded.folder)
        assert_agreed(recorded.folder)


def test_folders_are_synced_before_the_catalogue_lists_what_is_in_them(recorded, monkeypatch):
    """And the note comes before the exchange: a power cut between any two steps finds what it needs."""
    files = FailingFiles()
    for step in ("intend", "replace"):
        transaction = getattr(CompactionCatalogue, step)
        monkeypatch.setattr(
            CompactionCatalogue,
            step,
            lambda *args, step=step, transaction=transaction: (files.calls.append(step), transaction(*args)),
        )
    compact_all(recorded, files)
    assert ["intend", "exchange", "sync_folder", "sync_folder", "replace", "remove_tree"] == files.calls


def test_what_is_published_while_a_day_is_built_is_not_lost(recorded):
    """The folder is not exchanged then; the next round merges the new file as well."""
    compactor = make_compactor(recorded)
    built = build_day(str(recorded.root), compactor.plan(DAY))
    recorded.publish(trade(7))
    before = all_rows(recorded.folder)
    assert not compactor.replace(built)
    compactor.discard(built)
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)
    compact_all(recorded)
    assert before == all_rows(recorded.folder)


def test_what_is_published_between_the_exchange_and_the_recovery_is_not_lost(recorded, monkeypatch):
    """As after a full disk: the note is still there when the next segment brings rows of the day."""
    with monkeypatch.context() as patch:
        patch.setattr(CompactionCatalogue, "replace", FailingFiles(1, errno.ENOSPC).sync)
        with pytest.raises(DiskFullError):
            compact_all(recorded)
    recorded.publish(trade(7))
    before = all_rows(recorded.folder)
    make_compactor(recorded).recover()
    assert before == all_rows(recorded.folder)
    assert_agreed(recorded.folder)


@pytest.mark.parametrize("place", ["before", "meanwhile"])
def test_a_folder_with_files_that_the_catalogue_does_not_know_is_left_as_it_is(recorded, place):
    """A foreign file is not ours to move; one whose segment is about to be committed must not vanish."""
    compactor = make_compactor(recorded)
    built = None if place == "before" else build_day(str(recorded.root), compactor.plan(DAY))
    finish = recorded.place_files(trade(7))
    before = all_rows(recorded.folder)
    assert compactor.plan(DAY) is None
    if built is not None:
        assert not compactor.replace(built)
        compactor.discard(built)
    finish()
    assert before == all_rows(recorded.folder)
    compact_all(recorded)
    assert before == all_rows(recorded.folder)


def test_damaged_rows_get_no_fresh_checksum(recorded):
    """A file whose bytes are not those of its sealing stays as it is, for `verify` to tell."""
    path = next(recorded.folder.parquet.rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    compactor = make_compactor(recorded)
    with pytest.raises(DamagedError, match="checksum"):
        build_day(str(recorded.root), compactor.plan(DAY))
    assert_agreed(recorded.folder)
    assert 3 == len(rows_of_names(recorded))


def rows_of_names(recorded):
    return [path.name for path in recorded.folder.parquet.rglob("*.parquet")]


def test_a_file_with_too_few_rows_is_not_merged(recorded):
    compactor = make_compactor(recorded)
    recorded.sql("update files set rows = rows + 1 where rows = 2")
    with pytest.raises(DamagedError, match="it has 2 rows, the catalogue says 3"):
        build_day(str(recorded.root), compactor.plan(DAY))


def test_a_builder_that_lost_rows_changes_nothing(recorded):
    """The last guard: what was made is counted against what was merged."""
    compactor = make_compactor(recorded)
    built = build_day(str(recorded.root), compactor.plan(DAY))
    with pytest.raises(DamagedError, match="which is not what it read"):
        compactor.replace(type(built)(built.work, built.folder, built.made[1:], built.merged))
    compactor.recover()
    assert 3 == len(rows_of_names(recorded))
    assert_agreed(recorded.folder)


def test_a_day_without_room_for_it_is_not_begun(recorded):
    with pytest.raises(DiskFullError, match="bytes of room"):
        make_compactor(recorded, reserve_bytes=1 << 60).plan(DAY)


def test_a_file_system_that_cannot_exchange_folders_changes_nothing(recorded):
    def cannot(_one, _other):
        raise UsageError("cannot exchange")

    compactor = make_compactor(recorded)
    compactor = type(compactor)(
        folder=compactor.folder, files=compactor.files, catalogue=compactor.catalogue, changing=compactor.changing,
        reserve_bytes=0, exchange=cannot,
    )  # fmt: skip
    built = build_day(str(recorded.root), compactor.plan(DAY))
    with pytest.raises(UsageError, match="cannot exchange"):
        compactor.replace(built)
    compactor.recover()
    assert 3 == len(rows_of_names(recorded))
    assert_agreed(recorded.folder)


def test_a_folder_that_was_opened_before_the_exchange_is_listed_whole_after_it(recorded):
    """Its names are gone from the data set, so that its reader fails; an empty list would be too few in silence."""
    compactor = make_compactor(recorded)
    built = build_day(str(recorded.root), compactor.plan(DAY))
    with os.scandir(recorded.root / DAY.path) as entries:
        assert compactor.replace(built)
        listed = {entry.name for entry in entries}
    assert {file.path.rpartition("/")[2] for file in built.work.files} == listed
    assert not any((recorded.root / DAY.path / name).exists() for name in listed)
    compactor.discard(built)
    assert_agreed(recorded.folder)


class Readers:
    """Threads that read a stream of ids 0, 1, … again and again, and keep what cannot be right.

    Attributes:
        published: How many ids are committed: an answer has as many or more, without a hole.
        answers: How many each thread got.
        wrong: Those that were wrong.
    """

    def __init__(self, *reads):
        self.published = 1
        self.answers = [0] * len(reads)
        self.wrong = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=args) for args in enumerate(reads)]

    def _run(self, place, read):
        while not self._done.is_set():
            least = self.published
            ids = read()
            if ids is not None:
                self.answers[place] += 1
                if ids != list(range(len(ids))) or len(ids) < least:
                    self.wrong.append(ids)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc):
        self._done.set()
        for thread in self._threads:
            thread.join()


def test_whoever_reads_while_days_are_compacted_finds_every_row_once(recorded):
    """`dataset.load` always; duckdb over the glob finds all rows or says that a file is gone."""
    symbol = "DOTUSDT"
    query = f"select trade_id from '{recorded.folder.parquet}/trade/**/*.parquet' where symbol = '{symbol}'"

    def load():
        return dataset.load(recorded.root, "trade", symbol, "2023-11-14", AFTER)["trade_id"].tolist()

    def scan():
        with duckdb.connect() as connection:
            try:
                return sorted(row[0] for row in connection.sql(query).fetchall())
            except duckdb.IOException:
                return None

    recorded.publish(trade(0, symbol=symbol))
    with Readers(load, scan) as readers:
        for number in range(1, 25):
            recorded.publish(trade(number, symbol=symbol), trade(100 + number))
            readers.published = number + 1
            if number % 3 == 0:
                compact_all(recorded)
    assert [] == readers.wrong
    assert min(readers.answers) > 5
