"""Every call by which this process changes the disk, counted where Python makes it: the n-th fails, or is the last.

It does not matter who calls: journal, publisher, the sealer's own files, `shutil`, `pathlib`. SQLite does not go
through here; it is taken at the commits that make files part of the data set.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING

from persistence_samples import Crash

from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.files import no_room_mapped

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

NAMES = (
    "open", "fsync", "fdatasync", "ftruncate", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir",
    "close",
)  # fmt: skip
"""Of `os`; writes are counted apart, since a part of one may have got there."""


class CountedCalls:
    """The calls of one life of a process, from when it is installed to when the patch ends.

    Args:
        at: Which call fails, from 1; 0: none.
        fault: An errno: that call fails. None: the process ends in it, and nothing happens any more.

    Attributes:
        made: The calls so far, in order.
    """

    def __init__(self, at: int = 0, fault: int | None = None) -> None:
        self.made: list[str] = []
        self.is_dead = False
        self._at = at
        self._fault = fault

    def count(self) -> Counter[str]:
        """How many calls of each name there were."""
        return Counter(self.made)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Count from now on."""
        for name in NAMES:
            patch.setattr(os, name, self._counted(name, getattr(os, name)))
        patch.setattr(os, "write", self._counted_write(os.write))
        patch.setattr(io, "open", self._counted_open(io.open))
        patch.setattr(Catalogue, "commit", self._counted("commit", Catalogue.commit))

    def _fails(self, name: str) -> bool:
        """Whether this call fails; after the end of the process none comes to anything."""
        if self.is_dead:
            raise Crash
        self.made.append(name)
        if len(self.made) != self._at:
            return False
        self.is_dead = self._fault is None
        return True

    def _raise(self) -> None:
        if self._fault is None:
            raise Crash
        raise OSError(self._fault, os.strerror(self._fault))

    def _counted(self, name: str, call: Callable) -> Callable:
        def counted(*args, **more):
            if name == "close":
                call(*args, **more)  # A process that ends closes what it had open.
                if not self.is_dead and self._fails(name):
                    self._raise()
                return None
            if self._fails(name):
                # SQLite's own errors have been translated by then.
                with no_room_mapped() if name == "commit" else nullcontext():
                    self._raise()
            return call(*args, **more)

        return counted

    def _counted_write(self, call: Callable) -> Callable:
        def write(descriptor, data):
            if self._fails("write"):
                call(descriptor, memoryview(data)[: len(data) // 2])
                self._raise()
            return call(descriptor, data)

        return write

    def _counted_open(self, call: Callable) -> Callable:
        def opened(file, mode="r", *args, **more):
            if mode not in ("wb", "ab", "xb"):
                return call(file, mode, *args, **more)
            if self._fails("open"):
                self._raise()
            return io.BufferedWriter(_CountedFile(file, mode, self))

        return opened


class _CountedFile(io.FileIO):
    """A file whose writes are counted as they leave Python's buffer."""

    def __init__(self, file, mode: str, calls: CountedCalls) -> None:
        super().__init__(file, mode)
        self._calls = calls

    def write(self, data) -> int:
        if self._calls.is_dead:
            return len(data)  # What a buffer still holds when its process ends is lost without a word.
        if self._calls._fails("write"):
            super().write(memoryview(data)[: len(data) // 2])
            self._calls._raise()
        return super().write(data)
