"""The budget of connection attempts: exchanges ban an address that connects too often.

The budget is the machine's, not the process's: instances share it through a small file in memory, which also outlives a
process that crashes over and over. It lies in the folder that units of systemd share, otherwise in `/dev/shm`. Its
content may come from anybody and is believed only as far as it is plausible; a process always keeps to the limits by
its own count too, so that nobody can widen the budget.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from streamsvc.log import logger
from streamsvc.streams.window import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from streamsvc.venues.venue import Limits, Venue

PER_MINUTE_MAX = 60
SPACING_SEC = 0.05
"""Attempts that start together are spread out by this."""

_MARGIN_SEC = 1.0
"""The exchange counts when attempts arrive, so our windows are this much longer than its own."""

_STAMP = struct.Struct("<d")
_LOCK_TRIES = 20
_LOCK_PAUSE_SEC = 0.005


@attrs.frozen
class AttemptLimits:
    """Windows that all hold at once: pairs of a count and seconds, the longest window first."""

    windows: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, limits: Limits) -> AttemptLimits:
        """An exchange's own limit, and the ones that we set ourselves."""
        return cls(
            (
                (limits.attempts, limits.attempts_window_sec + _MARGIN_SEC),
                (min(PER_MINUTE_MAX, limits.attempts), 60 + _MARGIN_SEC),
                (1, SPACING_SEC),
            )
        )

    @property
    def stamps_max(self) -> int:
        """How many stamps of the past are worth keeping."""
        return max(count for count, _ in self.windows)

    def wait_sec(self, stamps: Sequence[float], now: float) -> float:
        """How long the next attempt has to wait, given when the past ones were, in order; 0: not at all."""
        return max(SlidingWindow(count, seconds, stamps).wait_sec(now) for count, seconds in self.windows)


class AttemptStore(Protocol):
    """Where attempts are counted."""

    async def take(self) -> float:
        """Count an attempt that is made now and return 0; or return how long to wait before asking again."""


class MemoryStore:
    """Counts the attempts of this process, by Trio's clock."""

    def __init__(self, limits: AttemptLimits) -> None:
        self._limits = limits
        self._stamps: list[float] = []

    async def take(self) -> float:
        """See `AttemptStore`."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        wait_sec = self._limits.wait_sec(self._stamps, now)
        if not wait_sec:
            self._stamps = [*self._stamps[-self._limits.stamps_max + 1 :], now]
        return wait_sec


class SharedStore:
    """Counts the attempts of all instances on this machine, by the clock that goes on while it sleeps.

    The file holds stamps, seconds since the machine started, as little-endian doubles. Whatever fails with the file is
    logged once and leaves the count of this process, which holds in any case.
    """

    def __init__(
        self,
        limits: AttemptLimits,
        path: Path,
        run_blocking: Callable[[Callable[[], float]], Awaitable[float]],
    ) -> None:
        """`run_blocking` runs a function in a thread: a file in memory is quick, its lock may not be."""
        self._limits = limits
        self._path = path
        self._run_blocking = run_blocking
        self._own = MemoryStore(limits)
        self._is_failing = False

    async def take(self) -> float:
        """See `AttemptStore`."""
        try:
            wait_sec = await self._run_blocking(self._take_shared)
            self._is_failing = False
        except OSError as error:
            wait_sec = 0.0
            if not self._is_failing:
                logger.warning("attempt_store_failed", path=str(self._path), detail=str(error))
            self._is_failing = True
        return wait_sec or await self._own.take()

    def _take_shared(self) -> float:
        with _locked(self._path) as descriptor:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            stamps = self._plausible(os.read(descriptor, self._limits.stamps_max * _STAMP.size), now)
            wait_sec = self._limits.wait_sec(stamps, now)
            if not wait_sec:
                kept = [*stamps, now][-self._limits.stamps_max :]
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, b"".join(map(_STAMP.pack, kept)))
                os.ftruncate(descriptor, len(kept) * _STAMP.size)
            return wait_sec

    def _plausible(self, content: bytes, now: float) -> list[float]:
        """The stamps of a file that anybody may have written: in the past, not too long ago, in order."""
        whole = content[: len(content) // _STAMP.size * _STAMP.size]
        oldest = now - max(seconds for _, seconds in self._limits.windows)
        return sorted(stamp for (stamp,) in _STAMP.iter_unpack(whole) if math.isfinite(stamp) and oldest < stamp <= now)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """An open file of ours under an exclusive lock, made if it is not there.

    Never follows a link, never waits for a fifo, never waits for a lock longer than a tenth of a second.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o666)  # The budget is the machine's: instances of other users count here, too.
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        _lock(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_PAUSE_SEC)
    raise OSError("another process holds the lock of the attempts' file")


def shared_path(base_url: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file of an exchange's budget on this machine; the name says nothing that a user wrote.

    Args:
        base_url: The exchange's, as the settings say it.
        environ: The environment. RUNTIME_DIRECTORY (systemd.exec(5)) wins over `/dev/shm`, where systemd removes what
            a dynamic user leaves at each stop; of several folders the first is taken.
    """
    default = "/dev/shm"  # noqa: S108  # links are not followed, content is not believed
    memory = Path(environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or default)
    folder = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    digest = hashlib.sha256(base_url.encode()).hexdigest()[:16]
    return folder / f"streamsvc-attempts-{digest}"


class AttemptBudget:
    """Lets one attempt after the other through, in the order in which they asked.

    Attributes:
        held_until: While the exchange bans this address, `trio.current_time()` of its end.
    """

    def __init__(self, store: AttemptStore) -> None:
        self._store = store
        self._turn = trio.StrictFIFOLock()
        self.held_until = -math.inf

    def hold(self, seconds: float) -> None:
        """The exchange bans this address: no attempt for so long, by any connection."""
        self.held_until = max(self.held_until, trio.current_time() + seconds)

    async def wait(self, on_delay: Callable[[float], None]) -> None:
        """Wait until an attempt may be made, and count it.

        Args:
            on_delay: Told, possibly more than once, that it will take at least so many seconds.
        """
        async with self._turn:
            while wait_sec := max(self.held_until - trio.current_time(), 0.0) or await self._store.take():
                on_delay(wait_sec)
                await trio.sleep(wait_sec)


def shared_budget(venue: Venue, run_blocking: Callable[[Callable[[], float]], Awaitable[float]]) -> AttemptBudget:
    """The budget of a market, shared by the instances of this machine; `run_blocking` runs a function in a thread."""
    limits = AttemptLimits.of(venue.limits)
    return AttemptBudget(SharedStore(limits, shared_path(venue.base_url), run_blocking))


def memory_budget(venue: Venue) -> AttemptBudget:
    """A budget of this process alone, by Trio's clock: for simulated time."""
    return AttemptBudget(MemoryStore(AttemptLimits.of(venue.limits)))
