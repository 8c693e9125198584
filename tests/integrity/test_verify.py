"""The check of a data folder: every kind of damage is found and told apart from what is merely missing."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import pytest
from verify_samples import (
    DAY_MS,
    TIME_MS,
    Recorded,
    agg_trade,
    candle,
    filled,
    futures_depth,
    given_up,
    mark_price,
    opened,
    spot_depth,
    trade,
)

from streamsvc.cli import main
from streamsvc.errors import UsageError
from streamsvc.integrity.report import Gap, Report, StreamCoverage, print_report
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.schema import Market

FUTURES = Market.FUTURES
MINUTE = TIME_MS // 60_000


@pytest.fixture
def recorded(tmp_path):
    """An empty data folder."""
    return Recorded(tmp_path / "data")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A data folder of two segments, several kinds and days, complete. Tests work on copies."""
    recorded = Recorded(tmp_path_factory.mktemp("original") / "data")
    recorded.publish(
        *(trade(number) for number in range(10, 20)),
        *(trade(number, symbol="币安人生USDT") for number in range(5)),
        *(agg_trade(number) for number in range(3)),
        spot_depth(1, 5),
        futures_depth(11, 15, 9),
        candle(0),
        mark_price(0),
    )
    recorded.publish(
        *(trade(number, time_ms=TIME_MS + DAY_MS * (number > 24)) for number in range(20, 30)),
        agg_trade(3),
        spot_depth(6, 9),
        futures_depth(17, 19, 15),
        candle(1, is_closed=False, second=30),
        candle(1),
        mark_price(1),
    )
    return recorded.root


@pytest.fixture
def sound(original, tmp_path):
    """A data folder that is complete."""
    shutil.copytree(original, tmp_path / "data")
    return Recorded(tmp_path / "data", segments=2)


def found(recorded):
    return verify_folder(recorded.root)


def only_file(recorded, part):
    """The one published file whose path holds `part`."""
    (path,) = [path for path in recorded.folder.parquet.rglob("*.parquet") if part in str(path)]
    return path.relative_to(recorded.root).as_posix()


def only_error(report):
    assert 3 == report.exit_code
    (error,) = report.errors
    return error


# What is sound


def test_nothing_is_wrong(sound):
    report = found(sound)
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert 13 == report.files
    assert 42 == report.rows
    assert [
        ("spot", "BTCUSDT", "trade", 20, 10, 29),
        ("spot", "BTCUSDT", "aggTrade", 4, 0, 3),
        ("spot", "BTCUSDT", "depth", 2, 5, 9),
        ("spot", "BTCUSDT", "kline_1m", 3, (MINUTE + 1) * 60 * 10**9, (MINUTE + 2) * 60 * 10**9),
        ("spot", "币安人生USDT", "trade", 5, 0, 4),
        ("futures", "BTCUSDT", "depth", 6, 15, 19),
        ("futures", "BTCUSDT", "markPrice", 2, TIME_MS * 10**6, (TIME_MS + 1000) * 10**6),
    ] == [(s.market, s.symbol, s.kind, s.rows, s.first_id, s.last_id) for s in report.coverage]
    assert report.verdict().startswith("COMPLETE")


def test_nothing_was_recorded_yet(recorded):
    """A service that was started and stopped leaves a folder that is complete."""
    report = found(recorded)
    assert (0, 0, 0, []) == (report.exit_code, report.files, report.rows, report.coverage)


def test_progress_is_told_file_by_file(sound):
    calls = []
    verify_folder(sound.root, lambda done, total: calls.append((done, total)))
    assert [(done, 13) for done in range(1, 14)] == calls


def test_a_check_changes_nothing(sound):
    def content():
        """All files but those that SQLite keeps beside an open database."""
        paths = [path for path in sound.root.rglob("*") if not path.name.startswith("catalogue.sqlite-")]
        return {path: path.read_bytes() for path in paths if path.is_file()}

    before = content()
    found(sound)
    assert before == content()


# What is missing


