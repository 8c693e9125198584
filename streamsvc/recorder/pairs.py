"""The file of open trades, kept in step with what is open: one replacing serves all who wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.recorder.file_lock import FileLock
from streamsvc.recorder.pending import PendingTrades, read_pending, write_pending

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.persistence.files import Files


class Pairs:
    """Open trades, in memory and in their file.

    Args:
        path: The file.
        files: The disk.
        run_blocking: Runs blocking work.

    Attributes:
        trades: What is open.
    """

    def __init__(self, path: Path, files: Files, run_blocking: Any) -> None:
        self._path = path
        self._files = files
        self._run_blocking = run_blocking
        self._lock = FileLock(path, files)
        self._kept_version = 0
        self._one_at_a_time = trio.Lock()
        self.trades = PendingTrades()

    def open(self, trades_file: Path) -> None:
        """Take the file for this recorder, and read it. Blocks.

        Raises:
            UsageError: another recorder has it, or it is damaged.
            OSError: it cannot be read.
        """
        self._lock.acquire()
        try:
            self.trades = read_pending(self._path, trades_file)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let the file go."""
        self._lock.release()

    @property
    def is_kept(self) -> bool:
        """Whether the file holds what it should."""
        return self._kept_version == self.trades.version

    async def strike_out(self, trade_ids: frozenset[str]) -> bool:
        """The records of these are on the disk: have them out of the file; False: it could not be replaced now."""
        self.trades.settle(trade_ids)
        if self.is_kept:
            return True
        try:
            await self.keep()
        except DISK_FAULTS as fault:
            logger.warning("pending_trades_not_kept", file=str(self._path), error=str(fault))
            return False
        return True

    async def keep(self) -> None:
        """Have what is open now in the file, and on the disk.

        Raises:
            OSError: the file is as it was.
            DiskFullError: the same.
        """
        wanted = self.trades.version
        if self.is_kept:
            return
        async with self._one_at_a_time:
            if self._kept_version >= wanted:
                return
            version, content = self.trades.version, self.trades.encode()
            await self._run_blocking(self._write, content)
            self._kept_version = version

    def _write(self, content: bytes) -> None:
        self._lock.keep()
        write_pending(self._path, content, self._files)
