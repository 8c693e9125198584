"""Order books of recordings, and data folders that hold them, written without a sealer."""

from __future__ import annotations

import gzip
import hashlib
import json
from decimal import Decimal
from pathlib import Path

import attrs
import numpy as np

from streamsvc.integrity.books import Book
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.persistence.manifest import Manifest, SealedFile, StreamRange
from streamsvc.persistence.parquet import write_file
from streamsvc.schema import COLUMNS, Kind, Market

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
MS = 10**6
_SIDES = ("", "bid", "ask")
_DTYPES = {"timestamp": np.int64, "int64": np.int64, "int32": np.int32, "float64": np.float64}


def numbers(levels):
    """Levels as the exchange writes them, as floats."""
    return [(float(price), float(quantity)) for price, quantity in levels]


def texts(levels):
    """Levels as the reference writes them: decimals without trailing zeros."""
    return [[format(Decimal(repr(number)).normalize(), "f") for number in level] for level in levels]


def full_book_hash(book: Book):
    """The reference's hash: a line `b <price> <quantity>` a bid, then the asks with `a`, each side the best first."""
    sides = [("b", texts(book.levels("bid", 10**6))), ("a", texts(book.levels("ask", 10**6)))]
    lines = [f"{letter} {price} {quantity}" for letter, levels in sides for price, quantity in levels]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@attrs.frozen
class Recording:
    """Two recorded files of one symbol's order book over midnight, and the book that they must give."""

    name: str
    market: Market
    files: tuple[str, str]
    symbol: str = "BTCUSDT"

    def messages(self):
        """Updates, bookTickers and the snapshot in the order of the lines, without trades."""
        for file in self.files:
            with gzip.open(RECORDINGS / file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    message = json.loads(line[line.index('{"') :])
                    if "trade" not in message.get("stream", ""):
                        yield message.get("data", message)

    def reference(self):
        """The lines of the reference."""
        return [json.loads(line) for line in (RECORDINGS / f"{self.name}.book.jsonl").read_text().splitlines()]


RECORDED = (
    Recording("spot-btcusdt-20240808-09", Market.SPOT, ("spot-btcusdt-20240808.gz", "spot-btcusdt-20240809.gz")),
    Recording("usdm-btcusdt-20240718-19", Market.FUTURES, ("usdm-btcusdt-20240718.gz", "usdm-btcusdt-20240719.gz")),
)


@attrs.frozen
class Update:
    """An update as the files hold it; its times in ms. In spot `previous` is 0, and it is sent at its time."""

    first: int
    final: int
    previous: int
    time_ms: int
    bids: list
    asks: list
    symbol: str = "BTCUSDT"
    epoch: int = 0
    sent_ms: int | None = None

    def rows(self):
        ids = {
            "first_update_id": self.first, "final_update_id": self.final, "previous_final_update_id": self.previous,
            "event_time": (self.time_ms if self.sent_ms is None else self.sent_ms) * MS,
        }  # fmt: skip
        return _rows(self, ids)


@attrs.frozen
class Snapshot:
    """A snapshot as the files hold it."""

    last_update_id: int
    time_ms: int
    bids: list
    asks: list
    symbol: str = "BTCUSDT"
    epoch: int = 0

    def rows(self):
        return _rows(self, {"last_update_id": self.last_update_id})


def _rows(message, more):
    """A row for each level; one with an empty side where there is none."""
    head = {
        "symbol": message.symbol, "receive_time": message.time_ms * MS, "exchange_time": message.time_ms * MS,
        "epoch": message.epoch, **more,
    }  # fmt: skip
    levels = [("bid", *level) for level in message.bids] + [("ask", *level) for level in message.asks]
    return [
        head | {"side": side, "price": price, "quantity": quantity}
        for side, price, quantity in levels or [("", 0.0, 0.0)]
    ]


class BookFolder:
    """A data folder of order books only."""

    def __init__(self, root) -> None:
        self.root = root
        folder = DataFolder(root)
        folder.parquet.mkdir(parents=True)
        self.catalogue = Catalogue(folder.catalogue)
        self.catalogue.prepare()
        self._sequence = 0

    def put(self, market, *messages, group_messages=1000, name=None):
        """Write what one segment brought: a file for each kind and day. Returns their paths."""
        segment = str(SegmentName(1, 0xDEADBEEF, self._sequence))
        self._sequence += 1
        files = {}
        for message in messages:
            kind = Kind.DEPTH if isinstance(message, Update) else Kind.DEPTH_SNAPSHOT
            date = str(np.datetime64(message.time_ms, "ms").astype("M8[D]"))
            files.setdefault((kind, date), []).append(message)
        sealed = [
            self._write((market, *place), of_file, name or f"{segment}.parquet", group_messages)
            for place, of_file in files.items()
        ]
        streams = {(kind, m.symbol, m.epoch): m for (kind, _), of_file in files.items() for m in of_file}
        ranges = [
            StreamRange(market, kind, symbol, epoch, 1, None, None, last.time_ms * MS, last.time_ms * MS)
            for (kind, symbol, epoch), last in streams.items()
        ]
        self.catalogue.adopt(Manifest(segment=segment, folder="", files=tuple(sealed), streams=tuple(ranges)))
        return [self.root / file.path for file in sealed]

    def _write(self, place, messages, name, group_messages):
        market, kind, date = place
        path = self.root / "parquet" / kind.label / f"market={market.label}" / f"date={date}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        symbols = sorted({message.symbol for message in messages})
        groups = [
            _columns(
                kind, symbols, [row for message in messages[first : first + group_messages] for row in message.rows()]
            )
            for first in range(0, len(messages), group_messages)
        ]
        with path.open("wb") as file:
            write_file(file, COLUMNS[kind], {"symbol": symbols, "side": _SIDES}, groups)
        times = [message.time_ms * MS for message in messages]
        rows = sum(len(group["price"]) for group in groups)
        return SealedFile(
            path=str(path.relative_to(self.root)),
            kind=kind.label,
            market=market.label,
            date=date,
            rows=rows,
            size_bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            first_exchange_ns=min(times),
            last_exchange_ns=max(times),
        )


def _columns(kind, symbols, rows):
    columns = {}
    for name, dtype in COLUMNS[kind].items():
        values = [row[name] for row in rows]
        if dtype == "string":
            codes = {label: code for code, label in enumerate(symbols if name == "symbol" else _SIDES)}
            columns[name] = np.array([codes[value] for value in values], np.int32)
        else:
            columns[name] = np.array(values, _DTYPES[dtype])
    return columns
