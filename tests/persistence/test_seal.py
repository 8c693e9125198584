"""Sealing: every message of a segment in a file, value for value, or in quarantine with a reason."""

import gc
import json
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from persistence_samples import (
    DAY_MS,
    NAME,
    RECEIVED_NS,
    RECORDINGS,
    TIME_MS,
    block,
    futures_depth,
    kind_of,
    make_folder,
    put_segment,
    recorded_lines,
    segment_bytes,
    spot_trade,
    text_of,
)
from seal_support import quarantined, rows_of, seal_content

from streamsvc.batch import Block
from streamsvc.persistence import tables
from streamsvc.persistence.manifest import QuarantinedId
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import COLUMNS, STREAM_KINDS, TRADE_KINDS, Kind, Market, Source

MS = 10**6


@pytest.fixture
def seal(tmp_path):
    """Seals blocks, or the bytes of a segment; returns the manifest."""
    return partial(seal_content, make_folder(tmp_path))


def expected_rows(market, kind, received_ns, text):  # noqa: PLR0911 - a return for each kind
    """What a message becomes, read by other means: `json` and `Decimal`, one field after the other."""
    data = json.loads(text)["data"]
    number = lambda key, source=data: float(Decimal(source[key]))  # noqa: E731
    symbol, event = data.get("s"), data.get("E", 0) * MS
    match kind:
        case Kind.TRADE:
            return [
                (
                    symbol,
                    received_ns,
                    data["T"] * MS,
                    event,
                    data["t"],
                    number("p"),
                    number("q"),
                    data["m"],
                    data.get("X", ""),
                    False,
                    0,
                )
            ]
        case Kind.AGG_TRADE:
            return [
                (
                    symbol,
                    received_ns,
                    data["T"] * MS,
                    event,
                    data["a"],
                    data["f"],
                    data["l"],
                    number("p"),
                    number("q"),
                    data["m"],
                    False,
                    0,
                )
            ]
        case Kind.DEPTH:
            time = (data["T"] if market is Market.FUTURES else data["E"]) * MS
            levels = [("bid", *level) for level in data["b"]] + [("ask", *level) for level in data["a"]]
            return [
                (
                    symbol,
                    received_ns,
                    time,
                    event,
                    data["U"],
                    data["u"],
                    data.get("pu", 0),
                    side,
                    float(price),
                    float(quantity),
                    0,
                )
                for side, price, quantity in levels or [("", "0", "0")]
            ]
        case Kind.BOOK_TICKER:
            time = data["T"] * MS if market is Market.FUTURES else received_ns
            return [(symbol, received_ns, data["u"], *map(number, "bBaA"), time, 0)]
        case Kind.KLINE_1M:
            candle = data["k"]
            floats = {key: number(key, candle) for key in "ohlcvqVQ"}
            return [
                (
                    symbol,
                    received_ns,
                    candle["t"] * MS,
                    candle["T"] * MS,
                    candle["f"],
                    candle["L"],
                    *map(floats.get, "ohlcvq"),
                    candle["n"],
                    floats["V"],
                    floats["Q"],
                    candle["x"],
                    event,
                    candle["T"] * MS,
                )
            ]
        case Kind.MARK_PRICE:
            return [(symbol, received_ns, event, *map(number, "piPr"), data["T"] * MS)]
        case Kind.FORCE_ORDER:
            order = data["o"]
            return [
                (
                    order["s"],
                    received_ns,
                    order["T"] * MS,
                    event,
                    order["S"],
                    order["o"],
                    order["f"],
                    *(float(order[key]) for key in ("p", "ap", "q", "z")),
                    order["X"],
                )
            ]


