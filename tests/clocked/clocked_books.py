"""Two sides of one account: what the exchange said, and what the data folder holds of it."""

import json
from collections import Counter

from streamsvc.integrity.sequence import Coverage, IdRange
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.parquet import read_row_groups
from streamsvc.schema import MARKETS_BY_LABEL, Kind

_IDS = {
    Kind.TRADE: ("t", "trade_id"),
    Kind.AGG_TRADE: ("a", "agg_trade_id"),
    Kind.DEPTH: ("u", "final_update_id"),
    Kind.BOOK_TICKER: ("u", "update_id"),
    Kind.KLINE_1M: ("E", "event_time"),
    Kind.MARK_PRICE: ("E", "exchange_time"),
}
"""What tells messages apart, in the message and in its rows; a time where there is no id."""
_TIMED = {Kind.KLINE_1M, Kind.MARK_PRICE}
_SUFFIXES = {
    "trade": Kind.TRADE,
    "aggTrade": Kind.AGG_TRADE,
    "depth": Kind.DEPTH,
    "bookTicker": Kind.BOOK_TICKER,
    "kline_1m": Kind.KLINE_1M,
    "markPrice": Kind.MARK_PRICE,
}


def expected_rows(messages):
    """Rows that messages, given with their markets, should become, by market, kind, symbol and id."""
    rows = Counter()
    for market, text in messages:
        key, count = _read(market, text)
        if key is not None:
            rows[key] += count
    return rows


def stored_rows(folder):
    """Rows of the data set that came over streams, by market, kind, symbol and id."""
    rows = Counter()
    for file in Catalogue(folder / "catalogue.sqlite", is_read_only=True).sealed_files():
        market, kind = MARKETS_BY_LABEL[file.market], Kind.from_label(file.kind)
        if kind not in _IDS:
            continue
        name, unit = _IDS[kind][1], 1_000_000 if kind in _TIMED else 1
        for group in read_row_groups(folder / file.path, ["symbol", name]):
            ids = zip(group["symbol"], group[name], strict=True)
            rows.update((market, kind, str(symbol), int(number) // unit) for symbol, number in ids)
    return rows


def leftovers(folder):
    """The names of what lies in the journal."""
    return sorted(path.name for path in (folder / "journal").rglob("*") if path.is_file())


def quarantined(folder):
    """What lies in the quarantine: reasons and texts."""
    lines = [
        json.loads(line)
        for path in sorted((folder / "quarantine").iterdir())
        for line in path.read_bytes().splitlines()
    ]
    return [(line["reason"], line.get("text", line.get("base64"))) for line in lines]


def _read(market, text):
    """The key of a message's rows and how many they are; no key for what is no market data."""
    try:
        message = json.loads(text)
        data = message["data"]
        kind = _SUFFIXES[message["stream"].split("@")[1]]
        key = market, kind, data["s"], int(data[_IDS[kind][0]])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None, 0
    return key, len(data["b"]) + len(data["a"]) or 1 if kind is Kind.DEPTH else 1


def lacking(report):
    """The ids that the data set lacks between others, by stream."""
    found = {}
    for gap in report.gaps:
        coverage = found.setdefault((gap.market, gap.symbol, gap.kind), Coverage())
        coverage.add([IdRange(gap.first_missing_id, gap.last_missing_id)])
    return {stream: [(one.first, one.last) for one in coverage.ranges] for stream, coverage in found.items()}


def withheld(exchange, report):
    """The ids that the exchange sent to nobody, between the first and the last that the data set has, by stream."""
    found = {}
    ends = {(one.market, one.symbol, one.kind): (one.first_id, one.last_id) for one in report.coverage}
    for record in exchange.ledger.records.values():
        key = record.market.label, record.symbol, record.kind
        if record.is_chained and key in ends:
            first_id, last_id = ends[key]
            missing = [(first, last) for first, last in record.missing if first_id < first and last < last_id]
            if missing:
                found[key] = missing
    return found
