"""Sealing what came over REST: rows of trades, order books and instruments, beside the rows of streams."""

import gzip
import hashlib
import json
from functools import partial
from pathlib import Path

import pytest
from persistence_samples import NAME, RECEIVED_NS, RECORDINGS, TIME_MS, block, make_folder, spot_trade, text_of
from seal_support import quarantined, rows_of, seal_content

from streamsvc.batch import Block
from streamsvc.persistence.describing import describe_file
from streamsvc.persistence.manifest import QuarantinedId
from streamsvc.schema import COLUMNS, Kind, Market, Source

MS = 10**6
SPOT, FUTURES = Market.SPOT, Market.FUTURES
TRADE = {
    "id": 28457, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.000012", "time": TIME_MS,
    "isBuyerMaker": True, "isBestMatch": True,
}  # fmt: skip
AGG_TRADE = {
    "a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27783, "T": TIME_MS, "m": False, "M": True,
}  # fmt: skip
SPOT_BOOK = {"lastUpdateId": 1027024, "bids": [["4.0", "431.0"], ["3.9", "1"]], "asks": [["4.00000200", "12.0"]]}
FUTURES_BOOK = {"lastUpdateId": 1027024, "E": TIME_MS + 20, "T": TIME_MS, "bids": [["4.0", "431.0"]], "asks": []}
SPOT_INSTRUMENT = {
    "symbol": "ETHBTC", "status": "TRADING", "baseAsset": "ETH", "quoteAsset": "BTC", "isSpotTradingAllowed": True,
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "9.0", "tickSize": "0.00000100"},
        {"filterType": "LOT_SIZE", "minQty": "0.1", "maxQty": "9.0", "stepSize": "0.00100000"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0", "maxQty": "9.0", "stepSize": "0.5"},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {"filterType": "NOTIONAL", "minNotional": "5.0", "applyMinToMarket": True, "maxNotional": "9000000.0"},
    ],
}  # fmt: skip
FUTURES_INSTRUMENT = {
    "symbol": "BTCUSDT", "pair": "BTCUSDT", "contractType": "PERPETUAL", "status": "TRADING", "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "filters": [
        {"minPrice": "556.72", "maxPrice": "1000000", "filterType": "PRICE_FILTER", "tickSize": "0.01"},
        {"stepSize": "0.002", "filterType": "LOT_SIZE", "maxQty": "1000", "minQty": "0.001"},
        {"stepSize": "0.001", "filterType": "MARKET_LOT_SIZE", "maxQty": "1000", "minQty": "0.001"},
        {"notional": "5", "filterType": "MIN_NOTIONAL"},
    ],
}  # fmt: skip


@pytest.fixture
def seal(tmp_path):
    """Seals blocks; returns the manifest."""
    return partial(seal_content, make_folder(tmp_path))


def rest_text(data, symbol="BTCUSDT", **more):
    """A part of an answer as it stands in the journal."""
    return json.dumps({"symbol": symbol, **more, "data": data}, ensure_ascii=False, separators=(",", ":")).encode()


def rest_block(texts, kind, market=SPOT, received_ns=RECEIVED_NS, **more):
    return Block(
        market, Source.REST, 0, received_ns, bytes([kind]) * len(texts), texts, sum(map(len, texts)), **more
    )  # fmt: skip


def instrument_text(info, time_ms=TIME_MS):
    return rest_text(info, info["symbol"], time=time_ms)


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


