"""The life of a recorder: what it consists of, its tasks, and its end."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.errors import UsageError
from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS, Files
from streamsvc.recorder.compression import waiting
from streamsvc.recorder.encoding import unstructure
from streamsvc.recorder.faults import NotWrittenError
from streamsvc.recorder.flushing import Flusher
from streamsvc.recorder.options import RecorderOptions
from streamsvc.recorder.pairs import Pairs
from streamsvc.recorder.recorder import TradeRecorder
from streamsvc.recorder.rotated import Compressor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streamsvc.recorder.encoding import Unstructure

RunBlocking = Any
"""Runs a blocking function with its arguments: `trio.to_thread.run_sync`, or in line under a mock clock."""

_recorders: list[TradeRecorder] = []


def _utc_now() -> datetime:
    return datetime.now(UTC)


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
        UsageError: an option is wrong, another recorder has the files, or they cannot be used; no record was.
        NotWrittenError: at the end of the block; its `lines` are what could not be written.
    """
    life = _Life(_options_of(options), files or Files(), run_blocking, now)
    await life.open()
    recorder = TradeRecorder(life.options, life.flusher, life.pairs, now=now, unstructure=unstructure)
    _recorders.append(recorder)
    try:
        async with _without_group(), trio.open_nursery() as nursery:
            nursery.start_soon(life.run_shielded, life.flusher.run)
            nursery.start_soon(life.run_shielded, life.compressor.run)
            try:
                yield recorder
            finally:
                await life.finish()  # noqa: ASYNC102 - it shields itself, under a limit
    finally:
        _recorders.remove(recorder)
        await life.close()  # noqa: ASYNC102 - it shields itself


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
            raise alone  # noqa: ASYNC123 - its own traceback, cause and context are kept
        finally:
            alone.__context__ = context  # Not the group, of which nobody has heard.


class _Life:
    """The parts of a recorder, from their opening to their end."""

    def __init__(
        self, options: RecorderOptions, files: Files, run_blocking: RunBlocking, now: Callable[[], datetime]
    ) -> None:
        self.options = options
        self._run_blocking = run_blocking
        self._scopes: list[trio.CancelScope] = []
        self._fault: NotWrittenError | None = None
        self.pairs = None if options.pending_file is None else Pairs(options.pending_file, files, run_blocking)
        self.compressor = Compressor(options, files, run_blocking, now)
        self.flusher = Flusher(
            options, files, pairs=self.pairs, compressor=self.compressor, run_blocking=run_blocking, now=now
        )

    async def open(self) -> None:
        """Take the files for this recorder."""
        path, file = self.options.trades_file, self.flusher.file
        try:
            await self._run_blocking(file.open)
            if self.pairs is not None:
                await self._run_blocking(self.pairs.open, path)
        except DISK_FAULTS as fault:
            file.close()
            raise UsageError(f"{path} cannot be written: {fault}") from fault
        except BaseException:
            file.close()
            raise
        if file.torn_bytes:
            logger.warning("trades_cut_off", file=str(path), torn_bytes=file.torn_bytes)
        self.compressor.ask()

    async def run_shielded(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run until `finish`, whoever cancels before."""
        with trio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            await run()

    async def finish(self) -> None:
        """Write what waits, and wait for compression, both under a limit, whoever cancels."""
        self.flusher.close()
        limit_sec = self.options.close_sec_max
        with trio.CancelScope(shield=True):
            try:
                await self.flusher.until_written(is_synced=True, wait_sec=limit_sec)
            except NotWrittenError as fault:
                self._fault = fault
            if self.pairs is not None:
                await self.pairs.strike_out(frozenset())
            self.compressor.ask(is_last=True)
            with trio.move_on_after(limit_sec):
                await self.compressor.ended.wait()
            self.compressor.give_up()
        for scope in self._scopes:
            scope.cancel()

    async def close(self) -> None:
        """Let the files go, and tell what was done and what was not.

        Raises:
            NotWrittenError: its `lines` are not in the file; or it is not known what the disk has.
        """
        await self.flusher.end()
        if self.pairs is not None:
            self.pairs.close()
        options, done = self.options, self.flusher.statistics()
        with suppress(OSError):
            left = len(waiting(options.trades_file)) if options.enable_compression else 0
            tell = logger.warning if left else logger.info
            tell(
                "trade_recorder_closed",
                file=str(options.trades_file),
                records=done.total_writes - done.buffered,
                rotations=done.total_rotations,
                uncompressed_files=left,
            )
        if done.buffered:
            raise self._loss(done.buffered) from self._fault
        if self._fault is not None and not self._fault.is_held:
            raise self._fault

    def _loss(self, records: int) -> NotWrittenError:
        path = self.options.trades_file
        logger.error("trades_lost", file=str(path), records=records, error=str(self._fault))
        return NotWrittenError(
            f"{path}: {records:,} records could not be written before the end; this error's `lines` are what they "
            f"are: {self._fault}",
            is_held=False,
            lines=self.flusher.buffer.left(),
        )