@pytest.mark.parametrize(
    ("messages", "gap"),
    [
        ([trade(1), trade(2), trade(5)], Gap("spot", "BTCUSDT", "trade", 0, 3, 4)),
        ([trade(1, market=FUTURES), trade(3, market=FUTURES)], Gap("futures", "BTCUSDT", "trade", 0, 2, 2)),
        ([agg_trade(7), agg_trade(9)], Gap("spot", "BTCUSDT", "aggTrade", 0, 8, 8)),
        ([spot_depth(1, 5), spot_depth(8, 9)], Gap("spot", "BTCUSDT", "depth", 0, 6, 7)),
        ([futures_depth(2, 5, 1), futures_depth(20, 22, 9)], Gap("futures", "BTCUSDT", "depth", 0, 6, 9)),
        ([candle(0), candle(2)], Gap("spot", "BTCUSDT", "kline_1m", 0, MINUTE + 1, MINUTE + 1)),
        (
            [candle(0), candle(1, is_closed=False), candle(2)],
            Gap("spot", "BTCUSDT", "kline_1m", 0, MINUTE + 1, MINUTE + 1),
        ),
    ],
    ids=["trade", "futures trade", "aggTrade", "spot depth", "futures depth", "candle", "candle never closed"],
)
@pytest.mark.parametrize("is_split", [False, True], ids=["within a file", "between files"])
def test_ids_are_missing(recorded, messages, gap, *, is_split):
    """A hole that the ledger does not know is a 3: nobody said that something is missing."""
    for part in [messages[:1], messages[1:]] if is_split else [messages]:
        recorded.publish(*part)
    report = found(recorded)
    assert ([], [gap], 3) == (report.errors, report.gaps, report.exit_code)
    assert report.verdict().startswith("DAMAGED")


def test_missing_ids_that_the_ledger_knows_are_no_damage(recorded):
    """They are a 1, and are told with what the ledger knows of them."""
    recorded.publish(trade(1), trade(5), opened(2, 4))
    report = found(recorded)
    assert ([], 1) == (report.errors, report.exit_code)
    (gap,) = report.gaps
    assert (2, 4, "open", "disconnect", 3) == (
        gap.first_missing_id, gap.last_missing_id, gap.status, gap.cause, gap.connection
    )  # fmt: skip
    assert report.verdict().startswith("INCOMPLETE")


def test_what_the_ledger_knows_of_a_hole_in_part(recorded):
    """The rest of it nobody knows."""
    recorded.publish(trade(1), trade(9), opened(3, 4), opened(6, 6))
    report = found(recorded)
    assert 3 == report.exit_code
    assert [(2, 2, "unknown"), (3, 4, "open"), (5, 5, "unknown"), (6, 6, "open"), (7, 8, "unknown")] == [
        (gap.first_missing_id, gap.last_missing_id, gap.status) for gap in report.gaps
    ]


def test_a_gap_behind_everything_that_is_there_is_told(recorded):
    """And one of a stream of which nothing is there."""
    recorded.publish(trade(1), trade(2), opened(3, 4), opened(1, 2, symbol="ETHUSDT"))
    report = found(recorded)
    assert ([], 1, 2) == (report.errors, report.exit_code, len(report.gaps))


def test_ids_that_came_after_all_are_no_gap(recorded):
    """A part of a gap may come, and a part be given up; the rest stays open."""
    recorded.publish(trade(1), trade(9), opened(2, 8))
    recorded.publish(trade(4), trade(5), filled(4, 5))
    recorded.publish(given_up(7, 8))
    report = found(recorded)
    assert ([], 1) == (report.errors, report.exit_code)
    assert [(2, 3, "open", None), (6, 6, "open", None), (7, 8, "unrepairable", "too old")] == [
        (gap.first_missing_id, gap.last_missing_id, gap.status, gap.reason) for gap in report.gaps
    ]


def test_a_hole_that_was_filled_within_its_grace_was_no_gap(recorded):
    recorded.publish(trade(1), trade(3), opened(2, 2))
    recorded.publish(trade(2), filled(2, 2, was_announced=False))
    report = found(recorded)
    assert ([], [], 0) == (report.errors, report.gaps, report.exit_code)
    assert [] == Catalogue(recorded.folder.catalogue).gaps()


def test_what_the_ledger_says_is_missing_must_not_be_there(recorded):
    recorded.publish(trade(1), trade(2), trade(3), opened(2, 2))
    assert "2 to 2 are said to be missing, and are there" in only_error(found(recorded))


