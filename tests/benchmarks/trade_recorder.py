"""How fast the trade recorder writes, beside the recorder that it replaces and what else one would write with.

    python tests/benchmarks/trade_recorder.py [--records N] [--rounds N] [--folder DIR] [--json FILE]

Runs take turns, each in a process of its own; figures are medians. Three tables:

- written, not synced, as the old recorder did it: its own figures, ours, a loop of `json.dumps` and `write`, aiofiles;
- with a sync for each flush: ours beside what the disk allows for one write and one sync of as many ready bytes;
- what buffer and rotation sizes cost.

Every run of ours is read again: all records must be there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from environments import HERE, python_of
from table import print_table
from trade_writers import BATCH, TRADE
from verdicts import end, verdict

from streamsvc.recorder import read_trades

OLD = {"single": 833, "batch": 6_667, "ten": 2_857}
"""Records a second of the recorder that this one replaces, as its makers have measured it."""

TIMES_MIN = {"single": 100, "batch": 75, "ten": 100}
OF_THE_DISK_MIN = 0.8
SCENARIOS = {"single": "single writes", "batch": f"batches of {BATCH}", "ten": "ten writers"}
BUFFER_SIZES = (1, 10, 100, 1000, 10_000)
ROTATION_SIZES_MB = (1, 5, 50, 200)
SECONDS_MAX = 600


def run(writer: str, scenario: str, records: int, folder: str | None, **options: Any) -> dict[str, Any]:
    """One run; ours is read again."""
    python = python_of(writer) if writer == "aiofiles" else sys.executable
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [python, HERE / "trade_writers.py", writer, scenario, records, place, json.dumps(options)]
        done = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, timeout=SECONDS_MAX, check=True, stdin=subprocess.DEVNULL
        )
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if writer == "streamsvc":
            found = sum(1 for _ in read_trades(Path(place) / "trades.jsonl"))
            if found != records:
                raise RuntimeError(f"{found} of {records} records are there")
        return result


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, and the lowest and highest rate."""
    rates = [each["rate"] for each in runs]
    return {name: statistics.median(each[name] for each in runs) for name in runs[0]} | {
        "lowest": min(rates),
        "highest": max(rates),
    }


