"""Sources as processes: `source.py`, or another with the same command line and the same words on standard output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
from environments import HERE
from recorder import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYMBOLS = [f"SYM{number}USDT" for number in range(100)]
MESSAGES_STEP = 10_000
"""A source sends a multiple of this."""


@attrs.frozen
class Setup:
    """What all runs of a session share."""

    source: Path
    peers_script: Path
    messages: int
    peer_messages: int
    certificates: tuple[Path, Path, Path]
    """Authority, certificate, key."""
    kind: str = "aggTrade"
    levels: int = 20
    """Of an order-book update, on each side."""

    @property
    def rows_per_message(self) -> int:
        """An order-book level is a row."""
        return 2 * self.levels if self.kind == "depth" else 1


class Source:
    """A running source."""

    def __init__(self, setup: Setup, transport: str, messages: int, *, is_once: bool, port: int | None = None) -> None:
        self.port = port if port is not None else free_port()
        command = [sys.executable, setup.source, "--port", self.port, "--messages", messages, "--kind", setup.kind]
        if transport == "tls":
            command += ["--tls", *setup.certificates[1:]]
        if is_once:
            command.append("--once")
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, cwd=setup.source.parent)
        self.pid = self._process.pid
        self.begin_at = self.end_at = 0.0
        assert self._process.stdout is not None
        self._said = self._process.stdout
        line = self._said.readline()
        if b"serving" not in line:
            raise RuntimeError(f"{setup.source} does not serve: {line!r}")
        os.set_blocking(self._said.fileno(), False)

    def look(self) -> None:
        """Hear when its first message left, and when the last one had left."""
        while line := self._said.readline():
            event = json.loads(line)
            if event["event"] == "begin":
                self.begin_at = event["time"]
            elif event["event"] == "end":
                self.end_at = event["time"]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._said.close()


@contextlib.contextmanager
def running_source(
    setup: Setup, transport: str, messages: int, *, is_once: bool, port: int | None = None
) -> Iterator[Source]:
    """A source that serves, on a port of its own choice unless one is given."""
    source = Source(setup, transport, messages, is_once=is_once, port=port)
    try:
        yield source
    finally:
        source.close()


class PacedSource:
    """A running `paced_source.py`.

    Args:
        port: Where it serves.
        rate: Messages a second of all streams together.
        streams: How many these are.
        certificates: Authority, certificate, key, for TLS.
        options: More of its options.
    """

    def __init__(
        self, port: int, rate: float, streams: int, certificates: tuple[Path, Path, Path] | None, *options: object
    ) -> None:
        self.port = port
        command = [sys.executable, HERE / "paced_source.py", "--port", port, "--rate", rate, "--streams", streams]
        command += options
        if certificates is not None:
            command += ["--tls", *certificates[1:]]
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self._said = self._process.stdout
        line = self._said.readline()
        if b"serving" not in line:
            raise RuntimeError(f"paced_source.py does not serve: {line!r}")
        self.cpu_sec = 0.0

    def begin(self) -> None:
        """Let it send, where it was held."""
        self._process.send_signal(signal.SIGUSR1)

    def stop(self) -> dict[str, int]:
        """Stop sending; returns the messages that were sent, by kind."""
        self._process.send_signal(signal.SIGTERM)
        told = json.loads(self._said.readline())
        self.cpu_sec = told["cpu_sec"]
        sent: dict[str, int] = told["messages"]
        return sent

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._said.close()


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority, a certificate of it for 127.0.0.1, and its key."""
    import trustme  # noqa: PLC0415 - only TLS needs it

    paths = folder / "authority.pem", folder / "certificate.pem", folder / "key.pem"
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(paths[0]))
    issued.cert_chain_pems[0].write_to_path(str(paths[1]))
    issued.private_key_pem.write_to_path(str(paths[2]))
    return paths
