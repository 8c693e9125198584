"""Real traffic through the whole service: every message of the recordings is in the files once, value for value."""

import csv
import gzip
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
from persistence_samples import recorded_lines
from recordings_support import (
    FIELDS,
    RECORDINGS,
    assert_stored_once,
    record,
    stored_columns,
)

from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.raw_export import Telling, Wanted, export_raw
from streamsvc.schema import Kind, Market

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared/recordings) are not here")

SPOT, FUTURES = Market.SPOT, Market.FUTURES
MINUTE_NS = 60 * 10**9
PAIRS = [
    "spot-btcusdt-20240808.gz",
    "spot-btcusdt-20240809.gz",
    "usdm-btcusdt-20240718.gz",
    "usdm-btcusdt-20240719.gz",
    "usdm-ethusdt-20240718.gz",
    "usdm-ethusdt-20240719.gz",
]
CRYPTOFEED = [
    "cryptofeed-spot-3-symbols.txt.gz",
    "cryptofeed-usdm-4-symbols-ws.txt.gz",
    "cryptofeed-usdm-4-symbols-http.txt.gz",
    "exchange-info-spot.txt.gz",
    "exchange-info-usdm.txt.gz",
]
STREAMS = {
    "pairs": [
        (market, kind, symbol)
        for market, symbol in ((SPOT, "BTCUSDT"), (FUTURES, "BTCUSDT"), (FUTURES, "ETHUSDT"))
        for kind in (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
    ],
    "cryptofeed": [
        (market, kind, symbol)
        for market, symbols in (
            (SPOT, ("BTCUSDT", "ETHUSDT", "DOTUSDT")),
            (FUTURES, ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT")),
        )
        for symbol in symbols
        for kind in (Kind.AGG_TRADE, Kind.DEPTH, Kind.KLINE_1M, *((Kind.BOOK_TICKER,) if market is FUTURES else ()))
    ],
}
MINUTES = [
    (SPOT, "BTCUSDT", "spot-btcusdt-20240808-09.minutes.csv"),
    (FUTURES, "BTCUSDT", "usdm-btcusdt-20240718-19.minutes.csv"),
    (FUTURES, "ETHUSDT", "usdm-ethusdt-20240718-19.minutes.csv"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Both sets of recordings, each recorded by a service of its own; the book of 2024 was recorded at `@0ms`."""
    folder = tmp_path_factory.mktemp("recordings")
    return {
        "pairs": record(PAIRS, folder / "pairs", futures_depth_ms=0, segment_max_mb=8, raw_archive=True),
        "cryptofeed": record(CRYPTOFEED, folder / "cryptofeed", segment_max_mb=1),
    }


@pytest.fixture(scope="module")
def stored(runs):
    """The rows of a run's market and kind, each read once."""
    tables = {}

    def read(run, market, kind):
        if (run, market, kind) not in tables:
            tables[run, market, kind] = stored_columns(runs[run].folder, market, kind)
        return tables[run, market, kind]

    return read


@pytest.fixture(scope="module")
def trades(stored):
    """The recorded trades of a symbol, as exact decimals: (time ns, id, price, quantity, buyer is maker, type)."""

    def read(market, symbol):
        rows = stored("pairs", market, Kind.TRADE)
        chosen = rows["symbol"] == symbol
        names = ("exchange_time", "trade_id", "price", "quantity", "is_buyer_maker", "trade_type")
        columns = [rows[name][chosen].tolist() for name in names]
        for place in (2, 3):
            # The shortest text that gives this float back is the exchange's own, up to 15 digits.
            columns[place] = [Decimal(repr(value)) for value in columns[place]]
        return list(zip(*columns, strict=True))

    return read


@pytest.mark.parametrize("run", STREAMS)
def test_the_streams_that_were_played_are_those_that_are_looked_at(runs, run):
    """No stream of the recordings escapes the comparison."""
    assert set(STREAMS[run]) == set(runs[run].messages)


@pytest.mark.parametrize(
    ("run", "stream"),
    [(run, stream) for run, streams in STREAMS.items() for stream in streams],
    ids=lambda part: part if isinstance(part, str) else "-".join([part[0].label, part[1].label, part[2]]),
)
def test_every_message_is_in_the_files_once_value_for_value(runs, stored, run, stream):
    """Row after row in the order of arrival, under the UTC day of the exchange's time; received during the run."""
    market, kind, symbol = stream
    table = stored(run, market, kind)
    assert_stored_once(stream, runs[run].messages[stream], table)
    received = table["receive_time"][table["symbol"] == symbol]
    assert runs[run].began_ns <= received.min() <= received.max() <= runs[run].ended_ns


def test_the_days_are_those_of_the_exchange_and_not_of_the_recorder(runs):
    """The recorder's clock of 2024 was 1.5 s slow, and the service plays it years later: `exchange_time` decides."""
    parquet = runs["pairs"].folder / "parquet"
    stamped = {"trade", "depth"}  # Of spot, a bookTicker has no time, and a snapshot that of its fetch.
    days = {(path.parents[1].name, path.name) for path in parquet.glob("*/*/date=*") if path.parents[1].name in stamped}
    futures, spot = {"date=2024-07-18", "date=2024-07-19"}, {"date=2024-08-08", "date=2024-08-09"}
    assert {(kind, day) for kind in ("trade", "depth") for day in futures | spot} == days
    assert futures == {path.name for path in (parquet / "bookTicker" / "market=futures").iterdir()}


@pytest.mark.parametrize("run", STREAMS)
def test_verify_finds_the_recordings_complete(runs, run):
    """They have no gap and no duplicate, so the data set has none; and it was made in several rotations."""
    report = verify_folder(runs[run].folder)
    assert ([], [], 0, 0, 0) == (
        report.errors,
        report.gaps,
        report.exit_code,
        report.unsealed_segments,
        report.quarantined,
    )
    assert len({path.name for path in runs[run].folder.rglob("*.parquet")}) > 1
    assert [] == list((runs[run].folder / "quarantine").iterdir())


def test_the_raw_export_is_what_was_played(runs, tmp_path):
    """Byte for byte and in the order of receipt; the service recorded with `RAW_ARCHIVE`."""
    telling = Telling(tell=lambda _: None, warn=pytest.fail)
    assert export_raw(runs["pairs"].folder, tmp_path, Wanted(), telling)
    exported = defaultdict(list)
    for path in sorted(tmp_path.rglob("*.gz")):
        times = []
        for line in gzip.decompress(path.read_bytes()).splitlines():
            received_ns, text = line.split(b" ", 1)
            times.append(int(received_ns))
            if text.startswith(b'{"stream"'):
                exported[path.parent.name, text[: text.index(b",")]].append(text)
        assert times == sorted(times)
        assert runs["pairs"].began_ns <= times[0] <= times[-1] <= runs["pairs"].ended_ns
    played = defaultdict(list)
    for name in PAIRS:
        market = "futures" if "usdm" in name else "spot"
        for _, text in recorded_lines(name):
            played[market, text[: text.index(b",")]].append(text)
    assert played == exported


# Computed from what was recorded


def minutes_of(trades):
    """Open, high, low, close, volumes and counts of each minute, exactly."""
    minutes = {}
    cvd = Decimal(0)
    for time_ns, trade_id, price, quantity, is_buyer_maker, trade_type in trades:
        key = time_ns // MINUTE_NS * 60_000
        minute = minutes.setdefault(key, Counter(first_t=trade_id))
        minute["n_all"] += 1
        minute["last_t"] = trade_id
        if trade_type not in ("", "MARKET"):
            continue
        minute["n_market"] += 1
        minute.setdefault("open", price)
        minute["high"] = max(minute.get("high", price), price)
        minute["low"] = min(minute.get("low", price), price)
        minute["close"] = price
        minute["volume"] += quantity
        minute["quote_volume"] += price * quantity
        minute["taker_buy_volume"] += 0 if is_buyer_maker else quantity
        minute["taker_buy_quote_volume"] += 0 if is_buyer_maker else price * quantity
        delta = -quantity if is_buyer_maker else quantity
        minute["delta"] += delta
        cvd += delta
        minute["cvd_from_recording_start"] = cvd
    return minutes


def rows_of_csv(name):
    with (RECORDINGS / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("market", "symbol", "name"), MINUTES, ids=lambda part: getattr(part, "label", part))
def test_minutes_computed_from_the_recorded_trades(trades, market, symbol, name):
    """To the last digit what was computed from the texts themselves."""
    with localcontext(prec=60):
        minutes = minutes_of(trades(market, symbol))
    rows = rows_of_csv(name)
    assert [int(row["minute_open_ms"]) for row in rows] == list(minutes)
    for row in rows:
        minute = minutes[int(row["minute_open_ms"])]
        columns = set(row) - {"minute_open_ms", "complete"}
        assert {column: Decimal(row[column]) for column in columns} == {column: minute[column] for column in columns}


def test_minutes_computed_from_the_recorded_trades_are_the_exchanges_candles(trades):
    """In every minute that the recording covers whole."""
    with localcontext(prec=60):
        minutes = minutes_of(trades(FUTURES, "BTCUSDT"))
    whole = {
        int(row["minute_open_ms"])
        for row in rows_of_csv("usdm-btcusdt-20240718-19.minutes.csv")
        if int(row["complete"])
    }
    candles = {int(row["open_time"]): row for row in rows_of_csv("usdm-btcusdt-20240718-19.klines.csv")}
    columns = [
        "open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume",
    ]  # fmt: skip
    assert 7 == len(whole & set(candles))
    for open_ms in whole:
        candle, minute = candles[open_ms], minutes[open_ms]
        assert int(candle["count"]) == minute["n_market"]
        assert [Decimal(candle[column]) for column in columns] == [minute[column] for column in columns]


def test_prices_are_the_exchanges_own_digits(runs, trades):
    """float64 gives up to 15 significant digits back: not one price or quantity of a trade has changed."""
    for market, symbol in ((SPOT, "BTCUSDT"), (FUTURES, "BTCUSDT"), (FUTURES, "ETHUSDT")):
        messages = runs["pairs"].messages[market, Kind.TRADE, symbol]
        texts = [(Decimal(message["p"]), Decimal(message["q"])) for message in messages]
        assert texts == [row[2:4] for row in trades(market, symbol)]


# What others read, as the README shows


@pytest.fixture
def counts(runs):
    """Rows of trade by market and symbol."""
    return {
        (market.label, symbol): len(messages)
        for (market, kind, symbol), messages in runs["pairs"].messages.items()
        if kind is Kind.TRADE
    }


def test_duckdb_reads_the_data_set(runs, counts):
    duckdb = pytest.importorskip("duckdb", reason="an optional reader")
    pattern = f"{runs['pairs'].folder}/parquet/trade/**/*.parquet"
    query = f"""
        select market, symbol, count(*), sum(case when is_buyer_maker then -quantity else quantity end)
        from read_parquet('{pattern}', hive_partitioning = true) group by all"""
    rows = duckdb.sql(query).fetchall()
    assert counts == {(market, symbol): count for market, symbol, count, _cvd in rows}
    cvd = {(market, symbol): cvd for market, symbol, _count, cvd in rows}
    for market, symbol, name in MINUTES:
        last = float(rows_of_csv(name)[-1]["cvd_from_recording_start"])
        assert last == pytest.approx(cvd[market.label, symbol], abs=1e-6)
    days = duckdb.sql(
        f"select distinct date::varchar, strftime(exchange_time at time zone 'UTC', '%Y-%m-%d') "
        f"from read_parquet('{pattern}', hive_partitioning = true)"
    ).fetchall()
    assert 4 == len(days)
    assert all(folder == day for folder, day in days)


def test_polars_reads_the_data_set(runs, counts):
    pl = pytest.importorskip("polars", reason="an optional reader")
    pattern = f"{runs['pairs'].folder}/parquet/trade/**/*.parquet"
    trades = pl.scan_parquet(pattern, hive_partitioning=True)
    for market in ("spot", "futures"):
        frame = trades.filter((pl.col("symbol") == "BTCUSDT") & (pl.col("market") == market)).collect()
        assert counts[market, "BTCUSDT"] == len(frame) == frame["trade_id"].n_unique()
        assert pl.Datetime("ns", "UTC") == frame.schema["exchange_time"]


def test_pandas_reads_a_day(runs, stored):
    """One folder is one day: nothing of it lies elsewhere, nothing else lies in it."""
    path = runs["pairs"].folder / "parquet" / "trade" / "market=futures" / "date=2024-07-19"
    frame = pd.read_parquet(path).sort_values(["symbol", "trade_id"])
    rows = stored("pairs", FUTURES, Kind.TRADE)
    own = np.flatnonzero(rows["day"] == np.datetime64("2024-07-19").astype(np.int64))
    own = own[np.lexsort((rows["trade_id"][own], rows["symbol"][own].astype(str)))]
    assert len(own) == len(frame)
    for name in FIELDS[Kind.TRADE]:
        column = frame[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            assert "UTC" == str(column.dt.tz)
            column = column.dt.tz_localize(None).astype("M8[ns]").astype(np.int64)
        assert rows[name][own].tolist() == column.tolist(), name


def test_verify_as_a_command(runs):
    """The user's way to the same verdict."""
    command = [sys.executable, "-m", "streamsvc", "verify", str(runs["cryptofeed"].folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.splitlines()[-1].startswith("COMPLETE: ")
