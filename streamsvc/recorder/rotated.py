"""The task that compresses rotated files and removes old ones, oldest first. What waits for it lies on the disk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.recorder.compression import clean, compress, remove_old, waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from streamsvc.persistence.files import Files
    from streamsvc.recorder.names import RotatedFile
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
        self._is_clean = False
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
        """Do what is to be done; whether all of it could be. Old files go first: they may be what fills the disk."""
        live, has_worked = self._options.trades_file, True
        has_worked &= await self._try(self._remove_old)
        if not self._is_clean:
            self._is_clean = await self._try(partial(clean, live, self._files))
            has_worked &= self._is_clean
        if self._options.enable_compression:
            for rotated in _waiting(live):
                has_worked &= await self._try(partial(self._compress, rotated))
        return has_worked

    async def _try(self, work: Callable[[], None]) -> bool:
        try:
            await self._run_blocking(work)
        except DISK_FAULTS as fault:
            file = str(self._options.trades_file)
            logger.warning("trade_files_not_compressed", file=file, error=str(fault), retry_sec=_RETRY_SEC)
            return False
        return True

    def _compress(self, rotated: RotatedFile) -> None:
        self.total += compress(rotated, self._files, lambda: self._is_over)

    def _remove_old(self) -> None:
        keep_files, keep_days = self._options.keep_files, self._options.keep_days
        if keep_files is None and keep_days is None:
            return
        removed = remove_old(self._options.trades_file, self._files, keep_files, keep_days, self._now())
        if removed:
            logger.info("trade_files_removed", files=[path.name for path in removed])


def _waiting(live: Path) -> list[RotatedFile]:
    try:
        return waiting(live)
    except OSError:  # The folder is gone: so is what lay in it.
        return []
