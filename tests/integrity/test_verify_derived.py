"""Checks of derived kinds: nothing of them chains, a later revision is no duplicate, and the same one twice is."""

from decimal import Decimal

import pytest
from compaction_samples import compact_all, rows_of
from verify_samples import MINUTE_MS, TIME_MS, Recorded, derived, rewrite, setting, trade

from streamsvc.integrity.audit import unknown_gaps
from streamsvc.integrity.quality_day import measure_day
from streamsvc.integrity.segment_ids import read_ids
from streamsvc.integrity.verify import verify_folder
from streamsvc.schema import DERIVED_KINDS, Kind, Market

KINDS = sorted(DERIVED_KINDS)


@pytest.fixture
def recorded(tmp_path):
    """Every derived kind beside trades, with holes in time, revisions in two files, and signs."""
    recorded = Recorded(tmp_path)
    signed = {"delta": Decimal("-1.5"), "cvd": Decimal(-3)}
    recorded.publish(
        trade(1),
        *(derived(kind, minute) for kind in KINDS for minute in (0, 1, 7)),
        derived(Kind.CVD_1M, 8, **signed),
        derived(Kind.OFI_1S, 8, ofi=Decimal(-2), market=Market.FUTURES),
    )
    recorded.publish(trade(2), *(derived(kind, minute, revision=1) for kind in KINDS for minute in (7, 1)))
    return recorded


def verified(recorded, **how):
    report = verify_folder(recorded.root, **how)
    return report.errors, report.gaps, report.exit_code


@pytest.mark.parametrize("is_compacted", [False, True], ids=["sealed", "compacted"])
@pytest.mark.parametrize("how", [{}, {"is_deep": True}, {"day": "2023-11-14"}], ids=["all", "deep", "day"])
def test_derived_rows_are_complete_whatever_their_times(recorded, how, is_compacted):
    if is_compacted:
        compact_all(recorded)
    assert ([], [], 0) == verified(recorded, **how)


def test_compaction_keeps_every_revision(recorded):
    """In the order of time; which one counts is for the reader."""
    compact_all(recorded)
    (rows,) = rows_of(recorded.folder, "ofi_1m").values()
    minutes = [(row[2] // 10**6 - TIME_MS) // MINUTE_MS + 1 for row in rows]
    assert [(0, 0), (1, 0), (1, 1), (7, 0), (7, 1)] == list(zip(minutes, [row[-1] for row in rows], strict=True))


@pytest.mark.parametrize("is_compacted", [False, True], ids=["sealed", "compacted"])
def test_a_revision_that_is_there_twice_is_found(recorded, is_compacted):
    recorded.publish(derived(Kind.CVD_1M, 7, revision=1))
    if is_compacted:
        compact_all(recorded)
    (error,) = verify_folder(recorded.root).errors
    assert "1 rows of BTCUSDT are" in error
    assert "cvd_1m" in error


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("open_time", 0, "exchange_time is not open_time"),
        ("buy_quantity", -1.0, "buy_quantity is negative"),
        ("delta", float("nan"), "delta is not finite"),
    ],
)
def test_a_deep_check_finds_what_no_sealer_writes(tmp_path, column, value, sentence):
    recorded = Recorded(tmp_path)
    recorded.publish(derived(Kind.CVD_1M, delta=Decimal(-1)))
    rewrite(recorded, "cvd_1m", setting(column, value))
    assert [sentence] == [error.split(": ")[-1] for error in verify_folder(recorded.root, is_deep=True).errors]


def test_a_deep_check_misses_rows_that_are_gone_from_the_end(recorded):
    recorded.sql("update streams set last_exchange_ns = last_exchange_ns + 1 where kind = 'bars_1m'")
    (error,) = verify_folder(recorded.root, is_deep=True).errors
    assert "bars_1m: the files of BTCUSDT end at" in error


def test_an_audit_looks_for_no_derived_row(recorded):
    assert [] == unknown_gaps(str(recorded.root))


def test_a_day_is_measured_without_what_was_computed(recorded):
    """It came from no exchange: it has no latency, and its bins begin before the day's first message."""
    quality = measure_day(recorded.root, "2023-11-14", TIME_MS * 10**6)
    assert ({"trade"}, 2) == ({stream.kind for stream in quality.streams}, quality.files)
    assert TIME_MS * 10**6 == quality.recorded.first_ns


def test_a_segment_has_no_ids_of_derived_kinds(recorded):
    name = recorded.put_segment(trade(3), derived(Kind.CVD_1M))
    assert [Kind.TRADE] == [seen.kind for seen in read_ids(recorded.folder.segment(name))]
