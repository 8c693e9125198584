"""What sealing costs, and whether it keeps up.

    python tests/benchmarks/sealing.py [--trades N] [--updates N] [--messages N] [--runs N] [--json FILE]

Two segments are sealed in turns, as a sealer does it and in this process alone: a million aggTrades, and order-book
updates of 20 levels a side; 100 symbols each. Their CPU time is that of decoding, sorting, writing and syncing their
Parquet files. Then `streamsvc run` takes aggTrades as fast as it can, as in `capture.py`, and the journal is looked at
all the time: how many closed segments were there at most, waiting for a sealer or with one.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from environments import HERE
from measure import measure_streamsvc
from processes import become_reaper
from recorder import scratch_folder
from segments import Traffic, write_segment
from sources import MESSAGES_STEP, Setup, make_certificates
from table import print_table
from verdicts import end, verdict

from streamsvc.persistence.layout import DataFolder, SegmentName
from streamsvc.persistence.seal import seal_segment

TRADE_SEC_MAX = 1.5  # For a million of them.
UPDATES_PER_SEC_MIN = 75_000
WAITING_MAX = 2


def seal(folder: DataFolder, name: SegmentName) -> tuple[float, int]:
    """Seal a segment; returns the CPU time and the rows."""
    begin = time.process_time()
    manifest = seal_segment(str(folder.segment(name)), str(folder.tmp))
    seconds = time.process_time() - begin
    shutil.rmtree(folder.tmp)
    return seconds, sum(file.rows for file in manifest.files)


def measure_sealing(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Both segments, in turns; the first round only warms up."""
    wanted = {"aggTrade": (args.trades, 1), "depth": (args.updates, 40)}
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in wanted}
    with scratch_folder() as root:
        folder = DataFolder(root)
        folder.journal.mkdir()
        names = {kind: SegmentName(1, 1, number) for number, kind in enumerate(wanted)}
        for kind, (messages, _) in wanted.items():
            write_segment(folder, names[kind], Traffic((kind,)).blocks(messages=messages))
        for number in range(args.runs + 1):
            for kind, (messages, rows_per_message) in wanted.items():
                seconds, rows = seal(folder, names[kind])
                if rows != messages * rows_per_message:
                    raise RuntimeError(f"{rows} rows of {messages} messages of {kind}")
                if number:
                    results[kind].append({"messages": messages, "rows": rows, "cpu_sec": seconds})
    return results


def measure_waiting(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Trades at full speed."""
    with scratch_folder() as folder:
        setup = Setup(
            source=HERE / "source.py",
            peers_script=HERE / "peers.py",
            messages=args.messages,
            peer_messages=MESSAGES_STEP,
            certificates=make_certificates(folder),
        )
        return [measure_streamsvc(setup, "plain", set()) for _ in range(args.runs)]


def main() -> int:
    """Measure, tell; returns the exit code: 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=1_000_000)
    parser.add_argument("--updates", type=int, default=75_000)
    parser.add_argument("--messages", type=int, default=4_000_000, help="of the run at full speed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    become_reaper()
    sealed = measure_sealing(args)
    recorded = measure_waiting(args)
    of_million = statistics.median(run["cpu_sec"] / run["messages"] * 1e6 for run in sealed["aggTrade"])
    per_sec = statistics.median(run["messages"] / run["cpu_sec"] for run in sealed["depth"])
    waiting = max(run["segments_waiting_max"] for run in recorded)
    rate = statistics.median(run["rate_journal"] for run in recorded)

    print_table(
        ["", "measured", "wanted", ""],
        [
            [
                "a million aggTrades, s of a core",
                f"{of_million:.2f}",
                f"< {TRADE_SEC_MAX}",
                verdict(is_reached=of_million < TRADE_SEC_MAX),
            ],
            [
                "updates of 40 levels a second of a core",
                f"{per_sec:,.0f}",
                f">= {UPDATES_PER_SEC_MIN:,}",
                verdict(is_reached=per_sec >= UPDATES_PER_SEC_MIN),
            ],
            [
                f"closed segments at most, at {rate:,.0f} trades/s",
                str(waiting),
                f"<= {WAITING_MAX}",
                verdict(is_reached=waiting <= WAITING_MAX),
            ],
        ],
    )
    return end(args.json, {"sealed": sealed, "recorded": recorded}, [run["fault"] for run in recorded])


if __name__ == "__main__":
    sys.exit(main())