SAMPLES = {
    (SPOT, Kind.TRADE): rest_text(TRADE),
    (FUTURES, Kind.TRADE): rest_text({name: value for name, value in TRADE.items() if name != "isBestMatch"}),
    (SPOT, Kind.AGG_TRADE): rest_text(AGG_TRADE),
    (FUTURES, Kind.AGG_TRADE): rest_text({name: value for name, value in AGG_TRADE.items() if name != "M"}),
    (SPOT, Kind.DEPTH_SNAPSHOT): rest_text(SPOT_BOOK),
    (FUTURES, Kind.DEPTH_SNAPSHOT): rest_text(FUTURES_BOOK),
    (SPOT, Kind.INSTRUMENT): instrument_text(SPOT_INSTRUMENT),
    (FUTURES, Kind.INSTRUMENT): instrument_text(FUTURES_INSTRUMENT),
}
ROWS = {
    (market, Kind.TRADE): [
        ("BTCUSDT", RECEIVED_NS, TIME_MS * MS, TIME_MS * MS, 28457, 4.000001, 12.0, True, "", True, 3)
    ]
    for market in Market
} | {
    (market, Kind.AGG_TRADE): [
        (
            "BTCUSDT", RECEIVED_NS, TIME_MS * MS, TIME_MS * MS, 26129, 27781, 27783, 0.01633102, 4.70443515, False,
            True, 3,
        )
    ]
    for market in Market
} | {
    (SPOT, Kind.DEPTH_SNAPSHOT): [
        ("BTCUSDT", RECEIVED_NS, 1027024, side, price, quantity, RECEIVED_NS, 3)
        for side, price, quantity in [("bid", 4.0, 431.0), ("bid", 3.9, 1.0), ("ask", 4.000002, 12.0)]
    ],
    (FUTURES, Kind.DEPTH_SNAPSHOT): [("BTCUSDT", RECEIVED_NS, 1027024, "bid", 4.0, 431.0, TIME_MS * MS, 3)],
    (SPOT, Kind.INSTRUMENT): [
        (
            "ETHBTC", RECEIVED_NS, TIME_MS * MS, "TRADING", "ETH", "BTC", "", 0.000001, 0.001, 5.0,
            compact(SPOT_INSTRUMENT),
        )
    ],
    (FUTURES, Kind.INSTRUMENT): [
        (
            "BTCUSDT", RECEIVED_NS, TIME_MS * MS, "TRADING", "BTC", "USDT", "PERPETUAL", 0.01, 0.002, 5.0,
            compact(FUTURES_INSTRUMENT),
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize(("market", "kind"), SAMPLES)
def test_every_kind_of_both_markets_has_all_its_columns(seal, market, kind):
    """The documents' own examples; what REST does not send is filled in as designed."""
    manifest = seal([rest_block([SAMPLES[market, kind]], kind, market, epochs=[3])])
    assert ROWS[market, kind] == rows_of(manifest, kind)
    assert [f"parquet/{kind.label}/market={market.label}/date=2023-11-14/{NAME}.parquet"] == [
        file.path for file in manifest.files
    ]


@pytest.mark.parametrize(("market", "kind"), SAMPLES)
def test_a_file_that_a_catalogue_lost_is_described_as_it_was_sealed(seal, market, kind):
    """Streams, ids and times are read from the rows alone."""
    blocks = [
        rest_block([SAMPLES[market, kind]], kind, market),
        rest_block([SAMPLES[market, kind]], kind, market, RECEIVED_NS + 5),
    ]
    manifest = seal(blocks)
    described = describe_file(Path(manifest.folder) / manifest.files[0].path)
    assert (manifest.streams, manifest.files) == (described.streams, described.files)
    assert [2] == [stream.messages for stream in manifest.streams]


def test_rows_of_streams_and_rest_stand_in_one_file_in_the_order_of_the_journal(seal):
    """`is_backfilled` tells them apart; a type that only streams send is empty in the others."""
    streamed = partial(spot_trade, X="MARKET")
    manifest = seal(
        [
            block([streamed(10), streamed(11)]),
            rest_block([rest_text(TRADE | {"id": number}) for number in (3, 4)], Kind.TRADE),
            block([streamed(12)]),
            block([streamed(13)], received_ns=RECEIVED_NS + 1),
            rest_block([rest_text(TRADE | {"id": 5})], Kind.TRADE, epochs=[1]),
        ]
    )
    assert [
        (10, "MARKET", False, 0), (11, "MARKET", False, 0), (3, "", True, 0), (4, "", True, 0),
        (12, "MARKET", False, 0), (13, "MARKET", False, 0), (5, "", True, 1),
    ] == [(row[4], *row[8:11]) for row in rows_of(manifest, Kind.TRADE)]  # fmt: skip
    assert 1 == len(manifest.files)
    assert {(0, 3, 13), (1, 5, 5)} == {(stream.epoch, stream.first_id, stream.last_id) for stream in manifest.streams}


def test_a_segment_of_streams_alone_has_no_backfilled_row(seal):
    manifest = seal([block([spot_trade(1)])])
    assert [False] == [row[9] for row in rows_of(manifest, Kind.TRADE)]


def test_kinds_of_one_answer_mixed_in_one_block_are_told_apart(seal):
    keys = [(SPOT, Kind.TRADE), (SPOT, Kind.INSTRUMENT), (SPOT, Kind.DEPTH_SNAPSHOT)]
    texts = [SAMPLES[key] for key in keys]
    mixed = Block(
        SPOT, Source.REST, 0, RECEIVED_NS, bytes(kind for _, kind in keys), texts, sum(map(len, texts)), [3, 3, 3]
    )  # fmt: skip
    manifest = seal([mixed])
    assert [ROWS[key] for key in keys] == [rows_of(manifest, kind) for _, kind in keys]


BAD = [
    (Kind.TRADE, rest_text(TRADE | {"price": "NaN"}), "not_finite", 28457),
    (Kind.TRADE, rest_text(TRADE | {"qty": "-1"}), "negative", 28457),
    (Kind.TRADE, rest_text(TRADE | {"price": 4.5}), "wrong_shape", 28457),
    (Kind.TRADE, rest_text(TRADE | {"time": None}), "wrong_shape", 28457),
    (Kind.TRADE, rest_text(TRADE).replace(b"quoteQty", b"quote\xff"), "bad_utf8", 28457),
    (Kind.AGG_TRADE, rest_text(AGG_TRADE | {"p": "x"}), "wrong_shape", 26129),
    (Kind.AGG_TRADE, rest_text(AGG_TRADE | {"q": 1}), "wrong_shape", 26129),
    (Kind.DEPTH_SNAPSHOT, rest_text(SPOT_BOOK | {"bids": [["1", "2"], ["NaN", "2"]]}), "not_finite", 1027024),
    (Kind.DEPTH_SNAPSHOT, rest_text(SPOT_BOOK | {"asks": [["1", 2]]}), "wrong_shape", 1027024),
    (Kind.DEPTH_SNAPSHOT, rest_text(SPOT_BOOK | {"asks": [["1"]]}), "wrong_shape", 1027024),
    (Kind.INSTRUMENT, instrument_text(SPOT_INSTRUMENT | {"status": None}), "wrong_shape", 0),
    (Kind.INSTRUMENT, instrument_text(SPOT_INSTRUMENT | {"filters": {}}), "wrong_shape", 0),
    (Kind.INSTRUMENT, instrument_text(SPOT_INSTRUMENT).replace(b'"0.00000100"', b'"x"'), "wrong_shape", 0),
    (Kind.INSTRUMENT, instrument_text(SPOT_INSTRUMENT).replace(b'"0.00000100"', b"0.000001"), "wrong_shape", 0),
    (Kind.INSTRUMENT, instrument_text(SPOT_INSTRUMENT).replace(b'"0.00000100"', b'"NaN"'), "not_finite", 0),
    (Kind.INSTRUMENT, instrument_text(SPOT_INSTRUMENT).replace(b"ICEBERG", b"ICE\xff"), "bad_utf8", 0),
]


@pytest.mark.parametrize(("kind", "bad", "reason", "number"), BAD)
def test_a_bad_part_costs_itself_only_and_its_id_is_known(seal, kind, bad, reason, number):
    """Its neighbours are recorded, its text is kept with the reason, the manifest names it."""
    good = SAMPLES[SPOT, kind]
    symbol = "ETHBTC" if kind is Kind.INSTRUMENT else "BTCUSDT"
    manifest = seal([rest_block([good, bad, good], kind, epochs=[3, 2, 3])])
    assert 2 * ROWS[SPOT, kind] == rows_of(manifest, kind)
    assert ({reason: 1}, 3) == (manifest.quarantined, manifest.messages)
    assert [(reason, kind.label, 0)] == [
        (item["reason"], item["kind"], item["connection"]) for item in quarantined(manifest)
    ]
    assert (QuarantinedId(SPOT, kind, symbol, 2, number, number, reason),) == manifest.quarantined_ids


def test_a_part_whose_id_cannot_be_read_is_quarantined_without_it(seal):
    """Nothing counts it as seen."""
    manifest = seal([rest_block([b"{", rest_text(TRADE | {"id": "x"}), rest_text(TRADE | {"id": None})], Kind.TRADE)])
    assert ({"malformed": 1, "wrong_shape": 2}, 0) == (manifest.quarantined, manifest.rows)
    assert () == manifest.quarantined_ids


def test_a_snapshot_without_levels_keeps_one_row(seal):
    """An empty book is known to be empty."""
    manifest = seal([rest_block([rest_text(SPOT_BOOK | {"bids": [], "asks": []})], Kind.DEPTH_SNAPSHOT)])
    assert [(1027024, "", 0.0, 0.0)] == [row[2:6] for row in rows_of(manifest, Kind.DEPTH_SNAPSHOT)]


def test_more_snapshots_than_are_decoded_at_once_lose_nothing(seal):
    texts = [rest_text(SPOT_BOOK | {"lastUpdateId": number}) for number in range(30)]
    manifest = seal([rest_block([text], Kind.DEPTH_SNAPSHOT) for text in texts])
    assert [number for number in range(30) for _ in range(3)] == [
        row[2] for row in rows_of(manifest, Kind.DEPTH_SNAPSHOT)
    ]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], (0.0, 0.0, 0.0)),
        ([{"filterType": "MIN_NOTIONAL", "minNotional": "7"}], (0.0, 0.0, 7.0)),
        ([{"filterType": "MIN_NOTIONAL", "notional": "8"}], (0.0, 0.0, 8.0)),
        ([{"filterType": "NOTIONAL", "minNotional": "9"}, {"filterType": "MIN_NOTIONAL"}], (0.0, 0.0, 9.0)),
        ([{"filterType": "MARKET_LOT_SIZE", "stepSize": "1"}], (0.0, 0.0, 0.0)),
    ],
)
def test_filters_of_all_times_and_markets_are_understood(seal, filters, expected):
    """A symbol without one is still recorded: the number is 0, and `raw` says what was sent."""
    manifest = seal([rest_block([instrument_text(SPOT_INSTRUMENT | {"filters": filters})], Kind.INSTRUMENT)])
    assert [expected] == [row[7:10] for row in rows_of(manifest, Kind.INSTRUMENT)]


