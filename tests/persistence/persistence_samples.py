"""Messages, segments and a disk that fails on demand, for the tests of persistence."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path

import trio

from streamsvc.batch import Block
from streamsvc.persistence.catalogue_ledger import LedgerCatalogue
from streamsvc.persistence.files import Files, no_room_mapped
from streamsvc.persistence.journal import encode_frame, encode_header, frame_seed
from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.persistence.publish import Publisher
from streamsvc.persistence.quarantine import QuarantineFolder
from streamsvc.schema import Kind, Market, Source

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
NAME = SegmentName(run=1, token=0xDEADBEEF, sequence=0)
DAY_MS = 86_400_000
TIME_MS = 1_700_000_000_000
"""2023-11-14T22:13:20Z."""
RECEIVED_NS = (TIME_MS + 40) * 10**6


def spot_trade(number: int, *, symbol: str = "BTCUSDT", time_ms: int = TIME_MS, price: str = "37.5", **more: object):
    """A spot trade; `more` replaces fields, None removes one."""
    data = {
        "e": "trade", "E": time_ms + 1, "s": symbol, "t": number, "p": price, "q": "0.25", "T": time_ms, "m": True,
        "M": True,
    }  # fmt: skip
    return text_of(f"{symbol.lower()}@trade", data, more)


def futures_depth(number: int, bids: list, asks: list, *, symbol: str = "BTCUSDT", **more: object):
    """A futures depth update with the ids `10 n` to `10 n + 9`."""
    data = {
        "e": "depthUpdate", "E": TIME_MS + 1, "T": TIME_MS, "s": symbol, "U": 10 * number, "u": 10 * number + 9,
        "pu": 10 * number - 1, "b": bids, "a": asks,
    }  # fmt: skip
    return text_of(f"{symbol.lower()}@depth@100ms", data, more)


def text_of(stream: str, data: dict, more: dict) -> bytes:
    data = {name: value for name, value in (data | more).items() if value is not None}
    return json.dumps({"stream": stream, "data": data}, ensure_ascii=False, separators=(",", ":")).encode()


def block(
    texts: list[bytes], kind: Kind = Kind.TRADE, market: Market = Market.SPOT, received_ns: int = RECEIVED_NS, **more
):
    """A block of messages of one kind."""
    return Block(
        market=market,
        source=Source.STREAM,
        connection=1,
        received_ns=received_ns,
        kinds=bytes([kind]) * len(texts),
        messages=texts,
        size_bytes=sum(map(len, texts)),
        **more,
    )


def segment_bytes(blocks: list[Block], name: SegmentName = NAME) -> bytes:
    return b"".join([encode_header(name), *(encode_frame(each, frame_seed(name)) for each in blocks)])


def make_folder(root: Path) -> DataFolder:
    """An empty data folder."""
    folder = DataFolder(root)
    for path in (folder.journal, folder.failed, folder.parquet, folder.tmp, folder.quarantine):
        path.mkdir(parents=True, exist_ok=True)
    return folder


def make_publisher(folder: DataFolder, files: Files | None = None, quarantine_bytes: int = 1 << 20) -> Publisher:
    catalogue = LedgerCatalogue(folder.catalogue)
    catalogue.prepare()
    return Publisher(
        folder=folder,
        files=files or Files(),
        catalogue=catalogue,
        quarantine=QuarantineFolder(folder.quarantine, quarantine_bytes),
        wall_ns=lambda: RECEIVED_NS,
    )


def put_segment(folder: DataFolder, blocks: list[Block], name: SegmentName = NAME) -> Path:
    """A segment in the journal."""
    path = folder.segment(name)
    path.write_bytes(segment_bytes(blocks, name))
    return path


async def inline(function, *args):
    """The runner of blocking work for tests with a clock that jumps."""
    await trio.lowlevel.checkpoint()
    return function(*args)


class Crash(BaseException):
    """The process ends here, as far as the code under test can tell."""


class FailingFiles(Files):
    """A disk whose n-th call fails.

    Args:
        at: Which call, from 1; 0: none.
        fault: What it raises: an errno, or an exception. Errors of the disk stay: everything after fails as well.
        only: The calls that count; empty: all.
        is_short: Whether writes take only a part.
    """

    def __init__(self, at: int = 0, fault: int | BaseException = errno.EIO, only: str = "", *, is_short: bool = False):
        self.at = at
        self.fault = fault
        self.only = only
        self.is_short = is_short
        self.calls: list[str] = []
        self.failed_at: int | None = None
        self.free: int | None = None

    def _count(self, call: str) -> None:
        self.calls.append(call)
        if self.only and call != self.only:
            return
        self.at -= 1
        if self.at == 0:
            self.failed_at = len(self.calls)
            if isinstance(self.fault, BaseException):
                raise self.fault
            with no_room_mapped():
                raise OSError(self.fault, os.strerror(self.fault))

    def create(self, path):
        self._count("create")
        return super().create(path)

    def open_to_append(self, path):
        self._count("create")
        return super().open_to_append(path)

    def write(self, descriptor, data):
        if self.at == 1 and self.only in ("", "write") and len(data) > 2:
            super().write(descriptor, data[: len(data) // 2])
        self._count("write")
        return super().write(descriptor, data[:7] if self.is_short else data)

    def truncate(self, descriptor, size_bytes):
        self._count("truncate")
        super().truncate(descriptor, size_bytes)

    def sync(self, descriptor):
        self._count("sync")
        super().sync(descriptor)

    def sync_folder(self, folder):
        self._count("sync_folder")
        super().sync_folder(folder)

    def make_folder(self, folder):
        self._count("make_folder")
        super().make_folder(folder)

    def replace(self, source, target):
        self._count("replace")
        super().replace(source, target)

    def unlink(self, path):
        self._count("unlink")
        super().unlink(path)

    def remove_tree(self, folder):
        self._count("remove_tree")
        super().remove_tree(folder)

    def free_bytes(self, folder):
        return super().free_bytes(folder) if self.free is None else self.free


def recorded_lines(name: str) -> list[tuple[int, bytes]]:
    """Receive time (ns) and text of every stream message in a recording."""
    lines = []
    with gzip.open(RECORDINGS / name) as file:
        for line in file:
            first, _, text = line.rstrip().partition(b" ")
            if not text.startswith(b'{"stream"'):
                continue
            received = first.rstrip(b":")
            lines.append((int(float(received) * 1e9) if b"." in received else int(received), text))
    return lines


KIND_OF_STREAM = {
    "trade": Kind.TRADE,
    "aggTrade": Kind.AGG_TRADE,
    "depth": Kind.DEPTH,
    "bookTicker": Kind.BOOK_TICKER,
    "kline_1m": Kind.KLINE_1M,
}


def kind_of(text: bytes) -> Kind:
    """The kind of a message of the combined form."""
    return KIND_OF_STREAM[text[11 : text.index(b'"', 11)].decode().split("@")[1]]
