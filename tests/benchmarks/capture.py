"""How fast messages go the whole way into the catalogue, beside what others take to read them and drop them.

    python tests/benchmarks/capture.py [--messages N] [--runs N] [--plain | --tls] [--without-analytics]
                                       [--json FILE]

aggTrades of 100 symbols over loopback, from a source that is never the slower side. In each round every reader takes
its turn, so that what else the machine does hits all of them; compare within a round, and trust the ratios' median.

`streamsvc` is measured as users have it: `streamsvc run` in its default settings (but CLOSE_TIMEOUT_SEC, since sources
answer no close frame), a process with its sealers, its journal on the disk of this checkout. Its imports are over
before the source is let go; what they cost stands apart. The clock runs from the first message sent. `to journal` ends
when the journal has stopped growing. Once it has, and nothing lies in the sockets any more, the service gets a SIGTERM,
as it would on any stop, so that it seals the rest at once instead of waiting for the next rotation; `messages/s` ends
when the last row is in the catalogue, and is what counts. CPU is that of all its processes, from the source's start to
their end, exact to 10 ms: sealers that have exited are in it. A run counts only if the catalogue, and the files
themselves, hold every message that was sent, once.

The others read the same source and store nothing: `cryptofeed` as far as its callback for trades, `trio_websocket`,
`websockets` and `picows` just the message. Their rate and CPU time are their own account, from their first message.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from environments import ENVIRONMENT_OF_PEER, HERE, python_of
from measure import measure_peer, measure_streamsvc
from processes import become_reaper
from recorder import PROGRAM, scratch_folder
from sources import MESSAGES_STEP, Setup, make_certificates, running_source
from table import print_table
from verdicts import end, verdict

QUIET_LOAD_MAX = 0.8
TARGETS = {"plain": (3.5, 0.45), "tls": (2.2, 0.6)}
"""How many times cryptofeed's rate the whole way is to reach on two cores, and with which share of its CPU time."""

TRIO_WEBSOCKET_TARGET = 8.0
"""How many times trio-websocket's rate, over plain TCP."""


def run_session(
    setup: Setup, transports: list[str], peers: list[str], runs: int, program: tuple[str, ...]
) -> list[dict[str, Any]]:
    """All rounds; in each, every reader takes its turn over every transport."""
    results = []
    with contextlib.ExitStack() as stack:
        sources = {
            transport: stack.enter_context(running_source(setup, transport, setup.peer_messages, is_once=False))
            for transport in transports
        }
        strangers = {source.pid for source in sources.values()}
        for number in range(runs):
            for transport in transports:
                for name in ["streamsvc", *peers]:
                    if name == "nautilus" and transport == "tls":
                        continue  # Its client trusts the authorities that it was built with, and no other.
                    load = os.getloadavg()[0]
                    if name == "streamsvc":
                        result = measure_streamsvc(setup, transport, strangers, program)
                    else:
                        result = measure_peer(setup, name, transport, sources[transport])
                    result |= {"round": number, "load_before": round(load, 2)}
                    results.append(result)
                    _print_result(result)
    return results


def _print_result(result: dict[str, Any]) -> None:
    place = f"round {result['round'] + 1}  {result['transport']:5}  {result['name']:14}"
    print(f"{place} {result['rate']:>10,}/s {result['cpu_us']:7.2f} us  {result['fault']}", file=sys.stderr, flush=True)


