"""What a recorder has done so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from datetime import datetime


@attrs.frozen
class RecorderStatistics:
    """Counts since the recorder was opened.

    Attributes:
        total_writes: Records that were accepted.
        total_bytes_written: Bytes of lines in the file; compression is not in it.
        total_flushes: How often the buffer went to the file.
        total_rotations: How often the file was rotated.
        total_compressions: Rotated files that were compressed.
        last_flush_time: When a flush last ended, in UTC; None: not yet.
        avg_flush_duration_ms: Of all that succeeded, the sync included where there was one; 0 before the first.
        buffered: Records that are accepted and not in the file yet.
        failed_flushes: Attempts that failed; their records are kept and tried again.
    """

    total_writes: int = 0
    total_bytes_written: int = 0
    total_flushes: int = 0
    total_rotations: int = 0
    total_compressions: int = 0
    last_flush_time: datetime | None = None
    avg_flush_duration_ms: float = 0.0
    buffered: int = 0
    failed_flushes: int = 0
