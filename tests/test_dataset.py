"""Reading a data folder: whole, in order, once, whatever happens beside it."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from verify_samples import (
    DAY_MS,
    MINUTE_MS,
    TIME_MS,
    Recorded,
    candle,
    futures_depth,
    mark_price,
    spot_depth,
    trade,
)

from streamsvc import dataset
from streamsvc.errors import DamagedError, UsageError
from streamsvc.persistence import parquet
from streamsvc.schema import COLUMNS, Kind, Market

START, END = "2023-11-14", "2023-11-16"


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path)


def ids_of(recorded, kind="trade", column="trade_id", *, start=START, end=END, symbol="BTCUSDT", **more):
    return dataset.load(recorded.root, kind, symbol, start, end, **more)[column].tolist()


def test_rows_of_many_files_come_in_the_order_of_their_ids(recorded):
    recorded.publish(trade(5), trade(3), trade(9, symbol="ETHUSDT"))
    recorded.publish(trade(4), trade(1, time_ms=TIME_MS + DAY_MS))
    assert [1, 3, 4, 5] == ids_of(recorded)


def test_a_row_that_was_recorded_twice_is_there_once(recorded):
    """The key is of `integrity/keys.py`: market, symbol, epoch, id."""
    recorded.publish(trade(1), trade(1), trade(2))
    recorded.publish(trade(2), trade(1, epoch=1), trade(3))
    frame = dataset.load(recorded.root, "trade", "BTCUSDT", START, END)
    assert [(0, 1), (0, 2), (0, 3), (1, 1)] == list(zip(frame["epoch"], frame["trade_id"], strict=True))


def test_levels_of_an_update_are_rows_of_their_own(recorded):
    recorded.publish(futures_depth(20, 29, 19), futures_depth(20, 29, 19), futures_depth(10, 19, 9))
    frame = dataset.load(recorded.root, "depth", "BTCUSDT", START, END)
    assert [(19, "ask", 37.6), (19, "bid", 37.4), (19, "bid", 37.5)] == list(
        zip(frame["final_update_id"][:3], frame["side"][:3], frame["price"][:3], strict=True)
    )
    assert 6 == len(frame)


def test_kinds_without_ids_come_in_the_order_of_their_time(recorded):
    recorded.publish(mark_price(2), mark_price(0))
    recorded.publish(mark_price(1), mark_price(2))
    seconds = [time.second for time in dataset.load(recorded.root, "markPrice", "BTCUSDT", START, END)["exchange_time"]]
    assert [20, 21, 22] == seconds


def test_a_candle_that_is_sent_again_while_it_grows_is_another_row(recorded):
    recorded.publish(candle(1), candle(0, is_closed=False, second=2), candle(0, is_closed=False, second=4), candle(0))
    assert [False, False, True, True] == ids_of(recorded, "kline_1m", "is_closed")


@pytest.mark.parametrize(
    "end",
    [
        "2023-11-14T22:14:20Z",
        "2023-11-14 22:14:20",
        datetime(2023, 11, 14, 22, 14, 20),  # noqa: DTZ001 - what has no zone is UTC
        datetime(2023, 11, 14, 23, 14, 20, tzinfo=timezone(timedelta(hours=1))),
        pd.Timestamp("2023-11-14 22:14:20", tz="UTC"),
        np.datetime64("2023-11-14T22:14:20"),
        (TIME_MS + MINUTE_MS) * 10**6,
    ],
    ids=lambda end: type(end).__name__,
)
def test_a_time_is_told_in_any_usual_way_and_the_end_is_not_in_it(recorded, end):
    recorded.publish(*(trade(number, time_ms=TIME_MS + number * MINUTE_MS // 2) for number in range(4)))
    assert [0, 1] == ids_of(recorded, start=TIME_MS * 10**6, end=end)
    assert [1] == ids_of(recorded, start=datetime.fromtimestamp(TIME_MS / 1000 + 1, UTC), end=end)


def test_all_columns_are_there_with_their_types_even_without_rows(recorded):
    recorded.publish(trade(1))
    for start in ("2023-11-14", "2023-11-15"):
        frame = dataset.load(recorded.root, "trade", "BTCUSDT", start, "2023-11-16")
        assert list(COLUMNS[Kind.TRADE]) == list(frame.columns)
        assert ["category", "datetime64[ns, UTC]", "int64", "bool", "int32"] == [
            str(frame[name].dtype) for name in ("symbol", "exchange_time", "trade_id", "is_buyer_maker", "epoch")
        ]


def test_values_are_those_that_were_recorded(recorded):
    recorded.publish(trade(1, symbol="币安", price="0.1234567890123456"))
    (row,) = dataset.load(recorded.root, "trade", "币安", START, END).to_dict("records")
    assert ("币安", 0.1234567890123456, True, "") == (
        row["symbol"], row["price"], row["is_buyer_maker"], row["trade_type"],
    )  # fmt: skip
    assert (TIME_MS * 10**6, (TIME_MS + 40) * 10**6) == (row["exchange_time"].value, row["receive_time"].value)


def test_a_symbol_of_one_market_needs_no_market(recorded):
    recorded.publish(trade(1), trade(7, market=Market.FUTURES, symbol="ETHUSDT"))
    assert [7] == ids_of(recorded, symbol="ETHUSDT")


def test_a_symbol_of_both_markets_needs_its_market(recorded):
    recorded.publish(trade(1), trade(7, market=Market.FUTURES))
    with pytest.raises(UsageError, match="futures and spot: say which"):
        ids_of(recorded)
    assert ([1], [7]) == (ids_of(recorded, market="spot"), ids_of(recorded, market="futures"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "trades"}, "'trades' is no kind"),
        ({"market": "margin"}, "'margin' is no market"),
        ({"market": "futures"}, "never recorded in futures"),
        ({"symbol": "btcusdt"}, "'btcusdt' was never recorded"),
        ({"start": "yesterday or so"}, "start and end are times"),
        ({"start": None}, "start and end are times"),
        ({"end": True}, "start and end are times"),
        ({"end": "2999-01-01"}, "start and end are times"),
        ({"end": "2001-01-01"}, "lies before the start"),
    ],
    ids=str,
)
def test_what_is_asked_wrongly_is_told(recorded, wrong, told):
    recorded.publish(trade(1))
    with pytest.raises(UsageError, match=told):
        ids_of(recorded, **wrong)


def test_a_folder_that_is_none_is_told(tmp_path):
    with pytest.raises(UsageError, match="not a data folder"):
        dataset.load(tmp_path, "trade", "BTCUSDT", START, END)
    assert [] == list(tmp_path.iterdir())


def test_only_what_the_catalogue_lists_is_read(recorded):
    """A file that was renamed and not committed, or that somebody put there, is no part of the data set."""
    (path,) = recorded.publish(trade(1))
    recorded.place_files(trade(2))
    (recorded.root / path).with_name("mine.parquet").write_bytes(b"no file")
    assert [1] == ids_of(recorded)


def test_files_and_row_groups_of_other_times_are_not_read(recorded, monkeypatch):
    recorded.publish(trade(1), trade(2, time_ms=TIME_MS + DAY_MS))
    paths = recorded.publish(trade(3, time_ms=TIME_MS + MINUTE_MS))
    read = []
    monkeypatch.setattr(
        dataset, "read_coded", lambda path, *args: (read.append(path.name), parquet.read_coded(path, *args))[1]
    )
    assert [3] == ids_of(recorded, start=TIME_MS * 10**6 + 1, end=(TIME_MS + DAY_MS) * 10**6)
    assert [paths[0].rpartition("/")[2]] == read


def test_a_file_that_is_replaced_while_it_is_looked_for_is_found_under_its_new_name(recorded, monkeypatch):
    """As when a day is compacted: the reading begins again with what the catalogue lists then."""
    (path,) = recorded.publish(trade(1))
    recorded.publish(trade(2))
    moved = path.replace("000000.parquet", "000009.parquet")
    (recorded.root / path).rename(recorded.root / moved)
    follow = "update files set path = ? where path = ?"
    monkeypatch.setattr(dataset.time, "sleep", lambda _: recorded.sql(follow, moved, path))
    assert [1, 2] == ids_of(recorded)


def test_a_file_that_stays_away_is_told(recorded, monkeypatch):
    (path,) = recorded.publish(trade(1))
    (recorded.root / path).unlink()
    monkeypatch.setattr(dataset.time, "sleep", lambda _: None)
    with pytest.raises(DamagedError, match=r"not there.*000001-deadbeef-000000\.parquet"):
        ids_of(recorded)


def test_a_damaged_file_is_told(recorded):
    (path,) = recorded.publish(trade(1))
    (recorded.root / path).write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match="cannot be read"):
        ids_of(recorded)


def test_reading_while_segments_are_published_finds_a_beginning_of_the_stream(recorded):
    """Every answer holds all that was committed when it was asked for, and nothing that is half there."""
    recorded.publish(trade(0))
    answers = []
    done = threading.Event()

    def read():
        while not done.is_set():
            answers.append(ids_of(recorded))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 20):
            recorded.publish(trade(2 * number), trade(2 * number + 1), trade(number, time_ms=TIME_MS + DAY_MS, epoch=1))
    finally:
        done.set()
        reader.join()
    assert answers
    for answer in answers:
        published = (len(answer) - 1) // 3
        assert [0, *range(2, 2 * published + 2), *range(1, published + 1)] == answer


def gap(recorded, number, first, last, **more):
    row = {
        "market": "spot", "symbol": "BTCUSDT", "kind": "trade", "epoch": 0, "first_time_ns": TIME_MS * 10**6,
        "last_time_ns": (TIME_MS + MINUTE_MS) * 10**6, "cause": "disconnect", "connection": 3, "status": "open",
        "reason": None, "opened_ns": 5, "closed_ns": None,
    } | more  # fmt: skip
    row = {"gap": number, "first_id": first, "last_id": last} | row
    marks = ", ".join("?" * len(row))
    recorded.sql(f"insert into gaps ({', '.join(row)}) values ({marks})", *row.values())


def gaps_of(recorded, start=START, end=END, **more):
    return dataset.gaps(recorded.root, "trade", "BTCUSDT", start, end, **more)


def test_gaps_are_what_the_ledger_knows_and_nobody_repaired(recorded):
    recorded.publish(trade(1))
    gap(recorded, 1, 70, 80, status="unrepairable", reason="too old", closed_ns=9)
    gap(recorded, 2, 2, 3, connection=None)
    gap(recorded, 3, 20, 30, status="repaired")
    gap(recorded, 4, 40, 50, symbol="ETHUSDT")
    gap(recorded, 5, 40, 50, kind="depth")
    frame = gaps_of(recorded)
    assert [(2, 3, "open"), (70, 80, "unrepairable")] == list(
        zip(frame["first_id"], frame["last_id"], frame["status"], strict=True)
    )
    assert [True, False] == frame["connection"].isna().tolist() == frame["reason"].isna().tolist()
    assert [True, False] == frame["closed"].isna().tolist()
    assert ["datetime64[ns, UTC]"] * 4 == [
        str(frame[name].dtype) for name in ("first_time", "last_time", "opened", "closed")
    ]


def test_gaps_are_those_that_touch_the_time(recorded):
    recorded.publish(trade(1))
    gap(recorded, 1, 2, 3)
    gap(recorded, 2, 4, 5, first_time_ns=None, last_time_ns=TIME_MS * 10**6)
    gap(recorded, 3, 6, 7, first_time_ns=None, last_time_ns=None)
    inside = (TIME_MS + 1) * 10**6
    assert [2, 6] == gaps_of(recorded, inside, inside + 1)["first_id"].tolist()
    assert [2, 4, 6] == gaps_of(recorded, TIME_MS * 10**6, inside)["first_id"].tolist()
    assert [4, 6] == gaps_of(recorded, 0, TIME_MS * 10**6)["first_id"].tolist()


def test_gaps_of_a_stream_without_a_row_are_told_too(recorded):
    gap(recorded, 1, 2, 3, market="futures")
    assert ["futures"] == gaps_of(recorded)["market"].tolist()
    assert [] == ids_of(recorded)


def test_no_gap_is_an_empty_table_with_its_columns(recorded):
    recorded.publish(trade(1))
    frame = gaps_of(recorded)
    assert (0, "Int64", "datetime64[ns, UTC]") == (
        len(frame), str(frame["first_id"].dtype), str(frame["opened"].dtype),
    )  # fmt: skip


def test_spot_depth_without_levels_keeps_its_row(recorded):
    recorded.publish(spot_depth(1, 2), spot_depth(3, 4))
    assert [2, 4] == ids_of(recorded, "depth", "final_update_id")
