"""Recordings as a source: their messages at their own pace, faster, or as fast as they are read. Pure but for files."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.log import logger
from streamsvc.simulator import events
from streamsvc.simulator.instruments import symbol_info
from streamsvc.simulator.recording import (
    RecordedInfo,
    RecordedMessage,
    RecordedSnapshot,
    Recording,
    open_recording,
)
from streamsvc.simulator.replayed import RecordedSymbol
from streamsvc.simulator.sources import HISTORY_TRADES_MAX
from streamsvc.simulator.streams import Stream, parse_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from streamsvc.schema import Market
    from streamsvc.simulator.history import History

UNPACED_MESSAGES = 500
PACED_MESSAGES_MAX = 5000
"""A call gives no more, however far behind the recording is: the rest comes with the next."""
PAUSE_US_MAX = 10_000_000
"""A longer silence in a recording is skipped, such as the years between two of them."""


class RecordingSource:
    """The recordings of one market, merged by receive time.

    Args:
        market: Which market.
        recordings: Of that market.
        speed: 1: as recorded; `math.inf`: as fast as it is read, so that no reader falls behind.
        history_trades_max: Trades kept for REST, per symbol.

    Attributes:
        is_done: Whether every message has been handed out.
        names: The streams that the recordings hold, with how many messages each has.
    """

    def __init__(
        self,
        market: Market,
        recordings: Sequence[Recording],
        *,
        speed: float = 1.0,
        history_trades_max: int = HISTORY_TRADES_MAX,
    ) -> None:
        self.market = market
        self.is_done = False
        self.is_unpaced = math.isinf(speed)
        self.names: dict[str, int] = {}
        self._speed = speed
        self._infos = [recording.info for recording in recordings if recording.info is not None]
        for recording in recordings:
            for name, count in recording.names.items():
                self.names[name] = self.names.get(name, 0) + count
        self._streams = {name: stream for name in self.names if (stream := parse_stream(market, name))}
        snapshots = sorted((one for r in recordings for one in r.snapshots), key=lambda one: one.time_us)
        symbols = {one.symbol for one in snapshots} | {s.symbol.upper() for s in self._streams.values()}
        self._symbols = {
            symbol: RecordedSymbol(
                market, symbol, [one for one in snapshots if one.symbol == symbol], history_trades_max
            )
            for symbol in sorted(symbols)
        }
        self._histories = {symbol: one.history for symbol, one in self._symbols.items()}
        self._records = heapq.merge(*(_timed(one) for one in recordings), key=lambda record: record.time_us)
        self._next = next(self._records, None)
        self._next_us: int | None = None

    def histories(self) -> Mapping[str, History]:
        """The past of every symbol, as far as the recordings have been played."""
        return self._histories

    def symbol_infos(self) -> list[dict[str, Any]]:
        """As recorded; made up for symbols that the recorded answer does not have."""
        infos = {one["symbol"]: one for text in self._infos for one in msgspec.json.decode(text)["symbols"]}
        for symbol, recorded in self._symbols.items():
            if symbol not in infos:
                infos[symbol] = symbol_info(self.market, recorded.instrument)
        return list(infos.values())

    def watch(self, stream: Stream) -> str | None:
        """Recorded streams are there anyway; depth at another speed than recorded is given as recorded."""
        for recorded in self._streams.values():
            if (recorded.kind, recorded.symbol, recorded.levels) == (stream.kind, stream.symbol, stream.levels):
                return recorded.canonical
        return None

    def advance(self, now_us: int) -> list[events.Event]:
        """The messages whose time has come; the first call starts the clock."""
        if self._next_us is None:
            self._next_us = now_us
        made: list[events.Event] = []
        while self._next is not None:
            if len(made) >= (UNPACED_MESSAGES if self.is_unpaced else PACED_MESSAGES_MAX):
                return made
            if not self.is_unpaced and self._next_us > now_us:
                return made
            self._take(self._next, made)
            self._step()
        self.is_done = True
        return made

    def next_due_us(self) -> int:
        """When the next message is due."""
        return self._next_us or 0

    def _step(self) -> None:
        before = self._next
        self._next = next(self._records, None)
        if before is not None and self._next is not None and self._next_us is not None and not self.is_unpaced:
            pause_us = min(PAUSE_US_MAX, max(0, self._next.time_us - before.time_us))
            self._next_us += int(pause_us / self._speed)

    def _take(self, record: RecordedMessage | RecordedSnapshot, made: list[events.Event]) -> None:
        if isinstance(record, RecordedSnapshot):
            self._symbols[record.symbol].take_snapshot(record.text)
            return
        stream = self._streams.get(record.name)
        if stream is None:
            return
        try:
            first_id, last_id = self._symbols[stream.symbol.upper()].take(stream.kind, record.data)
        except msgspec.DecodeError as error:
            logger.warning("recorded_message_odd", stream=record.name, reason=str(error))
            return
        body = events.Recorded(record.data, record.text, record.name)
        made.append(events.Event(stream.canonical, first_id, last_id, body))


def _timed(recording: Recording) -> Iterator[RecordedMessage | RecordedSnapshot]:
    return (record for record in recording.records() if not isinstance(record, RecordedInfo))


def open_sources(paths: Iterable[Path], *, speed: float = 1.0) -> dict[Market, RecordingSource]:
    """Recordings as one source a market.

    Raises:
        UsageError: a file is not there, or is no recording.
    """
    recordings = [open_recording(path) for path in paths]
    return {
        market: RecordingSource(market, [one for one in recordings if one.market is market], speed=speed)
        for market in sorted({one.market for one in recordings})
    }
