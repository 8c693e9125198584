"""Reading derived rows: the latest revision of each, and the sum of what was corrected."""

from decimal import Decimal
from itertools import accumulate
from pathlib import Path

import duckdb
import numpy as np
import pytest
from compaction_samples import compact_all, make_compactor
from hypothesis import given
from hypothesis import strategies as st
from verify_samples import MINUTE_MS, TIME_MS, Recorded, derived, opened, trade

from streamsvc import dataset
from streamsvc.errors import UsageError
from streamsvc.integrity.revisions import latest, sum_deltas
from streamsvc.persistence.retention import remove_day
from streamsvc.schema import Kind, Market

START, END = "2023-11-14", "2023-11-17"
TO_MIDNIGHT = 107
"""Minutes from the samples' first one to 0:00 UTC."""


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path)


def cvd(minute, delta, total, **more):
    return derived(Kind.CVD_1M, minute, delta=Decimal(delta), cvd=Decimal(total), **more)


def load(recorded, column, kind="cvd_1m", *, start=START, end=END):
    return dataset.load(recorded.root, kind, "BTCUSDT", start, end)[column].tolist()


def at(minute):
    return (TIME_MS // MINUTE_MS + minute) * MINUTE_MS * 10**6


@pytest.mark.parametrize("is_compacted", [False, True], ids=["sealed", "compacted"])
def test_of_a_row_that_was_written_again_the_latest_revision_is_read(recorded, is_compacted):
    """In the order of time, whichever file a revision lies in."""
    recorded.publish(
        derived(Kind.BARS_1M, 1, volume=Decimal(2)),
        derived(Kind.BARS_1M, 0, volume=Decimal(9), revision=2),
        derived(Kind.BARS_1M, 0, volume=Decimal(7), symbol="ETHUSDT", revision=3),
    )
    recorded.publish(derived(Kind.BARS_1M, 0), derived(Kind.BARS_1M, 0, volume=Decimal(5), revision=1))
    if is_compacted:
        compact_all(recorded)
    frame = dataset.load(recorded.root, "bars_1m", "BTCUSDT", START, END)
    assert [[9.0, 2.0], [2, 0]] == [frame["volume"].tolist(), frame["revision"].tolist()]
    assert [at(0), at(1)] == [time.value for time in frame["open_time"]]


def test_the_sum_goes_over_what_was_corrected(recorded):
    """No stored cvd is believed but the first; decimals are summed, not floats."""
    recorded.publish(cvd(0, "0.1", "0.1"), cvd(1, "0.2", "0.3"), cvd(2, "-0.3", "0"), cvd(3, "0.7", "0.7"))
    recorded.publish(cvd(1, "0.1", "0.7", revision=1))
    assert [0.1, 0.2, -0.1, 0.6] == load(recorded, "cvd")


def test_a_sum_that_began_before_the_time_that_is_asked_for_goes_on_in_it(recorded):
    recorded.publish(cvd(0, "1", "1"), cvd(1, "2", "3"), cvd(2, "4", "7"))
    recorded.publish(cvd(0, "5", "12", revision=1))
    assert [7.0, 11.0] == load(recorded, "cvd", start=at(1))
    assert [7.0] == load(recorded, "cvd", start=at(1), end=at(2))


def test_where_the_oldest_days_were_removed_the_oldest_stored_sum_is_the_base(recorded):
    """What came before is in it; a correction of the oldest minute itself counts once."""
    recorded.publish(cvd(0, "10", "10"), cvd(TO_MIDNIGHT, "2", "12"), cvd(TO_MIDNIGHT + 1, "-5", "7"))
    recorded.publish(cvd(TO_MIDNIGHT, "3", "8", revision=1))
    before = load(recorded, "cvd", start="2023-11-15")
    compactor = make_compactor(recorded)
    assert all(remove_day(compactor, day) for day in compactor.catalogue.days_before("2023-11-15"))
    assert [[13.0, 8.0], [13.0, 8.0]] == [before, load(recorded, "cvd")]


def test_a_sum_that_starts_over_daily_does_so_for_the_reader(recorded):
    """Midnight's stored sum is its own delta though the minute before ended elsewhere: see `CVD_RESET`."""
    midnight = TO_MIDNIGHT
    recorded.publish(cvd(0, "10", "10"), cvd(midnight - 1, "1", "11"))
    recorded.publish(cvd(midnight, "2", "2"), cvd(midnight + 1, "3", "5"), cvd(midnight + 1440, "4", "4"))
    recorded.publish(cvd(midnight, "2.5", "6", revision=1))
    assert [10.0, 11.0, 2.5, 5.5, 4.0] == load(recorded, "cvd")
    assert [5.5, 4.0] == load(recorded, "cvd", start=at(midnight + 1))


def test_a_sum_that_was_nothing_at_midnight_goes_on(recorded):
    """Then both rules give the same but for corrections, and those belong to a sum that never starts over."""
    recorded.publish(cvd(0, "1", "1"), cvd(1, "-1", "0"), cvd(TO_MIDNIGHT, "2", "2"), cvd(0, "3", "4", revision=1))
    assert [3.0, 2.0, 4.0] == load(recorded, "cvd")


def test_a_time_without_a_row_is_an_empty_frame(recorded):
    recorded.publish(cvd(0, "1", "1"))
    assert [[], []] == [load(recorded, "cvd", start="2023-11-16"), load(recorded, "cvd", end="2023-11-14")]


DECIMALS = st.builds(
    lambda number, places: Decimal(number).scaleb(-places), st.integers(-(10**8), 10**8), st.integers(0, 4)
)
"""Their sums have 15 digits at most, so that a stored sum is what it was."""


@given(st.dictionaries(st.integers(0, 3000), st.lists(DECIMALS, min_size=1, max_size=3), min_size=1), DECIMALS)
def test_the_sum_is_that_of_the_latest_decimals(minutes, base):
    """Whatever the order of the rows, and however often a minute was corrected."""
    rows, total = [], base
    for minute, deltas in sorted(minutes.items()):
        total += deltas[0]
        rows += [(minute, revision, delta, total) for revision, delta in enumerate(deltas)]
    rows = rows[1::2] + rows[::2]
    columns = {
        "open_time": np.array([row[0] * 60 * 10**9 for row in rows]),
        "receive_time": np.arange(len(rows)),
        "revision": np.array([row[1] for row in rows], np.int32),
        "delta": np.array([float(row[2]) for row in rows]),
        "cvd": np.array([float(row[3]) for row in rows]),
    }
    # Nothing here starts over: a stored sum that is its own delta would say so.
    if any(total == delta for _, _, delta, total in rows):
        return
    last = [deltas[-1] for _, deltas in sorted(minutes.items())]
    assert [float(base + part) for part in accumulate(last)] == sum_deltas(columns).tolist()
    assert sorted(minutes) == (columns["open_time"][latest(columns)] // (60 * 10**9)).tolist()


def test_what_is_missing_of_a_derived_kind_is_what_its_source_lacks(recorded):
    """Trades where they are recorded, else aggTrades; best quotes for the order flow."""
    recorded.publish(trade(1), cvd(0, "1", "1"), derived(Kind.OFI_1S), derived(Kind.PRICES_1S))
    recorded.publish(opened(2, 4), opened(5, 6, kind="aggTrade"), opened(7, 9, kind="bookTicker"), trade(10))
    found = {
        kind: [
            tuple(row)
            for row in dataset.gaps(recorded.root, kind, "BTCUSDT", START, END)[["kind", "first_id"]]
            .to_numpy()
            .tolist()
        ]
        for kind in ("cvd_1m", "ofi_1s", "prices_1s")
    }
    trades, quotes = ("trade", 2), ("bookTicker", 7)
    assert {"cvd_1m": [trades], "ofi_1s": [quotes], "prices_1s": [trades, quotes]} == found


def test_where_trades_are_not_recorded_what_aggregates_lack_is_told(recorded):
    recorded.publish(cvd(0, "1", "1"))
    recorded.publish(opened(5, 6, kind="aggTrade"))
    assert ["aggTrade"] == dataset.gaps(recorded.root, "cvd_1m", "BTCUSDT", START, END)["kind"].tolist()


def test_a_derived_kind_that_was_never_recorded_is_told_as_any(recorded):
    recorded.publish(trade(1))
    for read in (dataset.load, dataset.gaps):
        with pytest.raises(UsageError, match="never recorded"):
            read(recorded.root, "cvd_1m", "BTCUSDT", START, END)


def test_the_markets_of_a_derived_kind_are_told_apart(recorded):
    recorded.publish(cvd(0, "1", "1"), cvd(0, "2", "2", market=Market.FUTURES))
    sums = [
        dataset.load(recorded.root, "cvd_1m", "BTCUSDT", START, END, market=market)["cvd"].tolist()
        for market in ("spot", "futures")
    ]
    assert [[1.0], [2.0]] == sums


def test_the_latest_revision_is_found_by_duckdb_as_the_readme_says(recorded, monkeypatch):
    recorded.publish(derived(Kind.BARS_1M, 0, volume=Decimal(1)), derived(Kind.BARS_1M, 1, volume=Decimal(3)))
    recorded.publish(derived(Kind.BARS_1M, 0, volume=Decimal(2), revision=1, is_complete=False))
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    queries = [part.split("```")[0] for part in readme.split("```sql\n")[1:]]
    (query,) = (query for query in queries if "bars_1m" in query)
    monkeypatch.chdir(recorded.root)
    rows = duckdb.sql(query.replace("data/parquet", "parquet")).fetchall()
    assert [(2.0, False), (3.0, True)] == [row[-2:] for row in rows]