def test_ids_of_other_streams_fill_no_hole(recorded):
    """Ids are unique within market, symbol, kind and epoch."""
    recorded.publish(
        trade(1), trade(3), trade(2, symbol="ETHUSDT"), trade(2, market=FUTURES), agg_trade(2), trade(2, epoch=1)
    )
    assert [Gap("spot", "BTCUSDT", "trade", 0, 2, 2)] == found(recorded).gaps


def test_ids_that_start_over_are_no_gap(recorded):
    """A new epoch is a chain of its own; people see one stream."""
    recorded.publish(trade(10**12), trade(1, epoch=1), trade(2, epoch=1), trade(4, epoch=1))
    report = found(recorded)
    assert [Gap("spot", "BTCUSDT", "trade", 1, 3, 3)] == report.gaps
    assert [StreamCoverage("spot", "BTCUSDT", "trade", 4, 10**12, 4, 1)] == report.coverage


def test_kinds_whose_gaps_cannot_be_seen_have_none(recorded):
    recorded.publish(mark_price(0), mark_price(60))
    assert 0 == found(recorded).exit_code


def test_gaps_are_told_in_order(recorded):
    recorded.publish(trade(1, market=FUTURES), trade(3, market=FUTURES))
    recorded.publish(trade(9), trade(7), trade(5), trade(1, symbol="AUSDT"), trade(3, symbol="AUSDT"))
    assert [("spot", "AUSDT", 2), ("spot", "BTCUSDT", 6), ("spot", "BTCUSDT", 8), ("futures", "BTCUSDT", 2)] == [
        (gap.market, gap.symbol, gap.first_missing_id) for gap in found(recorded).gaps
    ]


# What is there twice


def test_a_row_is_twice_in_a_file(sound):
    (path,) = sound.publish(trade(30), trade(31), trade(31))
    assert f"{path}: 1 rows of BTCUSDT are there twice" == only_error(found(sound))


def test_a_row_is_in_two_files(recorded):
    recorded.publish(*(trade(number) for number in range(10)))
    recorded.publish(trade(100))
    recorded.publish(trade(4), trade(10), trade(7))
    report = found(recorded)
    assert only_error(report).endswith("2 rows of BTCUSDT are in both files")
    assert [(11, 99)] == [(gap.first_missing_id, gap.last_missing_id) for gap in report.gaps]


def test_an_update_with_several_levels_is_in_two_files(recorded):
    for _ in range(2):
        recorded.publish(futures_depth(2, 5, 1))
    assert only_error(found(recorded)).endswith("3 rows of BTCUSDT are in both files")


@pytest.mark.parametrize("twice", [candle(1, is_closed=False, second=3), mark_price(2)], ids=["candle", "markPrice"])
def test_a_message_without_an_id_is_in_two_files(recorded, twice):
    recorded.publish(twice)
    recorded.publish(twice)
    assert only_error(found(recorded)).endswith("1 rows of BTCUSDT are in both files")


def test_files_that_overlap_without_a_common_row(recorded):
    """A late row, as a backfill brings, closes the hole and is no duplicate."""
    recorded.publish(trade(1), trade(2), trade(4))
    recorded.publish(trade(3), trade(5), trade(3, symbol="ETHUSDT"))
    report = found(recorded)
    assert ([], []) == (report.errors, report.gaps)


# What is damaged


def test_a_file_is_not_there(sound):
    path = only_file(sound, "aggTrade/market=spot/date=2023-11-14/000001-deadbeef-000001")
    (sound.root / path).unlink()
    report = found(sound)
    assert f"{path}: the catalogue knows it, but it is not there" == only_error(report)
    assert (13, 41) == (report.files, report.rows)


def truncated(content):
    return content[:-1]


def one_bit_flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def emptied(_content):
    return b""


@pytest.mark.parametrize("damage", [truncated, one_bit_flipped, emptied])
def test_a_file_has_other_bytes(sound, damage):
    path = only_file(sound, "markPrice/market=futures/date=2023-11-14/000001-deadbeef-000001")
    (sound.root / path).write_bytes(damage((sound.root / path).read_bytes()))
    assert f"{path}: its bytes are not those that were sealed (checksum)" == only_error(found(sound))


