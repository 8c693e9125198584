"""Recordings of an exchange's messages: lines in, messages out, text untouched. Pure but for `open_recording`.

Two formats. hftbacktest's: `<ns> {"stream":...,"data":...}` a line, and `<ns> {"lastUpdateId":...}` for an order-book
snapshot of the file's one symbol. cryptofeed's: a first line `<url> <-> <time>`, then `<seconds>: {...}` a line, and
`<url> -> <seconds>: {...}` for an answer of REST.
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import attrs

from streamsvc.errors import UsageError
from streamsvc.schema import Market

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SNAPSHOTS_MAX = 1000
_HFTBACKTEST = re.compile(rb"(?P<ns>\d{16,20}) (?P<text>\{.*\})")
_CRYPTOFEED = re.compile(rb"(?P<sec>\d{9,11}(\.\d+)?): (?P<text>\{.*\})")
_CRYPTOFEED_REST = re.compile(rb"(?P<url>https?://\S+) -> (?P<sec>\d{9,11}(\.\d+)?): (?P<text>\{.*\})")
_ENVELOPE = b'{"stream":"'
_DATA = b'","data":'
_FUTURES_HOSTS = ("fstream", "fapi")


@attrs.frozen
class RecordedMessage:
    """A message of a stream.

    Attributes:
        time_us: When it was received.
        name: The stream's name.
        data: Its payload.
        text: The whole message, envelope included.
    """

    time_us: int
    name: str
    data: bytes
    text: bytes


@attrs.frozen
class RecordedSnapshot:
    """An order book that was fetched. `symbol` is in upper case, empty where the line does not say it."""

    time_us: int
    symbol: str
    text: bytes


@attrs.frozen
class RecordedInfo:
    """An answer of `exchangeInfo`."""

    text: bytes


Record = RecordedMessage | RecordedSnapshot | RecordedInfo


def read_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """What the lines hold, in their order; lines that hold nothing of use are passed over."""
    for line in lines:
        text = line.rstrip(b"\r\n")
        if match := _HFTBACKTEST.fullmatch(text):
            time_us = int(match["ns"]) // 1000
        elif match := _CRYPTOFEED.fullmatch(text):
            time_us = round(float(match["sec"]) * 1e6)
        elif match := _CRYPTOFEED_REST.fullmatch(text):
            yield from _rest_record(match)
            continue
        else:
            continue
        record = _record(time_us, match["text"])
        if record is not None:
            yield record


def _record(time_us: int, text: bytes) -> Record | None:
    if text.startswith(_ENVELOPE):
        name, separator, rest = text[len(_ENVELOPE) :].partition(_DATA)
        return RecordedMessage(time_us, name.decode(), rest[:-1], text) if separator else None
    return RecordedSnapshot(time_us, "", text) if text.startswith(b'{"lastUpdateId"') else None


def _rest_record(match: re.Match[bytes]) -> Iterator[Record]:
    url = urlsplit(match["url"].decode())
    if url.path.endswith("/exchangeInfo"):
        yield RecordedInfo(match["text"])
    elif url.path.endswith("/depth"):
        symbol = parse_qs(url.query).get("symbol", [""])[0]
        yield RecordedSnapshot(round(float(match["sec"]) * 1e6), symbol, match["text"])


@attrs.frozen
class Recording:
    """A file, looked through once.

    Attributes:
        path: The file.
        market: Whose messages it holds.
        names: Its streams, with how many messages each has.
        snapshots: Its order books, each with its symbol.
        info: Its `exchangeInfo`, if it has one.
    """

    path: Path
    market: Market
    names: dict[str, int]
    snapshots: tuple[RecordedSnapshot, ...]
    info: bytes | None

    def records(self) -> Iterator[Record]:
        """What it holds, read as it is asked for."""
        with gzip.open(self.path, "rb") as lines:
            for record in read_records(lines):
                yield self._named(record)

    def _named(self, record: Record) -> Record:
        if isinstance(record, RecordedSnapshot) and not record.symbol:
            return attrs.evolve(record, symbol=_only_symbol(self.names))
        return record


def open_recording(path: Path) -> Recording:
    """Look through a file.

    Raises:
        UsageError: it is not there, or is no recording.
    """
    names: dict[str, int] = {}
    snapshots: list[RecordedSnapshot] = []
    info: bytes | None = None
    urls: list[str] = []
    is_futures = False
    try:
        with gzip.open(path, "rb") as lines:
            for record in read_records(_marked(lines, urls)):
                if isinstance(record, RecordedMessage):
                    names[record.name] = names.get(record.name, 0) + 1
                    is_futures = is_futures or b'"pu":' in record.data
                elif isinstance(record, RecordedInfo):
                    info = record.text
                elif len(snapshots) < SNAPSHOTS_MAX:
                    snapshots.append(record)
    except (OSError, EOFError) as error:
        raise UsageError(f"{path} cannot be read as a recording: {error}") from error
    if not names and not snapshots and info is None:
        raise UsageError(f"{path} holds no messages in a format that is known")
    is_futures = is_futures or any(host in url for url in urls for host in _FUTURES_HOSTS)
    recording = Recording(path, Market.FUTURES if is_futures else Market.SPOT, names, (), info)
    named = tuple(attrs.evolve(one, symbol=one.symbol or _only_symbol(names)) for one in snapshots)
    return attrs.evolve(recording, snapshots=named)


def _marked(lines: Iterable[bytes], urls: list[str]) -> Iterator[bytes]:
    """The lines as they are; the addresses in them are collected."""
    for line in lines:
        if line.startswith((b"ws", b"http")):
            urls.append(line.split(b" ", 1)[0].decode("latin-1"))
        yield line


def _only_symbol(names: Iterable[str]) -> str:
    return next((name.partition("@")[0].upper() for name in names), "")