def test_the_exchanges_own_text_is_kept_to_the_letter(seal):
    """White space, escapes and unknown fields included."""
    raw = (
        '{ "symbol": "币安USDT", "status":"BREAK","baseAsset":"\\u5e01","quoteAsset":"USDT","filters":[],"new":[1.50]}'
    )
    manifest = seal([rest_block([b'{"symbol":"X","time":5,"data":' + raw.encode() + b"}"], Kind.INSTRUMENT)])
    assert [("X", "BREAK", "币", raw)] == [
        (row[0], row[3], row[4], row[10]) for row in rows_of(manifest, Kind.INSTRUMENT)
    ]


def test_as_many_different_texts_as_rows_are_kept(seal):
    """More than two bytes can number: a column of strings has a dictionary."""
    infos = [{"symbol": f"S{n}", "status": "", "baseAsset": "", "quoteAsset": "", "filters": []} for n in range(70_000)]
    manifest = seal([rest_block([instrument_text(info) for info in infos], Kind.INSTRUMENT)])
    assert [(info["symbol"], compact(info)) for info in infos] == [
        (row[0], row[10]) for row in rows_of(manifest, Kind.INSTRUMENT)
    ]


def recorded_answers(name):
    """Address and text of every REST answer in a recording."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"the recording {name} is not beside the checkout")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            address, _, rest = line.partition(" -> ")
            if rest:
                yield address, rest.split(": ", 1)[1].rstrip("\n")


@pytest.mark.parametrize(
    ("name", "market", "count"),
    [("exchange-info-spot.txt.gz", SPOT, 1695), ("exchange-info-usdm.txt.gz", FUTURES, 122)],
)
def test_recorded_instruments_are_all_read(seal, name, market, count):
    """Every symbol of both markets, value for value, by other means; nothing is refused."""
    (answer,) = [json.loads(text) for _, text in recorded_answers(name)]
    time_ms = answer["serverTime"]
    expected = []
    for info in answer["symbols"]:
        rules = {rule["filterType"]: rule for rule in info["filters"]}
        least = rules["MIN_NOTIONAL"]["minNotional" if market is SPOT else "notional"]
        expected.append(
            (
                info["symbol"], RECEIVED_NS, time_ms * MS, info["status"], info["baseAsset"], info["quoteAsset"],
                info.get("contractType", ""), float(rules["PRICE_FILTER"]["tickSize"]),
                float(rules["LOT_SIZE"]["stepSize"]), float(least), compact(info),
            )
        )  # fmt: skip
    manifest = seal(
        [rest_block([instrument_text(info, time_ms) for info in answer["symbols"]], Kind.INSTRUMENT, market)]
    )
    assert expected == rows_of(manifest, Kind.INSTRUMENT)
    assert ({}, count) == (manifest.quarantined, manifest.rows)


@pytest.mark.parametrize(
    ("name", "market", "count"),
    [("cryptofeed-spot-3-symbols.txt.gz", SPOT, 3), ("cryptofeed-usdm-4-symbols-http.txt.gz", FUTURES, 4)],
)
def test_recorded_snapshots_are_sealed_value_for_value(seal, name, market, count):
    answers = [text for address, text in recorded_answers(name) if "/depth?" in address]
    expected = []
    for text in answers:
        data = json.loads(text)
        time = data["T"] * MS if market is FUTURES else RECEIVED_NS
        expected += [
            ("BTCUSDT", RECEIVED_NS, data["lastUpdateId"], side, float(price), float(quantity), time, 0)
            for side in ("bid", "ask")
            for price, quantity in data[f"{side}s"]
        ]
    texts = [b'{"symbol":"BTCUSDT","data":' + text.encode() + b"}" for text in answers]
    manifest = seal([rest_block(texts, Kind.DEPTH_SNAPSHOT, market)])
    assert expected == rows_of(manifest, Kind.DEPTH_SNAPSHOT)
    assert ({}, count) == (manifest.quarantined, manifest.messages)


def test_sealing_twice_gives_the_same_bytes(tmp_path):
    """Files of every kind, streams and REST mixed."""
    folder = make_folder(tmp_path)
    blocks = [rest_block([text] * 3, kind, market) for (market, kind), text in SAMPLES.items()]
    blocks += [block([spot_trade(number, symbol=f"S{number % 3}") for number in range(50)]), *blocks]
    one, two = (
        [(file.path, file.sha256, (Path(manifest.folder) / file.path).read_bytes()) for file in manifest.files]
        for manifest in (seal_content(folder, blocks), seal_content(folder, blocks))
    )
    assert one == two
    assert [hashlib.sha256(data).hexdigest() for _, _, data in one] == [sha256 for _, sha256, _ in one]
    assert len(SAMPLES) == len(one)


def test_a_kind_that_rest_does_not_bring_is_quarantined(seal):
    """And so are trades of a stream's form that say they came over REST."""
    manifest = seal(
        [rest_block([text_of("x@kline_1m", {}, {})], Kind.KLINE_1M), rest_block([spot_trade(1)], Kind.TRADE)]
    )
    assert ({"unknown_kind": 1, "wrong_shape": 1}, 0) == (manifest.quarantined, manifest.rows)


def test_every_column_of_the_schema_was_looked_at():
    """A row here has a value for each."""
    for (_, kind), rows in ROWS.items():
        assert all(len(COLUMNS[kind]) == len(row) for row in rows)
