"""Faults that are expected, named by what a caller can do about them.

Foreign errors become one of these where the foreign library is called, `from` the original. Whatever is not in this
file is a bug or a broken machine and ends the process with its traceback.
"""

from __future__ import annotations


class StreamsvcError(Exception):
    """The base of every expected fault."""


class UsageError(StreamsvcError):
    """The user can mend it: a wrong setting, a folder in use. The process exits with 2; the text says what to do."""


class ConnectionFaultError(StreamsvcError):
    """A connection could not be made or has ended; another attempt may succeed.

    Attributes:
        cause: One word for logs and the gap ledger: `refused`, `dns`, `tls`, `handshake`, `status`, `timeout`,
            `reset`, `eof`, `closed`, `protocol`, `idle`, `ping`, `shed`, `repair`.
        detail: A sentence for people, without secrets.
        status: The HTTP status that refused the upgrade, or the close code of the peer, if there was one.
        retry_after_sec: How long the exchange asked us to stay away, if it did.
    """

    def __init__(
        self, cause: str, detail: str, *, status: int | None = None, retry_after_sec: float | None = None
    ) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail
        self.status = status
        self.retry_after_sec = retry_after_sec


class DecodeError(StreamsvcError):
    """A message that is not what the exchange documents; `reason` is short, stable and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DamagedError(StreamsvcError):
    """A file of ours does not hold what it should: a journal, a catalogue, a sealed file."""


class SegmentGoneError(StreamsvcError):
    """Somebody removed a segment of the journal that is needed."""


class NewerVersionError(UsageError):
    """The data folder was written by a newer version, which must not be guessed at."""


class DiskFullError(StreamsvcError):
    """There is no room (space, inodes, descriptors) to write; nothing half-written was left behind."""
