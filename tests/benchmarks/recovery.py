"""How long a start takes that finds a gigabyte of journal, while it records.

    python tests/benchmarks/recovery.py [--megabytes N] [--rate N] [--runs N] [--json FILE]

The journal is what a service leaves that was killed and could not seal: segments of `SEGMENT_MAX_MB` with aggTrades and
order-book updates of 20 levels a side in turns, of 100 symbols. `streamsvc run` starts on it in its default settings,
and records 5,000 trades a second meanwhile. The clock runs from the start of the process until every row of the old
journal is in the catalogue; and how long it took until it recorded. A run counts only if every old row is there, and of
the live stream every one that was sent.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from measure import fault_of_rows
from processes import become_reaper
from recorder import Recorder, free_port, scratch_folder, settings_for
from segments import Traffic, write_segment
from sources import SYMBOLS, PacedSource
from table import print_table
from verdicts import end, verdict

from streamsvc.persistence.layout import DataFolder, SegmentName

LIVE = "trade"
LEVELS = 20
LEFT = {"aggTrade": 1, "depth": 2 * LEVELS}
"""The kinds of the journal that was left, and the rows of a message."""

SEGMENT_BYTES = 64_000_000
TARGET_SEC = 15.0
SEC_MAX = 300.0
POLL_SEC = 0.02


def leave_journal(data: Path, size_bytes: int) -> dict[str, int]:
    """Write what a killed service would have left; returns the rows that it holds."""
    folder = DataFolder(data)
    folder.journal.mkdir(parents=True)
    traffic = Traffic(tuple(LEFT), LEVELS)
    sequence = 0
    while size_bytes > 0:
        name = SegmentName(1, 1, sequence)
        size_bytes -= write_segment(folder, name, traffic.blocks(size_bytes=min(SEGMENT_BYTES, size_bytes)))
        sequence += 1
    return {kind: traffic.counts[kind] * per_message for kind, per_message in LEFT.items()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One start."""
    with scratch_folder() as folder:
        wanted = leave_journal(folder / "data", args.megabytes * 1_000_000)
        port = free_port()
        source = PacedSource(port, args.rate, len(SYMBOLS), None)
        begin = time.monotonic()
        recorder = Recorder(folder, settings_for(port, authority=None, symbols=SYMBOLS, kinds=LIVE), {source.pid})
        try:
            ready_sec = 0.0
            while {kind: recorder.rows(kind) for kind in LEFT} != wanted:
                if recorder.is_ready() and not ready_sec:
                    ready_sec = time.monotonic() - begin
                if time.monotonic() - begin > SEC_MAX:
                    break
                recorder.check()
                time.sleep(POLL_SEC)
            seconds = time.monotonic() - begin
            sent = source.stop()[LIVE]
            recorder.wait_settled(port)
            recorder.terminate()
            code, _ = recorder.collect()
        finally:
            recorder.close()
            source.close()
        rows = {kind: recorder.rows(kind) for kind in (*LEFT, LIVE)}
        fault = f"exit code {code}" if code else fault_of_rows(recorder, LIVE, sent)
        for kind, per_message in LEFT.items():
            fault = fault or fault_of_rows(recorder, kind, wanted[kind] // per_message, per_message)
    return {"seconds": round(seconds, 2), "ready_sec": round(ready_sec, 2), "rows": rows, "fault": fault}


def main() -> int:
    """Measure, tell; returns the exit code: 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    become_reaper()
    results = []
    for number in range(args.runs):
        results.append(measure(args))
        print(f"round {number + 1}  {results[-1]}", file=sys.stderr, flush=True)
    seconds = statistics.median(result["seconds"] for result in results)
    ready_sec = statistics.median(result["ready_sec"] for result in results)
    rows = results[0]["rows"]
    told = f"< {TARGET_SEC:g}: {verdict(is_reached=seconds < TARGET_SEC)}"
    print_table(
        ["journal MB", "old rows", "until they were sealed, s", "lowest", "highest", "until it recorded, s", "wanted"],
        [
            [
                args.megabytes,
                sum(rows[kind] for kind in LEFT),
                round(seconds, 1),
                min(result["seconds"] for result in results),
                max(result["seconds"] for result in results),
                ready_sec,
                told,
            ]
        ],
    )
    return end(args.json, {"runs": results}, [result["fault"] for result in results], megabytes=args.megabytes)


if __name__ == "__main__":
    sys.exit(main())