@pytest.mark.parametrize(
    ("name", "market"),
    [
        ("usdm-btcusdt-20240718.gz", Market.FUTURES),
        ("usdm-ethusdt-20240718.gz", Market.FUTURES),
        ("spot-btcusdt-20240808.gz", Market.SPOT),
        ("cryptofeed-spot-3-symbols.txt.gz", Market.SPOT),
        ("cryptofeed-usdm-4-symbols-ws.txt.gz", Market.FUTURES),
    ],
)
def test_recordings_are_sealed_value_for_value(seal, name, market):
    """Every recorded message is in the files once, in order, under the UTC day of its exchange time."""
    if not (RECORDINGS / name).exists():
        pytest.skip(f"the recording {name} is not beside the checkout")
    lines = recorded_lines(name)
    manifest = seal([block([text], kind_of(text), market, received_ns) for received_ns, text in lines])
    expected = defaultdict(list)
    for received_ns, text in lines:
        expected[kind_of(text)] += expected_rows(market, kind_of(text), received_ns, text)
    time_of = {kind: list(COLUMNS[kind]).index("exchange_time") for kind in expected}
    for kind, rows in expected.items():
        rows.sort(key=lambda row: row[time_of[kind]] // (DAY_MS * MS))  # Files come day by day.
        assert rows == rows_of(manifest, kind)
    for file in manifest.files:
        date = datetime.fromtimestamp(file.first_exchange_ns // 10**9, UTC).date().isoformat()
        last = datetime.fromtimestamp(file.last_exchange_ns // 10**9, UTC).date().isoformat()
        assert (date, date) == (last, file.date)
        assert f"/market={market.label}/date={date}/" in file.path
    assert ({}, 0, len(lines)) == (manifest.quarantined, manifest.inexact_decimals, manifest.messages)


FUTURES_KINDS = {
    Kind.TRADE: (
        "t@trade",
        {"e": "trade", "E": 11, "T": 10, "s": "ÄÖ币USDT", "t": 5, "p": "0", "q": "0", "X": "NA", "m": True},
    ),
    Kind.AGG_TRADE: (
        "t@aggTrade",
        {
            "e": "aggTrade",
            "E": 12,
            "a": 3,
            "s": "B",
            "p": "64990.90",
            "q": "0.002",
            "nq": "0.001",
            "f": 7,
            "l": 8,
            "T": 11,
            "m": False,
            "st": 1,
        },
    ),
    Kind.DEPTH: (
        "t@depth",
        {
            "e": "depthUpdate",
            "E": 12,
            "T": 11,
            "s": "B",
            "ps": "B",
            "st": 1,
            "U": 157,
            "u": 160,
            "pu": 149,
            "b": [],
            "a": [],
        },
    ),
    Kind.BOOK_TICKER: (
        "t@bookTicker",
        {
            "e": "bookTicker",
            "u": 4,
            "s": "B",
            "b": "25.35",
            "B": "31.21",
            "a": "25.36",
            "A": "40.66",
            "T": 13,
            "E": 14,
            "st": 1,
        },
    ),
    Kind.KLINE_1M: (
        "t@kline_1m",
        {
            "e": "kline",
            "E": 15,
            "s": "B",
            "k": {
                "t": 0,
                "T": 59999,
                "s": "B",
                "i": "1m",
                "f": -1,
                "L": -1,
                "o": "1",
                "c": "2",
                "h": "3",
                "l": "0.5",
                "v": "0",
                "n": 0,
                "x": True,
                "q": "0",
                "V": "0",
                "Q": "0",
                "B": "0",
            },
        },
    ),
    Kind.MARK_PRICE: (
        "t@markPrice@1s",
        {
            "e": "markPriceUpdate",
            "E": 16,
            "s": "B",
            "p": "64991.37",
            "ap": "64991.37",
            "P": "64980.01",
            "i": "65016.05",
            "r": "-0.00003936",
            "T": 1786176000000,
            "st": 1,
        },
    ),
    Kind.FORCE_ORDER: (
        "t@forceOrder",
        {
            "e": "forceOrder",
            "E": 17,
            "o": {
                "s": "STGUSDT",
                "S": "SELL",
                "o": "LIMIT",
                "f": "IOC",
                "q": "5",
                "p": "0.1336",
                "ap": "0.1355",
                "X": "FILLED",
                "l": "5",
                "z": "4",
                "T": 16,
                "ps": "STGUSDT",
                "st": 1,
            },
        },
    ),
}
SPOT_TICKER = {"u": 400900217, "s": "BNBUSDT", "b": "25.35", "B": "31.21", "a": "25.36", "A": "40.66"}


def sample(market, kind):
    stream, data = FUTURES_KINDS[kind]
    if market is Market.SPOT and kind is Kind.BOOK_TICKER:
        data = SPOT_TICKER
    if market is Market.SPOT and kind is Kind.TRADE:
        data = {name: value for name, value in data.items() if name != "X"}
    if market is Market.SPOT and kind is Kind.DEPTH:
        data = {name: value for name, value in data.items() if name not in ("T", "pu")}
    return text_of(stream, data, {})


@pytest.mark.parametrize(
    ("market", "kind"), [(market, kind) for market, kinds in STREAM_KINDS.items() for kind in kinds]
)
def test_every_kind_of_both_markets_has_all_its_columns(seal, market, kind):
    """The documents' own examples, with unknown fields ignored and what a market lacks filled in as designed."""
    text = sample(market, kind)
    manifest = seal([block([text], kind, market, received_ns=15 * MS)])
    assert expected_rows(market, kind, 15 * MS, text) == rows_of(manifest, kind)
    assert [f"parquet/{kind.label}/market={market.label}/date=1970-01-01/{NAME}.parquet"] == [
        file.path for file in manifest.files
    ]


def test_types_are_those_of_the_schema(seal):
    """No column is nullable, and types never come from the values."""
    manifest = seal([block([sample(market, kind)], kind, market) for market in Market for kind in STREAM_KINDS[market]])
    arrow = {
        "timestamp": "timestamp[ns, tz=UTC]",
        "float64": "double",
        "bool": "bool",
        "int64": "int64",
        "int32": "int32",
    }
    assert 12 == len(manifest.files)
    for file in manifest.files:
        schema = pq.read_schema(Path(manifest.folder) / file.path)
        expected = {name: arrow.get(dtype, "string") for name, dtype in COLUMNS[Kind.from_label(file.kind)].items()}
        assert expected == {field.name: str(field.type) for field in schema}
        assert not any(field.nullable for field in schema)


def test_kinds_mixed_in_one_block_are_told_apart(seal):
    texts = [spot_trade(1), sample(Market.SPOT, Kind.BOOK_TICKER), spot_trade(2)]
    kinds = bytes([Kind.TRADE, Kind.BOOK_TICKER, Kind.TRADE])
    mixed = Block(Market.SPOT, Source.STREAM, 1, RECEIVED_NS, kinds, texts, sum(map(len, texts)), [4, 5, 6])
    manifest = seal([mixed])
    assert [(1, 4), (2, 6)] == [(row[4], row[-1]) for row in rows_of(manifest, Kind.TRADE)]
    assert [(400900217, 5)] == [(row[2], row[-1]) for row in rows_of(manifest, Kind.BOOK_TICKER)]


BAD_TRADES = [
    (spot_trade(7, p="NaN"), "not_finite"),
    (spot_trade(7, q="Infinity"), "not_finite"),
    (spot_trade(7, p="-1"), "negative"),
    (spot_trade(7, q="-0.001"), "negative"),
    (spot_trade(7, p="1e999"), "wrong_shape"),
    (spot_trade(7, p=""), "wrong_shape"),
    (spot_trade(7, p="abc"), "wrong_shape"),
    (spot_trade(7, p=None), "wrong_shape"),
    (spot_trade(7, T=-1), "wrong_shape"),
    (spot_trade(7, T=2**63), "wrong_shape"),
    (spot_trade(7, t=2**63), "wrong_shape"),
    (spot_trade(7, t=10**30), "wrong_shape"),
    (spot_trade(7, m="maybe"), "wrong_shape"),
    (spot_trade(7, e="aggTrade"), "wrong_shape"),
    (spot_trade(7)[:-3], "malformed"),
    (b"", "malformed"),
    (b"[" * 100_000, "wrong_shape"),
    (spot_trade(7).replace(b'"M":true', b'"z":' + b"[" * 100_000), "too_deep"),
    (spot_trade(7) + b"," + spot_trade(8), "malformed"),
    (spot_trade(7).replace(b"BTCUSDT", b"\xff\xfe"), "bad_utf8"),
    (spot_trade(7).replace(b"BTCUSDT", b"\\ud800"), "malformed"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_TRADES)
def test_a_bad_row_costs_itself_only(seal, bad, reason):
    """Its neighbours are recorded, its text is kept with the reason: received = recorded + quarantined."""
    manifest = seal([block([spot_trade(1), spot_trade(2)]), block([bad, spot_trade(3)])])
    assert [1, 2, 3] == [row[4] for row in rows_of(manifest, Kind.TRADE)]
    assert ({reason: 1}, 4) == (manifest.quarantined, manifest.messages)
    (item,) = quarantined(manifest)
    assert (reason, "spot", "trade", RECEIVED_NS) == tuple(
        item[key] for key in ("reason", "market", "kind", "received_ns")
    )
    if "text" in item:
        assert bad == item["text"].encode()


def test_two_texts_that_are_one_only_together_are_both_refused(seal):
    """A batch is decoded as one JSON array; that must not let texts reach into each other."""
    whole = spot_trade(9, z=[1, 2])
    cut = whole.index(b"[1,2]") + 2
    manifest = seal([block([whole[:cut], whole[cut + 1 :], spot_trade(1)])])
    assert [1] == [row[4] for row in rows_of(manifest, Kind.TRADE)]
    assert {"malformed": 1, "wrong_shape": 1} == manifest.quarantined


def test_ids_of_quarantined_messages_are_in_the_manifest(seal):
    """What the loop counted as seen and is not in the data set must be known by id."""
    depth = futures_depth(5, [["1", "1"], ["NaN", "1"]], [], pu=46)
    manifest = seal([block([spot_trade(7, p="-1")]), block([depth], Kind.DEPTH, Market.FUTURES, epochs=[2])])
    assert {
        QuarantinedId(Market.SPOT, Kind.TRADE, "BTCUSDT", 0, 7, 7, "negative"),
        QuarantinedId(Market.FUTURES, Kind.DEPTH, "BTCUSDT", 2, 47, 59, "not_finite"),
    } == set(manifest.quarantined_ids)


def test_one_bad_level_refuses_its_update_and_no_other(seal):
    """An update without one of its levels would be a wrong book."""
    updates = [
        futures_depth(1, [["1", "2"]], [["3", "4"]]),
        futures_depth(2, [["1", "2"], ["1", "-2"]], []),
        futures_depth(3, [], [["5", "6"]]),
        futures_depth(4, [["1"]], []),
        futures_depth(5, [], []),
    ]
    manifest = seal([block(updates, Kind.DEPTH, Market.FUTURES)])
    assert [(19, "bid", 1, 2), (19, "ask", 3, 4), (39, "ask", 5, 6), (59, "", 0, 0)] == [
        (row[5], *row[7:10]) for row in rows_of(manifest, Kind.DEPTH)
    ]
    assert {"negative": 1, "wrong_shape": 1} == manifest.quarantined


def test_negative_funding_is_recorded(seal):
    manifest = seal([block([sample(Market.FUTURES, Kind.MARK_PRICE)], Kind.MARK_PRICE, Market.FUTURES)])
    assert [-0.00003936] == [row[6] for row in rows_of(manifest, Kind.MARK_PRICE)]


def test_numbers_beyond_fifteen_digits_are_recorded_counted_and_kept_as_text(seal):
    exact, inexact = spot_trade(1, p="0.123456789012345"), spot_trade(2, p="0.1234567890123456")
    manifest = seal([block([exact, inexact])])
    assert [0.123456789012345, 0.1234567890123456] == [row[5] for row in rows_of(manifest, Kind.TRADE)]
    assert (1, {}) == (manifest.inexact_decimals, manifest.quarantined)
    assert [("inexact", inexact.decode())] == [
        (item["reason"], item["text"]) for item in quarantined(manifest, "inexact.jsonl")
    ]


def test_an_unknown_kind_is_quarantined(seal):
    manifest = seal([block([b'{"new":1}'], kind=200), block([spot_trade(1)])])
    assert ({"unknown_kind": 1}, 1) == (manifest.quarantined, manifest.rows)


def test_days_far_from_receipt_are_limited_and_never_push_out_today(seal):
    """Wild clocks open at most eight other days; the rest is quarantined, today is recorded."""
    wild = [spot_trade(day, time_ms=day * DAY_MS) for day in range(1, 21)]
    today = [spot_trade(100 + day, time_ms=TIME_MS + (day - 1) * DAY_MS) for day in range(3)]
    manifest = seal([block([*wild, *today])])
    assert {"too_many_days": 12} == manifest.quarantined
    assert [*range(1, 9), 100, 101, 102] == [row[4] for row in rows_of(manifest, Kind.TRADE)]
    assert 11 == len(manifest.files)


def test_symbols_never_become_a_path(seal):
    """They come from outside: they are values of a column and nothing else."""
    symbols = ["../../etc", "a/b", "", "币安", "A" * 5000, "x\0y"]
    manifest = seal([block([spot_trade(place, symbol=symbol) for place, symbol in enumerate(symbols)])])
    assert symbols == [row[0] for row in rows_of(manifest, Kind.TRADE)]
    assert all(re.fullmatch(r"[\w=./-]+", file.path) and ".." not in file.path for file in manifest.files)


def test_damage_is_quarantined_and_the_rest_is_sealed(seal):
    data = bytearray(segment_bytes([block([spot_trade(number)]) for number in range(3)]))
    first = data.index(b'"t":1')
    data[first] ^= 1
    manifest = seal(bytes(data) + bytes(1000))
    assert [0, 2] == [row[4] for row in rows_of(manifest, Kind.TRADE)]
    assert {"damaged_frame", "zero_tail"} == set(manifest.damage)
    assert 1000 == manifest.damage["zero_tail"]
    assert ["damaged_frame"] == [item["reason"] for item in quarantined(manifest)]


@pytest.mark.parametrize("content", [b"", b"streams"])
def test_a_segment_without_messages_becomes_nothing(seal, content):
    manifest = seal(content)
    assert ((), 0, None) == (manifest.files, manifest.messages, manifest.last_received_ns)


def test_sealing_twice_gives_the_same_bytes(tmp_path):
    """So an orphan and its successor may both prepare a segment."""
    folder = make_folder(tmp_path)
    blocks = [block([spot_trade(number, symbol=f"S{number % 3}") for number in range(100)])]
    blocks += [block([futures_depth(1, [["1", "2"]] * 20, [])], Kind.DEPTH, Market.FUTURES)]
    path = put_segment(folder, blocks)
    code = (
        "import sys; from streamsvc.persistence.seal import seal_segment as s;"
        "print(*(file.sha256 for file in s(*sys.argv[1:]).files))"
    )
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code, str(path), str(folder.tmp)],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    )
    assert one.stdout == two.stdout
    assert 2 == len(one.stdout.split())


def test_row_groups_are_cut_between_messages_and_lose_nothing(seal, monkeypatch):
    """Small row groups here; an update's levels stay together."""
    monkeypatch.setattr(tables, "ROW_GROUP_ROWS", 10)
    levels = [number % 7 for number in range(50)]
    updates = [
        futures_depth(number, [[str(number), str(level)] for level in range(count)], [], symbol=f"S{number % 4}")
        for number, count in enumerate(levels, start=1)
    ]
    manifest = seal([block(updates, Kind.DEPTH, Market.FUTURES), block([spot_trade(number) for number in range(25)])])
    assert [max(count, 1) for count in levels] == np.bincount(
        [row[4] // 10 - 1 for row in rows_of(manifest, Kind.DEPTH)]
    ).tolist()
    assert list(range(25)) == [row[4] for row in rows_of(manifest, Kind.TRADE)]
    for file in manifest.files:
        groups = list(read_row_groups(Path(manifest.folder) / file.path))
        assert len(groups) > 1
        assert all(len(group["symbol"]) <= 10 for group in groups)


def test_streams_are_summed_up_by_symbol_and_epoch(seal):
    manifest = seal(
        [
            block([spot_trade(5), spot_trade(9, symbol="ETHUSDT")], received_ns=RECEIVED_NS),
            block([spot_trade(3, time_ms=TIME_MS + 7)], received_ns=RECEIVED_NS + 5 * MS),
            block([spot_trade(1)], received_ns=RECEIVED_NS + 9 * MS, epochs=[1]),
        ]
    )
    assert {
        ("BTCUSDT", 0, 2, 3, 5, (TIME_MS + 7) * MS, RECEIVED_NS + 5 * MS),
        ("ETHUSDT", 0, 1, 9, 9, TIME_MS * MS, RECEIVED_NS),
        ("BTCUSDT", 1, 1, 1, 1, TIME_MS * MS, RECEIVED_NS + 9 * MS),
    } == {
        (s.symbol, s.epoch, s.messages, s.first_id, s.last_id, s.last_exchange_ns, s.last_received_ns)
        for s in manifest.streams
    }
    assert (RECEIVED_NS, RECEIVED_NS + 9 * MS) == (manifest.first_received_ns, manifest.last_received_ns)
    assert (9, None) == (manifest.oldest_age_ms(TRADE_KINDS), manifest.oldest_age_ms(frozenset({Kind.DEPTH})))


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    """What had been made is removed, the segment stays, and the collector is on again."""
    folder = make_folder(tmp_path)
    path = put_segment(folder, [block([spot_trade(1)])])
    monkeypatch.setattr("streamsvc.persistence.seal.write_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seal_segment(str(path), str(folder.tmp))
    assert ([], True, True) == (list(folder.tmp.iterdir()), path.exists(), gc.isenabled())


def test_a_sealers_memory_is_bounded_by_its_segment(tmp_path):
    """A segment of 64 MB of order books takes less than 400 MB."""
    folder = make_folder(tmp_path)
    levels = [[f"{60000 + place}.{place:02d}", f"0.{place:03d}"] for place in range(20)]
    texts = [futures_depth(number, levels, levels, symbol=f"S{number % 50}") for number in range(100)]
    each = block(texts, Kind.DEPTH, Market.FUTURES)
    path = put_segment(folder, [each] * ((64 << 20) // each.size_bytes))
    # Not ru_maxrss, which counts what the process was before it became this program.
    code = (
        "import re, sys; from streamsvc.persistence.seal import seal_segment as s; m = s(*sys.argv[1:]);"
        "print(m.rows, int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), str(folder.tmp)], capture_output=True, check=True)
    rows, peak_mb = map(int, done.stdout.split())
    assert 2_000_000 < rows
    assert 400 > peak_mb


def test_the_ids_of_what_is_refused_are_ranges(tmp_path):
    """What the ledger will say is missing: an update of futures covers what lies behind `pu`, a candle its minute."""

    def candle(minute, *, is_closed, price="1"):
        data = {"e": "kline", "E": TIME_MS, "s": "BTCUSDT", "k": {
            "t": minute * 60_000, "T": minute * 60_000 + 59_999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 2, "o": price,
            "c": "1", "h": "1", "l": "1", "v": "1", "n": 1, "x": is_closed, "q": "1", "V": "1", "Q": "1", "B": "0",
        }}  # fmt: skip
        return text_of("btcusdt@kline_1m", data, {})

    folder = make_folder(tmp_path)
    trades = [spot_trade(number, symbol=symbol, p="-1") for number in (1, 2, 3, 5) for symbol in ("A", "B")]
    path = put_segment(folder, [
        block(trades),
        block([futures_depth(3, [["-1", "2"]], [], pu=20)], Kind.DEPTH, Market.FUTURES),
        block([candle(7, is_closed=False, price="-1"), candle(7, is_closed=True, price="-1")], Kind.KLINE_1M),
        block([candle(8, is_closed=True), candle(9, is_closed=False)], Kind.KLINE_1M),
    ])  # fmt: skip
    manifest = seal_segment(str(path), str(folder.tmp))
    found = [(one.kind, one.symbol, one.first_id, one.last_id) for one in manifest.quarantined_ids]
    assert [(Kind.TRADE, "A", 1, 3), (Kind.TRADE, "A", 5, 5), (Kind.TRADE, "B", 1, 3), (Kind.TRADE, "B", 5, 5)] == [
        one for one in sorted(found) if one[0] is Kind.TRADE
    ]
    assert (Kind.DEPTH, "BTCUSDT", 21, 39) in found
    assert (Kind.KLINE_1M, "BTCUSDT", 7, 7) in found
    (candles,) = (stream for stream in manifest.streams if stream.kind is Kind.KLINE_1M)
    assert (8, 8) == (candles.first_id, candles.last_id)