def test_a_file_cannot_be_parsed_although_its_checksum_is_right(sound):
    path = only_file(sound, "markPrice/market=futures/date=2023-11-14/000001-deadbeef-000001")
    sound.replace_bytes(path, truncated((sound.root / path).read_bytes()))
    error = only_error(found(sound))
    assert error.startswith(f"{path}: ")
    assert "cannot be read" in error


def test_a_file_cannot_be_read_at_all(sound, monkeypatch):
    """A disk that fails on one file hides nothing of the others."""
    path = only_file(sound, "markPrice/market=futures/date=2023-11-14/000001-deadbeef-000001")
    real_open = Path.open

    def failing_open(self, *args, **kwargs):
        if self == sound.root / path:
            raise OSError(5, "Input/output error", str(self))
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing_open)
    report = found(sound)
    assert "Input/output error" in only_error(report)
    assert 41 == report.rows


def test_a_file_has_more_rows_than_the_catalogue_says(sound):
    path = only_file(sound, "market=spot/date=2023-11-15")
    sound.sql("update files set rows = rows - 1 where path = ?", path)
    assert f"{path}: it has 5 rows, the catalogue says 4" == only_error(found(sound))


def test_a_file_lies_under_another_day(sound):
    """Path and catalogue agree, the rows do not: whoever reads by day misses them."""
    path = only_file(sound, "market=spot/date=2023-11-15")
    target = path.replace("2023-11-15", "2023-11-16")
    sound.move(path, target, date="2023-11-16")
    assert f"{target}: it holds rows of 2023-11-15, not of 2023-11-16 alone" == only_error(found(sound))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("date=2023-11-15", "date=2023-11-16"),
        ("market=spot", "market=futures"),
        ("trade/", "aggTrade/"),
        ("parquet/trade/market=spot/", "journal/../parquet/trade/market=spot/"),
    ],
)
def test_a_file_lies_elsewhere_than_its_catalogue_entry_says(sound, old, new):
    path = only_file(sound, "market=spot/date=2023-11-15")
    target = path.replace(old, new)
    sound.move(path, target)
    assert any("it does not lie in parquet/trade/market=spot/date=2023-11-15" in error for error in found(sound).errors)


def test_a_file_was_replaced_by_a_link_to_the_same_bytes(sound, tmp_path):
    """Links are never followed."""
    path = only_file(sound, "market=spot/date=2023-11-15")
    (sound.root / path).rename(tmp_path / "elsewhere.parquet")
    (sound.root / path).symlink_to(tmp_path / "elsewhere.parquet")
    assert f"{path}: it is a link" == only_error(found(sound))


def test_a_kind_that_this_version_does_not_know(sound):
    sound.sql("update files set kind = 'weather' where kind = 'markPrice'")
    report = found(sound)
    assert "2 files are of futures weather, which this version does not know" == only_error(report)
    assert 11 == report.files


# What does not belong there


@pytest.mark.parametrize(
    "name", ["trade/notes.txt", "trade/market=spot/date=2023-11-14/.hidden", "stray.parquet", "trade/with\x1b[2Jescape"]
)
def test_a_foreign_file(sound, name):
    """A reader's `**` would find it. Its name cannot play with the terminal."""
    (sound.folder.parquet / name).write_bytes(b"PAR1")
    shown = name.replace("\x1b", "\\x1b")
    assert f"parquet/{shown}: the catalogue does not know it" == only_error(found(sound))


def test_a_foreign_file_whose_name_is_no_text(sound, capsysbinary):
    """Whoever reads the report as JSON can read it."""
    Path(os.fsdecode(os.fsencode(sound.folder.parquet) + b"/\xff\xfe")).write_bytes(b"")
    assert 3 == main(["verify", str(sound.root), "--json"])
    assert ["parquet/\\udcff\\udcfe: the catalogue does not know it"] == json.loads(capsysbinary.readouterr().out)[
        "errors"
    ]


@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_link_too_many(sound, tmp_path, target):
    """A link to a file, to a folder full of files, or to nothing: readers follow it, we do not."""
    outside = tmp_path / "outside"
    if target == "file":
        outside.write_bytes(b"PAR1")
    elif target == "folder":
        outside.mkdir()
        (outside / "more.parquet").write_bytes(b"PAR1")
    (sound.folder.parquet / "trade" / "link").symlink_to(outside)
    assert "parquet/trade/link: the catalogue does not know it" == only_error(found(sound))


