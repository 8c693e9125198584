"""What a recorder is opened with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from streamsvc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000
_RETRY_SEC_MIN, _RETRY_SEC_MAX = 0.05, 5.0


def _between(least: float, most: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_options: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise UsageError(f"{field.name} is {value!r}; it must be a number between {least:g} and {most:g}")

    return check


def _count(least: int, most: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    check_range = _between(least, most)

    def check(options: Any, field: attrs.Attribute[Any], value: Any) -> None:
        check_range(options, field, value)
        if not isinstance(value, int):
            raise UsageError(f"{field.name} is {value!r}; it must be a whole number")

    return check


def _path_or_none(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


@attrs.frozen(kw_only=True)
class RecorderOptions:
    """What a recorder is opened with; a wrong one raises a `UsageError` that names it.

    Attributes:
        trades_file: The file that is written to; rotated ones lie beside it.
        pending_file: Where open trades are kept; None: no trade can be opened.
        buffer_size: Records after which the buffer goes to the file.
        flush_interval_sec: How long a record waits at most for that.
        rotation_size_mb: Above this size the file is rotated, MB of 10^6 bytes.
        enable_compression: Whether rotated files become .gz.
        sync_each_flush: Whether every flush waits for the disk. Without it a power cut can take what was written since
            the last `flush()`; the end of the process cannot.
        keep_files: How many rotated files are kept; None: all.
        keep_days: For how many days rotated files are kept; None: for ever.
        buffer_mb_max: How much may wait in memory while the disk takes nothing, MB; then writers wait.
        wait_sec_max: How long they do, and how long `flush()` waits for the disk, before an error says so.
        close_sec_max: How long the end waits for the disk, and after that for compression.
    """

    trades_file: Path = attrs.field(converter=Path)
    pending_file: Path | None = attrs.field(default=None, converter=_path_or_none)
    buffer_size: int = attrs.field(default=100, validator=_count(1, 1_000_000))
    flush_interval_sec: float = attrs.field(default=1.0, validator=_between(0.001, 3600))
    rotation_size_mb: float = attrs.field(default=50, validator=_between(0.001, 100_000))
    enable_compression: bool = True
    sync_each_flush: bool = True
    keep_files: int | None = attrs.field(default=None, validator=attrs.validators.optional(_count(1, 1_000_000)))
    keep_days: float | None = attrs.field(default=None, validator=attrs.validators.optional(_between(0.001, 100_000)))
    buffer_mb_max: float = attrs.field(default=64, validator=_between(0.001, 10_000))
    wait_sec_max: float = attrs.field(default=30.0, validator=_between(0.01, 3600))
    close_sec_max: float = attrs.field(default=30.0, validator=_between(0.01, 3600))

    @trades_file.validator
    def _check_trades_file(self, _field: Any, path: Path) -> None:
        if not path.name or path.is_dir():
            raise UsageError(f"trades_file {path} is a folder; name a file, for example {path / 'trades.jsonl'}")
        if not path.suffix or path.suffix in {".gz", ".part", ".torn", ".lock"}:
            raise UsageError(f"trades_file {path} needs an ending of its own, for example {path.stem}.jsonl")

    @pending_file.validator
    def _check_pending_file(self, _field: Any, path: Path | None) -> None:
        if path is not None and path.resolve() == self.trades_file.resolve():
            raise UsageError(f"pending_file and trades_file are both {path}; give each its own")

    @property
    def rotation_bytes(self) -> int:
        """Above this size the file is rotated."""
        return round(self.rotation_size_mb * MB)

    @property
    def buffer_bytes_max(self) -> int:
        """How much may wait in memory."""
        return round(self.buffer_mb_max * MB)

    def retry_sec(self, failures: int) -> float:
        """How long to leave the disk alone after so many failures in a row: doubling, up to a few seconds."""
        return min(_RETRY_SEC_MAX, _RETRY_SEC_MIN * 2.0 ** min(failures - 1, 16))
