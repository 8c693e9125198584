"""Which rows are the same, and which ids they cover: compared with a model that takes one row after the other."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsvc.integrity.keys import (
    COUNTED_KINDS,
    KEY_COLUMNS,
    MINUTE_NS,
    columns_needed,
    shared_keys,
    split_streams,
    stream_keys,
)
from streamsvc.integrity.sequence import IdRange
from streamsvc.schema import COLUMNS, DERIVED_KINDS, STREAM_KINDS, Kind, Market

SPOT, FUTURES = Market.SPOT, Market.FUTURES
DTYPES = {"timestamp": np.int64, "int64": np.int64, "int32": np.int32, "float64": np.float64, "bool": np.bool_}
SMALL = st.integers(0, 9)
VALUES = {
    "timestamp": st.integers(0, 4).map(lambda number: number * MINUTE_NS // 2),
    "int64": SMALL,
    "int32": st.integers(0, 1),
    "float64": st.sampled_from([0.0, 0.1, 37.5]),
    "bool": st.booleans(),
}
TEXTS = {
    "symbol": st.sampled_from(["BTCUSDT", "1000PEPE", "BTCUSDT_260925", "币安人生USDT"]),
    "side": st.sampled_from(["", "bid", "ask"]),
    "status": st.sampled_from(["EXPIRED", "EXPIRED_IN_MATCH"]),
}
REST_KINDS = (Kind.DEPTH_SNAPSHOT, Kind.INSTRUMENT)
MARKETS_AND_KINDS = [
    (market, kind) for market, kinds in STREAM_KINDS.items() for kind in (*kinds, *REST_KINDS, *sorted(DERIVED_KINDS))
]


def as_columns(kind, rows):
    """Rows, mappings from column to value, as the columns of a file."""
    made = {}
    for name in columns_needed(kind):
        values = [row[name] for row in rows]
        dtype = COLUMNS[kind][name]
        made[name] = np.array(values, object if dtype == "string" else DTYPES[dtype])
    return made


def rows_of(kind):
    """Rows with few different values, so that many are alike."""
    texts = st.sampled_from(["A", "B"])
    values = {
        name: TEXTS.get(name, texts) if COLUMNS[kind][name] == "string" else VALUES[COLUMNS[kind][name]]
        for name in columns_needed(kind)
    }
    return st.lists(st.fixed_dictionaries(values), min_size=1, max_size=30)


def covered_by(kind, market, row):
    """The ids that one row covers, by the table of `binance.md`."""
    match kind:
        case Kind.TRADE:
            return {row["trade_id"]}
        case Kind.AGG_TRADE:
            return {row["agg_trade_id"]}
        case Kind.DEPTH:
            last = row["final_update_id"]
            first = row["first_update_id"] if market is SPOT else row["previous_final_update_id"] + 1
            return set(range(first, last + 1)) or {last}
        case Kind.KLINE_1M:
            return {row["open_time"] // MINUTE_NS} if row["is_closed"] else set()
        case _:
            return set()


@pytest.mark.parametrize(("market", "kind"), MARKETS_AND_KINDS, ids=lambda part: part.label)
@settings(max_examples=60)
@given(data=st.data())
def test_a_file_is_split_as_one_row_after_the_other_would_be(market, kind, data):
    """Rows, duplicates, first and last key and covered ids of each stream, whatever the order of the rows."""
    rows = data.draw(rows_of(kind))
    model = defaultdict(list)
    for row in rows:
        model[row["symbol"], row.get("epoch", 0)].append(row)
    parts = split_streams(kind, market, as_columns(kind, rows))
    assert set(model) == set(parts)
    for stream, own in model.items():
        part = parts[stream]
        keys = [tuple(row[name] for name in KEY_COLUMNS[kind]) for row in own]
        assert len(own) == part.rows
        assert len(own) - len(set(keys)) == part.duplicates
        assert (min(keys)[0], max(keys)[0]) == (part.first_key, part.last_key)
        ids = set().union(*(covered_by(kind, market, row) for row in own))
        assert ids == {number for piece in part.ranges for number in range(piece.first, piece.last + 1)}
        assert all(one.last + 1 < other.first for one, other in zip(part.ranges, part.ranges[1:], strict=False))


@pytest.mark.parametrize("kind", KEY_COLUMNS, ids=lambda kind: kind.label)
@settings(max_examples=40)
@given(data=st.data())
def test_keys_that_two_files_share_are_counted_once_each(kind, data):
    """Texts and floats have the same number in every file."""
    one, other = data.draw(rows_of(kind)), data.draw(rows_of(kind))
    first, last = sorted((data.draw(SMALL), data.draw(SMALL)))
    if COLUMNS[kind][KEY_COLUMNS[kind][0]] == "timestamp":
        first, last = first * MINUTE_NS // 4, last * MINUTE_NS // 4
    symbol, epoch = one[0]["symbol"], one[0].get("epoch", 0)

    def keys(rows):
        found = Counter(tuple(row[name] for name in KEY_COLUMNS[kind]) for row in rows if belongs(row))
        return {key for key in found if first <= key[0] <= last}

    def belongs(row):
        return (row["symbol"], row.get("epoch", 0)) == (symbol, epoch)

    tables = [stream_keys(kind, as_columns(kind, rows), symbol, epoch, first=first, last=last) for rows in (one, other)]
    assert len(keys(one) & keys(other)) == shared_keys(*tables)


def ranges(kind, market, rows):
    (part,) = split_streams(kind, market, as_columns(kind, rows)).values()
    return part.ranges


def depth(first, last, previous=0, price=1.0):
    return {
        "symbol": "A", "epoch": 0, "side": "bid", "price": price, "first_update_id": first, "final_update_id": last,
        "previous_final_update_id": previous,
    }  # fmt: skip


def test_a_second_spot_connection_cuts_the_same_updates_into_other_windows():
    """No gap and no duplicate: at a takeover `U` <= last `u` + 1 <= `u`."""
    rows = [depth(1, 10), depth(11, 20), depth(6, 15), depth(16, 25)]
    (part,) = split_streams(Kind.DEPTH, SPOT, as_columns(Kind.DEPTH, rows)).values()
    assert ([IdRange(1, 25)], 0) == (part.ranges, part.duplicates)


def test_a_spot_update_is_missing():
    assert [IdRange(1, 10), IdRange(12, 20)] == ranges(Kind.DEPTH, SPOT, [depth(1, 10), depth(12, 20)])


def test_futures_updates_chain_by_what_came_before_and_not_by_their_first_id():
    """`U` > `pu` + 1 is normal; what is missing is last `u` + 1 to `pu`."""
    rows = [depth(5, 10, previous=2), depth(17, 20, previous=10), depth(33, 40, previous=30)]
    assert [IdRange(3, 20), IdRange(31, 40)] == ranges(Kind.DEPTH, FUTURES, rows)


def test_a_futures_takeover_begins_before_the_last_update():
    """`pu` <= last `u` < `u`: both windows together, no gap."""
    rows = [depth(5, 10, previous=2), depth(8, 14, previous=7)]
    assert [IdRange(3, 14)] == ranges(Kind.DEPTH, FUTURES, rows)


def test_an_update_whose_ids_are_the_wrong_way_round_hides_no_gap():
    rows = [depth(1, 5), depth(30, 9), depth(9, 12)]
    assert [IdRange(1, 5), IdRange(9, 12)] == ranges(Kind.DEPTH, SPOT, rows)


def kline(minute, event, *, is_closed):
    return {"symbol": "A", "event_time": event, "open_time": minute * MINUTE_NS, "is_closed": is_closed}


def test_only_closed_candles_count():
    """An open candle of a minute does not stand for the closed one, which never came."""
    rows = [
        kline(7, 1, is_closed=False),
        kline(7, 2, is_closed=True),
        kline(8, 3, is_closed=False),
        kline(9, 4, is_closed=True),
    ]
    assert [IdRange(7, 7), IdRange(9, 9)] == ranges(Kind.KLINE_1M, SPOT, rows)


def test_liquidations_at_one_time_that_differ_in_one_word_are_two():
    """The whole order is the key; when the exchange told of it is not."""
    order = {
        "symbol": "A", "exchange_time": 5, "side": "SELL", "order_type": "LIMIT", "time_in_force": "IOC", "price": 1.0,
        "average_price": 1.0, "quantity": 1.0, "filled_quantity": 1.0, "status": "EXPIRED",
    }  # fmt: skip
    other = order | {"status": "EXPIRED_IN_MATCH"}
    (part,) = split_streams(Kind.FORCE_ORDER, FUTURES, as_columns(Kind.FORCE_ORDER, [order, other, order])).values()
    assert (3, 1) == (part.rows, part.duplicates)


def snapshot(received, price=1.0):
    return {"symbol": "A", "epoch": 0, "last_update_id": 7, "receive_time": received, "side": "bid", "price": price}


def test_two_snapshots_of_a_quiet_book_are_not_the_same_rows_twice():
    """It has not changed, so the id is the same; each fetch is a message of its own."""
    rows = [snapshot(5), snapshot(5, price=2.0), snapshot(6), snapshot(6, price=2.0), snapshot(6)]
    (part,) = split_streams(Kind.DEPTH_SNAPSHOT, SPOT, as_columns(Kind.DEPTH_SNAPSHOT, rows)).values()
    assert (5, 1, []) == (part.rows, part.duplicates, part.ranges)


def test_no_gap_is_counted_between_what_is_fetched_now_and_then():
    """Snapshots and instruments are pictures: none is missing between two of them."""
    assert not COUNTED_KINDS & {*REST_KINDS}


def test_every_kind_that_is_recorded_has_a_key():
    assert {kind for _, kind in MARKETS_AND_KINDS} == set(KEY_COLUMNS)
    for kind, names in KEY_COLUMNS.items():
        assert set(names) <= set(COLUMNS[kind])