def test_a_pipe_too_many(sound):
    """A reader would wait for it for ever."""
    os.mkfifo(sound.folder.parquet / "trade" / "pipe.parquet")
    assert "parquet/trade/pipe.parquet: the catalogue does not know it" == only_error(found(sound))


# What waits, and what could not be sealed


def test_segments_that_are_not_sealed_are_only_mentioned(sound):
    sound.put_segment(trade(35))
    sound.put_segment(trade(36))
    report = found(sound)
    assert (0, 2, []) == (report.exit_code, report.unsealed_segments, report.gaps)


def test_a_segment_that_could_not_be_sealed(sound):
    name = sound.put_segment(trade(30))
    sound.folder.segment(name).rename(sound.folder.failed / f"{name}.journal")
    assert f"journal/failed/{name}.journal: it could not be sealed" == only_error(found(sound))


def test_a_kill_in_the_middle_of_a_write(sound):
    """A torn frame was never written; nothing is lost that had been, and nothing is damaged."""
    sound.publish(trade(30), tail=b"\xf5\xf6\xf7\xf8torn")
    sound.publish(trade(31), tail=bytes(100))
    report = found(sound)
    assert (0, 108) == (report.exit_code, report.torn_bytes)


def test_the_journal_was_damaged(sound):
    sound.publish(trade(30), tail=b"some other text")
    assert "journal: 15 bytes held no whole frame (damaged_frame)" == only_error(found(sound))


def test_a_message_could_not_be_recorded(sound):
    """Its id is a hole, and the quarantine is mentioned."""
    sound.publish(trade(30), trade(31, price="NaN"), trade(32))
    report = found(sound)
    assert (1, 1) == (report.exit_code, report.quarantined)
    assert [(31, 31)] == [(gap.first_missing_id, gap.last_missing_id) for gap in report.gaps]


def test_what_recording_needs_besides_is_gone(sound):
    """Somebody copied catalogue and data set alone."""
    for path in (sound.folder.failed, sound.folder.journal, sound.folder.tmp, sound.folder.quarantine):
        path.rmdir()
    assert 0 == found(sound).exit_code


# While the service records


def test_files_are_published_while_we_look(sound):
    """What is published after the first look is left to the next one."""
    done = []

    def publish_once(*_progress):
        if not done:
            done.append(sound.publish(trade(30)))

    report = verify_folder(sound.root, publish_once)
    assert (0, 42) == (report.exit_code, report.rows)
    assert 43 == found(sound).rows


def test_files_are_renamed_and_not_committed(sound):
    """The publisher works, or was killed there: the next start finishes it."""
    go_on = sound.place_files(trade(30))
    assert (0, 42, 1) == (found(sound).exit_code, found(sound).rows, found(sound).unsealed_segments)
    go_on()
    assert (0, 43, 0) == (found(sound).exit_code, found(sound).rows, found(sound).unsealed_segments)


def test_files_are_committed_while_we_look(sound):
    """A file that the catalogue did not know at first may be known at the end."""
    go_on = [sound.place_files(trade(30))]

    def commit_once(*_progress):
        while go_on:
            go_on.pop()()

    assert 0 == verify_folder(sound.root, commit_once).exit_code


def test_files_are_committed_between_our_last_two_looks(sound, monkeypatch):
    """Unknown, and its segment gone a moment later: the catalogue is asked once more."""
    go_on = [sound.place_files(trade(30))]
    real_segments = type(sound.folder).segments

    def commit_before(folder):
        while go_on:
            go_on.pop()()
        return real_segments(folder)

    monkeypatch.setattr(type(sound.folder), "segments", commit_before)
    assert 0 == found(sound).exit_code


# The catalogue


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(UsageError, match="is not a data folder"):
        verify_folder(tmp_path)


def test_the_catalogue_is_gone(sound):
    sound.folder.catalogue.unlink()
    assert only_error(found(sound)).startswith("catalogue.sqlite: it is not there")


@pytest.mark.parametrize("content", [b"something else" * 1000, b""], ids=["no database", "empty"])
def test_the_catalogue_is_something_else(sound, content):
    sound.folder.catalogue.write_bytes(content)
    assert "catalogue.sqlite is damaged" in only_error(found(sound))