def summarise(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The medians by transport and reader, and the median of the rounds' ratios to cryptofeed."""
    rows = []
    for transport in dict.fromkeys(result["transport"] for result in results):
        of_transport = [result for result in results if result["transport"] == transport]
        base = {result["round"]: result for result in of_transport if result["name"] == "cryptofeed"}
        trio_websocket = {result["round"]: result for result in of_transport if result["name"] == "trio_websocket"}
        for name in dict.fromkeys(result["name"] for result in of_transport):
            own = [result for result in of_transport if result["name"] == name]
            rates = [result["rate"] for result in own]
            row = {
                "transport": transport,
                "name": name,
                "runs": len(own),
                "rate": round(statistics.median(rates)),
                "rate_min": min(rates),
                "rate_max": max(rates),
                "cpu_us": round(statistics.median(result["cpu_us"] for result in own), 2),
            }
            if name == "streamsvc":
                row["rate_journal"] = round(statistics.median(result["rate_journal"] for result in own))
            if base:
                row["times_cryptofeed"] = _ratio(own, base, "rate")
                row["cpu_share"] = _ratio(own, base, "cpu_us")
            if trio_websocket:
                row["times_trio_websocket"] = _ratio(own, trio_websocket, "rate")
            rows.append(row)
    return rows


def _ratio(own: list[dict[str, Any]], base: dict[int, dict[str, Any]], key: str) -> float:
    """The median of the rounds' ratios."""
    return round(float(statistics.median(result[key] / base[result["round"]][key] for result in own)), 2)


def print_summary(rows: list[dict[str, Any]]) -> None:
    """The table, and how far the targets were reached."""
    headings = [
        "over",
        "reader",
        "messages/s",
        "lowest",
        "highest",
        "to journal",
        "CPU us/message",
        "x cryptofeed",
        "its CPU x",
    ]
    keys = [
        "transport",
        "name",
        "rate",
        "rate_min",
        "rate_max",
        "rate_journal",
        "cpu_us",
        "times_cryptofeed",
        "cpu_share",
    ]
    print_table(headings, [[row.get(key, "") for key in keys] for row in rows])
    for row in rows:
        if row["name"] == "streamsvc" and "times_cryptofeed" in row:
            wanted, share = TARGETS[row["transport"]]
            reached = row["times_cryptofeed"] >= wanted
            _tell(row, f"{row['times_cryptofeed']} times cryptofeed's rate; wanted on two cores: {wanted}", reached)
            reached = row["cpu_share"] <= share
            _tell(row, f"{row['cpu_share']} times cryptofeed's CPU time; wanted: {share}", reached)
        if row["name"] == "streamsvc" and row["transport"] == "plain" and "times_trio_websocket" in row:
            times = row["times_trio_websocket"]
            _tell(row, f"{times} times trio-websocket; wanted: {TRIO_WEBSOCKET_TARGET}", times >= TRIO_WEBSOCKET_TARGET)


def _tell(row: dict[str, Any], sentence: str, is_reached: bool) -> None:
    print(f"{row['transport']}: {sentence}: {verdict(is_reached=is_reached)}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2_000_000, help="for streamsvc, a run")
    parser.add_argument("--peer-messages", type=int, default=300_000, help="for the others, a run")
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--without-analytics", action="store_true", help="what recording costs alone")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--plain", action="store_true", help="only over plain TCP")
    only.add_argument("--tls", action="store_true", help="only over TLS, one frame a record")
    parser.add_argument(
        "--peers",
        default="cryptofeed,trio_websocket",
        help=f"comma-separated, of {', '.join(ENVIRONMENT_OF_PEER)}; empty: none",
    )
    parser.add_argument("--source", type=Path, default=HERE / "source.py", help="another with the same command line")
    parser.add_argument("--peers-script", type=Path, default=HERE / "peers.py", help="the same")
    parser.add_argument("--json", type=Path, help="write all runs and the summary to this file")
    args = parser.parse_args()
    if args.messages % MESSAGES_STEP or args.peer_messages % MESSAGES_STEP:
        parser.error(f"numbers of messages must be multiples of {MESSAGES_STEP}")
    unknown = set(filter(None, args.peers.split(","))) - set(ENVIRONMENT_OF_PEER)
    if unknown:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    return args


def main() -> int:
    """Run the session; returns the exit code: 1 if a reader missed messages."""
    args = parse_arguments()
    transports = ["plain"] if args.plain else ["tls"] if args.tls else ["plain", "tls"]
    peers = [name for name in args.peers.split(",") if name]
    program = (str(HERE / "recorder_alone.py"),) if args.without_analytics else PROGRAM
    for peer in peers:
        python_of(peer)
    become_reaper()
    if os.getloadavg()[0] > QUIET_LOAD_MAX:
        print(f"other work loads this machine ({os.getloadavg()[0]:.1f}): trust no figure", file=sys.stderr)
    with scratch_folder() as folder:
        setup = Setup(
            source=args.source.resolve(),
            peers_script=args.peers_script.resolve(),
            messages=args.messages,
            peer_messages=args.peer_messages,
            certificates=make_certificates(folder),
        )
        results = run_session(setup, transports, peers, args.runs, program)
    rows = summarise(results)
    print_summary(rows)
    faults = [
        f"{result['name']} over {result['transport']}: {result['fault']}" for result in results if result["fault"]
    ]
    return end(
        args.json,
        {"summary": rows, "runs": results},
        faults,
        source=args.source.name,
        has_analytics=not args.without_analytics,
        messages=args.messages,
        peer_messages=args.peer_messages,
    )


if __name__ == "__main__":
    sys.exit(main())
