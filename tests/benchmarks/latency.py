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
import json
import os
import platform
import statistics
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from environments import HERE
from measure import fault_of_rows
from processes import become_reaper, family_of
from recorder import Recorder, free_port, scratch_folder, settings_for, version
from sources import SYMBOLS, PacedSource, make_certificates
from table import print_table

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
        options = ("--one-by-one", "--stamped", "--held")
        source = PacedSource(port, rate, len(SYMBOLS), certificates, *options)
        authority = certificates[0] if certificates is not None else None
        settings = settings_for(port, authority=authority, symbols=SYMBOLS, kinds=KIND)
        recorder = Recorder(folder, settings, {source.pid}, PROGRAM)
        try:
            recorder.wait_calm()
            _set_apart(source.pid, recorder.pid)
            source.begin()
            time.sleep(seconds)
            sent = source.stop()[KIND]
            recorder.wait_settled(port)
            recorder.terminate()
            code, _ = recorder.collect()
        finally:
            recorder.close()
            source.close()
        latencies = array("q")
        latencies.frombytes((folder / "latencies.bin").read_bytes())
        fault = f"exit code {code}" if code else fault_of_rows(recorder, KIND, sent)
    fault = fault or ("" if len(latencies) == sent else f"{len(latencies)} of {sent} messages were seen")
    counted = array("q", sorted(latencies[int(rate * WARM_SEC) :]))
    return {
        "rate": round(sent / seconds),
        "wanted_rate": rate,
        "messages": sent,
        "fault": fault,
        **percentiles(counted),
    }


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
        verdict = ""
        if rate == TARGET_RATE:
            is_reached = all(medians[name] <= most for name, most in TARGETS_MS.items())
            verdict = f"<= {TARGETS_MS['p50']:g} / {TARGETS_MS['p99']:g}: {'reached' if is_reached else 'NOT reached'}"
        rows.append([round(medians["rate"]), *(medians[name] for name in names[1:]), verdict])
    print_table(["messages/s", "p50 ms", "p90", "p99", "p99.9", "longest", "p50 / p99 wanted"], rows)
    if args.json:
        about = {"version": version(), "python": platform.python_version(), "tls": args.tls}
        args.json.write_text(json.dumps({"about": about, "runs": results}, indent=1) + "\n")
    faults = [result["fault"] for result in results if result["fault"]]
    print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