def test_a_page_of_the_catalogue_is_damaged(sound):
    content = bytearray(sound.folder.catalogue.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    sound.folder.catalogue.write_bytes(content)
    assert "catalogue.sqlite is damaged" in only_error(found(sound))


def test_a_table_of_the_catalogue_is_gone(sound):
    sound.script("drop table files")
    assert "catalogue.sqlite is damaged" in only_error(found(sound))


def test_a_newer_version_wrote_the_catalogue(sound):
    sound.script("pragma user_version = 999")
    with pytest.raises(UsageError, match="newer version"):
        found(sound)


# Bounds


def test_memory_does_not_grow_with_the_number_of_files(recorded):
    """The largest file bounds it."""

    def peak():
        tracemalloc.start()
        try:
            assert 0 == found(recorded).exit_code
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    rows, peaks = 4000, []
    for number in range(6):
        recorded.publish(*(trade(rows * number + more) for more in range(rows)))
        peaks.append(peak())
    assert peaks[1] * 1.2 > peaks[-1]


# What is printed


def test_the_report_as_json(sound, capsysbinary):
    sound.publish(trade(33))
    assert 3 == main(["verify", str(sound.root), "--json"])
    report = json.loads(capsysbinary.readouterr().out)
    assert {"rows": 21, "first_id": 10, "last_id": 33, "gaps": 1} == report["coverage"].pop("spot/BTCUSDT/trade")
    assert 6 == len(report.pop("coverage"))
    assert {
        "files": 14,
        "rows": 43,
        "derived_rows": 0,
        "gaps": [
            {
                "market": "spot",
                "symbol": "BTCUSDT",
                "kind": "trade",
                "epoch": 0,
                "first_missing_id": 30,
                "last_missing_id": 32,
                "status": "unknown",
                "cause": "unknown",
                "reason": None,
                "connection": None,
                "first_time_ns": None,
                "last_time_ns": None,
                "opened_ns": None,
            }
        ],
        "errors": [],
        "unsealed_segments": 0,
        "quarantined": 0,
        "torn_bytes": 0,
        "missing_ids": 3,
        "gaps_by_status": {"unknown": 1},
        "repaired": 0,
        "repaired_ids": 0,
        "unsealed_messages": None,
        "day": None,
        "deep": False,
        "exit_code": 3,
        "verdict": "DAMAGED: 14 files, 43 rows; 0 errors, 1 gaps, of which the ledger does not know 1",
    } == report


@pytest.mark.parametrize(
    ("more", "code"), [((), 0), ((trade(33), opened(30, 32)), 1), ((trade(33),), 3), ((trade(29),), 3)]
)
def test_exit_codes(sound, capsys, more, code):
    """0 complete, 1 something is missing, 3 something is wrong; the verdict is the last line."""
    if more:
        sound.publish(*more)
    assert code == main(["verify", str(sound.root)])
    verdict = {0: "COMPLETE", 1: "INCOMPLETE", 3: "DAMAGED"}[code]
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{verdict}: ")


@pytest.mark.parametrize("what", ["no data folder", "newer", "not there"])
def test_exit_code_of_wrong_usage(sound, tmp_path, capsys, what):
    """2, and a sentence on standard error."""
    if what == "newer":
        sound.script("pragma user_version = 999")
    root = {"newer": sound.root, "no data folder": tmp_path, "not there": tmp_path / "nowhere"}[what]
    assert 2 == main(["verify", str(root), "--json"])
    printed = capsys.readouterr()
    assert ("", True) == (printed.out, bool(printed.err))


def test_many_errors_and_gaps_are_cut_for_people(capsys):
    """A page, not a novel; JSON has all."""
    gaps = [Gap("spot", "BTCUSDT", "trade", 0, 2 * number, 2 * number) for number in range(1, 80)]
    print_report(Report(files=1, rows=80, gaps=gaps, errors=["[bold]odd"] * 60, torn_bytes=7, quarantined=3))
    lines = capsys.readouterr().out.splitlines()
    assert ["... and 29 more; --json has all", "... and 10 more; --json has all"] == [
        line for line in lines if "more; --json" in line
    ]
    assert 50 == lines.count("error: [bold]odd")
    assert "DAMAGED: 1 files, 80 rows; 60 errors, 79 gaps, of which the ledger does not know 79" == lines[-1]