def in_turns(rounds: int, runs: dict[Any, Any]) -> dict[Any, dict[str, Any]]:
    """Every run in each round; the medians."""
    results: dict[Any, list[dict[str, Any]]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, once in runs.items():
            results[name].append(once())
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {name: median_of(each) for name, each in results.items()}


def measure_unsynced(args: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """By writer and scenario. The slow peers write fewer."""
    runs: dict[tuple[str, str], Any] = {}
    for scenario in SCENARIOS:
        few = max(args.records // 20, BATCH * 10)
        runs["streamsvc", scenario] = lambda scenario=scenario: run(
            "streamsvc", scenario, args.records, args.folder, sync_each_flush=False
        )
        if scenario != "ten":
            runs["plain", scenario] = lambda scenario=scenario: run("plain", scenario, args.records, args.folder)
        runs["aiofiles", scenario] = lambda scenario=scenario, few=few: run(
            "aiofiles", scenario, args.records if scenario == "batch" else few, args.folder
        )
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for (writer, scenario), each in in_turns(args.rounds, runs).items():
        figures.setdefault(writer, {})[scenario] = each
    return figures


def print_unsynced(figures: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """The table, and what was missed."""
    rows, faults = [], []
    for scenario, name in SCENARIOS.items():
        ours, other = round(figures["streamsvc"][scenario]["rate"]), round(figures["aiofiles"][scenario]["rate"])
        loop = round(figures["plain"][scenario]["rate"]) if scenario in figures["plain"] else ""
        old, wanted = OLD[scenario], TIMES_MIN[scenario]
        said = verdict(is_reached=ours / old >= wanted)
        rows.append([name, old, ours, round(ours / old), wanted, said, loop, other])
        if ours / old < wanted:
            faults.append(f"{name}: {ours / old:.0f} times the old recorder, {wanted} were wanted")
    print("\nRecords a second, written and not synced\n")
    print_table(["", "old", "streamsvc", "times", "wanted", "", "json + write", "aiofiles"], rows)
    return faults


def measure_synced(args: argparse.Namespace) -> dict[Any, dict[str, Any]]:
    """Ours with a sync for each flush, by scenario; what the disk allows, and a loop that does nothing else."""
    records = max(args.records // 4, BATCH * 100)
    runs = {
        scenario: lambda scenario=scenario: run("streamsvc", scenario, records, args.folder) for scenario in SCENARIOS
    }
    bounds = {name: lambda name=name: run(name, "batch", records, args.folder) for name in ("limit", "loop")}
    return in_turns(args.rounds, bounds | runs)


def print_synced(figures: dict[Any, dict[str, Any]]) -> list[str]:
    """The table, and what was missed."""
    limit, loop = figures["limit"]["rate"], figures["loop"]["rate"]
    rows: list[list[Any]] = [
        ["ready bytes: what the disk allows", round(limit), round(limit / BATCH), "", 1.0, "", ""],
        ["encode, write, sync in a loop", round(loop), round(loop / BATCH), "", round(loop / limit, 2), "", ""],
    ]
    faults = []
    for scenario, name in SCENARIOS.items():
        each = figures[scenario]
        share = each["rate"] / limit
        said = verdict(is_reached=share >= OF_THE_DISK_MIN)
        syncs, flush_ms = round(each["flushes"] / each["seconds"]), round(each["flush_ms"], 2)
        rows.append([name, round(each["rate"]), syncs, flush_ms, round(share, 2), OF_THE_DISK_MIN, said])
        if share < OF_THE_DISK_MIN:
            faults.append(f"{name}, synced: {share:.2f} of what the disk allows, {OF_THE_DISK_MIN} were wanted")
    print(f"\nA sync for each flush, {BATCH} records a flush or more\n")
    print_table(["", "records/s", "syncs/s", "flush ms", "of the disk", "wanted", ""], rows)
    return faults


def measure_sizes(args: argparse.Namespace) -> tuple[dict[Any, dict[str, Any]], dict[Any, dict[str, Any]]]:
    """Single writes at full speed: by buffer size, with and without syncs; by rotation size."""

    def once(records: int, **options: Any) -> Any:
        return lambda: run("streamsvc", "single", records, args.folder, **options)

    buffers = {
        (size, is_synced): once(
            max(min(args.records, 2000 * size) // 4, 2000), buffer_size=size, sync_each_flush=is_synced
        )
        for size in BUFFER_SIZES
        for is_synced in (False, True)
    }
    rotations = {
        size: once(args.records * 5, rotation_size_mb=size, buffer_size=1000, sync_each_flush=False, close_sec_max=300)
        for size in ROTATION_SIZES_MB
    }
    return in_turns(args.rounds, buffers), in_turns(1, rotations)


def print_sizes(buffers: dict[Any, dict[str, Any]], rotations: dict[Any, dict[str, Any]], records: int) -> None:
    """Both tables."""
    line_bytes = len(json.dumps(TRADE, separators=(",", ":"))) + 1
    rows: list[list[Any]] = []
    for (size, is_synced), each in buffers.items():
        figures = [round(each["rate"]), round(each["flush_ms"], 2), round(each["longest_ms"], 1)]
        rows.append([size, "yes" if is_synced else "no", *figures])
    print(f"\nBuffer sizes: single writes of {line_bytes} bytes at full speed\n")
    print_table(["buffer_size", "synced", "records/s", "flush ms", "longest write ms"], rows)
    rows = []
    for size, each in rotations.items():
        figures = [round(each["rate"]), round(each["rotations"]), round(each["longest_ms"], 1)]
        rows.append([size, *figures, round(each["leaving_sec"], 1)])
    print(f"\nRotation sizes: {records:,} single writes, buffer_size 1000, not synced, compressed meanwhile\n")
    print_table(["rotation MB", "records/s", "rotations", "longest write ms", "leaving s"], rows)


def main() -> int:
    """Measure, print, and say by the exit code whether everything was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400_000, help="of a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="on the disk to be measured; the one of temporary files if not given")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    unsynced = measure_unsynced(args)
    synced = measure_synced(args)
    buffers, rotations = measure_sizes(args)
    faults = [*print_unsynced(unsynced), *print_synced(synced)]
    print_sizes(buffers, rotations, args.records * 5)
    by_name = {f"{size} {'synced' if is_synced else 'unsynced'}": each for (size, is_synced), each in buffers.items()}
    figures = {"unsynced": unsynced, "synced": synced, "buffers": by_name, "rotations": rotations}
    return end(args.json, figures, faults, records=args.records, rounds=args.rounds)


if __name__ == "__main__":
    sys.exit(main())
