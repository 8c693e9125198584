"""What live analytics cost: recording with them and without, in alternating runs, 300 symbols at 20,000 messages/s.

    python tests/benchmarks/analytics_cost.py [--rounds N] [--seconds N] [--rate N] [--symbols N] [--plain] [--json F]

The same as `memory.py` measures (trades, order-book updates, best bids and asks, over TLS), each round once with and
once without analytics. Exits with 1 when they cost half a core or more, or when a run lost a row.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from environments import HERE
from memory import measure
from processes import become_reaper
from recorder import scratch_folder
from table import print_table
from verdicts import end

COST_PERCENT_MAX = 50
WAYS = {"with analytics": ("-m", "streamsvc"), "alone": (str(HERE / "recorder_alone.py"),)}


def main() -> int:
    """Measure in turns, tell, judge; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--symbols", type=int, default=300)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--main-mb", type=float, default=100)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    become_reaper()
    results = []
    for number in range(args.rounds):
        for way, command in WAYS.items():
            with scratch_folder() as folder:
                result = measure(args, folder, command)
            main_process = next(row for row in result["processes"] if row["role"] == "main")
            results.append({"round": number + 1, "way": way, "main": main_process, **result})
    print_table(
        ["round", "", "messages/s", "main CPU %", "all CPU %", "main peak MB", "rows"],
        [
            [
                result["round"],
                result["way"],
                result["messages_per_sec"],
                result["cpu_main_percent"],
                result["cpu_all_percent"],
                result["main"]["peak_mb"],
                result["fault"] or "all there",
            ]
            for result in results
        ],
    )
    medians = {
        way: statistics.median(result["cpu_all_percent"] for result in results if result["way"] == way) for way in WAYS
    }
    cost = medians["with analytics"] - medians["alone"]
    print(
        f"analytics cost {cost:.1f} % of a core of all processes, by the medians; less than {COST_PERCENT_MAX} wanted"
    )
    faults = [result["fault"] for result in results]
    if cost >= COST_PERCENT_MAX:
        faults.append(f"analytics cost {COST_PERCENT_MAX} % of a core or more")
    return end(args.json, {"cost_percent": cost, "runs": results}, faults)


if __name__ == "__main__":
    sys.exit(main())
