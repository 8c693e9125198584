"""How fast order-book updates of 40 levels become rows, beside a plain loop that stores the same rows.

    python tests/benchmarks/depth.py [--messages N] [--peer-messages N] [--runs N] [--json FILE]

800,000 updates of 100 symbols over plain TCP, 20 levels a side, from a source that is never the slower side.
`streamsvc` is measured as in `capture.py`: `streamsvc run` in its default settings, until the last row is in the
catalogue, a row a level. The plain loop is `plain_loop.py`, as one would write it by hand: websockets, json, pandas and
pyarrow; it has the same columns, in the same types, in one file, and looks for no gap. A run counts only if every row
is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from environments import HERE, python_of
from measure import measure_streamsvc
from processes import become_reaper
from recorder import scratch_folder
from sources import MESSAGES_STEP, Setup, make_certificates, running_source
from table import print_table
from verdicts import end, verdict

TARGET = 5.0
LOOP_SEC_MAX = 900.0


def measure_loop(setup: Setup) -> dict[str, Any]:
    """One run of the plain loop, from its first message to its closed file."""
    with scratch_folder() as folder, running_source(setup, "plain", setup.peer_messages, is_once=False) as source:
        url = f"ws://127.0.0.1:{source.port}"
        command = [python_of("plain_loop"), HERE / "plain_loop.py", url, folder / "depth.parquet"]
        done = subprocess.run(list(map(str, command)), capture_output=True, check=True, timeout=LOOP_SEC_MAX)
    told: dict[str, Any] = json.loads(done.stdout)
    wanted = setup.peer_messages * setup.rows_per_message
    fault = "" if told["rows"] == wanted else f"{told['rows']} of {wanted} rows"
    return {
        "name": "plain loop",
        "messages": told["messages"],
        "rows": told["rows"],
        "rate": round(told["messages"] / told["wall_sec"]),
        "cpu_us": round(told["cpu_sec"] / told["messages"] * 1e6, 3),
        "fault": fault,
    }


def row_of(results: list[dict[str, Any]], name: str) -> list[Any]:
    """The medians of one side."""
    own = [result for result in results if result["name"] == name]
    rates = [result["rate"] for result in own]
    cpu_us = round(statistics.median(result["cpu_us"] for result in own), 2)
    return [name, len(own), own[0]["messages"], round(statistics.median(rates)), min(rates), max(rates), cpu_us]


def main() -> int:
    """Measure in turns, tell; returns the exit code: 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=800_000)
    parser.add_argument("--peer-messages", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.messages % MESSAGES_STEP or args.peer_messages % MESSAGES_STEP:
        parser.error(f"numbers of messages must be multiples of {MESSAGES_STEP}")
    python_of("plain_loop")
    become_reaper()
    results: list[dict[str, Any]] = []
    with scratch_folder() as folder:
        setup = Setup(
            source=HERE / "source.py",
            peers_script=HERE / "peers.py",
            messages=args.messages,
            peer_messages=args.peer_messages,
            certificates=make_certificates(folder),
            kind="depth",
        )
        for number in range(args.runs):
            for result in (measure_streamsvc(setup, "plain", set()), measure_loop(setup)):
                results.append({"round": number, **result})
                print(
                    f"round {number + 1}  {result['name']:10} {result['rate']:>9,}/s {result['fault']}", file=sys.stderr
                )
    print_table(
        ["", "runs", "messages a run", "messages/s", "lowest", "highest", "CPU us/message"],
        [row_of(results, name) for name in ("streamsvc", "plain loop")],
    )
    ratios = [ours["rate"] / other["rate"] for ours, other in zip(results[::2], results[1::2], strict=True)]
    ratio = round(statistics.median(ratios), 2)
    print(f"{ratio} times the plain loop; wanted: {TARGET}: {verdict(is_reached=ratio >= TARGET)}")
    faults = [f"{result['name']}: {result['fault']}" for result in results if result["fault"]]
    return end(args.json, {"times_plain_loop": ratio, "runs": results}, faults)


if __name__ == "__main__":
    sys.exit(main())
