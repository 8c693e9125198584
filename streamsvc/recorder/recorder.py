"""A recorder for records of one's own: trades, fills, signals. On Trio, with or without the service.

    async with open_trade_recorder(trades_file="data/trades.jsonl") as recorder:
        await recorder.write_trade({"trade_id": "T1", "symbol": "BTCUSDT", "entry_price": 50_000.0})

A record is JSON text from the call that brought it on. It waits in memory until there are `buffer_size` of them or
`flush_interval_sec` have passed, and goes to the end of the file in a thread. What fails stays in memory, in order, and
is tried again; memory is bounded, so that writers wait, and then are told.
"""

from __future__ import annotations

import weakref
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.errors import UsageError
from streamsvc.log import logger
from streamsvc.persistence.files import Files
from streamsvc.recorder.buffer import Buffer
from streamsvc.recorder.compression import waiting
from streamsvc.recorder.encoding import encode_record, encode_records, unstructure
from streamsvc.recorder.faults import NotWrittenError, RecorderClosedError, RecordError
from streamsvc.recorder.options import RecorderOptions
from streamsvc.recorder.pairs import Pairs
from streamsvc.recorder.pending import decoded
from streamsvc.recorder.rotated import Compressor
from streamsvc.recorder.statistics import RecorderStatistics
from streamsvc.recorder.trade_file import DISK_FAULTS, TradeFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from streamsvc.recorder.buffer import Chunk
    from streamsvc.recorder.encoding import Record, Unstructure

_ROTATE_RETRY_SEC = 60.0
_BUFFERS_AHEAD = 8
"""Times `buffer_size` that writers may be ahead of a disk that works: it costs no speed, and a kill takes no more."""

_JOINED_BYTES_MORE = 200
"""Of names and times around entry and exit."""
_recorders: weakref.WeakSet[TradeRecorder] = weakref.WeakSet()


def _utc_now() -> datetime:
    return datetime.now(UTC)


RunBlocking = Any
"""Runs a blocking function with its arguments: `trio.to_thread.run_sync`, or in line under a mock clock."""


@asynccontextmanager
async def open_trade_recorder(
    *,
    files: Files | None = None,
    run_blocking: RunBlocking = trio.to_thread.run_sync,
    now: Callable[[], datetime] = _utc_now,
    unstructure: Unstructure = unstructure,
    **options: Any,
) -> AsyncIterator[TradeRecorder]:
    """Open a recorder; leaving the block writes what waits, and waits for compression, both under a limit.

    Args:
        files: The disk; the real one if not given.
        run_blocking: Runs blocking work: threads of Trio's.
        now: The wall clock, in UTC.
        unstructure: Makes a mapping of an attrs class, as the method of a converter of cattrs does.
        options: Those of `RecorderOptions`: at least `trades_file`.

    Raises:
        UsageError: an option is wrong, another recorder has the files, or they cannot be used; nothing was touched.
        NotWrittenError: at the end of the block; its `lines` are what could not be written.
    """
    chosen = _options_of(options)
    recorder = TradeRecorder(chosen, files or Files(), run_blocking, now, unstructure)
    await recorder._open()  # noqa: SLF001 - the two belong together
    try:
        async with _without_group(), trio.open_nursery() as nursery:
            nursery.start_soon(recorder._run)  # noqa: SLF001
            nursery.start_soon(recorder._compressor.run)  # noqa: SLF001
            try:
                yield recorder
            finally:
                try:
                    await recorder._finish()  # noqa: SLF001
                finally:
                    nursery.cancel_scope.cancel()
    finally:
        recorder._close()  # noqa: SLF001


def open_recorders() -> list[TradeRecorder]:
    """The recorders that are open in this process, for those who show it."""
    return sorted(_recorders, key=lambda recorder: str(recorder.trades_file))


def _options_of(options: dict[str, Any]) -> RecorderOptions:
    unknown = options.keys() - attrs.fields_dict(RecorderOptions).keys()
    if unknown or "trades_file" not in options:
        wrong = f"unknown: {', '.join(sorted(unknown))}" if unknown else "trades_file is missing"
        raise UsageError(f"open_trade_recorder: {wrong}")
    return RecorderOptions(**options)


