"""The quality of a day, from folders of which every number is known."""

import json

import pytest
from book_samples import BookFolder, Snapshot, Update
from compaction_samples import compact_all
from verify_samples import (
    DAY_MS,
    MINUTE_MS,
    TIME_MS,
    Recorded,
    candle,
    futures_depth,
    mark_price,
    opened,
    rewrite,
    spot_depth,
    trade,
)

from streamsvc.cli import main
from streamsvc.errors import UsageError
from streamsvc.gap import NOTE_KIND, GapOpened, encode_note
from streamsvc.integrity import quality_report
from streamsvc.integrity.day_gaps import Day
from streamsvc.integrity.quality_day import measure_day
from streamsvc.schema import Market

DAY = "2023-11-14"
SECOND = 10**9
FIRST_NS, END_NS = Day.of(DAY).first_ns, Day.of(DAY).end_ns
LATER_NS = END_NS + 10 * DAY_MS * 10**6


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path / "data")


def at(hour, number, **more):
    """A trade at an hour of the day; minus one is the day before's last one."""
    return trade(number, time_ms=FIRST_NS // 10**6 + int(hour * 60 * MINUTE_MS), **more)


def note(first, last, from_hour, to_hour, **more):
    times = [None if hour is None else int(FIRST_NS + hour * 3600 * SECOND) for hour in (from_hour, to_hour)]
    of = {"market": "spot", "symbol": "BTCUSDT", "kind": "trade", "cause": "stall"} | more
    text = encode_note(
        GapOpened(**of, epoch=0, first_id=first, last_id=last, first_time_ns=times[0], last_time_ns=times[1],
                  connection=1, opened_ns=max(filter(None, times), default=FIRST_NS))
    )  # fmt: skip
    return Market.SPOT, NOTE_KIND, text, 0


def measure(recorded, *, date=DAY, now_ns=LATER_NS):
    return measure_day(recorded.root, date, now_ns)


def stream(recorded, kind="trade", symbol="BTCUSDT", **more):
    (found,) = [one for one in measure(recorded, **more).streams if (one.kind, one.symbol) == (kind, symbol)]
    return found


@pytest.mark.parametrize("is_compacted", [False, True])
def test_every_number_of_a_stream(recorded, is_compacted):
    """Ids and times before and after the day are there; ids 4 to 6 are known to be missing, 9 is not."""
    recorded.publish(at(-1, 1), at(1, 2), at(6, 3), at(9, 7), note(4, 6, 6, 9), at(12, 8), at(24.5, 11))
    recorded.publish(at(18, 10), at(6, 1, symbol="ETHUSDT"))
    if is_compacted:
        compact_all(recorded)
    found = stream(recorded)
    assert (5, 5, 0, 0) == (found.rows, found.messages, found.backfilled, found.quarantined)
    assert [FIRST_NS + hour * 3600 * SECOND for hour in (1, 18)] == [found.first_time_ns, found.last_time_ns]
    assert (5, 4, 5 / 9) == (found.ids_present, found.ids_missing, found.ids_share)
    assert [(4, 6, "open", "stall"), (9, 9, "unknown", "unknown")] == [
        (gap.first_missing_id, gap.last_missing_id, gap.status, gap.cause) for gap in found.gaps
    ]
    assert (21 / 24, 3 * 3600 * SECOND) == (found.time_share, found.time_missing_ns)
    assert (6 * 3600 - 1, FIRST_NS + (12 * 3600 + 1) * SECOND) == (found.silence_sec, found.silence_from_ns)
    assert "..#" + 9 * "." + 7 * "x" + 5 * "." + "#" + 11 * "." + "#" + 11 * "." == found.cells
    assert measure(recorded).verdict().startswith("DAMAGED: 2023-11-14: 2 streams, 6 messages; 0 files")


@pytest.mark.parametrize("is_compacted", [False, True])
def test_an_order_books_update_is_one_message(recorded, is_compacted):
    """However many levels it has, and whatever stands beside it."""
    recorded.publish(futures_depth(2, 5, 1), futures_depth(6, 9, 5), spot_depth(1, 5), trade(1))
    if is_compacted:
        compact_all(recorded)
    books = [one for one in measure(recorded).streams if one.kind == "depth"]
    assert [("spot", 1, 1, 5), ("futures", 6, 2, 8)] == [
        (one.market, one.rows, one.messages, one.ids_present) for one in books
    ]


def test_latency_is_that_of_messages_that_a_stream_brought(recorded):
    """What was fetched later says nothing of it. All samples are received 40 ms behind `TIME_MS`."""
    recorded.publish(*(trade(number, time_ms=TIME_MS - 10 * number) for number in range(1, 5)), mark_price(1))

    def fetched(columns, _labels):
        columns["is_backfilled"][columns["trade_id"] == 4] = True

    rewrite(recorded, "trade/", fetched)
    found = stream(recorded)
    assert (1, 3, 49 * 10**6, 69 * 10**6) == (
        found.backfilled, found.latency.messages, found.latency.least_ns, found.latency.greatest_ns
    )  # fmt: skip
    assert 59 * 10**6 == pytest.approx(found.latency.percentiles_ns[0], rel=0.016)
    assert (-960 * 10**6, 1) == (stream(recorded, "markPrice").latency.greatest_ns, 1)
    assert 4 == measure(recorded).latency.messages


def test_a_day_that_is_its_streams_first_begins_with_it(recorded):
    """Nobody can say what was before."""
    recorded.publish(at(6, 1), at(18, 2), at(24.5, 3), at(12, 1, symbol="ETHUSDT"), at(24.5, 2, symbol="ETHUSDT"))
    found = stream(recorded)
    assert (18 * 3600 * SECOND, 1.0) == (found.time_due_ns, found.time_share)
    assert " " * 12 == found.cells[:12]
    assert (12 * 3600 - 1, FIRST_NS + (6 * 3600 + 1) * SECOND) == (found.silence_sec, found.silence_from_ns)
    assert 12 * 3600 * SECOND == stream(recorded, symbol="ETHUSDT").time_due_ns


def test_a_recorder_that_ended_in_the_middle_of_the_day(recorded):
    """The ledger is told of a hole by what comes behind it; here nothing did."""
    recorded.publish(at(-1, 1), at(6, 2), at(18, 3))
    found = stream(recorded)
    assert (0, 0.75) == (len(found.gaps), found.time_share)
    assert 12 * "x" == found.cells[-12:]
    assert measure(recorded).verdict().endswith("; its last 6.0 h were not recorded")


@pytest.mark.parametrize("why", ["the day is not over", "the rest waits"])
def test_what_may_still_come_is_not_missing(recorded, why):
    recorded.publish(at(-1, 1), at(6, 2), at(18, 3))
    if why == "the rest waits":
        recorded.put_segment(at(19, 4))
    now_ns = FIRST_NS + 18 * 3600 * SECOND + 1 if why == "the day is not over" else LATER_NS
    assert 1.0 == stream(recorded, now_ns=now_ns).time_share
    assert measure(recorded, now_ns=now_ns).verdict().startswith("COMPLETE")


def test_a_stream_that_was_silent_all_day_is_told(recorded):
    """Its order book flowed; of the trades there is no row, and that is why somebody looks."""
    recorded.publish(at(-1, 1), at(25, 9), note(2, 8, -1, 25), spot_depth(1, 5))
    found = stream(recorded)
    assert (0, None, 7, 0.0, 0.0) == (
        found.messages, found.first_time_ns, found.ids_missing, found.ids_share, found.time_share
    )  # fmt: skip
    assert "x" * 48 == found.cells
    assert measure(recorded).verdict().startswith("INCOMPLETE")


def test_gaps_of_kinds_without_ids_are_what_the_ledger_knows(recorded):
    recorded.publish(
        mark_price(0), at(25, 1),
        note(TIME_MS, TIME_MS + 60_000, 20, 21, market="futures", kind="markPrice", cause="disconnect"),
    )  # fmt: skip
    found = stream(recorded, "markPrice")
    assert (1, None, None) == (len(found.gaps), found.ids_missing, found.ids_share)
    assert 0 == measure(recorded).total("ids_missing")


def test_gaps_that_were_repaired_are_counted_apart(recorded):
    recorded.publish(at(-1, 1), at(6, 2), at(7, 5), note(3, 4, 6, 7), at(25, 6))
    recorded.sql("update gaps set status = 'repaired'")
    recorded.publish(at(6.2, 3), at(6.3, 4))
    found = stream(recorded)
    assert ([], 1, 2, 1.0, 1.0) == (
        found.gaps, found.repaired, found.repaired_ids, found.ids_share, found.time_share
    )  # fmt: skip


def test_gaps_that_overlap_are_not_missed_twice(recorded):
    recorded.publish(at(-1, 1), at(1, 2), at(12, 9), note(3, 4, 1, 7), note(6, 8, 4, 12), at(11, 5), at(25, 10))
    assert 11 * 3600 * SECOND == stream(recorded).time_missing_ns


def test_what_snapshots_were_for(tmp_path):
    """One behind the end of a gap is for that gap, the first of all is for the start, the others came by themselves."""
    hour = 3600 * 1000
    day_ms = FIRST_NS // 10**6
    folder = BookFolder(tmp_path)
    levels = ([(1.0, 1.0)], [(2.0, 1.0)])
    updates = [Update(number, number, 0, day_ms + number * hour, *levels) for number in (1, 2, 3, 6, 7)]
    shots = [Snapshot(number, day_ms + int(number * hour) + 500, *levels) for number in (1, 2, 6, 7)]
    folder.put(Market.SPOT, *updates, *shots)
    recorded = Recorded(tmp_path, segments=9)
    recorded.publish(note(4, 5, 3, 6, kind="depth"))
    found = stream(recorded, "depthSnapshot")
    assert (4, 8, 1, 1, 2) == (
        found.messages, found.rows, found.snapshots.after_gap, found.snapshots.at_start, found.snapshots.by_interval
    )  # fmt: skip
    assert None is found.latency
    assert 1 == measure(recorded).resynchronisations
    assert None is stream(recorded, "depth").snapshots


def test_what_could_not_be_recorded_is_told_by_its_stream(recorded):
    recorded.publish(trade(1), trade(2, price="NaN"), trade(3, price="-1"), trade(1, symbol="ETHUSDT"))
    quality = measure(recorded)
    assert {"not_finite": 1, "negative": 1} == quality.quarantined
    assert [2, 0] == [one.quarantined for one in quality.streams]


def test_candles_count_where_they_are_closed(recorded):
    recorded.publish(candle(0), candle(1, is_closed=False, second=80), candle(2))
    found = stream(recorded, "kline_1m")
    assert (3, 2, 1) == (found.messages, found.ids_present, found.ids_missing)


def test_ids_that_start_over_are_one_stream(recorded):
    recorded.publish(at(1, 10), at(2, 11), at(3, 1, epoch=1), at(4, 3, epoch=1))
    found = stream(recorded)
    assert (4, 4, 1) == (found.messages, found.ids_present, found.ids_missing)


@pytest.mark.parametrize("damage", ["no file of its kind", "gone", "another one's rows"])
def test_a_file_that_cannot_be_used(recorded, damage, capsys):
    """The others are told; the exit code says that something is amiss."""
    (path, *_) = recorded.publish(trade(1), mark_price(0))
    content = (recorded.root / path).read_bytes()
    if damage == "gone":
        (recorded.root / path).unlink()
    else:
        (recorded.root / path).write_bytes(content.replace(b"BTCUSDT", b"BTCUSDC") if "rows" in damage else b"PAR1")
    quality = measure(recorded)
    assert [path] == [error.split(": ")[0] for error in quality.errors]
    assert ["markPrice"] == [one.kind for one in quality.streams]
    assert quality.verdict().startswith("DAMAGED")
    assert 1 == main(["report", str(recorded.root), "--day", DAY])
    assert f"error: {path}: " in capsys.readouterr().out


def test_a_day_is_compacted_meanwhile(recorded):
    """It begins again: what is told holds for one moment."""
    for number in range(3):
        recorded.publish(at(number, number))
    before = measure(recorded)
    calls = []

    def progress(_done, _total):
        calls.append(1)
        if len(calls) == 1:
            compact_all(recorded)

    after = measure_day(recorded.root, DAY, LATER_NS, progress)
    assert (before.streams, []) == (after.streams, after.errors)
    assert (3, 1) == (before.files, after.files)


def test_a_day_without_data(recorded, tmp_path):
    recorded.publish(trade(1))
    with pytest.raises(UsageError, match=r"nothing was recorded on 2023-12-24; there is data from 2023-11-14"):
        measure(recorded, date="2023-12-24")
    with pytest.raises(UsageError, match="is not a data folder"):
        measure_day(tmp_path, DAY, LATER_NS)


# The command


@pytest.fixture
def busy(recorded):
    recorded.publish(at(1, 1), at(2, 5), note(2, 4, 1, 2), spot_depth(1, 5), mark_price(0), trade(6, price="NaN"))
    return recorded


def test_the_tables(busy, capsys):
    """No terminal: plain lines of ASCII, the verdict last."""
    assert 0 == main(["report", str(busy.root), "--day", DAY])
    out = capsys.readouterr().out
    assert out.isascii()
    lines = out.splitlines()
    assert lines[-1].startswith("INCOMPLETE: 2023-11-14: 3 streams, 4 messages; 2 gaps, all in the ledger")
    (row,) = [line.split() for line in lines if line.startswith("spot") and " trade " in line and "%" in line]
    assert ["2", "-", "33.3333", "%"] == row[3:7]
    assert "gaps by cause: 1 quarantined, 1 stall" in lines
    assert any(line.endswith("xxx") or "..xxx" in line for line in lines)


def test_the_json(busy, capsysbinary):
    assert 0 == main(["report", str(busy.root), "--day", DAY, "--json"])
    report = json.loads(capsysbinary.readouterr().out)
    assert ("2023-11-14", 2, {"open": 2}, 3 + 1) == (
        report["day"], report["gaps"], report["gaps_by_status"], report["ids_missing"]
    )  # fmt: skip
    by_kind = {one["kind"]: one for one in report["streams"]}
    assert {"trade", "depth", "markPrice"} == by_kind.keys()
    assert ["messages", "min", "p50", "p90", "p99", "p99.9", "max"] == list(by_kind["depth"]["latency_ms"])
    assert [2, 4] == [by_kind["trade"]["gaps"][0][name] for name in ("first_missing_id", "last_missing_id")]


def test_the_files(busy, tmp_path, capsys):
    """Both are there, whole, and nothing else; writing them again replaces them."""
    out = tmp_path / "new" / "reports"
    for _ in range(2):
        assert 0 == main(["report", str(busy.root), "--day", DAY, "--out", str(out)])
        printed = capsys.readouterr().out.splitlines()
        assert [str(out / f"{DAY}.json"), str(out / f"{DAY}.txt")] == printed[:2]
        assert 3 == len(printed)
    assert {f"{DAY}.json", f"{DAY}.txt"} == {path.name for path in out.iterdir()}
    text = (out / f"{DAY}.txt").read_text()
    assert (True, printed[2]) == (text.isascii(), text.splitlines()[-1])
    assert printed[2] == json.loads((out / f"{DAY}.json").read_text())["verdict"]


def test_a_report_is_never_half_written(busy, tmp_path, monkeypatch):
    """The disk is full in the middle of it: what was there stays, and nothing is left beside it."""
    out = tmp_path / "reports"
    assert 0 == main(["report", str(busy.root), "--day", DAY, "--out", str(out)])
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def failing(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quality_report.os, "fsync", failing)
    assert 2 == main(["report", str(busy.root), "--day", DAY, "--out", str(out)])
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("arguments", [[], ["--day", "today"], ["--day", "2023-12-24"]])
def test_wrong_usage(busy, arguments, capsys):
    assert 2 == main(["report", str(busy.root), *arguments])
    assert capsys.readouterr().err


def test_a_report_does_not_lie_within_the_data_set(busy, capsys):
    """A reader's `**` would find it."""
    assert 2 == main(["report", str(busy.root), "--day", DAY, "--out", str(busy.folder.parquet / "reports")])
    assert "lies within the data set" in capsys.readouterr().err


def test_many_gaps_are_cut_for_people(recorded, capsys):
    recorded.publish(*(at(1 + number / 100, 2 * number) for number in range(80)))
    main(["report", str(recorded.root), "--day", DAY])
    assert "... and 29 more; --json has all" in capsys.readouterr().out.splitlines()


def test_an_unknown_kind_in_the_ledger_breaks_nothing(recorded):
    """A newer version may have told of it."""
    recorded.publish(trade(1), opened(1, 2, kind="weather"))
    assert ["trade"] == [one.kind for one in measure(recorded).streams]
