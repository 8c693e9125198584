"""What the page and the metrics need from the disk: the ledger's counts, the files, free space. Read off the loop.

However often somebody asks, it is read once in `FRESH_SEC`, and by nobody while nobody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.errors import StreamsvcError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

FRESH_SEC = 5.0
GAPS_SHOWN = 20


@attrs.frozen
class DiskLook:
    """What was read.

    Attributes:
        gaps: Rows of the gap ledger by market, kind and status.
        latest_gaps: The newest rows, newest first, as the page shows them.
        parquet_files: Files of the data set.
        parquet_bytes: Their size.
        free_bytes: Free space on their disk.
        was_read: Whether any of it was ever read: a metric that is not known must not be told as 0.
    """

    gaps: Mapping[tuple[str, str, str], int] = attrs.Factory(dict)
    latest_gaps: Sequence[Mapping[str, Any]] = ()
    parquet_files: int = 0
    parquet_bytes: int = 0
    free_bytes: int = 0
    was_read: bool = True

    def with_status(self, status: str) -> int:
        """Gaps of a status, of all streams."""
        return sum(count for (*_, of), count in self.gaps.items() if of == status)


class DiskLooks:
    """Keeps the last look.

    Args:
        read: Reads; it blocks, and raises StreamsvcError or OSError where that does not work now.
        run_blocking: Runs it off the loop.
    """

    def __init__(self, read: Callable[[], DiskLook], run_blocking: Callable[..., Awaitable[Any]]) -> None:
        self._read = read
        self._run_blocking = run_blocking
        self._lock = trio.Lock()
        self._read_at = float("-inf")
        self._last = DiskLook(was_read=False)

    async def fresh(self) -> DiskLook:
        """A look that is not older than `FRESH_SEC`; where it cannot be read now, the last one."""
        async with self._lock:
            if trio.current_time() - self._read_at >= FRESH_SEC:
                self._read_at = trio.current_time()
                try:
                    self._last = await self._run_blocking(self._read)
                except (StreamsvcError, OSError):
                    return self._last  # The catalogue is busy or damaged: the publisher says so, and a page lives on.
            return self._last
