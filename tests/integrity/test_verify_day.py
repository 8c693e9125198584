"""The check of one day: what is missing at midnight is seen from both sides, another day's faults do not count."""

import json

import pytest
from compaction_samples import compact_all
from verify_samples import (
    DAY_MS,
    TIME_MS,
    Recorded,
    agg_trade,
    futures_depth,
    given_up,
    mark_price,
    opened,
    spot_depth,
    trade,
)

from streamsvc.cli import main
from streamsvc.errors import UsageError
from streamsvc.gap import NOTE_KIND, GapOpened, encode_note
from streamsvc.integrity.day_gaps import Day
from streamsvc.integrity.report import DAMAGED, KNOWN_LOSS
from streamsvc.integrity.verify import verify_folder
from streamsvc.schema import Market

DAYS = ["2023-11-13", "2023-11-14", "2023-11-15", "2023-11-16"]


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path / "data")


@pytest.fixture(params=[False, True], ids=["rotations", "compacted"])
def settle(request, recorded):
    """Either leaves the files as they were sealed, or merges them: the same must be found."""
    return lambda: compact_all(recorded) if request.param else None


def on(day, number, **more):
    """A trade so many days after the first one."""
    return trade(number, time_ms=TIME_MS + (DAYS.index(day) - 1) * DAY_MS, **more)


def note(first, last, first_day, last_day, **more):
    """A gap of the ledger that lasted from noon to noon."""
    times = [None if day is None else Day.of(day).first_ns + 43_200 * 10**9 for day in (first_day, last_day)]
    told_ns = max(filter(None, times), default=TIME_MS * 10**6)
    of = {"market": "spot", "symbol": "BTCUSDT", "kind": "trade"} | more
    text = encode_note(GapOpened(**of, epoch=0, first_id=first, last_id=last, first_time_ns=times[0],
                                 last_time_ns=times[1], cause="restart", connection=1, opened_ns=told_ns))  # fmt: skip
    return Market.SPOT, NOTE_KIND, text, 0


def by_day(recorded):
    """What is missing on each day that can be asked for, and the exit code."""
    found = {}
    for day in DAYS:
        try:
            report = verify_folder(recorded.root, day=day)
        except UsageError:
            continue
        assert [] == report.errors
        gaps = [(gap.first_missing_id, gap.last_missing_id, gap.status) for gap in report.gaps]
        found[day] = (report.exit_code, gaps)
    return found


def test_a_day_counts_its_own_files_and_rows(recorded, settle):
    recorded.publish(on(DAYS[1], 1), on(DAYS[1], 2), on(DAYS[2], 3), agg_trade(7))
    settle()
    report = verify_folder(recorded.root, day=DAYS[2])
    assert (1, 1, [("trade", 1, 3, 3, 0)]) == (
        report.files, report.rows, [(s.kind, s.rows, s.first_id, s.last_id, s.gaps) for s in report.coverage]
    )  # fmt: skip
    assert report.verdict().startswith("COMPLETE: 1 files, 1 rows of 2023-11-15;")


def test_ids_that_go_on_over_midnight_are_no_gap(recorded, settle):
    recorded.publish(on(DAYS[1], 1), on(DAYS[2], 2), on(DAYS[3], 3))
    settle()
    assert {day: (0, []) for day in DAYS[1:]} == by_day(recorded)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_hole_at_midnight_is_of_both_days_and_of_no_other(recorded, settle, is_known):
    recorded.publish(
        on(DAYS[0], 1), on(DAYS[1], 2), on(DAYS[2], 5), on(DAYS[3], 6),
        *([note(3, 4, DAYS[1], DAYS[2])] if is_known else []),
    )  # fmt: skip
    settle()
    hole = (KNOWN_LOSS, [(3, 4, "open")]) if is_known else (DAMAGED, [(3, 4, "unknown")])
    assert {DAYS[0]: (0, []), DAYS[1]: hole, DAYS[2]: hole, DAYS[3]: (0, [])} == by_day(recorded)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_hole_within_a_day_is_of_that_day_alone(recorded, settle, is_known):
    recorded.publish(
        on(DAYS[0], 1), on(DAYS[1], 2), on(DAYS[1], 4), on(DAYS[2], 5),
        *([note(3, 3, None, None)] if is_known else []),
    )  # fmt: skip
    settle()
    hole = (KNOWN_LOSS, [(3, 3, "open")]) if is_known else (DAMAGED, [(3, 3, "unknown")])
    assert {DAYS[0]: (0, []), DAYS[1]: hole, DAYS[2]: (0, [])} == by_day(recorded)


