"""What brings records from memory to the file: one chunk at a time, tried again until the disk takes it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.recorder.buffer import Buffer
from streamsvc.recorder.faults import NotWrittenError, RecorderClosedError, RecordError
from streamsvc.recorder.statistics import RecorderStatistics
from streamsvc.recorder.trade_file import TradeFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from streamsvc.persistence.files import Files
    from streamsvc.recorder.buffer import Chunk
    from streamsvc.recorder.options import RecorderOptions
    from streamsvc.recorder.pairs import Pairs
    from streamsvc.recorder.rotated import Compressor

_ROTATE_RETRY_SEC = 60.0
_BUFFERS_AHEAD = 8
"""Times `buffer_size` that may wait behind the chunk that a disk that works is taking: it costs no speed."""

_AT_ONCE_BYTES_MAX = 1 << 18
"""So much is written without a thread where nobody waits for the disk: into the kernel's memory, in some 20 us, where a
thread and the way back cost 180. Redis writes its log in the same way."""

_AT_ONCE_SEC_MAX = 0.002
_THREADS_SEC = 10.0
"""Once that took longer the kernel has no memory to spare, and everything goes through threads for a while."""


class Flusher:
    """The buffer of a recorder, its file, and the way between them.

    Args:
        options: When and how.
        files: The disk.
        pairs: The open trades, if there are any: they are struck out when their records are in the file.
        compressor: Told of every rotation.
        run_blocking: Runs blocking work.
        now: The wall clock.

    Attributes:
        buffer: What waits.
        file: The live file.
        is_closed: Nothing more is taken.
    """

    def __init__(  # noqa: PLR0913 - what a recorder consists of
        self,
        options: RecorderOptions,
        files: Files,
        *,
        pairs: Pairs | None,
        compressor: Compressor,
        run_blocking: Any,
        now: Callable[[], datetime],
    ) -> None:
        self._options = options
        self._pairs = pairs
        self._compressor = compressor
        self._run_blocking = run_blocking
        self._now = now
        self.buffer = Buffer()
        self.file = TradeFile(options.trades_file, files)
        self.is_closed = self._is_over = False
        self._buffer_size = options.buffer_size
        self.ahead_max = options.buffer_size * _BUFFERS_AHEAD
        self._writing = trio.Lock()
        self._arrived, self._filled, self._room = trio.Event(), trio.Event(), trio.Event()
        self._fault: Exception | None = None
        self._failures = 0  # In a row.
        self._retry_at = self._rotate_at = self._threads_until = 0.0
        self._doubts_told = 0
        self._bytes_written = self._flushes = self._failed_flushes = self._rotations = 0
        self._flush_sec = 0.0
        self._last_flush_time: datetime | None = None

    def statistics(self) -> RecorderStatistics:
        """What was done so far."""
        return RecorderStatistics(
            total_writes=self.buffer.accepted,
            total_bytes_written=self._bytes_written,
            total_flushes=self._flushes,
            total_rotations=self._rotations,
            total_compressions=self._compressor.total,
            last_flush_time=self._last_flush_time,
            avg_flush_duration_ms=self._flush_sec / self._flushes * 1000 if self._flushes else 0.0,
            buffered=self.buffer.records,
            failed_flushes=self._failed_flushes,
        )

    def take(self, line: bytes, closes: str | None = None) -> None:
        """Take a record, to be written with the next flush."""
        buffer = self.buffer
        buffer.add(line, 1, closes)
        if buffer.queued == 1:
            self._arrived.set()
        if buffer.queued >= self._buffer_size:
            self._filled.set()

    def close(self) -> None:
        """Take nothing more; who waits for room is told."""
        self.is_closed = True
        self._made_room()

    def require_open(self) -> None:
        """Refuse what comes after the end.

        Raises:
            RecorderClosedError: it has come.
        """
        if self.is_closed:
            raise RecorderClosedError(f"the recorder of {self._options.trades_file} is closed: its block has been left")

    async def end(self) -> None:
        """Let the file go; whoever still calls is refused. Waits for a call that is under way."""
        with trio.CancelScope(shield=True):
            async with self._writing:
                self._is_over = True
                await self._run_blocking(self.file.close)

    def _require_file(self) -> None:
        if self._is_over:
            raise RecorderClosedError(
                f"the recorder of {self._options.trades_file} has ended, and has said what was lost"
            )

    async def let_write(self) -> None:
        """Wait a little while records come faster than they go to a disk that works."""
        if not self._failures:
            with trio.move_on_after(self._options.flush_interval_sec):
                await self._room.wait()

    async def wait_room(self, size_bytes: int) -> None:
        """Wait until so much can be taken.

        Raises:
            RecordError: it never can.
            NotWrittenError: it could not for `wait_sec_max`.
            RecorderClosedError: there is no recorder any more.
        """
        options = self._options
        self.require_open()
        if size_bytes > options.buffer_bytes_max:
            raise RecordError(
                f"{size_bytes:,} bytes at once are more than buffer_mb_max allows ({options.buffer_bytes_max:,})"
            )
        with trio.move_on_after(options.wait_sec_max):
            while self.buffer.size_bytes + size_bytes > options.buffer_bytes_max:
                await self._room.wait()
                self.require_open()
            return
        raise NotWrittenError(
            f"{options.trades_file} takes nothing and memory is full ({self.buffer.records:,} records wait): "
            f"{self._fault or 'the disk is slow'}",
            is_held=False,
        ) from self._fault

    async def run(self) -> None:
        """Write what waits when there is much of it or it has waited long, until cancelled."""
        while True:
            await self._arrived.wait()
            with trio.move_on_after(self._options.flush_interval_sec):
                await self._filled.wait()
            await trio.sleep_until(self._retry_at)
            self._arrived, self._filled = trio.Event(), trio.Event()
            await self._write_up_to(self.buffer.accepted, is_synced=self._options.sync_each_flush)

    async def until_written(self, *, is_synced: bool, wait_sec: float | None = None) -> None:
        """Return when what was taken before is in the file, or on the disk.

        Raises:
            NotWrittenError: it is not, after `wait_sec`; or it is not known what the disk has of it.
        """
        told = self._doubts_told
        wait_sec = self._options.wait_sec_max if wait_sec is None else wait_sec
        with trio.move_on_after(wait_sec) as scope:
            try:
                await self._write_up_to(self.buffer.accepted, is_synced=is_synced)
            finally:
                if self.buffer.records:
                    self._arrived.set()
        if scope.cancelled_caught:
            raise NotWrittenError(
                f"{self._options.trades_file} was not written within {wait_sec:g} s "
                f"({self.buffer.records:,} records wait, and are tried again): {self._fault or 'the disk is slow'}",
                is_held=True,
            ) from self._fault
        if is_synced and self.file.doubts > told:
            self._doubts_told = self.file.doubts
            raise NotWrittenError(
                f"{self._options.trades_file} could not be synced, so it is not known what the disk has of records "
                "that were written, and not synced, before",
                is_held=False,
            )

    async def _write_up_to(self, wanted: int, *, is_synced: bool) -> None:
        while self.buffer.written < wanted or (is_synced and self.file.has_unsynced):
            with suppress(*DISK_FAULTS):  # It was told, and is tried again.
                await self._write_chunk(is_synced=is_synced)
            if trio.current_time() < self._retry_at:
                await trio.sleep_until(self._retry_at)

    async def _write_chunk(self, *, is_synced: bool) -> None:
        """Write what waits, once; then what has to follow it."""
        async with self._writing:
            self._require_file()
            begin = trio.current_time()
            if begin < self._retry_at:  # Somebody else has failed while this one waited for its turn.
                return
            chunk = self.buffer.chunk()
            try:
                if chunk is None:
                    if is_synced and self.file.has_unsynced:
                        await self._run_blocking(self.file.sync)
                    return
                await self._append(chunk.lines, is_synced=is_synced or bool(chunk.closes))
            except DISK_FAULTS as fault:
                self._has_failed(fault)
                raise
            self._has_written(chunk, trio.current_time() - begin)
            if self._pairs is None or await self._pairs.strike_out(chunk.closes):
                await self._rotate_if_large()  # Else the next opening looks for their records in this very file.

    async def _append(self, lines: bytes, *, is_synced: bool) -> None:
        append = partial(self.file.append, lines, is_synced=is_synced)
        begin = trio.current_time()
        if is_synced or len(lines) > _AT_ONCE_BYTES_MAX or begin < self._threads_until:
            await self._run_blocking(append)
            return
        append()
        end = trio.current_time()
        if end - begin > _AT_ONCE_SEC_MAX:
            self._threads_until = end + _THREADS_SEC

    def _has_failed(self, fault: Exception) -> None:
        self._fault = fault
        self._failures += 1
        self._failed_flushes += 1
        retry_sec = self._options.retry_sec(self._failures)
        self._retry_at = trio.current_time() + retry_sec
        logger.warning(
            "trades_not_written",
            file=str(self._options.trades_file),
            error=str(fault),
            failures=self._failures,
            buffered=self.buffer.records,
            retry_sec=retry_sec,
        )

    def _has_written(self, chunk: Chunk, seconds: float) -> None:
        self.buffer.done()
        if self._failures:
            logger.info("trades_written_again", file=str(self._options.trades_file), failures=self._failures)
        self._failures, self._fault = 0, None
        self._bytes_written += len(chunk.lines)
        self._flushes += 1
        self._flush_sec += seconds
        self._last_flush_time = self._now()
        self._made_room()

    def _made_room(self) -> None:
        self._room.set()
        self._room = trio.Event()

    async def _rotate_if_large(self) -> None:
        if self.file.size_bytes < self._options.rotation_bytes or trio.current_time() < self._rotate_at:
            return
        try:
            await self._run_blocking(self.file.rotate, self._now())
        except DISK_FAULTS as fault:
            self._rotate_at = trio.current_time() + _ROTATE_RETRY_SEC
            file = str(self._options.trades_file)
            logger.warning("trade_file_not_rotated", file=file, error=str(fault), retry_sec=_ROTATE_RETRY_SEC)
            return
        self._rotations += 1
        self._compressor.ask()
