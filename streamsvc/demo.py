"""`streamsvc demo`: a simulated exchange, recorded for a minute, with a stall and a cut on the way, then verified.

Everything runs in this process and the sealers' ones: exchange and recorder talk over TLS on loopback. The exchange
keeps an account of what it withheld, so the demo can tell whether the recorder lacks exactly that.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import trio

from streamsvc import log
from streamsvc.errors import UsageError
from streamsvc.integrity.report import Report, print_report
from streamsvc.integrity.sequence import Coverage, IdRange
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind, Market
from streamsvc.service import run
from streamsvc.settings import Settings
from streamsvc.shutdown import Shutdown, stop_on_signals
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.serve import Addresses, make_tls, serve
from streamsvc.simulator.sources import SyntheticSource
from streamsvc.surroundings import real_surroundings
from streamsvc.terminal import console, renewing, table
from streamsvc.watchdog.health import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from streamsvc.live import Live
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.terminal import Console, Table
    from streamsvc.watchdog.health import StreamHealth

SPOT_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FUTURES_SYMBOLS = ("BTCUSDT", "ETHUSDT")
STALLED_STREAM = "btcusdt@trade"
_LOOK_SEC = 0.25
_PLAIN_LINE_SEC = 5.0
_TAIL_SEC = 2.0
"""What the exchange sends so shortly before the end may still be on its way when the recorder stops."""
_HEADINGS = ("market", "symbol", "kind", "messages", "rows", "per s", "age s", "state")


def run_demo(*, seconds: float, folder: Path | None, seed: int) -> int:
    """Run it; returns 0 when what is missing is exactly what the exchange withheld.

    Args:
        seconds: How long to record.
        folder: Where; None: a new folder below `./demo-data`.
        seed: Of the simulated market.

    Raises:
        UsageError: the folder holds something already.
    """
    folder = _prepare(folder)
    out = console()
    out.print(f"Recording a simulated exchange into {folder} for {seconds:g} s; the log is {folder / 'demo.log'}")
    with (folder / "demo.log").open("wb", buffering=0) as output:
        close_log = log.configure(output=output)
        try:
            exchange, due = trio.run(partial(_record, seconds, folder, seed, out))
        finally:
            close_log()
    report = verify_folder(folder)
    print_report(report)
    with Catalogue.open_to_read(DataFolder(folder).catalogue) as catalogue:
        repaired = catalogue.gaps("repaired")
    wrong = print_comparison(exchange, report, out, due, repaired)
    _print_hints(folder, out)
    return 1 if wrong or report.errors or report.unknown else 0


def _prepare(folder: Path | None) -> Path:
    from pathlib import Path as RealPath  # noqa: PLC0415 - annotations alone need it elsewhere

    if folder is None:
        first = folder = RealPath("demo-data") / time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        number = 1
        while folder.exists():
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make_exchange(seed: int) -> Exchange:
    start_us = time.time_ns() // 1000
    busy, calm = Activity(trades_per_sec=30, quotes_per_sec=120), Activity(trades_per_sec=4, quotes_per_sec=20)
    return Exchange(
        SyntheticSource(
            market, dict(zip(symbols, (busy, calm, calm), strict=False)), start_us=start_us, seed=seed + market
        )
        for market, symbols in ((Market.SPOT, SPOT_SYMBOLS), (Market.FUTURES, FUTURES_SYMBOLS))
    )


def _make_settings(addresses: Addresses, folder: Path, seconds: float) -> Settings:
    """Everything quicker than in earnest, so that a minute shows it."""
    urls: dict[str, Any] = {name.lower(): url for name, url in addresses.settings.items()}
    return Settings(
        **urls,
        spot_symbols=SPOT_SYMBOLS,
        futures_symbols=FUTURES_SYMBOLS,
        spot_kinds=(Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER),
        futures_kinds=(Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.BOOK_TICKER, Kind.MARK_PRICE),
        data_dir=folder,
        tls_ca_file=folder / "authority.pem",
        trade_timeout=max(1.5, seconds / 12),
        health_check_interval=0.5,
        parquet_rotate_sec=max(2.0, seconds / 6),
        reconnect_min_sec=0.5,
        reconnect_max_sec=2.0,
        disk_reserve_mb=16,
        run_hours=seconds / 3600,
    )


async def _record(seconds: float, folder: Path, seed: int, out: Console) -> tuple[Exchange, LastIds]:
    """Record until the time is over, or until Ctrl-C; a second one stops at once."""
    exchange, shutdown, due = _make_exchange(seed), Shutdown(), LastIds()
    async with trio.open_nursery() as nursery:
        tls = make_tls(folder / "authority.pem")
        addresses = await nursery.start(partial(serve, exchange, tls=tls))
        settings = _make_settings(addresses, folder, seconds)
        await nursery.start(stop_on_signals, shutdown, _stop_at_once)
        async with trio.open_nursery() as recording:
            live = await recording.start(partial(run, settings, real_surroundings(settings), shutdown=shutdown))
            ends_at = trio.current_time() + seconds
            for part in (
                partial(_commit_faults, exchange, live, seconds, out),
                partial(_note_last_ids, exchange, ends_at - _TAIL_SEC, due),
            ):
                recording.start_soon(shutdown.guard_until_requested, part)
            recording.start_soon(_show, live, out)
        nursery.cancel_scope.cancel()
    return exchange, due


def _stop_at_once() -> NoReturn:
    os._exit(1)


async def _note_last_ids(exchange: Exchange, at: float, due: LastIds) -> None:
    await trio.sleep_until(at)
    due.update((key, record.last_id) for key, record in exchange.ledger.records.items())


async def _commit_faults(exchange: Exchange, live: Live, seconds: float, out: Console) -> None:
    """One stall and one cut; told as they happen."""
    await trio.sleep(seconds * 0.2)
    exchange.mute(Market.SPOT, STALLED_STREAM)
    out.print(f"! the exchange falls silent on spot {STALLED_STREAM}; its connection and the book flow on")
    stalled = live.health.slot(Market.SPOT, STALLED_STREAM)
    with trio.move_on_after(seconds * 0.35):
        while stalled.verdict(trio.current_time(), live.watch.timeouts) is not Verdict.STALLED:  # noqa: ASYNC110 - a look at what others see, not a signal
            await trio.sleep(_LOOK_SEC)
        silent_sec = stalled.age_sec(trio.current_time()) or 0.0
        out.print(f"! after {silent_sec:.1f} s the recorder calls it stalled, and subscribes it anew")
        await trio.sleep(1)
    exchange.unmute(Market.SPOT, STALLED_STREAM)
    out.print("! the exchange speaks again")
    await trio.sleep(seconds * 0.15)
    count = exchange.cut(Market.FUTURES, "fin")
    out.print(f"! the exchange cuts all {count} futures connections")


def _place(slot: StreamHealth) -> tuple[Market, str, Kind]:
    return slot.stream.market, slot.stream.symbol, slot.stream.kind


def _stream_rows(live: Live) -> list[tuple[object, ...]]:
    now = trio.current_time()
    rows: list[tuple[object, ...]] = []
    for slot in sorted(live.health.slots(), key=_place):
        stream, age_sec = slot.stream, slot.age_sec(now)
        rows.append(
            (stream.market.label, stream.symbol, stream.kind.label, slot.messages, slot.rows,
             round(slot.messages_per_sec), "-" if age_sec is None else f"{age_sec:.1f}",
             slot.verdict(now, live.watch.timeouts).value)
        )  # fmt: skip
    return rows


def _live_table(live: Live) -> Table:
    return table("\n".join(live.status_lines()), _HEADINGS, _stream_rows(live), numbers=_HEADINGS[3:7])


async def _show(live: Live, out: Console) -> None:
    """A table that renews itself in a terminal; a line now and then elsewhere. Ends with the recording."""
    if not out.is_terminal:
        while not live.ended.is_set():
            with trio.move_on_after(_PLAIN_LINE_SEC):
                await live.ended.wait()
            out.print(live.status_line())
        return
    with renewing(out) as show:
        while not live.ended.is_set():
            show(_live_table(live))
            with trio.move_on_after(_LOOK_SEC):
                await live.ended.wait()


LastIds = dict[tuple[Market, str], int]
"""By market and canonical name of a stream, the last id that it had sent at some time."""


@attrs.frozen
class Comparison:
    """One stream: ids that the recording lacks, that were fetched again, and that the exchange sent to nobody."""

    labels: tuple[str, str, str]
    recorded: tuple[int, int]
    lacking: list[tuple[int, int]]
    withheld: list[tuple[int, int]]
    repaired: list[tuple[int, int]]

    @property
    def is_exact(self) -> bool:
        """Whether what did not come over the stream is what the exchange withheld."""
        missed = Coverage()
        missed.add(IdRange(*one) for one in (*self.lacking, *self.repaired))
        return [(one.first, one.last) for one in missed.ranges] == self.withheld


def compare(
    exchange: Exchange, report: Report, due: Mapping[tuple[Market, str], int], repaired: Iterable[GapRow] = ()
) -> list[Comparison]:
    """What is missing from the first recorded id on, beside what the exchange withheld there.

    Only kinds whose ids chain: of the others nobody can say.

    Args:
        exchange: Its account.
        report: What verify found.
        due: Up to which id each stream must have been recorded, if it was sent so far.
        repaired: What the ledger says was fetched again.
    """
    fetched: dict[tuple[str, ...], Coverage] = {}
    for row in repaired:
        fetched.setdefault((row.market, row.symbol, row.kind), Coverage()).add([IdRange(row.first_id, row.last_id)])
    lacking: dict[tuple[str, ...], Coverage] = {}
    for gap in report.gaps:
        found = lacking.setdefault((gap.market, gap.symbol, gap.kind), Coverage())
        found.add([IdRange(gap.first_missing_id, gap.last_missing_id)])
    coverage: dict[tuple[str, ...], Any] = {
        (stream.market, stream.symbol, stream.kind): stream for stream in report.coverage
    }
    made = []
    for key, record in exchange.ledger.records.items():
        labels = record.market.label, record.symbol, record.kind
        there = coverage.get(labels)
        if not record.is_chained:
            continue
        if there is None:
            made.append(Comparison(labels, (0, 0), list(record.produced), [], []))
            continue
        withheld = [(first, last) for first, last in record.missing if first > there.first_id and last < there.last_id]
        recorded = there.first_id, there.last_id
        found = lacking.get(labels, Coverage())
        if due.get(key, 0) > there.last_id:
            found.add([IdRange(there.last_id + 1, due[key])])
        lost, again = (
            [(one.first, one.last) for one in coverage.ranges] for coverage in (found, fetched.get(labels, Coverage()))
        )
        made.append(Comparison(labels, recorded, lost, withheld, again))
    return made


def print_comparison(
    exchange: Exchange,
    report: Report,
    out: Console,
    due: Mapping[tuple[Market, str], int],
    repaired: Iterable[GapRow] = (),
) -> int:
    """Print it; returns how many streams missed something else than what was withheld."""
    compared = compare(exchange, report, due, repaired)

    def ids(ranges: list[tuple[int, int]]) -> int:
        return sum(last - first + 1 for first, last in ranges)

    rows = [
        (*one.labels, ids(one.withheld), ids(one.repaired), ids(one.lacking), "yes" if one.is_exact else "NO")
        for one in compared
        if one.lacking or one.withheld or one.repaired
    ]
    headings = ("market", "symbol", "kind", "ids withheld", "fetched again", "missing", "adds up")
    if rows:
        out.print(table("What the exchange withheld", headings, sorted(rows), numbers=headings[3:6]))
    if not due:
        out.print("Interrupted: compared only up to the last recorded id of each stream.")
    wrong = sum(not one.is_exact for one in compared)
    if wrong:
        out.print(f"{wrong} streams missed something else than what the exchange withheld", style="bold")
    else:
        out.print("What was fetched again or is missing is exactly what the exchange withheld.", style="bold")
    return wrong


def _print_hints(folder: Path, out: Console) -> None:
    files = f"read_parquet('{folder}/parquet/trade/**/*.parquet', hive_partitioning = true)"
    out.print("\nAsk the files, for example with duckdb:")
    out.print("  select market, symbol, count(*) from", files, "group by all")
    command = sys.argv[0] if sys.argv[0].endswith("streamsvc") else f"{sys.executable} -m streamsvc"
    out.print(f"Verify again:  {command} verify {folder}")
