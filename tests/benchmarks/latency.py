"""How old a trade is when the live view shows it: from the source's `send` to what somebody who asks is told.

    python tests/benchmarks/latency.py [--rates N,N] [--seconds N] [--runs N] [--tls] [--json FILE]

Spot trades of 100 symbols over one connection, sent one by one, each stamped with the monotonic clock, which all
processes of a machine share. `recorder_timed.py` is `streamsvc run` in its default settings (`READ_TICK_MS` is most of
what is measured), with a task that is woken after each batch and asks for the live view. The source has a core of its
own, where there are two. The first second is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from array import array
from pathlib import Path
from typing import Any

from environments import HERE
from processes import become_reaper, family_of
from recorder import free_port, scratch_folder, settings_for
from sources import SYMBOLS, PacedSource, make_certificates
from steady import record_steadily
from table import print_table
from verdicts import end, verdict

KIND = "trade"
PROGRAM = (str(HERE / "recorder_timed.py"),)
TARGETS_MS = {"p50": 3.0, "p99": 5.0}
TARGET_RATE = 20_000
WARM_SEC = 1.0


def percentiles(latencies_ns: array[int]) -> dict[str, float]:
    """Of sorted latencies, in ms."""
    return {
        name: round(latencies_ns[min(int(len(latencies_ns) * share), len(latencies_ns) - 1)] / 1e6, 2)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
    }


def measure(rate: float, seconds: float, *, is_tls: bool) -> dict[str, Any]:
    """One run at one rate."""
    with scratch_folder() as folder:
        certificates = make_certificates(folder) if is_tls else None
        port = free_port()
        source = PacedSource(port, rate, len(SYMBOLS), certificates, "--one-by-one", "--stamped", "--held")
        authority = certificates[0] if certificates is not None else None
        settings = settings_for(port, authority=authority, symbols=SYMBOLS, kinds=KIND)
        recorded = record_steadily(
            folder,
            settings,
            source,
            seconds,
            program=PROGRAM,
            prepare=lambda recorder: _set_apart(source.pid, recorder.pid),
        )
        latencies = array("q")
        latencies.frombytes((folder / "latencies.bin").read_bytes())
    fault = recorded.fault
    if not fault and len(latencies) != recorded.messages:
        fault = f"{len(latencies)} of {recorded.messages} messages were seen"
    told = {"rate": round(recorded.per_sec), "wanted_rate": rate, "messages": recorded.messages, "fault": fault}
    return {**told, **percentiles(array("q", sorted(latencies[int(rate * WARM_SEC) :])))}


def _set_apart(source: int, service: int) -> None:
    """Give the source a core of its own: an exchange does not take turns with us on one."""
    *others, last = sorted(os.sched_getaffinity(0))
    if others:
        _set_affinity(source, {last})
        for pid in family_of(service):
            _set_affinity(pid, set(others))


def _set_affinity(pid: int, cores: set[int]) -> None:
    """Give a process and its threads these cores: a thread that runs already does not follow its process."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def main() -> int:
    """Measure, tell; returns the exit code: 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="20000,2000", help="messages a second, comma-separated")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    become_reaper()
    rates = [float(rate) for rate in args.rates.split(",")]
    results = []
    for number in range(args.runs):
        for rate in rates:
            results.append({"round": number, **measure(rate, args.seconds, is_tls=args.tls)})
            print(f"round {number + 1}  {results[-1]}", file=sys.stderr, flush=True)
    names = ["rate", "p50", "p90", "p99", "p999", "max"]
    rows = []
    for rate in rates:
        own = [result for result in results if result["wanted_rate"] == rate]
        medians = {name: round(statistics.median(result[name] for result in own), 2) for name in names}
        wanted = ""
        if rate == TARGET_RATE:
            is_reached = all(medians[name] <= most for name, most in TARGETS_MS.items())
            wanted = f"<= {TARGETS_MS['p50']:g} / {TARGETS_MS['p99']:g}: {verdict(is_reached=is_reached)}"
        rows.append([round(medians["rate"]), *(medians[name] for name in names[1:]), wanted])
    print_table(["messages/s", "p50 ms", "p90", "p99", "p99.9", "longest", "p50 / p99 wanted"], rows)
    return end(args.json, {"runs": results}, [result["fault"] for result in results], tls=args.tls)


if __name__ == "__main__":
    sys.exit(main())
