"""A Debian 12 machine in a folder, booted with systemd-nspawn, in which the service is installed as its users would.

The machine has a network of its own, with nothing in it but loopback: its ports are no other program's. What pip needs
is fetched on this side and shown to it. Needs root, debootstrap, systemd-nspawn and nsenter.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).parent.parent.parent
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,ca-certificates,python3,python3-venv,procps"
FETCH_SEC, BOOT_SEC, COMMAND_SEC = 900, 60, 300


def make_machine(folder: Path, mirror: str) -> None:
    """Make what is not in the folder yet: a file system of Debian 12, and the wheels of the service."""
    root, wheels = folder / "root", folder / "wheels"
    if not (root / "bin" / "systemctl").exists():
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            SUITE,
            str(root),
            *([mirror] if mirror else []),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=FETCH_SEC)
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    if not wheels.is_dir():
        # Debian 12 has Python 3.11, whatever runs this.
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--dest", str(wheels)]
        pip += ["--python-version=3.11", "--only-binary=:all:"]
        subprocess.run(
            [*pip, "-c", str(CHECKOUT / "constraints.txt"), str(CHECKOUT), "setuptools", "wheel"],
            check=True,
            timeout=FETCH_SEC,
        )


@attrs.frozen
class Machine:
    """A booted machine.

    Attributes:
        pid: Of its first process, seen from here.
    """

    pid: int

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as its root, with the output as text; it may fail."""
        entering = ["nsenter", "--target", str(self.pid), "--all", "--"]
        return subprocess.run(
            [*entering, *command], check=False, capture_output=True, text=True, timeout=COMMAND_SEC, env=_environment()
        )

    def must(self, *command: str) -> str:
        """Run a command that may not fail; returns its output.

        Raises:
            RuntimeError: it failed.
        """
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path: str, content: str) -> None:
        """Write a file of the machine, and its folder."""
        file = Path(f"/proc/{self.pid}/root{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.must("systemctl", "show", "--value", "-p", name, unit).strip()

    def journal(self, unit: str, *more: str) -> str:
        """What a unit has logged since the machine booted, and systemd about it."""
        return self.must("journalctl", "--boot", "--no-pager", "--all", "-o", "cat", "-u", unit, *more)

    def until(self, is_so: Callable[[], object], what: str, patience_sec: float = 60) -> None:
        """Wait until something is so.

        Raises:
            RuntimeError: it was not in time.
        """
        end = time.monotonic() + patience_sec
        while not is_so():
            if time.monotonic() > end:
                raise RuntimeError(f"not within {patience_sec:g} s: {what}")
            time.sleep(0.2)


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Boot the machine of a folder; it is switched off at the end. What it says meanwhile is in `boot.log` there."""
    command = ["systemd-nspawn", "--quiet", f"--directory={folder / 'root'}", f"--machine={folder.name}"]
    command += ["--boot", "--register=no", "--keep-unit", "--private-network", "--link-journal=no"]
    command += [f"--bind-ro={CHECKOUT}:/src", f"--bind-ro={folder / 'wheels'}:/wheels"]
    with (folder / "boot.log").open("wb") as log:
        nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield _wait_for_boot(nspawn)
    finally:
        nspawn.terminate()  # Switches the machine off in good order.
        try:
            nspawn.wait(BOOT_SEC)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()


def _wait_for_boot(nspawn: subprocess.Popen[bytes]) -> Machine:
    end = time.monotonic() + BOOT_SEC
    while nspawn.poll() is None and time.monotonic() < end:
        for pid in Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split():
            machine = Machine(int(pid))
            if machine.run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}:
                return machine
        time.sleep(0.2)
    raise RuntimeError(f"the machine did not boot (exit {nspawn.poll()})")


def _environment() -> dict[str, str]:
    """Of commands in the machine, which takes its wheels from the folder that it is shown."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
