"""A stream as the hot path sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamsvc.schema import CHAINED_KINDS, TRADE_KINDS, Kind
from streamsvc.venues.binance_heads import head_decoder, head_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.integrity.track import Track
    from streamsvc.watchdog.health import StreamHealth

_DEPTH_BRACKETS = 2
"""Brackets of an order-book update that are no level: its two lists."""


class Lane:
    """How a stream is read, and whose health it marks."""

    __slots__ = (
        "chain",
        "decode",
        "head_type",
        "health",
        "is_chained",
        "is_depth",
        "is_trade",
        "kind_number",
        "symbol",
        "track",
    )

    def __init__(self, health: StreamHealth, track: Track) -> None:
        stream = health.stream
        self.decode: Callable[[bytes], Any] = head_decoder(stream.market, stream.kind)
        self.head_type: type[Any] = head_type(stream.market, stream.kind)
        self.health = health
        self.is_depth = stream.kind is Kind.DEPTH
        self.is_trade = stream.kind in TRADE_KINDS
        self.is_chained = stream.kind in CHAINED_KINDS
        self.track = track
        self.chain = track.chain
        self.kind_number = int(stream.kind)
        self.symbol = stream.symbol

    def count(self, text: bytes) -> None:
        """An order-book update is recorded outside the hot path."""
        self.health.messages += 1
        self.health.size_bytes += len(text)
        self.health.more_rows += levels_of(text) - 1


def levels_of(text: bytes) -> int:
    """The rows that an order-book update becomes; it is not decoded for that."""
    return max(1, text.count(b"[") - _DEPTH_BRACKETS)


def refusal(lane: Lane | None, head: Any) -> str:
    """Why a message that could be decoded is not recorded."""
    if lane is None:
        return "unknown_stream"
    return "symbol_mismatch" if type(head) is lane.head_type else "wrong_shape"
