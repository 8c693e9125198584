"""The report and the checks of real traffic over midnight, against numbers taken from the recordings themselves."""

from itertools import pairwise

import numpy as np
import pytest
from recordings_support import DAY_NS, MS, RECORDINGS, record, stored_columns

from streamsvc.integrity.latency_histogram import PERCENTILES
from streamsvc.integrity.quality_day import measure_day
from streamsvc.integrity.verify import verify_folder
from streamsvc.schema import Kind, Market

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared/recordings) are not here")

DAYS = ("2024-08-08", "2024-08-09")
STREAMS = [(Kind.TRADE, "T"), (Kind.DEPTH, "E")]
"""Spot kinds that have a time of the exchange, and its name."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    names = ["spot-btcusdt-20240808.gz", "spot-btcusdt-20240809.gz"]
    return record(names, tmp_path_factory.mktemp("recordings") / "spot", segment_max_mb=2)


@pytest.fixture(scope="module")
def reports(run):
    return {day: measure_day(run.folder, day, run.ended_ns) for day in DAYS}


def of_day(messages, field, day):
    """The messages of a day by their own time, and the day's first millisecond."""
    first_ms = int(np.datetime64(day, "ms").astype(np.int64))
    return [each for each in messages if first_ms <= each[field] < first_ms + DAY_NS // MS], first_ms


def spans(kind, messages):
    """The first and the last id that each message covers, in order."""
    return sorted((each["t"], each["t"]) if kind is Kind.TRADE else (each["U"], each["u"]) for each in messages)


def stream_of(report, kind):
    (found,) = [one for one in report.streams if (one.kind, one.symbol) == (kind.label, "BTCUSDT")]
    return found


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize(("kind", "field"), STREAMS, ids=lambda part: getattr(part, "label", part))
def test_messages_times_and_ids(run, reports, kind, field, day):
    messages, first_ms = of_day(run.messages[Market.SPOT, kind, "BTCUSDT"], field, day)
    found = stream_of(reports[day], kind)
    times = sorted(each[field] for each in messages)
    assert (len(messages), times[0] * MS, times[-1] * MS) == (found.messages, found.first_time_ns, found.last_time_ns)
    covered = spans(kind, messages)
    holes = [(one[1] + 1, other[0] - 1) for one, other in pairwise(covered) if other[0] > one[1] + 1]
    inside = [gap for gap in found.gaps if covered[0][0] < gap.first_missing_id < covered[-1][1]]
    assert holes == [(gap.first_missing_id, gap.last_missing_id) for gap in inside]
    assert sum(last - first + 1 for first, last in covered) == found.ids_present
    seconds = sorted({(time - first_ms) // 1000 for time in times})
    longest = max(other - one - 1 for one, other in pairwise(seconds))
    assert longest <= found.silence_sec
    assert {second // 1800 for second in seconds} == {place for place, cell in enumerate(found.cells) if cell == "#"}


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize(("kind", "_field"), STREAMS, ids=lambda part: getattr(part, "label", part))
def test_latencies(run, reports, kind, _field, day):
    """From the files by another reader: exact at both ends, within the resolution between."""
    rows = stored_columns(run.folder, Market.SPOT, kind)
    chosen = rows["exchange_time"] // DAY_NS == np.datetime64(day).astype(np.int64)
    if kind is Kind.DEPTH:
        chosen &= np.concatenate([[True], np.diff(rows["final_update_id"]) != 0])
    latencies = np.sort((rows["receive_time"] - rows["event_time"])[chosen])
    found = stream_of(reports[day], kind).latency
    assert (len(latencies), latencies[0], latencies[-1]) == (found.messages, found.least_ns, found.greatest_ns)
    ranks = [int(np.ceil(percent * len(latencies) / 100)) - 1 for percent in PERCENTILES]
    assert np.allclose(latencies[ranks], found.percentiles_ns, rtol=0.016)


def test_the_whole_of_both_days(run, reports):
    """Every message is in one of the days, and their rows are those that verify counts.

    Spot tickers have no time of the exchange's: they are of the day of this run.
    """
    whole = verify_folder(run.folder, is_deep=True)
    assert [] == whole.errors
    rows = {one.kind: one.rows for one in whole.coverage}
    for kind, _ in STREAMS:
        found = [stream_of(report, kind) for report in reports.values()]
        assert len(run.messages[Market.SPOT, kind, "BTCUSDT"]) == sum(one.messages for one in found)
        assert rows[kind.label] == sum(one.rows for one in found)


@pytest.mark.parametrize("day", DAYS)
def test_report_and_check_find_the_same_gaps(run, reports, day):
    found = verify_folder(run.folder, day=day, is_deep=True)
    assert ([], found.gaps) == (found.errors, sorted(reports[day].gaps, key=found.gaps.index))


def test_ids_go_on_over_midnight(run, reports):
    """No gap touches both days: nothing was lost at midnight, and none is seen there."""
    (first, second) = ({(gap.kind, gap.first_missing_id) for gap in reports[day].gaps} for day in DAYS)
    assert set() == first & second
