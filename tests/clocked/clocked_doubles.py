"""Doubles of what the service is given: disk, sealers, systemd, the log."""

import importlib
from collections import Counter, deque
from contextlib import asynccontextmanager

import structlog
import trio

from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.files import Files, no_room_mapped
from streamsvc.persistence.seal import seal_segment


class Disk:
    """Runs blocking work in line, and can hang as a disk does: what is called then comes back when it is over."""

    def __init__(self):
        self.hangs_until = float("-inf")

    def hang(self, seconds):
        self.hangs_until = trio.current_time() + seconds

    async def run_blocking(self, function, *args):
        await trio.lowlevel.checkpoint_if_cancelled()
        # A thread cannot be cancelled, so this cannot either.
        with trio.CancelScope(shield=True):
            await trio.sleep(max(0.0, self.hangs_until - trio.current_time()))
        return function(*args)


class FaultyFiles(Files):
    """A real disk whose n-th call of a kind fails, whose writes may be short, and whose free space is as it is told.

    Attributes:
        free: What `free_bytes` says.
        calls: How many calls of each kind were made.
        write_bytes_max: A write takes no more than this.
    """

    def __init__(self):
        self.free = 1 << 40
        self.calls = Counter()
        self.write_bytes_max = None
        self._faults = {}

    def fail(self, call, error, *, after=0, times=1):
        """Have so many calls fail, after so many that still succeed."""
        first = self.calls[call] + after
        self._faults[call] = (range(first, first + times), error)

    def _called(self, call):
        number = self.calls[call]
        self.calls[call] += 1
        places, error = self._faults.get(call, ((), None))
        if number in places:
            with no_room_mapped():
                raise OSError(error, f"{call} fails on purpose")

    def create(self, path):
        self._called("create")
        return super().create(path)

    def open_to_append(self, path):
        self._called("create")
        return super().open_to_append(path)

    def write(self, descriptor, data):
        self._called("write")
        return super().write(descriptor, memoryview(data)[: self.write_bytes_max])

    def sync(self, descriptor):
        self._called("sync")
        super().sync(descriptor)

    def sync_folder(self, folder):
        self._called("sync_folder")
        return super().sync_folder(folder)

    def replace(self, source, target):
        self._called("replace")
        super().replace(source, target)

    def free_bytes(self, folder):
        del folder
        return self.free


class InlineSealers:
    """Seals in line, and real files come of it.

    Attributes:
        takes_sec: How long a sealing takes.
        faults: Raised by the next sealings, one each.
        sealed: The names of the segments whose sealing was begun.
        is_warm: Whether `warm` was called.
    """

    def __init__(self):
        self.takes_sec = 0.0
        self.faults = deque()
        self.sealed = []
        self.is_warm = False

    @asynccontextmanager
    async def open(self, count):
        assert count > 0
        yield self

    async def build_day(self, root, work):
        await trio.lowlevel.checkpoint()
        return build_day(root, work)

    async def run_apart(self, module, function, *args):
        await trio.lowlevel.checkpoint()
        return getattr(importlib.import_module(module), function)(*args)

    async def warm(self):
        await trio.lowlevel.checkpoint()
        self.is_warm = True

    async def seal(self, segment, tmp, *, keeps_raw=False):
        self.sealed.append(segment.name)
        await trio.sleep(self.takes_sec)
        if self.faults:
            raise self.faults.popleft()
        return seal_segment(str(segment), str(tmp), keeps_raw=keeps_raw)


class Told:
    """What happened, with the time: events of the log, or datagrams to systemd."""

    def __init__(self):
        self.entries = []
        self._changed = trio.lowlevel.ParkingLot()

    def note(self, entry):
        self.entries.append((trio.current_time(), entry))
        self._changed.unpark_all()

    async def wait(self, name, **fields):
        """Wait until such an event has come."""
        while not self.times(name, **fields):
            await self._changed.park()

    def times(self, name, **fields):
        """When an event came whose fields have these values; of datagrams, when it had this text."""
        return [at for at, entry in self.entries if _fits(entry, name, fields)]

    def events(self, name, **fields):
        return [entry for _, entry in self.entries if _fits(entry, name, fields)]


def _fits(entry, name, fields):
    if isinstance(entry, str):
        return name in entry
    return entry["event"] == name and all(entry.get(key) == value for key, value in fields.items())


@asynccontextmanager
async def captured_log():
    """What is logged meanwhile, whatever was configured before."""
    told = Told()

    def capture(_logger, _name, event):
        told.note(dict(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.add_log_level, capture],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=False,
    )
    try:
        yield told
    finally:
        structlog.configure(**before)
