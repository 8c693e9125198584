"""The task that compresses rotated files and removes old ones, oldest first. What waits for it lies on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.recorder.compression import clean, compress, remove_old, waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from streamsvc.persistence.files import Files
    from streamsvc.recorder.options import RecorderOptions

_RETRY_SEC = 60.0


class Compressor:
    """Compresses and removes.

    Args:
        options: Which files, and what with them.
        files: The disk.
        run_blocking: Runs blocking work.
        now: The wall clock.

    Attributes:
        total: Files that were compressed.
        ended: Set when `run` has ended.
    """

    def __init__(self, options: RecorderOptions, files: Files, run_blocking: Any, now: Callable[[], datetime]) -> None:
        self._options = options
        self._files = files
        self._run_blocking = run_blocking
        self._now = now
        self._asked = trio.Event()
        self._is_last = False
        self._is_over = False
        self.total = 0
        self.ended = trio.Event()

    def ask(self, *, is_last: bool = False) -> None:
        """There may be something to do; after what there is at `is_last` there will be nothing more."""
        self._is_last |= is_last
        self._asked.set()

    def give_up(self) -> None:
        """Leave what is not compressed yet as it is."""
        self._is_over = True

    async def run(self) -> None:
        """Work until there will be nothing more."""
        try:
            await self._run_blocking(clean, self._options.trades_file, self._files)
            is_last = False
            while not is_last:
                await self._asked.wait()
                self._asked = trio.Event()
                is_last = self._is_last
                if not await self._work() and not is_last:
                    with trio.move_on_after(_RETRY_SEC):
                        await self._asked.wait()
                    self._asked.set()
        finally:
            self.ended.set()

    async def _work(self) -> bool:
        """Do what is to be done; whether it could be."""
        live = self._options.trades_file
        try:
            for rotated in waiting(live) if self._options.enable_compression else ():
                if await self._run_blocking(compress, rotated, self._files, lambda: self._is_over):
                    self.total += 1
            keep_files, keep_days = self._options.keep_files, self._options.keep_days
            if keep_files is not None or keep_days is not None:
                arguments = live, self._files, keep_files, keep_days, self._now()
                removed = await self._run_blocking(remove_old, *arguments)
                if removed:
                    logger.info("trade_files_removed", files=[path.name for path in removed])
        except DISK_FAULTS as fault:
            logger.warning("trade_files_not_compressed", file=str(live), error=str(fault), retry_sec=_RETRY_SEC)
            return False
        return True
