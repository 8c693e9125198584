"""One run of one reader: what was measured, and what was wrong with it."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

from environments import python_of
from processes import own_cpu_ns
from recorder import PROGRAM, Recorder, free_port, queued_bytes, scratch_folder, settings_for
from sources import SYMBOLS, Setup, running_source
from wire import UPDATES_PER_DIFF

if TYPE_CHECKING:
    from sources import Source

POLL_SEC = 0.005
QUIET_SEC = 0.06
"""Longer than `JOURNAL_WRITE_MS`: what was received before is written."""
SOURCE_SEC_MAX = 300.0
CATALOGUE_SEC_MAX = 120.0
PEER_SEC_MAX = 600.0
SENT_IDS = {
    "aggTrade": ("agg_trade_id", 0, 1),
    "trade": ("trade_id", 0, 1),
    "depth": ("first_update_id", 1, UPDATES_PER_DIFF),
    "bookTicker": ("update_id", 1, 1),
}
"""The column in which sources count the messages of a symbol, the first one's number, and how much is between two."""


def measure_streamsvc(
    setup: Setup, transport: str, strangers: set[int], program: tuple[str, ...] = PROGRAM
) -> dict[str, Any]:
    """One run of the whole way."""
    authority = setup.certificates[0] if transport == "tls" else None
    port = free_port()
    wanted = setup.messages * setup.rows_per_message
    with scratch_folder() as folder:
        settings = settings_for(port, authority=authority, symbols=SYMBOLS, kinds=setup.kind)
        recorder = Recorder(folder, settings, set(strangers), program)
        try:
            # Nobody listens yet: it says READY after its first attempt, loads its sealers, and tries again.
            recorder.wait_calm()
            with running_source(setup, transport, setup.messages, is_once=True, port=port) as source:
                recorder.ignore(source.pid)
                start_cpu_ns, start_main_ns = recorder.cpu_ns(), own_cpu_ns(recorder.pid)
                journaled_at, journal_bytes, waiting = _wait_journaled(source, recorder)
                recorder.terminate()
                done_at = _wait_rows(recorder, setup.kind, wanted)
                code, cpu = recorder.collect()
        finally:
            recorder.close()
        rows = recorder.rows(setup.kind)
        fault = f"exit code {code}" if code else ""
        fault = fault or fault_of_rows(recorder, setup.kind, setup.messages, setup.rows_per_message)
        total_ns, main_ns = cpu.total_ns - start_cpu_ns, cpu.main_ns - start_main_ns
        return {
            "name": "streamsvc",
            "transport": transport,
            "messages": setup.messages,
            "rows": rows,
            "fault": fault,
            "rate": round(setup.messages / (done_at - source.begin_at)),
            "rate_journal": round(setup.messages / (journaled_at - source.begin_at)),
            "cpu_us": round(total_ns / setup.messages / 1e3, 3),
            "cpu_main_us": round(main_ns / setup.messages / 1e3, 3),
            "cpu_others_us": round((total_ns - main_ns) / setup.messages / 1e3, 3),
            "cpu_start_sec": round(start_cpu_ns / 1e9, 2),
            "sent_sec": round(source.end_at - source.begin_at, 3),
            "journaled_sec": round(journaled_at - source.begin_at, 3),
            "catalogue_sec": round(done_at - source.begin_at, 3),
            "journal_bytes": journal_bytes,
            "segments_waiting_max": waiting,
        }


def _wait_journaled(source: Source, recorder: Recorder) -> tuple[float, int, int]:
    """Wait until everything that was sent is in the journal.

    Returns:
        When it grew last, its size, and the most closed segments that ever waited for a sealer or were with one.
    """
    deadline = time.monotonic() + SOURCE_SEC_MAX
    size, grown_at, waiting = 0, time.time(), 0
    while time.monotonic() < deadline:
        now, bytes_now = time.time(), recorder.journal_bytes()
        if bytes_now != size:
            size, grown_at = bytes_now, now
            waiting = max(waiting, recorder.segments() - 1)
        elif source.end_at and now - grown_at > QUIET_SEC and not queued_bytes(source.port):
            return grown_at, size, waiting
        source.look()
        recorder.check()
        time.sleep(POLL_SEC)
    raise TimeoutError(f"the source could not send everything within {SOURCE_SEC_MAX} s")


def _wait_rows(recorder: Recorder, kind: str, wanted: int) -> float:
    """Wait until every row is in the catalogue, or the service has ended; returns when."""
    deadline = time.monotonic() + CATALOGUE_SEC_MAX
    while time.monotonic() < deadline:
        has_ended = recorder.has_ended()
        if recorder.rows(kind) >= wanted or has_ended:
            return time.time()
        time.sleep(POLL_SEC)
    raise TimeoutError(f"rows are missing from the catalogue after {CATALOGUE_SEC_MAX} s")


def fault_of_rows(recorder: Recorder, kind: str, messages: int, rows_per_message: int = 1) -> str:
    """What is wrong with what was recorded of a kind; empty: nothing.

    Catalogue and files must hold every message that was sent, once: since the source counts the ids of each symbol
    without a hole, so many ids with no hole between those of a symbol are all of them.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - only the checker pays for it
    import pyarrow.dataset as ds  # noqa: PLC0415

    rows = recorder.rows(kind)
    if rows != messages * rows_per_message:
        return f"{rows} of {messages * rows_per_message} rows in the catalogue"
    column, first, step = SENT_IDS[kind]
    files = ds.dataset(recorder.data / "parquet" / kind, format="parquet", partitioning="hive")
    table = files.to_table(columns=["symbol", column])
    ids = table.group_by(["symbol", column]).aggregate([([], "count_all")])
    counts = sorted(set(ids["count_all"].to_pylist()))
    if len(ids) != messages or counts != [rows_per_message]:
        return f"{len(ids)} of {messages} ids in the files, with {counts} rows each"
    of_symbol = ids.group_by("symbol").aggregate([(column, "min"), (column, "max"), (column, "count")])
    lasts = pc.add(pc.multiply(pc.subtract(of_symbol[f"{column}_count"], 1), step), first)
    is_whole = pc.and_(pc.equal(of_symbol[f"{column}_min"], first), pc.equal(of_symbol[f"{column}_max"], lasts))
    holed = of_symbol.filter(pc.invert(is_whole))["symbol"].to_pylist()
    return f"ids are missing of {', '.join(holed)}" if holed else ""


def measure_peer(setup: Setup, name: str, transport: str, source: Source) -> dict[str, Any]:
    """One run of another reader."""
    scheme = "wss" if transport == "tls" else "ws"
    command = [python_of(name), setup.peers_script, name, f"{scheme}://127.0.0.1:{source.port}", setup.peer_messages]
    if transport == "tls":
        command.append(setup.certificates[0])
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=PEER_SEC_MAX, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{name} failed: {done.stderr.decode(errors='replace')[-2000:]}")
    result = json.loads(lines[-1])
    missing = setup.peer_messages - result["messages"]
    return {**result, "transport": transport, "fault": f"{missing} messages missing" if missing > 1 else ""}
