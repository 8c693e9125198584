"""Recorders on a disk that fails on demand, without threads."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import trio

from streamsvc.errors import DiskFullError, StreamsvcError
from streamsvc.persistence.files import Files
from streamsvc.recorder import open_trade_recorder, read_trades

BEGIN = datetime(2025, 11, 4, 15, 20, 30, tzinfo=UTC)


class Disk(Files):
    """The real disk, but for calls that fail: `faults` maps the name of a call to what the next ones of it do.

    An exception is raised; a number lets a write take so many bytes and then raise that there is no room; None lets the
    call through.
    """

    def __init__(self):
        self.faults = {}
        self.calls = []

    def _may_fail(self, name):
        self.calls.append(name)
        planned = self.faults.get(name, [])
        fault = planned.pop(0) if planned else None
        if isinstance(fault, BaseException):
            raise fault
        return fault

    def write(self, descriptor, data):
        if (taken := self._may_fail("write")) is not None:
            os.write(descriptor, data[:taken])
            raise DiskFullError("no room")
        return super().write(descriptor, data)

    def sync(self, descriptor):
        self._may_fail("sync")
        super().sync(descriptor)

    def replace(self, source, target):
        self._may_fail("replace")
        super().replace(source, target)

    def open_to_append(self, path):
        self._may_fail("open")
        return super().open_to_append(path)


NO_ROOM = DiskFullError("no room")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


async def in_line(function, *arguments):
    """Blocking work where a thread would make the clock jump."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@attrs.define
class Rig:
    """A folder, and what a recorder in it is given."""

    folder: Path
    disk: Disk = attrs.field(factory=Disk)
    offset_sec: float = 0.0
    begun_at: float | None = None  # The mock clock begins anywhere.

    @property
    def path(self):
        return self.folder / "trades.jsonl"

    def now(self):
        if self.begun_at is None:
            self.begun_at = trio.current_time()
        return BEGIN + timedelta(seconds=trio.current_time() - self.begun_at + self.offset_sec)

    def open(self, **options):
        options = {"trades_file": self.path, "pending_file": self.folder / "pending.json", **options}
        return open_trade_recorder(files=self.disk, run_blocking=in_line, now=self.now, **options)

    def records(self):
        return list(read_trades(self.path))

    def numbers(self):
        return [record["n"] for record in self.records()]

    def names(self):
        return sorted(path.name for path in self.folder.iterdir() if not path.name.endswith(".lock"))


async def flush_told(recorder, faults):
    """Flush, and keep what that raises, with its time."""
    try:
        await recorder.flush()
    except StreamsvcError as fault:
        faults.append((trio.current_time(), fault))
