"""A disk that forgets: what a kill and a power cut leave of the journal, the data set and the catalogue.

A kill keeps everything that was written. A power cut keeps what was synced, and of the rest of each journal file a
part: cut anywhere, or with zeros behind it. Names that were not synced may be as they were before. SQLite is real and
taken at its commits.
"""

import os

from clocked_doubles import Disk, FaultyFiles, InlineSealers


class KilledError(BaseException):
    """The process is no more; no part of the service may take this for a fault of its own."""


class Life:
    """Whether the process lives.

    Attributes:
        is_dead: Nothing reaches the disk any more.
        calls_left: So many calls of the disk are still made before the process dies in one; None: no end is set.
    """

    def __init__(self):
        self.is_dead = False
        self.calls_left = None

    def check(self):
        if self.is_dead:
            raise KilledError

    def spend(self):
        """A call of the disk; True if the process dies in the middle of it."""
        self.check()
        if self.calls_left is None:
            return False
        self.calls_left -= 1
        if self.calls_left > 0:
            return False
        self.is_dead = True
        return True


class MortalFiles(FaultyFiles):
    """A disk whose every call may be the process's last, and which knows what a power cut would take."""

    def __init__(self, life):
        super().__init__()
        self._life = life
        self._names = {}  # By descriptor: the path.
        self._synced = {}  # By path: the bytes that are on the disk for good.
        self._renamed = []  # Not synced yet: from where, to where.

    def create(self, path):
        self._die_before()
        descriptor = super().create(path)
        self._names[descriptor] = path
        self._synced[path] = 0
        return descriptor

    def open_to_append(self, path):
        self._die_before()
        size = path.stat().st_size if path.exists() else 0
        descriptor = super().open_to_append(path)
        self._names[descriptor] = path
        self._synced.setdefault(path, size)
        return descriptor

    def write(self, descriptor, data):
        if self._life.spend():
            super().write(descriptor, memoryview(data)[: len(data) // 2])
            raise KilledError
        return super().write(descriptor, data)

    def sync(self, descriptor):
        self._die_before()
        super().sync(descriptor)
        path = self._names[descriptor]
        self._synced[path] = path.stat().st_size

    def close(self, descriptor):
        # Also a kill closes them.
        self._names.pop(descriptor)
        super().close(descriptor)

    def sync_folder(self, folder):
        self._die_before()
        super().sync_folder(folder)
        self._renamed = [(source, target) for source, target in self._renamed if target.parent != folder]

    def make_folder(self, folder):
        self._die_before()
        super().make_folder(folder)

    def replace(self, source, target):
        self._die_before()
        super().replace(source, target)
        self._renamed.append((source, target))

    def unlink(self, path):
        self._die_before()
        super().unlink(path)

    def remove_tree(self, folder):
        self._die_before()
        super().remove_tree(folder)

    def cut_power(self, rng):
        """Take from the files of a dead process what a power cut may take."""
        for path, synced in sorted(self._synced.items()):
            if path.exists() and (size := path.stat().st_size) > synced:
                os.truncate(path, rng.randint(synced, size))
                if rng.random() < 0.3:
                    os.truncate(path, size)  # The size got there, the bytes did not.
        for source, target in reversed(self._renamed):
            if source.parent.is_dir() and target.exists() and rng.random() < 0.5:
                target.rename(source)
        self._renamed.clear()

    def settle(self):
        """The machine is up again: what is there is there."""
        self._synced.clear()
        self._renamed.clear()

    def mend(self):
        """Every fault ends."""
        self._faults.clear()
        self.free = 1 << 40
        self.write_bytes_max = None

    def _die_before(self):
        if self._life.spend():
            raise KilledError


class MortalDisk(Disk):
    """Blocking work of a process that may be killed; what is under way then does nothing."""

    def __init__(self, life):
        super().__init__()
        self._life = life

    async def run_blocking(self, function, *args):
        def work():
            self._life.check()
            return function(*args)

        self._life.check()
        return await super().run_blocking(work)


class MortalSealers(InlineSealers):
    """Sealers that die with the process."""

    def __init__(self, life):
        super().__init__()
        self._life = life

    async def seal(self, segment, tmp, *, keeps_raw=False):
        self._life.check()
        manifest = await super().seal(segment, tmp, keeps_raw=keeps_raw)
        self._life.check()
        return manifest
