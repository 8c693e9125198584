"""`streamsvc run` as a process of its own, and what an observer sees of it from outside.

Nothing is asked of the service but what users have: its settings, its signals, its journal folder and its catalogue.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments import BENCH_FOLDER, CHECKOUT
from processes import Family, FamilyCpu, family_cpu_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

_ESTABLISHED, _LISTENING = "01", "0A"
STOP_SEC_MAX = 120.0
CALM_SHARE_MAX = 0.03
CALM_SEC = 0.5
CALM_SEC_MAX = 30.0
SETTLE_SEC = 0.5
SETTLE_SEC_MAX = 60.0
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder on the disk of the checkout, removed at the end: a tmpfs would make the journal too cheap."""
    BENCH_FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=BENCH_FOLDER) as name:
        yield Path(name)


PROGRAM = ("-m", "streamsvc")


class Recorder:
    """A running service.

    Args:
        folder: Its working folder: data, log, and the socket on which it says that it is ready.
        settings: Variables beside the environment's `PATH` and the like; nothing else of our environment is passed on.
        strangers: Other children of ours, which are not the service's orphans.
        program: What Python runs.
    """

    def __init__(
        self, folder: Path, settings: dict[str, str], strangers: set[int], program: tuple[str, ...] = PROGRAM
    ) -> None:
        self.data = folder / "data"
        self.log = folder / "log.jsonl"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.setblocking(False)
        self._is_ready = False
        closed_port = free_port()
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {
            "DATA_DIR": str(self.data),
            "NOTIFY_SOCKET": str(folder / "notify"),
            "BINANCE_SPOT_REST_URL": f"http://127.0.0.1:{closed_port}",
            "BINANCE_FUTURES_REST_URL": f"http://127.0.0.1:{closed_port}",
            "HTTP_LISTEN": "",
            **settings,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, "run"], cwd=folder, env=environment, stdout=log, stderr=log
            )
        self.pid = self._process.pid
        self._family = Family(self.pid, strangers)
        self._journal_bytes: dict[str, int] = {}

    def ignore(self, pid: int) -> None:
        """Another child of ours was started, which is no orphan of the service."""
        self._family.ignore(pid)

    def is_ready(self) -> bool:
        """Whether it has said READY."""
        with suppress(BlockingIOError):
            while not self._is_ready:
                self._is_ready = b"READY=1" in self._notify.recv(4096).split(b"\n")
        return self._is_ready

    def check(self) -> None:
        """Raise RuntimeError if it has ended by itself."""
        if self._family.has_ended():
            raise RuntimeError(f"streamsvc has ended by itself:\n{self.log.read_text()[-4000:]}")

    def cpu_ns(self) -> int:
        """CPU time of the service and its workers until now."""
        return family_cpu_ns(self.pid)

    def wait_calm(self) -> None:
        """Wait until it is ready, and hardly uses the CPU any more: its imports and those of its workers are over.

        Raises:
            TimeoutError: it does not come to rest.
        """
        deadline = time.monotonic() + CALM_SEC_MAX
        before_ns = self.cpu_ns()
        while time.monotonic() < deadline:
            time.sleep(CALM_SEC)
            self.check()
            used_ns = self.cpu_ns() - before_ns
            before_ns += used_ns
            if self.is_ready() and used_ns < CALM_SHARE_MAX * CALM_SEC * 1e9:
                return
        raise TimeoutError(f"streamsvc is busy {CALM_SEC_MAX} s after its start")

    def journal_bytes(self) -> int:
        """All bytes that were ever seen in the journal, those of removed segments too."""
        with suppress(FileNotFoundError), os.scandir(self.data / "journal") as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    size = entry.stat().st_size
                    self._journal_bytes[entry.name] = max(size, self._journal_bytes.get(entry.name, 0))
        return sum(self._journal_bytes.values())

    def wait_settled(self, port: int) -> None:
        """Wait until what was sent is in the journal."""
        deadline = time.monotonic() + SETTLE_SEC_MAX
        size = -1
        while (size_now := self.journal_bytes()) != size or queued_bytes(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the journal still grows after {SETTLE_SEC_MAX} s")
            size = size_now
            time.sleep(SETTLE_SEC)

    def segments(self) -> int:
        """The segments in the journal: the one that is written, and those that wait for a sealer or are with one."""
        return len(list((self.data / "journal").glob("*.journal")))

    def rows(self, kind: str) -> int:
        """The rows of a kind in the catalogue."""
        return rows_in(self.data / "catalogue.sqlite", kind)

    def terminate(self) -> None:
        """Ask it to stop: it writes, seals and publishes what it has."""
        os.kill(self.pid, signal.SIGTERM)

    def has_ended(self) -> bool:
        """Whether its main process has ended."""
        return self._family.has_ended()

    def collect(self) -> tuple[int, FamilyCpu]:
        """Wait for the end, at most `STOP_SEC_MAX`; returns the exit code and the CPU time of everyone."""
        deadline = time.monotonic() + STOP_SEC_MAX
        while not self._family.has_ended():
            if time.monotonic() > deadline:
                raise TimeoutError(f"streamsvc does not stop within {STOP_SEC_MAX} s")
            time.sleep(0.005)
        code, cpu = self._family.collect()
        self._process.returncode = code
        return code, cpu

    def close(self) -> None:
        """Kill what still runs."""
        self._notify.close()
        if self._process.returncode is None:
            os.kill(self.pid, signal.SIGKILL)  # `Popen.kill` would wait for it, and its account be lost.
            self.collect()

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        events = []
        for line in self.log.read_text().splitlines():
            with suppress(json.JSONDecodeError):
                events.append(json.loads(line))
        return events


def rows_in(catalogue: Path, kind: str) -> int:
    """The rows of a kind in a catalogue, 0 where there is none yet."""
    if not catalogue.exists():
        return 0
    query = "select coalesce(sum(rows), 0) from files where kind = ?"
    # Its tables may be about to be made.
    with suppress(sqlite3.OperationalError), closing(_open_read_only(catalogue)) as connection:
        return int(connection.execute(query, [kind]).fetchone()[0])
    return 0


def _open_read_only(catalogue: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True, timeout=10)


def settings_for(port: int, *, authority: Path | None, symbols: list[str], kinds: str) -> dict[str, str]:
    """Settings that point the service to a source on this machine; `authority` makes it TLS."""
    settings = {
        "SPOT_SYMBOLS": ",".join(symbols),
        "SPOT_KINDS": kinds,
        # Sources do not answer a close frame, as an exchange does: waiting for that would count as sealing.
        "CLOSE_TIMEOUT_SEC": "0.1",
        # The source begins to listen after us, and must not be waited for up to a minute.
        "RECONNECT_MAX_SEC": "2",
        "BINANCE_SPOT_WS_URL": f"{'wss' if authority else 'ws'}://127.0.0.1:{port}",
    }
    return settings | ({"TLS_CA_FILE": str(authority)} if authority else {})


def queued_bytes(port: int) -> int:
    """Bytes that lie in the kernel between a port's connections and whoever reads them (proc_net_tcp)."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = {int(address.split(":")[1], 16) for address in fields[1:3]}
        if port in ports and fields[3] != _LISTENING:
            sending, receiving = fields[4].split(":")
            total += int(sending, 16) + int(receiving, 16)
    return total


def connections_to(port: int) -> int:
    """The connections that a port on this machine serves now (proc_net_tcp)."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(fields[3] == _ESTABLISHED and int(fields[1].split(":")[1], 16) == port for fields in lines)


def version() -> str:
    """The commit that is measured."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
