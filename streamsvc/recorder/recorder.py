"""A recorder for records of one's own: trades, fills, signals. On Trio, with or without the service.

    async with open_trade_recorder(trades_file="data/trades.jsonl") as recorder:
        await recorder.write_trade({"trade_id": "T1", "symbol": "BTCUSDT", "entry_price": 50_000.0})

A record is JSON text from the call that brought it on. It waits in memory until there are `buffer_size` of them or
`flush_interval_sec` have passed, and goes to the end of the file (`Flusher`). What fails stays in memory, in order, and
is tried again; memory is bounded, so that writers wait, and then are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from streamsvc.errors import UsageError
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.recorder.encoding import encode_record, encode_records
from streamsvc.recorder.faults import NotWrittenError
from streamsvc.recorder.pending import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from streamsvc.recorder.encoding import Record, Unstructure
    from streamsvc.recorder.flushing import Flusher
    from streamsvc.recorder.options import RecorderOptions
    from streamsvc.recorder.pairs import Pairs
    from streamsvc.recorder.statistics import RecorderStatistics

_JOINED_BYTES_MORE = 200
"""Of names and times around entry and exit."""


class TradeRecorder:
    """Made by `open_trade_recorder`. Any number of tasks may use it; the order of a task's records is kept.

    A call that is cancelled before it has taken its records takes none. One that is cancelled while it waits for the
    disk takes nothing back: its records are held, and written.
    """

    def __init__(
        self,
        options: RecorderOptions,
        flusher: Flusher,
        pairs: Pairs | None,
        *,
        now: Callable[[], datetime],
        unstructure: Unstructure,
    ) -> None:
        self._options = options
        self._buffer_size, self._bytes_max = options.buffer_size, options.buffer_bytes_max
        self._flusher = flusher
        self._buffer = flusher.buffer
        self._pairs = pairs
        self._now = now
        self._unstructure = unstructure

    @property
    def trades_file(self) -> Path:
        """The file that is written to."""
        return self._options.trades_file

    def statistics(self) -> RecorderStatistics:
        """What was done so far."""
        return self._flusher.statistics()

    async def write_trade(self, record: Record) -> None:
        """Take a record; it goes to the file with the next flush.

        Raises:
            RecordError: it cannot be written.
            NotWrittenError: the disk takes nothing, and there was no room in memory for `wait_sec_max`.
        """
        buffer, flusher = self._buffer, self._flusher
        if buffer.queued >= flusher.ahead_max:
            await flusher.let_write()
        await trio.lowlevel.checkpoint_if_cancelled()
        line = encode_record(record, self._unstructure)
        if flusher.is_closed or buffer.size_bytes + len(line) > self._bytes_max:
            await flusher.wait_room(len(line))
        flusher.take(line)
        if buffer.queued % self._buffer_size == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()  # So that a loop of writes lets the flushing begin.

    async def write_trades_batch(self, records: Sequence[Record]) -> None:
        """Take records, all or none, and return when they are in the file.

        Raises:
            RecordError: one of them cannot be written.
            NotWrittenError: the disk takes nothing; `is_held` says whether the records are held for later.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        lines = encode_records(records, self._unstructure)
        if self._flusher.is_closed or self._buffer.size_bytes + len(lines) > self._bytes_max:
            await self._flusher.wait_room(len(lines))
        if not records:
            return
        self._buffer.add(lines, len(records))
        await self._flusher.until_written(is_synced=self._options.sync_each_flush)

    async def flush(self) -> None:
        """Return when every record that was taken before is on the disk.

        Raises:
            NotWrittenError: the disk did not take them within `wait_sec_max`; they are held, and tried again. Or
                (`is_held` is False) it could not be synced, and it is not known what it has.
        """
        self._flusher.require_open()
        await self._flusher.until_written(is_synced=True)

    async def open_trade(self, trade_id: str, entry: Record) -> None:
        """Keep the entry of a trade until it is closed; on the disk when this returns.

        Raises:
            PairError: this id is open.
            RecordError: the entry cannot be written.
            NotWrittenError: the pending file could not be replaced; the trade is not open.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        pairs = self._require_pairs()
        text = encode_record(entry, self._unstructure)
        while trade_id in pairs.trades.closing:  # One id can be in the pending file once.
            try:
                await self.flush()
            except NotWrittenError as fault:
                raise NotWrittenError(f"trade {trade_id} could not be opened: {fault}", is_held=False) from fault
        entry_kept = pairs.trades.add(trade_id, text[:-1], self._now())
        try:
            await pairs.keep()
        except DISK_FAULTS as fault:
            pairs.trades.take_back(trade_id, entry_kept)
            raise NotWrittenError(f"trade {trade_id} could not be opened: {fault}", is_held=False) from fault
        except BaseException:
            pairs.trades.take_back(trade_id, entry_kept)
            raise

    async def close_trade(self, trade_id: str, exit: Record) -> None:  # noqa: A002 - the field's word
        """Join the entry of an open trade and its exit to one record, and take that like any other.

        Raises:
            PairError: this id is not open.
            RecordError: the exit cannot be written; the trade stays open.
            NotWrittenError: there was no room in memory for `wait_sec_max`; the trade stays open.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        pairs = self._require_pairs()
        text = encode_record(exit, self._unstructure)
        entry = pairs.trades.require(trade_id)
        size = len(entry.entry) + len(text) + len(trade_id) + _JOINED_BYTES_MORE
        if self._buffer.size_bytes + size > self._bytes_max:
            await self._flusher.wait_room(size)
        self._flusher.take(pairs.trades.close(trade_id, text[:-1], self._now()), trade_id)

    def pending(self) -> dict[str, Any]:
        """The entries of the trades that are open, by id."""
        return decoded(self._require_pairs().trades.open)

    def _require_pairs(self) -> Pairs:
        self._flusher.require_open()
        if self._pairs is None:
            raise UsageError("open_trade_recorder was given no pending_file, where open trades are kept")
        return self._pairs
