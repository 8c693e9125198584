"""Recordings read by other means than the project's own, and a whole service that records them over TLS."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import trio

from streamsvc import service
from streamsvc.schema import COLUMNS, Kind, Market
from streamsvc.settings import Settings
from streamsvc.shutdown import Shutdown
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.options import default_options
from streamsvc.simulator.replay import open_sources
from streamsvc.simulator.serve import make_tls, serve
from streamsvc.surroundings import real_surroundings

RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
MS = 10**6
DAY_NS = 86_400 * 10**9
RUN_SEC_MAX = 120.0
"""Several times what it takes on two busy cores."""

FIELDS = {
    Kind.TRADE: {
        "exchange_time": "T", "event_time": "E", "trade_id": "t", "price": "p", "quantity": "q", "is_buyer_maker": "m",
        "trade_type": "X",
    },
    Kind.AGG_TRADE: {
        "exchange_time": "T", "event_time": "E", "agg_trade_id": "a", "first_trade_id": "f", "last_trade_id": "l",
        "price": "p", "quantity": "q", "is_buyer_maker": "m",
    },
    Kind.DEPTH: {
        "exchange_time": "T", "event_time": "E", "first_update_id": "U", "final_update_id": "u",
        "previous_final_update_id": "pu",
    },
    Kind.BOOK_TICKER: {
        "update_id": "u", "bid_price": "b", "bid_quantity": "B", "ask_price": "a", "ask_quantity": "A",
        "exchange_time": "T",
    },
    Kind.KLINE_1M: {
        "open_time": "t", "close_time": "T", "first_trade_id": "f", "last_trade_id": "L", "open": "o", "high": "h",
        "low": "l", "close": "c", "volume": "v", "quote_volume": "q", "trade_count": "n", "taker_buy_volume": "V",
        "taker_buy_quote_volume": "Q", "is_closed": "x", "event_time": "E", "exchange_time": "T",
    },
    Kind.MARK_PRICE: {
        "exchange_time": "E", "mark_price": "p", "index_price": "i", "settle_price": "P", "funding_rate": "r",
        "next_funding_time": "T",
    },
    Kind.FORCE_ORDER: {
        "exchange_time": "T", "event_time": "E", "side": "S", "order_type": "o", "time_in_force": "f", "price": "p",
        "average_price": "ap", "quantity": "q", "filled_quantity": "z", "status": "X",
    },
}  # fmt: skip
"""The exchange's name of each column, as its documents have it; within `INNER` (but `E`)."""

ORDER = {
    Kind.TRADE: ["trade_id"],
    Kind.AGG_TRADE: ["agg_trade_id"],
    Kind.DEPTH: ["final_update_id"],
    Kind.BOOK_TICKER: ["update_id"],
    Kind.KLINE_1M: ["open_time", "event_time"],
    Kind.MARK_PRICE: ["exchange_time"],
    Kind.FORCE_ORDER: ["exchange_time", "event_time"],
}
"""What the exchange's order can be told by; levels of one update keep theirs."""

INNER = {Kind.KLINE_1M: "k", Kind.FORCE_ORDER: "o"}
"""Kinds whose fields lie in an object of their own, and its name."""

KINDS = {
    "trade": Kind.TRADE,
    "aggTrade": Kind.AGG_TRADE,
    "depth": Kind.DEPTH,
    "bookTicker": Kind.BOOK_TICKER,
    "kline_1m": Kind.KLINE_1M,
    "markPrice": Kind.MARK_PRICE,
    "forceOrder": Kind.FORCE_ORDER,
}

Stream = tuple[Market, Kind, str]
"""Market, kind, and symbol in upper case."""