def test_a_day_without_any_of_a_stream_lies_in_its_hole(recorded, settle):
    """Others were recorded that day; of this one nobody knew that something was missing."""
    recorded.publish(
        on(DAYS[0], 1), on(DAYS[3], 4), *(on(day, number, symbol="ETHUSDT") for number, day in enumerate(DAYS))
    )
    settle()
    assert {day: (DAMAGED, [(2, 3, "unknown")]) for day in DAYS} == by_day(recorded)


def test_a_day_on_which_nothing_was_recorded_lies_in_the_ledgers_gap(recorded, settle):
    """No file is of it, and it is no day without a fault."""
    recorded.publish(on(DAYS[0], 1), on(DAYS[3], 4), note(2, 3, DAYS[0], DAYS[3]))
    settle()
    assert {day: (KNOWN_LOSS, [(2, 3, "open")]) for day in DAYS} == by_day(recorded)


def test_ids_that_crossed_at_midnight_are_no_gap(recorded, settle):
    """The exchange's times and ids need not agree to the last millisecond."""
    recorded.publish(on(DAYS[1], 1), on(DAYS[1], 3), on(DAYS[2], 2), on(DAYS[2], 4))
    settle()
    assert {day: (0, []) for day in DAYS[1:3]} == by_day(recorded)


def test_order_books_chain_over_midnight(recorded, settle):
    def at(day, update):
        market, kind, text, epoch = update
        data = json.loads(text)
        data["data"] |= {"E": TIME_MS + day * DAY_MS} | ({"T": TIME_MS + day * DAY_MS} if "T" in data["data"] else {})
        return market, kind, json.dumps(data).encode(), epoch

    recorded.publish(at(0, spot_depth(1, 5)), at(1, spot_depth(6, 9)), at(0, futures_depth(1, 5, 0)))
    recorded.publish(at(1, futures_depth(12, 15, 8)))
    settle()
    hole = (DAMAGED, [(6, 8, "unknown")])
    assert {DAYS[1]: hole, DAYS[2]: hole} == by_day(recorded)


def test_a_gap_beyond_all_ids_is_of_the_days_that_its_times_say(recorded, settle):
    recorded.publish(on(DAYS[0], 1), on(DAYS[1], 2), on(DAYS[2], 3), note(4, 9, DAYS[2], None))
    settle()
    assert {DAYS[0]: (0, []), DAYS[1]: (0, []), DAYS[2]: (KNOWN_LOSS, [(4, 9, "open")])} == by_day(recorded)


def test_gaps_of_kinds_without_ids_are_of_the_days_that_their_times_say(recorded):
    """Their ids are times in ms, and update ids that do not chain: the count is what the ledger knows."""
    recorded.publish(
        mark_price(0), on(DAYS[0], 1), on(DAYS[2], 2),
        note(TIME_MS - DAY_MS, TIME_MS - 1, DAYS[0], DAYS[1], market="futures", kind="markPrice"),
    )  # fmt: skip
    report = verify_folder(recorded.root, day=DAYS[1])
    (mark,) = [stream for stream in report.coverage if stream.kind == "markPrice"]
    assert ([], 1, 1) == (report.errors, mark.gaps, report.exit_code)
    assert [None] == [gap.ids for gap in report.gaps]
    assert 0 == verify_folder(recorded.root, day=DAYS[2]).exit_code
    assert [1, None] == [verify_folder(recorded.root, day=day).gaps_by_status.get("open") for day in (DAYS[0], DAYS[2])]


