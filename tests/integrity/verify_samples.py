"""Data folders made by the project's own sealing and publishing, to be damaged afterwards."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing

import numpy as np
from derived_samples import derived_text

from streamsvc.batch import Block
from streamsvc.gap import NOTE_KIND, GapFilled, GapGivenUp, GapOpened, encode_note
from streamsvc.persistence.catalogue_ledger import LedgerCatalogue
from streamsvc.persistence.files import Files
from streamsvc.persistence.journal import encode_frame, encode_header, frame_seed
from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.persistence.parquet import read_coded, write_file
from streamsvc.persistence.publish import Publisher
from streamsvc.persistence.quarantine import QuarantineFolder
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import COLUMNS, DERIVED_KINDS, Kind, Market, Source

TIME_MS = 1_700_000_000_000
"""2023-11-14T22:13:20Z."""
MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS


def message(market, kind, data, *, epoch=0):
    """A message as `Recorded.publish` takes it."""
    text = {"stream": f"{data.get('s', 'BTCUSDT').lower()}@{kind.label}", "data": data}
    return market, kind, json.dumps(text).encode(), epoch


def trade(number, *, symbol="BTCUSDT", time_ms=TIME_MS, market=Market.SPOT, epoch=0, price="37.5"):
    """A trade of either market."""
    data = {"e": "trade", "E": time_ms + 1, "s": symbol, "t": number, "p": price, "q": "0.25", "T": time_ms, "m": True}
    return message(market, Kind.TRADE, data, epoch=epoch)


def agg_trade(number, *, market=Market.SPOT):
    data = {
        "e": "aggTrade", "E": TIME_MS, "s": "BTCUSDT", "a": number, "p": "37.5", "q": "0.25", "f": number, "l": number,
        "T": TIME_MS, "m": True,
    }  # fmt: skip
    return message(market, Kind.AGG_TRADE, data)


def spot_depth(first, last):
    data = {"e": "depthUpdate", "E": TIME_MS, "s": "BTCUSDT", "U": first, "u": last, "b": [["37.5", "1"]], "a": []}
    return message(Market.SPOT, Kind.DEPTH, data)


def futures_depth(first, last, previous):
    data = {
        "e": "depthUpdate", "E": TIME_MS, "T": TIME_MS, "s": "BTCUSDT", "U": first, "u": last, "pu": previous,
        "b": [["37.5", "1"], ["37.4", "2"]], "a": [["37.6", "1"]],
    }  # fmt: skip
    return message(Market.FUTURES, Kind.DEPTH, data)


def candle(minute, *, is_closed=True, second=0):
    """A candle that opens so many minutes after `TIME_MS`'s minute."""
    open_ms = TIME_MS // MINUTE_MS * MINUTE_MS + minute * MINUTE_MS
    kline = {
        "t": open_ms, "T": open_ms + MINUTE_MS - 1, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 2, "o": "1", "c": "1",
        "h": "1", "l": "1", "v": "1", "n": 2, "x": is_closed, "q": "1", "V": "1", "Q": "1", "B": "0",
    }  # fmt: skip
    data = {"e": "kline", "E": open_ms + (MINUTE_MS if is_closed else second * 1000), "s": "BTCUSDT", "k": kline}
    return message(Market.SPOT, Kind.KLINE_1M, data)


def mark_price(second):
    data = {
        "e": "markPriceUpdate", "E": TIME_MS + 1000 * second, "s": "BTCUSDT", "p": "1", "i": "1", "P": "1",
        "r": "-0.0001", "T": TIME_MS + DAY_MS,
    }  # fmt: skip
    return message(Market.FUTURES, Kind.MARK_PRICE, data)


def force_order(second):
    order = {
        "s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "1", "p": "1", "ap": "1", "X": "FILLED", "z": "1",
        "T": TIME_MS + 1000 * second,
    }  # fmt: skip
    data = {"e": "forceOrder", "E": TIME_MS + 1000 * second, "o": order}
    return message(Market.FUTURES, Kind.FORCE_ORDER, data)


def derived(kind, minute=0, *, market=Market.SPOT, **values):
    """A derived row whose bin opens so many minutes after `TIME_MS`'s minute."""
    open_ms = TIME_MS // MINUTE_MS * MINUTE_MS + minute * MINUTE_MS
    return market, kind, derived_text(kind, open_time=open_ms, **values), 0


def opened(first, last, *, kind="trade", symbol="BTCUSDT", market="spot", epoch=0):
    """A note that ids are missing."""
    note = GapOpened(market, symbol, kind, epoch, first, last, TIME_MS * 10**6, None, "disconnect", 3, TIME_MS * 10**6)
    return Market.SPOT, NOTE_KIND, encode_note(note), 0


def filled(first, last, *, kind="trade", symbol="BTCUSDT", was_announced=True):
    """A note that they came after all."""
    note = GapFilled("spot", symbol, kind, 0, first, last, TIME_MS * 10**6, was_announced)
    return Market.SPOT, NOTE_KIND, encode_note(note), 0


