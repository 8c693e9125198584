"""What a message costs, against the number of symbols and against the rate, up to what the machine can take.

    python tests/benchmarks/cost_curves.py [--seconds N] [--symbols N,N,…] [--rates N,N,…] [--json FILE] [--plot FILE]

aggTrades over plain TCP in bursts of 2 ms, `streamsvc run` in its default settings. One curve has 1 to 1,000 symbols at
5,000 messages a second, the other 1,000 messages a second to more than is possible, of 100 symbols. A point's cost is
the CPU time of all processes a message, the sealing of what was recorded in it. The limit is where less was taken in
than the source wanted to send: it sends as fast as the socket takes it, and says what it sent. Where the source itself
takes a whole core the limit is the source's. `--plot` draws both curves with `plot.py`, in an environment of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import HERE, python_of
from processes import become_reaper
from recorder import free_port, scratch_folder, settings_for
from sources import PacedSource
from steady import record_steadily
from table import print_table
from verdicts import end

KIND = "aggTrade"
SYMBOLS, RATE = 100, 5_000.0
KEPT_SHARE_MIN = 0.95


def measure(symbols: int, rate: float, seconds: float) -> dict[str, Any]:
    """One point."""
    port = free_port()
    names = [f"SYM{number}USDT" for number in range(symbols)]
    settings = settings_for(port, authority=None, symbols=names, kinds=KIND)
    with scratch_folder() as folder:
        recorded = record_steadily(folder, settings, PacedSource(port, rate, symbols, None, "--held"), seconds)
    return {
        "symbols": symbols,
        "wanted_per_sec": rate,
        "per_sec": round(recorded.per_sec),
        "cpu_us": recorded.cpu_us,
        "cpu_main_us": recorded.main_cpu_us,
        "source_core_percent": round(recorded.source_cpu_ns / recorded.seconds / 1e7),
        "is_beyond": recorded.per_sec < KEPT_SHARE_MIN * rate,
        "fault": recorded.fault,
    }


def curve(points: list[tuple[int, float]], seconds: float) -> list[dict[str, Any]]:
    """Points one after the other, until the machine can take no more."""
    results = []
    for symbols, rate in points:
        results.append(measure(symbols, rate, seconds))
        print(results[-1], file=sys.stderr, flush=True)
        if results[-1]["is_beyond"]:
            break
    return results


def main() -> int:
    """Measure, tell; returns the exit code: 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="a point")
    parser.add_argument("--symbols", default="1,10,100,1000")
    parser.add_argument("--rates", default="1000,2000,5000,10000,20000,50000,100000,150000,200000,300000,400000")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a .png; needs --json")
    args = parser.parse_args()
    if args.plot and not args.json:
        parser.error("--plot needs --json")
    become_reaper()
    by_symbols = curve([(int(symbols), RATE) for symbols in args.symbols.split(",")], args.seconds)
    by_rate = curve([(SYMBOLS, float(rate)) for rate in args.rates.split(",")], args.seconds)
    print_table(
        ["symbols", "wanted/s", "messages/s", "CPU us/message", "of it main", "source, % of a core", ""],
        [
            [
                point["symbols"],
                round(point["wanted_per_sec"]),
                point["per_sec"],
                point["cpu_us"],
                point["cpu_main_us"],
                point["source_core_percent"],
                "beyond the limit" if point["is_beyond"] else "",
            ]
            for point in by_symbols + by_rate
        ],
    )
    figures = {"by_symbols": by_symbols, "by_rate": by_rate}
    code = end(args.json, figures, [point["fault"] for point in by_symbols + by_rate], seconds=args.seconds)
    if args.plot:
        subprocess.run([python_of("plot"), HERE / "plot.py", args.json, args.plot], check=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