@asynccontextmanager
async def _without_group() -> AsyncIterator[None]:
    """Raise what the block raised as it is: the nursery in it is nobody's business outside."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        alone = group.exceptions[0]
        context = alone.__context__
        try:
            raise alone
        finally:
            alone.__context__ = context  # Not the group, of which nobody has heard.


class TradeRecorder:
    """Made by `open_trade_recorder`. Any number of tasks may use it; the order of a task's records is kept.

    Every call lets a cancellation through before it takes anything, and none after.
    """

    def __init__(
        self,
        options: RecorderOptions,
        files: Files,
        run_blocking: RunBlocking,
        now: Callable[[], datetime],
        unstructure: Unstructure,
    ) -> None:
        self._options = options
        self._run_blocking = run_blocking
        self._now = now
        self._unstructure = unstructure
        self._buffer = Buffer()
        self._file = TradeFile(options.trades_file, files)
        self._pairs = None if options.pending_file is None else Pairs(options.pending_file, files, run_blocking)
        self._compressor = Compressor(options, files, run_blocking, now)
        self._writing = trio.Lock()
        self._arrived, self._filled, self._room = trio.Event(), trio.Event(), trio.Event()
        self._ahead_max = options.buffer_size * _BUFFERS_AHEAD
        self._is_closed = False
        self._has_unsynced = False
        self._fault: Exception | None = None
        self._failures = 0  # In a row.
        self._retry_at = self._rotate_at = 0.0
        self._done = RecorderStatistics()
        self._flush_sec = 0.0

    @property
    def trades_file(self) -> Path:
        """The file that is written to."""
        return self._options.trades_file

    def statistics(self) -> RecorderStatistics:
        """What was done so far."""
        flushes = self._done.total_flushes
        return attrs.evolve(
            self._done,
            total_writes=self._buffer.accepted,
            total_compressions=self._compressor.total,
            avg_flush_duration_ms=self._flush_sec / flushes * 1000 if flushes else 0.0,
            buffered=self._buffer.records,
        )

    async def write_trade(self, record: Record) -> None:
        """Take a record; it goes to the file with the next flush.

        Raises:
            RecordError: it cannot be written.
            NotWrittenError: the disk takes nothing, and there was no room in memory for `wait_sec_max`.
        """
        if self._buffer.queued >= self._ahead_max:
            await self._let_write()
        await trio.lowlevel.checkpoint_if_cancelled()
        line = encode_record(record, self._unstructure)
        if self._is_closed or self._buffer.size_bytes + len(line) > self._options.buffer_bytes_max:
            await self._wait_room(len(line))
        self._take(line, 1)
        if self._buffer.queued % self._options.buffer_size == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()  # So that a loop of writes lets the flushing begin.

    async def write_trades_batch(self, records: Sequence[Record]) -> None:
        """Take records, all or none, and return when they are in the file.

        Raises:
            RecordError: one of them cannot be written.
            NotWrittenError: the disk takes nothing; `is_held` says whether the records are held for later.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        lines = encode_records(records, self._unstructure)
        if self._is_closed or self._buffer.size_bytes + len(lines) > self._options.buffer_bytes_max:
            await self._wait_room(len(lines))
        if not records:
            return
        self._buffer.add(lines, len(records))
        await self._until_written(is_synced=self._options.sync_each_flush)

    async def flush(self) -> None:
        """Return when every record that was taken before is on the disk.

        Raises:
            NotWrittenError: the disk did not take them within `wait_sec_max`; they are held, and tried again.
        """
        self._require_open()
        await self._until_written(is_synced=True)

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
        if trade_id in pairs.trades.closing:  # One id can be in the pending file once.
            await self.flush()
        pairs.trades.add(trade_id, text[:-1], self._now())
        try:
            await pairs.keep()
        except DISK_FAULTS as fault:
            pairs.trades.take_back(trade_id)
            raise NotWrittenError(f"trade {trade_id} could not be opened: {fault}", is_held=False) from fault
        except BaseException:
            pairs.trades.take_back(trade_id)
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
        if self._is_closed or self._buffer.size_bytes + size > self._options.buffer_bytes_max:
            await self._wait_room(size)
        self._take(pairs.trades.close(trade_id, text[:-1], self._now()), 1, trade_id)

    def pending(self) -> dict[str, Any]:
        """The entries of the trades that are open, by id."""
        return decoded(self._require_pairs().trades.open)

    async def _let_write(self) -> None:
        """Wait a little while records come faster than they go to a disk that works."""
        if not self._failures:
            with trio.move_on_after(self._options.flush_interval_sec):
                await self._room.wait()

    def _take(self, lines: bytes, records: int, closes: str | None = None) -> None:
        self._buffer.add(lines, records, closes)
        self._arrived.set()
        if self._buffer.queued >= self._options.buffer_size:
            self._filled.set()

    def _require_open(self) -> None:
        if self._is_closed:
            raise RecorderClosedError(f"the recorder of {self.trades_file} is closed: its block has been left")

    def _require_pairs(self) -> Pairs:
        self._require_open()
        if self._pairs is None:
            raise UsageError("open_trade_recorder was given no pending_file, where open trades are kept")
        return self._pairs

    async def _wait_room(self, size_bytes: int) -> None:
        """Wait until so much can be taken."""
        self._require_open()
        size_bytes_max = self._options.buffer_bytes_max
        if size_bytes > size_bytes_max:
            raise RecordError(f"{size_bytes:,} bytes at once are more than buffer_mb_max allows ({size_bytes_max:,})")
        with trio.move_on_after(self._options.wait_sec_max):
            while self._buffer.size_bytes + size_bytes > size_bytes_max:
                await self._room.wait()
                self._require_open()
            return
        raise NotWrittenError(
            f"{self.trades_file} takes nothing and memory is full ({self._buffer.records:,} records wait): "
            f"{self._fault or 'the disk is slow'}",
            is_held=False,
        ) from self._fault

    async def _run(self) -> None:
        """Write what waits when there is much of it or it has waited long, until cancelled."""
        while True:
            await self._arrived.wait()
            with trio.move_on_after(self._options.flush_interval_sec):
                await self._filled.wait()
            await trio.sleep_until(self._retry_at)
            self._arrived, self._filled = trio.Event(), trio.Event()
            wanted = self._buffer.accepted
            while self._buffer.written < wanted:
                try:
                    await self._write_chunk(is_synced=self._options.sync_each_flush)
                except DISK_FAULTS:
                    await trio.sleep_until(self._retry_at)

    async def _until_written(self, *, is_synced: bool, wait_sec: float | None = None) -> None:
        """Return when what was taken before is in the file."""
        wanted = self._buffer.accepted
        wait_sec = self._options.wait_sec_max if wait_sec is None else wait_sec
        with trio.move_on_after(wait_sec):
            try:
                while self._buffer.written < wanted or (is_synced and self._has_unsynced):
                    try:
                        await self._write_chunk(is_synced=is_synced)
                    except DISK_FAULTS:
                        await trio.sleep_until(self._retry_at)
                return
            finally:
                if self._buffer.records:
                    self._arrived.set()
        raise NotWrittenError(
            f"{self.trades_file} was not written within {wait_sec:g} s "
            f"({self._buffer.records:,} records wait, and are tried again): {self._fault or 'the disk is slow'}",
            is_held=True,
        ) from self._fault

    async def _write_chunk(self, *, is_synced: bool) -> None:
        """Write what waits, once; then what has to follow it."""
        async with self._writing:
            chunk = self._buffer.chunk()
            if chunk is None:
                if is_synced and self._has_unsynced:
                    await self._sync()
                return
            begin = trio.current_time()
            try:
                is_synced |= bool(chunk.closes)
                await self._run_blocking(partial(self._file.append, chunk.lines, is_synced=is_synced))
            except DISK_FAULTS as fault:
                self._has_failed(fault)
                raise
            self._has_written(chunk, trio.current_time() - begin, is_synced=is_synced)
            await self._follow_up(chunk)

    async def _sync(self) -> None:
        try:
            await self._run_blocking(self._file.sync)
        except DISK_FAULTS as fault:
            self._has_failed(fault)
            self._has_unsynced = False
            raise NotWrittenError(
                f"{self.trades_file} could not be synced, so it is not known what the disk has of it: {fault}",
                is_held=False,
            ) from fault
        self._has_unsynced = False

    def _has_failed(self, fault: Exception) -> None:
        self._fault = fault
        self._failures += 1
        retry_sec = self._options.retry_sec(self._failures)
        self._retry_at = trio.current_time() + retry_sec
        self._done = attrs.evolve(self._done, failed_flushes=self._done.failed_flushes + 1)
        logger.warning(
            "trades_not_written",
            file=str(self.trades_file),
            error=str(fault),
            failures=self._failures,
            buffered=self._buffer.records,
            retry_sec=retry_sec,
        )

    def _has_written(self, chunk: Chunk, seconds: float, *, is_synced: bool) -> None:
        self._buffer.done()
        self._has_unsynced = not is_synced
        if self._failures:
            logger.info("trades_written_again", file=str(self.trades_file), failures=self._failures)
        self._failures, self._fault = 0, None
        self._flush_sec += seconds
        self._done = attrs.evolve(
            self._done,
            total_bytes_written=self._done.total_bytes_written + len(chunk.lines),
            total_flushes=self._done.total_flushes + 1,
            last_flush_time=self._now(),
        )
        self._room.set()
        self._room = trio.Event()

    async def _follow_up(self, chunk: Chunk) -> None:
        """What a chunk in the file brings with it: closed trades leave the pending file, a large file is rotated."""
        if self._pairs is not None:
            self._pairs.trades.settle(chunk.closes)
            if not self._pairs.is_kept:
                try:
                    await self._pairs.keep()
                except DISK_FAULTS as fault:
                    logger.warning("pending_trades_not_kept", file=str(self._options.pending_file), error=str(fault))
                    return  # The next opening finds their records in the live file, which therefore stays.
        if self._file.size_bytes < self._options.rotation_bytes or trio.current_time() < self._rotate_at:
            return
        try:
            await self._run_blocking(self._file.rotate, self._now())
        except DISK_FAULTS as fault:
            self._rotate_at = trio.current_time() + _ROTATE_RETRY_SEC
            logger.warning(
                "trade_file_not_rotated", file=str(self.trades_file), error=str(fault), retry_sec=_ROTATE_RETRY_SEC
            )
            return
        self._done = attrs.evolve(self._done, total_rotations=self._done.total_rotations + 1)
        self._compressor.ask()

    async def _open(self) -> None:
        try:
            await self._run_blocking(self._file.open)
            if self._pairs is not None:
                await self._run_blocking(self._pairs.open, self.trades_file)
        except DISK_FAULTS as fault:
            self._file.close()
            raise UsageError(f"{self.trades_file} cannot be written: {fault}") from fault
        except BaseException:
            self._file.close()
            raise
        self._compressor.ask()
        _recorders.add(self)

    async def _finish(self) -> None:
        """Write what waits, and wait for compression, both under a limit, whoever cancels."""
        self._is_closed = True
        self._room.set()
        limit_sec = self._options.close_sec_max
        try:
            with trio.CancelScope(shield=True):
                await self._until_written(is_synced=True, wait_sec=limit_sec)
        except NotWrittenError as fault:
            lines, records = self._buffer.left(), self._buffer.records
            logger.error("trades_lost", file=str(self.trades_file), records=records, error=str(fault))
            raise NotWrittenError(
                f"{self.trades_file}: {records:,} records could not be written before the end; this error's `lines` "
                f"are what they are: {fault}",
                is_held=False,
                lines=lines,
            ) from fault
        finally:
            self._compressor.ask(is_last=True)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + limit_sec):
                await self._compressor.ended.wait()
            self._compressor.give_up()

    def _close(self) -> None:
        """Let the files go, and tell what was done and what was not."""
        _recorders.discard(self)
        self._file.close()
        if self._pairs is not None:
            self._pairs.close()
        left = len(waiting(self.trades_file)) if self._options.enable_compression else 0
        tell = logger.warning if left else logger.info
        tell(
            "trade_recorder_closed",
            file=str(self.trades_file),
            records=self._buffer.written,
            rotations=self._done.total_rotations,
            uncompressed_files=left,
        )