def given_up(first, last, *, kind="trade", symbol="BTCUSDT"):
    """A note that nobody can bring them."""
    note = GapGivenUp("spot", symbol, kind, 0, first, last, "too old", TIME_MS * 10**6)
    return Market.SPOT, NOTE_KIND, encode_note(note), 0


class Recorded:
    """A data folder as the service leaves it.

    Args:
        root: Where it is or will be.
        segments: How many it has had.

    Attributes:
        folder: Its paths.
    """

    def __init__(self, root, segments=0) -> None:
        self.folder = folder = DataFolder(root)
        for path in (folder.journal, folder.failed, folder.parquet, folder.tmp, folder.quarantine):
            path.mkdir(parents=True, exist_ok=True)
        self._publisher = Publisher(
            folder=folder,
            files=Files(),
            catalogue=LedgerCatalogue(folder.catalogue),
            quarantine=QuarantineFolder(folder.quarantine, 1 << 20),
            wall_ns=lambda: TIME_MS * 10**6,
        )
        self._publisher.catalogue.prepare()
        self._sequence = segments

    @property
    def root(self):
        return self.folder.root

    def put_segment(self, *messages, tail=b""):
        """Write a segment of these messages, a frame each, and what follows them; returns its name."""
        return self.put_blocks([_block(*each) for each in messages], tail=tail)

    def put_blocks(self, blocks, *, tail=b""):
        """Write a segment of these blocks; returns its name."""
        name = SegmentName(1, 0xDEADBEEF, self._sequence)
        self._sequence += 1
        frames = [encode_frame(block, frame_seed(name)) for block in blocks]
        self.folder.segment(name).write_bytes(b"".join([encode_header(name), *frames, tail]))
        return name

    def publish(self, *messages, tail=b""):
        """Seal and publish a segment of these messages; returns the paths of its files below the folder."""
        return self.seal(self.put_segment(*messages, tail=tail))

    def seal(self, name):
        """Seal and publish a segment; returns the paths of its files below the folder."""
        manifest = seal_segment(str(self.folder.segment(name)), str(self.folder.tmp))
        self._publisher.publish(name, manifest)
        return [file.path for file in manifest.files]

    def place_files(self, *messages):
        """Go as far as a publisher that is stopped between the renames and the commit; returns how to go on."""
        name = self.put_segment(*messages)
        manifest = seal_segment(str(self.folder.segment(name)), str(self.folder.tmp))
        self._publisher._place_files(manifest)
        return lambda: self._publisher.publish(name, manifest)

    def sql(self, statement, *values):
        """Change the catalogue behind everybody's back."""
        with closing(sqlite3.connect(self.folder.catalogue)) as connection, connection:
            changed = connection.execute(statement, values)
            assert changed.rowcount, "nothing was changed"

    def script(self, statements):
        """Change what the catalogue is."""
        with closing(sqlite3.connect(self.folder.catalogue)) as connection:
            connection.executescript(statements)

    def move(self, path, target, **columns):
        """Move a published file, and let the catalogue follow."""
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).rename(self.root / target)
        self.sql("update files set path = ? where path = ?", target, path)
        for column, value in columns.items():
            self.sql(f"update files set {column} = ? where path = ?", value, target)

    def replace_bytes(self, path, content):
        """Change a published file, and let the catalogue follow."""
        (self.root / path).write_bytes(content)
        self.sql(
            "update files set size_bytes = ?, sha256 = ? where path = ?",
            len(content),
            hashlib.sha256(content).hexdigest(),
            path,
        )


def _block(market, kind, text, epoch):
    return Block(
        market=market,
        source=Source.DERIVED if kind in DERIVED_KINDS else Source.STREAM,
        connection=1,
        received_ns=(TIME_MS + 40) * 10**6,
        kinds=bytes([kind]),
        messages=[text],
        size_bytes=len(text),
        epochs=[epoch] if epoch else None,
    )


def rewrite(recorded, part, change, *, keep_schema=True):
    """Change the columns of a published file, which stays a whole file with the right checksum; returns its path."""
    (path,) = [path for path in recorded.folder.parquet.rglob("*.parquet") if part in str(path)]
    kind = Kind.from_label(path.parents[2].name)
    schema = dict(COLUMNS[kind])
    groups = list(read_coded(path, list(schema)))
    labels = dict(groups[0].labels)
    columns = {
        name: np.concatenate([group.columns[name] for group in groups]).astype(
            np.int32 if schema[name] == "string" else groups[0].columns[name].dtype
        )
        for name in schema
    }
    change(columns, labels)
    if not keep_schema:
        schema = {name: schema.get(name, "int64") for name in columns}
    with path.open("wb") as file:
        write_file(file, schema, {name: labels[name] for name in schema if schema[name] == "string"}, [columns])
    name = path.relative_to(recorded.root).as_posix()
    recorded.replace_bytes(name, path.read_bytes())
    return name


def setting(name, value, row=0):
    def change(columns, _labels):
        columns[name][row] = value

    return change
