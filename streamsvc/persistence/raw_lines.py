"""The lines that `streamsvc export-raw` makes of journal blocks (pure): those of hftbacktest's own recorder.

A message of a stream is its text as received, an order book of REST is the exchange's JSON alone. Trades that were
fetched afterwards make none: they have no text of a stream, and the time of their fetch is not when they happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from streamsvc.gap import NOTE_KIND
from streamsvc.schema import TRADE_KINDS, Kind, Source
from streamsvc.venues.binance_heads import DECODE_ERRORS, head_decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamsvc.batch import Block
    from streamsvc.schema import Market

_NAME_BEGIN = b'{"stream":"'


class _Fetched(msgspec.Struct):
    symbol: str
    data: msgspec.Raw


_FETCHED = msgspec.json.Decoder(_Fetched)


class LineReader:
    """Makes lines of blocks, and remembers whose stream is whose.

    Attributes:
        unreadable: Messages whose symbol could not be read.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        self._symbols: dict[tuple[Market, int, bytes], str] = {}

    def read(self, block: Block) -> Iterator[tuple[str, bytes | None]]:
        """Symbol and text of every message, in order; no text has a line break. None: a trade that makes no line."""
        for kind, message in zip(block.kinds, block.messages, strict=True):
            if kind == NOTE_KIND:
                continue
            try:
                found = self._read(block, kind, message)
            except DECODE_ERRORS:
                self.unreadable += 1
                continue
            if found is not None:
                symbol, text = found
                # In JSON a line break can only stand between words.
                yield symbol, text.replace(b"\n", b" ") if text is not None and b"\n" in text else text

    def _read(self, block: Block, kind: int, text: bytes) -> tuple[str, bytes | None] | None:
        if block.source is Source.STREAM:
            return self._symbol_of(block.market, kind, text), text
        if block.source is Source.REST and kind == Kind.DEPTH_SNAPSHOT:
            fetched = _FETCHED.decode(text)
            return fetched.symbol, bytes(fetched.data)
        if block.source is Source.REST and kind in TRADE_KINDS:
            return _FETCHED.decode(text).symbol, None
        return None

    def _symbol_of(self, market: Market, kind: int, text: bytes) -> str:
        """The symbol of a stream's message. The exchange writes the stream's name first; other texts are slower."""
        begin = len(_NAME_BEGIN)
        name = text[begin : text.find(b'"', begin)] if text.startswith(_NAME_BEGIN) else b""
        symbol = self._symbols.get((market, kind, name))
        if symbol is None:
            if not any(kind == member for member in Kind):
                raise msgspec.ValidationError("a kind of a newer version")
            symbol = str(head_decoder(market, Kind(kind))(text).data.s)
            if name:
                self._symbols[market, kind, name] = symbol
        return symbol
