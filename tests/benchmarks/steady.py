"""A service that records a steady source for a while, seen from outside: what it cost, and whether all is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
from measure import fault_of_rows
from processes import own_cpu_ns
from recorder import PROGRAM, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sources import PacedSource

LOOK_SEC = 1.0


@attrs.frozen
class Recorded:
    """What came of it.

    Attributes:
        sent: Messages that the source sent, by kind.
        seconds: For how long it did.
        cpu_ns: CPU time of all processes of the service, from the first message to its end.
        main_cpu_ns: Of it that of the main process.
        start_cpu_ns: What it had used before the first message.
        source_cpu_ns: That of the source, its start included.
        fault: What was wrong; empty: nothing.
    """

    sent: dict[str, int]
    seconds: float
    cpu_ns: int
    main_cpu_ns: int
    start_cpu_ns: int
    source_cpu_ns: int
    fault: str

    @property
    def messages(self) -> int:
        """Messages of all kinds."""
        return sum(self.sent.values())

    @property
    def per_sec(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of all processes a message, in microseconds."""
        return round(self.cpu_ns / self.messages / 1e3, 2)

    @property
    def main_cpu_us(self) -> float:
        """That of the main process."""
        return round(self.main_cpu_ns / self.messages / 1e3, 2)


def nothing(_recorder: Recorder) -> None:
    """Do nothing."""


def record_steadily(
    folder: Path,
    settings: dict[str, str],
    source: PacedSource,
    seconds: float,
    *,
    program: tuple[str, ...] = PROGRAM,
    prepare: Callable[[Recorder], None] = nothing,
    look: Callable[[Recorder], None] = nothing,
    rows_per_message: Mapping[str, int] | None = None,
) -> Recorded:
    """Start a service, let the source begin when it is at rest, and stop both.

    Args:
        folder: The working folder of the service.
        settings: Its settings.
        source: Held; it is closed at the end.
        seconds: For how long it sends.
        program: What Python runs.
        prepare: Called when the service is at rest.
        look: Called every second while it records, and when everything is in the journal.
        rows_per_message: Where a message of a kind is more rows than one.
    """
    recorder = Recorder(folder, settings, {source.pid}, program)
    try:
        recorder.wait_calm()
        prepare(recorder)
        start_ns, start_main_ns, begin = recorder.cpu_ns(), own_cpu_ns(recorder.pid), time.monotonic()
        source.begin()
        while (left_sec := begin + seconds - time.monotonic()) > 0:
            look(recorder)
            recorder.check()
            time.sleep(min(LOOK_SEC, left_sec))
        sent_sec = time.monotonic() - begin
        sent = source.stop()
        recorder.wait_settled(source.port)
        look(recorder)
        recorder.terminate()
        code, cpu = recorder.collect()
    finally:
        recorder.close()
        source.close()
    per_message = rows_per_message or {}
    faults = [f"exit code {code}"] if code else []
    faults += [fault_of_rows(recorder, kind, count, per_message.get(kind, 1)) for kind, count in sent.items()]
    return Recorded(
        sent=sent,
        seconds=sent_sec,
        cpu_ns=cpu.total_ns - start_ns,
        main_cpu_ns=cpu.main_ns - start_main_ns,
        start_cpu_ns=start_ns,
        source_cpu_ns=round(source.cpu_sec * 1e9),
        fault="; ".join(filter(None, faults)),
    )
