"""What a steady market costs: 5,000 aggTrades a second, each sent on its own, over one connection and over fifteen.

    python tests/benchmarks/paced.py [--seconds N] [--rate N] [--runs N] [--plain | --tls] [--json FILE]

Most of the time an exchange sends one message, and a moment later the next: what counts is what a wake-up costs. In
each round `streamsvc run` records for 30 s in its default settings, with its analytics and down to sealed Parquet files
in the catalogue, and then cryptofeed takes the same traffic as far as its callback for trades, and stores nothing. The
CPU time is that of all processes of the service from the first message to its end; cryptofeed's from its first trade to
its last. No message is sent before all connections of either stand and its start is over, which is told apart. For
fifteen connections streamsvc is told that a connection carries seven streams, and cryptofeed gets as many feeds in one
process. A run counts only if every message that was sent is in the catalogue and in the files, once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments import HERE, python_of
from processes import become_reaper, own_cpu_ns
from recorder import (
    CALM_SEC,
    CALM_SEC_MAX,
    CALM_SHARE_MAX,
    PROGRAM,
    connections_to,
    free_port,
    scratch_folder,
    settings_for,
)
from sources import SYMBOLS, PacedSource, make_certificates
from steady import record_steadily
from table import print_table
from verdicts import end, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "aggTrade"
SPREAD = 15
TARGET = 0.5
PEER_SEC_MORE = 60.0


def measure_service(
    args: argparse.Namespace, certificates: tuple[Path, Path, Path] | None, connections: int
) -> dict[str, Any]:
    """One run of the whole service."""
    port = free_port()
    authority = certificates[0] if certificates is not None else None
    program = PROGRAM if connections == 1 else (str(HERE / "recorder_spread.py"),)
    with scratch_folder() as folder:
        settings = settings_for(port, authority=authority, symbols=SYMBOLS, kinds=KIND)
        recorded = record_steadily(
            folder,
            settings,
            PacedSource(port, args.rate, len(SYMBOLS), certificates, "--one-by-one", "--held"),
            args.seconds,
            program=program,
            prepare=lambda recorder: _wait_connected(recorder.pid, port, connections),
        )
    return {
        "name": "streamsvc",
        "messages": recorded.messages,
        "per_sec": round(recorded.per_sec),
        "cpu_us": recorded.cpu_us,
        "cpu_main_us": recorded.main_cpu_us,
        "cpu_start_sec": round(recorded.start_cpu_ns / 1e9, 2),
        "fault": recorded.fault,
    }


def measure_cryptofeed(
    args: argparse.Namespace, certificates: tuple[Path, Path, Path] | None, connections: int
) -> dict[str, Any]:
    """One run of cryptofeed."""
    port = free_port()
    scheme = "ws" if certificates is None else "wss"
    wanted = round(args.rate * args.seconds)
    command = [python_of("cryptofeed"), HERE / "peers.py", "cryptofeed", f"{scheme}://127.0.0.1:{port}", wanted]
    command += [] if certificates is None else [certificates[0]]
    command += ["--connections", connections]
    source = PacedSource(port, args.rate, len(SYMBOLS), certificates, "--one-by-one", "--held")
    try:
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as peer:
            try:
                _wait_connected(peer.pid, port, connections)
                source.begin()
                said, _ = peer.communicate(timeout=args.seconds + PEER_SEC_MORE)
            finally:
                peer.kill()
    finally:
        source.close()
    told: dict[str, Any] = json.loads(said)
    return {
        "name": "cryptofeed",
        "messages": told["messages"],
        "per_sec": told["rate"],
        "cpu_us": told["cpu_us"],
        "cpu_start_sec": told["cpu_start_sec"],
        "fault": "",
    }


def _wait_connected(pid: int, port: int, connections: int) -> None:
    """Wait until a reader's connections stand, and it has gone to rest.

    Raises:
        TimeoutError: it does not come to that.
    """
    deadline = time.monotonic() + CALM_SEC_MAX
    before_ns = own_cpu_ns(pid)
    while time.monotonic() < deadline:
        time.sleep(CALM_SEC)
        used_ns = own_cpu_ns(pid) - before_ns
        before_ns += used_ns
        if connections_to(port) == connections and used_ns < CALM_SHARE_MAX * CALM_SEC * 1e9:
            return
    raise TimeoutError(f"{connections_to(port)} of {connections} connections after {CALM_SEC_MAX} s")


def rounds(args: argparse.Namespace, certificates: tuple[Path, Path, Path]) -> Iterator[dict[str, Any]]:
    """All runs, in turns."""
    transports = ["plain"] if args.plain else ["tls"] if args.tls else ["plain", "tls"]
    for number in range(args.runs):
        for transport in transports:
            used = certificates if transport == "tls" else None
            for connections in (1, SPREAD):
                for measure in (measure_service, measure_cryptofeed):
                    result = measure(args, used, connections)
                    result |= {"round": number, "transport": transport, "connections": connections}
                    print(
                        f"round {number + 1}  {transport:5} x {connections:<2}  {result['name']:10} "
                        f"{result['per_sec']:,}/s {result['cpu_us']:.2f} us  {result['fault']}",
                        file=sys.stderr,
                        flush=True,
                    )
                    yield result


def summarise(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The medians by transport, connections and reader, and the median of the rounds' ratios to cryptofeed."""
    rows = []
    for transport, connections in dict.fromkeys((result["transport"], result["connections"]) for result in results):
        place = [r for r in results if (r["transport"], r["connections"]) == (transport, connections)]
        ours, others = ([r for r in place if r["name"] == name] for name in ("streamsvc", "cryptofeed"))
        rows.append(
            {
                "transport": transport,
                "connections": connections,
                "per_sec": round(statistics.median(r["per_sec"] for r in ours)),
                "cpu_us": round(statistics.median(r["cpu_us"] for r in ours), 1),
                "cpu_main_us": round(statistics.median(r["cpu_main_us"] for r in ours), 1),
                "cryptofeed_us": round(statistics.median(r["cpu_us"] for r in others), 1),
                "share": round(
                    statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in zip(ours, others, strict=True)), 2
                ),
            }
        )
    return rows


def main() -> int:
    """Measure in turns, tell; returns the exit code: 1 if rows are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=5_000)
    parser.add_argument("--runs", type=int, default=3)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plain", action="store_true")
    only.add_argument("--tls", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    python_of("cryptofeed")
    become_reaper()
    with scratch_folder() as folder:
        results = list(rounds(args, make_certificates(folder)))
    rows = summarise(results)
    headings = ["over", "connections", "messages/s", "CPU us/message", "of it main", "cryptofeed", "share", "wanted"]
    print_table(
        headings,
        [[*row.values(), f"<= {TARGET}: {verdict(is_reached=row['share'] <= TARGET)}"] for row in rows],
    )
    figures = {"summary": rows, "runs": results}
    faults = [f"{result['name']}: {result['fault']}" for result in results if result["fault"]]
    return end(args.json, figures, faults, seconds=args.seconds)


if __name__ == "__main__":
    sys.exit(main())
