"""Run seeds of the simulation on all cores: `make simulate SEED=7`, `make simulate SEEDS=1..1000`.

Ends with how often each class of faults was hit, and the command that runs each failing seed again; exit code 1 if
there is one.
"""

import argparse
import os
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "clocked"))

from simulation import simulate
from simulation_faults import LEFT_OUT

SEEDS_PER_PROCESS = 50
REPORT_SEC = 10.0


def main():
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", help="a seed, or a range: 1..1000")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    parser.add_argument("--trace", type=Path, help="a file for the events of a single seed")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    if len(seeds) == 1:
        return report([simulate(seeds[0], arguments.trace)])
    return report(run_all(seeds, arguments.jobs))


def run_all(seeds, jobs):
    """The outcomes of many seeds, with progress."""
    outcomes, began, told_at = [], time.monotonic(), 0.0
    # Not concurrent.futures: Python 3.11's hangs where its processes are replaced.
    with get_context("spawn").Pool(jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        for outcome in pool.imap_unordered(simulate, seeds):
            outcomes.append(outcome)
            now = time.monotonic()
            if outcome.failure:
                say(
                    f"seed {outcome.seed} FAILED: {outcome.failure.strip().splitlines()[-2].strip(' |+-')}",
                    is_last=True,
                )
            if now - told_at >= (0.5 if sys.stdout.isatty() else REPORT_SEC) or len(outcomes) == len(seeds):
                told_at = now
                left_sec = (now - began) / len(outcomes) * (len(seeds) - len(outcomes))
                hours, failed = sum(one.hours for one in outcomes), sum(bool(one.failure) for one in outcomes)
                say(
                    f"{len(outcomes)} of {len(seeds)} seeds, {hours:,.0f} simulated hours, {failed} failed, "
                    f"{left_sec / 60:.1f} min left",
                    is_last=len(outcomes) == len(seeds),
                )
    return outcomes


def say(line, *, is_last):
    """A line of progress: over the one before on a terminal, below it elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="\n" if is_last else "", flush=True)
    else:
        print(line, flush=True)


def report(outcomes):
    """Print what came of it; the exit code."""
    hits, gaps = Counter(), Counter()
    for one in outcomes:
        hits.update(one.hits)
        gaps.update(one.gaps)
    print("\nfaults, by class:")
    for name, count in sorted(hits.items(), key=lambda item: (item[0][0], int(item[0][1:]))):
        print(f"  {name:4} {count:>9,}")
    print("not drawn:")
    for names, reason in LEFT_OUT.items():
        print(f"  {names}: {reason}")
    print("gaps:", ", ".join(f"{count:,} {name}" for name, count in sorted(gaps.items())) or "none")
    if len(outcomes) == 1:
        print("trace:", outcomes[0].digest)
    failures = sorted((one for one in outcomes if one.failure), key=lambda one: one.seed)
    for one in failures[:5]:
        print(f"\nseed {one.seed}:\n{one.failure}")
    for one in failures:
        print(f"failed: make simulate SEED={one.seed}")
    hours = sum(one.hours for one in outcomes)
    print(f"{len(outcomes):,} seeds, {hours:,.1f} simulated hours, {len(failures):,} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
