"""`streamsvc run` as a real process: started, watched by its log and its files, and killed, always by its id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

COMMAND = (str(Path(sys.executable).with_name("streamsvc")), "run")
"""The program as users start it."""

SLOW_RECORDER = (sys.executable, str(Path(__file__).with_name("slow_recorder.py")), "run")
"""The same, slowed down: sealers take `SLOW_SEAL_SEC` for every segment, the settings `SLOW_LOAD_SEC` to load."""

PATIENCE_SEC = 60.0
"""What takes longer will never come: a bound for tests that fail, not something they measure."""

LOOK_SEC = 0.02

QUICK = {
    "PARQUET_ROTATE_SEC": "0.3",
    "DRAIN_SEC": "60",
    "RECONNECT_MIN_SEC": "0.05",
    "RECONNECT_MAX_SEC": "0.2",
    "DISK_RESERVE_MB": "0",
    "DISK_RETRY_SEC": "0.2",
    "FUTURES_TRADE_ROUTE": "public",
    "SAVE_CONCURRENCY": "1",
}
"""Everything quicker and smaller than in earnest."""


async def until(condition: Callable[[], object], what: str) -> None:
    """Look again and again; fails when it never comes true."""
    with trio.move_on_after(PATIENCE_SEC) as scope:
        while not condition():  # noqa: ASYNC110 - another process has no event to wait for
            await trio.sleep(LOOK_SEC)
    assert not scope.cancelled_caught, f"it never came to this: {what}"


class RecorderProcess:
    """One process and the workers it has started. Whoever makes one calls `end`.

    Args:
        place: The working folder, with the log and by default the data folder in it.
        settings: Environment variables; nothing is inherited but what a process needs to run.
        command: What to start.
        stdout: Where the log goes; None: into a file that `events` reads.
    """

    def __init__(
        self,
        place: Path,
        settings: Mapping[str, str],
        command: Sequence[str] = COMMAND,
        stdout: int | None = None,
    ) -> None:
        self.data = Path(settings["DATA_DIR"])
        self._log = place / f"log.{len(list(place.glob('log.*')))}"
        self._errors = self._log.with_name(f"errors{self._log.suffix}")
        self._family: dict[int, psutil.Process] = {}
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {"HTTP_LISTEN": ""} | settings
        with self._log.open("wb") as log, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=place,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=errors,
                start_new_session=True,  # A process group of its own, for a terminal's Ctrl-C.
            )
        self.pid = self._process.pid

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log so far, or its events of one name."""
        lines = self._log.read_bytes().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [event for event in events if name in {None, event["event"]}]

    def names(self) -> list[str]:
        """The names of all events so far, in order."""
        return [event["event"] for event in self.events()]

    def errors(self) -> str:
        """What stands on standard error."""
        return self._errors.read_text()

    async def saw(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`th event of a name; fails when the process ends before it."""
        await until(lambda: len(self.events(name)) >= count or not self.is_running, f"event {name}")
        events = self.events(name)
        assert len(events) >= count, f"ended without {name}: {self.names()} {self.errors()}"
        return events[count - 1]

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def is_holding(self, number: int) -> bool:
        """Whether it holds a signal back."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
        return bool(int(mask, 16) >> (number - 1) & 1)

    def sealers(self) -> list[psutil.Process]:
        """Its worker processes that live."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                self._family[child.pid] = child
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if any("spawn_main" in word for word in child.cmdline()):
                        found.append(child)
        return found

    def orphans(self) -> list[psutil.Process]:
        """Its workers that still live, as far as `sealers`, `signal` or `kill` has seen them."""
        return [child for child in self._family.values() if _lives(child)]

    def signal(self, number: int) -> None:
        """Send a signal to the recorder alone."""
        self.sealers()  # To know them when it has gone.
        self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the recorder and its workers, as a terminal does."""
        os.killpg(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, while its workers live on."""
        self.sealers()
        self._process.kill()
        await self.ended()

    async def ended(self) -> int:
        """Wait for its end; gives the exit code, negative after a signal."""
        await until(lambda: not self.is_running, "the end of the recorder")
        assert self._process.returncode is not None
        return self._process.returncode

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def end(self) -> None:
        """End it and its workers, in whatever state they are."""
        if self.is_running:
            self.sealers()
            self._process.kill()
        self._process.wait()
        for child in self.orphans():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        deadline = time.monotonic() + PATIENCE_SEC
        while self.orphans() and time.monotonic() < deadline:
            time.sleep(LOOK_SEC)


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
