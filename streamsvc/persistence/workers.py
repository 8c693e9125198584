"""Sealers in processes of their own: the only importer of trio_parallel.

A worker is started when it is needed and lives on; one that dies is replaced by the next call. Workers ignore the
terminal's Ctrl-C, so that a segment is finished while we drain, and a worker whose parent was killed finishes what it
does and then leaves: nothing it does is visible before the publisher says so.
"""

from __future__ import annotations

import importlib
import math
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio_parallel

from streamsvc.errors import StreamsvcError
from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import ModuleType

    from streamsvc.persistence.compaction_day import BuiltDay, DayWork
    from streamsvc.persistence.manifest import Manifest

_LEAVE_SEC = 2.0


class SealerDiedError(StreamsvcError):
    """A worker ended in the middle of its work: killed, or out of memory."""


def _load() -> ModuleType:
    """What seals. Imported in the worker: the recorder's own process never loads numpy, pandas and fastparquet."""
    # Read when numpy is imported: its threads for matrices would spin for a while, and nothing here has a matrix.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return importlib.import_module("streamsvc.persistence.seal")


def _warm() -> None:
    _load()


def _seal(segment_path: str, tmp_root: str, keeps_raw: bool) -> Manifest:
    manifest: Manifest = _load().seal_segment(segment_path, tmp_root, keeps_raw=keeps_raw)
    return manifest


def _call(module: str, function: str, *args: Any) -> Any:
    os.nice(10)
    _load()
    return getattr(importlib.import_module(module), function)(*args)


class Sealers:
    """Worker processes that seal segments. Made by `open_sealers`."""

    def __init__(self, context: trio_parallel.WorkerContext, count: int) -> None:
        self._context = context
        self._count = count
        self._limiter = trio.CapacityLimiter(count)

    async def seal(self, segment: Path, tmp: Path, *, keeps_raw: bool = False) -> Manifest:
        """Run `seal.seal_segment` in a worker; a cancellation kills the worker.

        Raises:
            SealerDiedError: the worker died.
            Exception: whatever `seal_segment` raises.
        """
        work = partial(_seal, str(segment), str(tmp), keeps_raw)
        try:
            manifest: Manifest = await self._context.run_sync(work, kill_on_cancel=True, limiter=self._limiter)
        except trio_parallel.BrokenWorkerError as fault:
            raise SealerDiedError(str(fault.args[0])) from fault
        return manifest

    async def build_day(self, root: str, work: DayWork) -> BuiltDay:
        """Run `compaction_build.build_day` in a process that lives for it alone, behind all others in priority.

        Raises:
            SealerDiedError: the process died.
            Exception: whatever `build_day` raises.
        """
        built: BuiltDay = await self.run_apart("streamsvc.persistence.compaction_build", "build_day", root, work)
        return built

    async def run_apart(self, module: str, function: str, *args: Any) -> Any:
        """What a function returns, run in a process that lives for it alone, behind all others in priority.

        Args:
            module: The function's module; it is imported in that process, and never in the recorder's own.
            function: Its name.
            args: Its arguments.

        Raises:
            SealerDiedError: the process died.
            Exception: whatever the function raises.
        """
        try:
            async with trio_parallel.open_worker_context(grace_period=_LEAVE_SEC) as context:
                return await context.run_sync(partial(_call, module, function, *args), kill_on_cancel=True)
        except trio_parallel.BrokenWorkerError as fault:
            raise SealerDiedError(str(fault.args[0])) from fault

    async def warm(self) -> None:
        """Start all workers and have them load what sealing needs, so that the first segment does not wait for it."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._count):
                nursery.start_soon(self._warm_one)

    async def _warm_one(self) -> None:
        try:
            await self._context.run_sync(_warm, kill_on_cancel=True, limiter=self._limiter)
        except trio_parallel.BrokenWorkerError:
            # The next segment starts another one, and says so if that dies as well.
            logger.warning("sealer_died", segment=None)


@asynccontextmanager
async def open_sealers(count: int) -> AsyncIterator[Sealers]:
    """Sealers at most `count` at a time; leaving waits for those at work, which a cancellation kills."""
    body_fault: BaseException | None = None
    try:
        async with trio_parallel.open_worker_context(idle_timeout=math.inf, grace_period=_LEAVE_SEC) as context:
            try:
                yield Sealers(context, count)
            except BaseException as fault:
                body_fault = fault
                raise
    except trio_parallel.BrokenWorkerError as fault:
        # A worker that was killed while idle is noticed here only; all work was finished or given up before.
        logger.info("sealer_left_badly", detail=str(fault.args[0]))
        if body_fault is not None:
            raise body_fault from None