def test_repaired_gaps_are_counted_where_they_were(recorded):
    recorded.publish(on(DAYS[1], 1), on(DAYS[1], 4), opened(2, 3), on(DAYS[2], 5))
    recorded.sql("update gaps set status = 'repaired', last_time_ns = first_time_ns")
    recorded.publish(on(DAYS[1], 2), on(DAYS[1], 3))
    assert [(1, 2), (0, 0)] == [
        (report.repaired, report.repaired_ids)
        for report in (verify_folder(recorded.root, day=day) for day in DAYS[1:3])
    ]


def test_what_the_ledger_says_is_missing_must_not_be_there_on_that_day(recorded):
    recorded.publish(on(DAYS[1], 1), on(DAYS[2], 2), note(2, 2, DAYS[1], DAYS[2]))
    assert [] == verify_folder(recorded.root, day=DAYS[1]).errors
    (error,) = verify_folder(recorded.root, day=DAYS[2]).errors
    assert "2 to 2 are said to be missing, and are there" in error


@pytest.mark.parametrize("damaged", DAYS[1:3])
def test_damage_is_of_its_day(recorded, damaged):
    """The files of one day are damaged, or a foreign one lies there: another day's check does not see it."""
    recorded.publish(mark_price(0), mark_price(86_400))
    (path,) = recorded.folder.parquet.glob(f"*/*/date={damaged}/*.parquet")
    path.write_bytes(b"PAR1")
    (path.parent / "stray").write_bytes(b"")
    assert {day: 2 * (day == damaged) for day in DAYS[1:3]} == {
        day: len(verify_folder(recorded.root, day=day).errors) for day in DAYS[1:3]
    }


def test_a_neighbour_that_cannot_be_read_is_told(recorded):
    """Without its ids nobody can say what is missing at midnight."""
    (_, path) = recorded.publish(on(DAYS[1], 1), on(DAYS[2], 2))
    (recorded.root / path).write_bytes(b"PAR1")
    (error,) = verify_folder(recorded.root, day=DAYS[1]).errors
    assert error.startswith(f"{path}, whose ids tell what is missing at midnight: its bytes are not those that")


def test_what_was_received_that_day_counts_of_the_journal(recorded):
    """All that the samples receive comes on the first day; what was set aside then as well."""
    recorded.publish(on(DAYS[1], 1), trade(9, price="NaN"), tail=b"some other text")
    recorded.publish(on(DAYS[2], 10))
    name = recorded.put_segment(on(DAYS[2], 11))
    recorded.folder.segment(name).rename(recorded.folder.failed / f"{name}.journal")
    first, second = (verify_folder(recorded.root, day=day) for day in DAYS[1:3])
    assert (1, 2) == (first.quarantined, len(first.errors))
    assert (0, []) == (second.quarantined, second.errors)


def test_a_day_of_which_there_is_nothing_at_all(recorded, capsys):
    """It is not complete, and nothing is damaged: the question was wrong."""
    recorded.publish(on(DAYS[1], 1))
    assert 2 == main(["verify", str(recorded.root), "--day", "2023-12-24"])
    assert "nothing was recorded on 2023-12-24; there is data from 2023-11-14 to" in capsys.readouterr().err


def test_the_command_takes_a_day(recorded, capsysbinary):
    recorded.publish(on(DAYS[1], 1), on(DAYS[2], 3), given_up(2, 2))
    assert 3 == main(["verify", str(recorded.root), "--day", DAYS[2], "--json"])
    report = json.loads(capsysbinary.readouterr().out)
    assert (DAYS[2], 1) == (report["day"], report["rows"])
    assert 2 == main(["verify", str(recorded.root), "--day", "yesterday"])


def test_the_days_of_a_folder_find_together_what_the_whole_check_finds(recorded, settle):
    """Files, rows and gaps of all days are those of the folder."""
    recorded.publish(*(on(DAYS[number // 2], 2 * number) for number in range(8)), spot_depth(1, 2))
    settle()
    whole = verify_folder(recorded.root)
    parts = [verify_folder(recorded.root, day=day) for day in DAYS]
    assert (whole.files, whole.rows) == (sum(part.files for part in parts), sum(part.rows for part in parts))
    assert set(whole.gaps) == {gap for part in parts for gap in part.gaps}
