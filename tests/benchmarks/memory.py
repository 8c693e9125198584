"""How much memory recording takes: 300 symbols and 3 kinds at 20,000 messages a second for two minutes.

    python tests/benchmarks/memory.py [--seconds N] [--rate N] [--symbols N] [--levels N] [--main-mb N] [--plain]
                                      [--json FILE]
    python tests/benchmarks/memory.py --symbols 1000 --rate 50000 --seconds 60 --main-mb 120

`streamsvc run` in its default settings, over TLS, from a source of our own: trades, order-book updates of 20 levels a
side, and best bids and asks, of every symbol in turn. The memory of the main process and of each sealer is sampled
every second; its peak is the kernel's own mark, which no sample can miss. Exits with 1 when the main process was ever
above `--main-mb` or a sealer above 400 MB, when either still grew in the second half of the time, or when a row is
missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from processes import become_reaper, command_of, family_of, memory_of
from recorder import PROGRAM, Recorder, free_port, scratch_folder, settings_for
from sources import PacedSource, make_certificates
from steady import record_steadily
from table import print_table
from verdicts import end

KINDS = ("trade", "depth", "bookTicker")
MB = 1 << 20
SEALER_MB_MAX = 400
GROWTH_MB_MAX = {"main": 5, "sealer": 20}
"""Memory in the last quarter of the time above that in the third quarter: a sealer's follows its segments."""


class Sampler:
    """The memory of a service's processes over time."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self.samples: list[dict[str, Any]] = []
        self.peaks: dict[int, int] = {}
        self.roles: dict[int, str] = {}

    def sample(self, recorder: Recorder) -> None:
        """Look at every process once."""
        self._begin = time.monotonic() if self._begin is None else self._begin
        seconds = round(time.monotonic() - self._begin, 1)
        for pid in family_of(recorder.pid):
            memory = memory_of(pid)
            if memory is None:
                continue
            if pid not in self.roles:
                self.roles[pid] = "main" if pid == recorder.pid else self._role(pid)
            self.peaks[pid] = memory.peak_bytes
            sample = {"seconds": seconds, "pid": pid, "role": self.roles[pid], "resident_bytes": memory.resident_bytes}
            self.samples.append(sample)

    def _role(self, pid: int) -> str:
        return "helper" if "resource_tracker" in command_of(pid) else "sealer"

    def most_mb(self, pid: int, begin_sec: float, end_sec: float) -> float:
        """The most that a process had between two times; 0 if it was not there."""
        seen = [
            sample["resident_bytes"]
            for sample in self.samples
            if sample["pid"] == pid and begin_sec <= sample["seconds"] < end_sec
        ]
        return round(max(seen, default=0) / MB, 1)


def row_of(sampler: Sampler, pid: int, seconds: float, main_mb_max: float) -> dict[str, Any]:
    """What is told of one process, and what is wrong with it."""
    role = sampler.roles[pid]
    quarters = [sampler.most_mb(pid, seconds * number / 4, seconds * (number + 1) / 4) for number in range(4)]
    peak_mb = round(sampler.peaks[pid] / MB, 1)
    faults = []
    limit_mb = {"main": main_mb_max, "sealer": SEALER_MB_MAX}.get(role, peak_mb)
    if peak_mb > limit_mb:
        faults.append(f"above {limit_mb:g} MB")
    if quarters[2] and quarters[3] - quarters[2] > GROWTH_MB_MAX.get(role, quarters[3]):
        faults.append("grows")
    return {"role": role, "pid": pid, "peak_mb": peak_mb, "quarters_mb": quarters, "fault": ", ".join(faults)}


def measure(args: argparse.Namespace, folder: Path, program: tuple[str, ...] = PROGRAM) -> dict[str, Any]:
    """Record for a while, and look."""
    certificates = make_certificates(folder)
    port = free_port()
    streams = args.symbols * len(KINDS)
    levels = "--levels", args.levels
    source = PacedSource(port, args.rate, streams, None if args.plain else certificates, *levels, "--held")
    symbols = [f"SYM{number}USDT" for number in range(args.symbols)]
    authority = None if args.plain else certificates[0]
    settings = settings_for(port, authority=authority, symbols=symbols, kinds=",".join(KINDS))
    sampler = Sampler()
    recorded = record_steadily(
        folder,
        settings,
        source,
        args.seconds,
        program=program,
        look=sampler.sample,
        rows_per_message={"depth": 2 * args.levels},
    )
    return {
        "seconds": round(recorded.seconds, 1),
        "messages_sent": recorded.sent,
        "messages_per_sec": round(recorded.per_sec),
        "cpu_source_percent": round(recorded.source_cpu_ns / recorded.seconds / 1e7, 1),
        "cpu_main_percent": round(recorded.main_cpu_ns / recorded.seconds / 1e7, 1),
        "cpu_all_percent": round(recorded.cpu_ns / recorded.seconds / 1e7, 1),
        "fault": recorded.fault,
        "processes": [row_of(sampler, pid, recorded.seconds, args.main_mb) for pid in sampler.peaks],
        "samples": sampler.samples,
    }


def main() -> int:
    """Measure, tell, judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--rate", type=float, default=20_000, help="messages a second, of all streams together")
    parser.add_argument("--symbols", type=int, default=300)
    parser.add_argument("--levels", type=int, default=20, help="of an order-book update, on each side")
    parser.add_argument("--main-mb", type=float, default=100, help="what the main process may take")
    parser.add_argument("--plain", action="store_true", help="plain TCP instead of TLS")
    parser.add_argument("--json", type=Path, help="write everything, samples too, to this file")
    args = parser.parse_args()
    become_reaper()
    with scratch_folder() as folder:
        result = measure(args, folder)
    headings = ["process", "pid", "peak MB", "1st quarter", "2nd", "3rd", "4th", ""]
    print_table(
        headings,
        [
            [row["role"], str(row["pid"]), row["peak_mb"], *row["quarters_mb"], row["fault"]]
            for row in result["processes"]
        ],
    )
    print(
        f"{result['messages_per_sec']:,} messages/s for {result['seconds']} s; CPU of the main process "
        f"{result['cpu_main_percent']} %, of all {result['cpu_all_percent']} % of a core"
    )
    faults = [f"{row['role']} {row['pid']}: {row['fault']}" for row in result["processes"] if row["fault"]]
    return end(args.json, result, [*faults, result["fault"]], rate=args.rate, symbols=args.symbols)


if __name__ == "__main__":
    sys.exit(main())