def recorded_messages(names) -> dict[Stream, list[dict]]:
    """The payloads of every stream in these files, in the order of the lines."""
    messages = defaultdict(list)
    for name in names:
        market = Market.FUTURES if "usdm" in name else Market.SPOT
        with gzip.open(RECORDINGS / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                start = line.find('{"stream":')
                if start >= 0:
                    message = json.loads(line[start:])
                    messages[stream_of(market, message["stream"])].append(message["data"])
    return dict(messages)


def stream_of(market: Market, name: str) -> Stream:
    """The stream that the exchange calls by this name."""
    symbol, what = name.split("@", 1)
    return market, KINDS[what.split("@")[0]], symbol.upper()


def cut_recordings(names: list[str], folder: Path, seconds: float) -> list[Path]:
    """Copies of recordings, of hftbacktest's form, that end so long after they began."""
    paths = []
    for name in names:
        path = folder / name
        with gzip.open(RECORDINGS / name, "rb") as lines, gzip.open(path, "wb", compresslevel=1) as part:
            first_ns = None
            for line in lines:
                received_ns = int(line.split(b" ", 1)[0])
                first_ns = first_ns or received_ns
                if received_ns >= first_ns + seconds * 10**9:
                    break
                part.write(line)
        paths.append(path)
    return paths


def expected_columns(stream: Stream, messages: list[dict]) -> dict[str, np.ndarray]:
    """What these messages must be in the files: all columns but `receive_time`, rows in the order of the messages.

    A column that the exchange does not send is left out where only the receive time can fill it.
    """
    market, kind, symbol = stream
    columns = {name: _column(stream, name, field, messages) for name, field in FIELDS[kind].items()}
    if kind is Kind.DEPTH:
        columns |= _levels(columns, messages)
    rows = len(columns["price" if "price" in columns else next(iter(columns))])
    if (market, kind) == (Market.SPOT, Kind.BOOK_TICKER):
        del columns["exchange_time"]
    constant = {"symbol": symbol, "epoch": 0, "is_backfilled": False}
    for name, value in constant.items():
        if name in COLUMNS[kind]:
            columns[name] = np.full(rows, value, object if name == "symbol" else None)
    return columns


def _column(stream: Stream, name: str, field: str, messages: list[dict]) -> np.ndarray:
    market, kind, _symbol = stream
    if kind in INNER and field != "E":
        messages = [message[INNER[kind]] for message in messages]
    missing = {"trade_type": "", "previous_final_update_id": 0}.get(name)
    values = [message.get(field, missing) for message in messages]
    match COLUMNS[kind][name]:
        case "timestamp":
            if market is Market.SPOT and (kind, name) == (Kind.DEPTH, "exchange_time"):
                values = [message["E"] for message in messages]
            elif market is Market.SPOT and kind is Kind.BOOK_TICKER:
                values = [0] * len(messages)
            return np.array(values, np.int64) * MS
        case "float64":
            return np.array([float(text) for text in values])
        case "string":
            return np.array(values, object)
        case "bool":
            return np.array(values, np.bool_)
        case _:
            return np.array(values, np.int64)


def _levels(columns: dict[str, np.ndarray], messages: list[dict]) -> dict[str, np.ndarray]:
    """A row for each level, bids first; an update without levels keeps one row with an empty side."""
    sides, prices, quantities, rows_each = [], [], [], []
    for message in messages:
        levels = [("bid", *level) for level in message["b"]] + [("ask", *level) for level in message["a"]]
        levels = levels or [("", "0", "0")]
        rows_each.append(len(levels))
        for side, price, quantity in levels:
            sides.append(side)
            prices.append(float(price))
            quantities.append(float(quantity))
    repeated = {name: np.repeat(values, rows_each) for name, values in columns.items()}
    return repeated | {
        "side": np.array(sides, object), "price": np.array(prices), "quantity": np.array(quantities),
    }  # fmt: skip


def stored_columns(folder: Path, market: Market, kind: Kind) -> dict[str, np.ndarray]:
    """All rows of a market and kind as pyarrow reads them, by day and then in the order of the segments.

    Beside the schema's columns there is `day`: the number of the UTC day that the folder's name says.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*COLUMNS[kind], "day")}
    for path in sorted((folder / "parquet" / kind.label / f"market={market.label}").rglob("*.parquet")):
        table = pq.ParquetFile(path).read()
        assert list(COLUMNS[kind].items()) == [(field.name, _type_name(field)) for field in table.schema]
        for name in COLUMNS[kind]:
            parts[name].append(_as_numpy(table.column(name)))
        day = np.datetime64(path.parent.name.removeprefix("date=")).astype(np.int64)
        parts["day"].append(np.full(len(table), day))
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}


def assert_stored_once(
    stream: Stream, messages: list[dict], table: dict[str, np.ndarray], *, is_in_order: bool = True
) -> None:
    """Every message is there once, value for value: by UTC day of the exchange's time, then in the order of arrival.

    Args:
        stream: Which one.
        messages: What the exchange said on it, in order.
        table: `stored_columns` of its market and kind.
        is_in_order: Whether they arrived in the exchange's order; else rows are compared in the order of their ids.
    """
    _market, kind, symbol = stream
    expected = expected_columns(stream, messages)
    own = table["symbol"] == symbol
    rows = {name: column[own] for name, column in table.items()}
    assert len(expected["symbol"]) == own.sum()
    assert np.array_equal(rows["exchange_time"] // DAY_NS, rows["day"])
    if not is_in_order:
        expected, rows = _by_key(kind, expected), _by_key(kind, rows)
    if "exchange_time" in expected:
        by_day = np.argsort(expected["exchange_time"] // DAY_NS, kind="stable")
        expected = {name: column[by_day] for name, column in expected.items()}
    else:
        expected["exchange_time"] = rows["receive_time"]
    assert set(COLUMNS[kind]) - {"receive_time"} == set(expected)
    for name, column in expected.items():
        assert np.array_equal(_comparable(column), _comparable(rows[name])), name


def _by_key(kind: Kind, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    keys = [columns[name] for name in ORDER[kind]]
    order = np.lexsort(keys[::-1])
    return {name: column[order] for name, column in columns.items()}


def _comparable(column: np.ndarray) -> np.ndarray:
    """Floats as their bits, so that nothing passes that is only close."""
    return column.view(np.int64) if column.dtype == np.float64 else column


def _type_name(field: pa.Field) -> str:
    """The schema's word for what pyarrow found."""
    if pa.types.is_timestamp(field.type):
        assert ("ns", "UTC") == (field.type.unit, field.type.tz)
        return "timestamp"
    if pa.types.is_dictionary(field.type):
        return str(field.type.value_type)
    return {"double": "float64"}.get(str(field.type), str(field.type))


def _as_numpy(column: pa.ChunkedArray) -> np.ndarray:
    assert not column.null_count
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_numpy()
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    return column.to_numpy()


@attrs.frozen
class Recorded:
    """What a run left, and what it should have left.

    Attributes:
        folder: The data folder.
        messages: The recordings' messages by stream.
        began_ns: Wall clock before the run.
        ended_ns: Wall clock after it.
    """

    folder: Path
    messages: dict[Stream, list[dict]]
    began_ns: int
    ended_ns: int


def record(names: list[str], folder: Path, **more: object) -> Recorded:
    """Play recordings through the simulated exchange over TLS into the service, to the last message.

    Args:
        names: The files.
        folder: Where the data folder is made.
        more: Settings beside where to record what.
    """
    messages = recorded_messages(names)
    symbols = {market: tuple(sorted({s for m, _, s in messages if m is market})) for market in Market}
    kinds = {market: tuple(sorted({k for m, k, _ in messages if m is market})) for market in Market}
    began_ns = time.time_ns()
    trio.run(
        partial(
            _record,
            [RECORDINGS / name for name in names],
            sum(map(len, messages.values())),
            folder,
            spot_symbols=symbols[Market.SPOT],
            futures_symbols=symbols[Market.FUTURES],
            spot_kinds=kinds[Market.SPOT],
            futures_kinds=kinds[Market.FUTURES],
            **more,
        )
    )
    return Recorded(folder, messages, began_ns, time.time_ns())


async def _record(paths: list[Path], count: int, folder: Path, **more: object) -> None:
    authority = folder.parent / f"{folder.name}.pem"
    sources = open_sources(paths, speed=math.inf)
    rules = {market: attrs.evolve(default_options(market), start="told") for market in Market}
    exchange, shutdown = Exchange(sources.values(), options=rules), Shutdown()
    with trio.fail_after(RUN_SEC_MAX):
        async with trio.open_nursery() as serving:
            addresses = await serving.start(partial(serve, exchange, tls=make_tls(authority)))
            urls = {name.lower(): url for name, url in addresses.settings.items()}
            settings = Settings(
                data_dir=folder, tls_ca_file=authority, disk_reserve_mb=16, drain_sec=RUN_SEC_MAX, **urls, **more
            )
            async with trio.open_nursery() as recording:
                start = partial(service.run, settings, real_surroundings(settings), shutdown=shutdown)
                live = await recording.start(start)
                for market, source in sources.items():
                    await exchange.wait_subscribed(market, source.names)
                for market in sources:
                    exchange.begin(market)
                for market in sources:
                    await exchange.wait_done(market)
                # What the exchange has sent may still lie in a socket.
                while live.intake.counts.received < count:  # noqa: ASYNC110 - a look at a counter from outside
                    await trio.sleep(0.02)
                shutdown.request("played")
            serving.cancel_scope.cancel()
