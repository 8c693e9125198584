"""The command line: commands and exit codes.

0 done; 1 failed; 2 wrong usage or settings; 3 damage, or a loss that is not known (`verify`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from streamsvc import __version__
from streamsvc.errors import StreamsvcError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from streamsvc.settings.source import LoadedSettings

DONE, FAILED, WRONG_USAGE, DAMAGED = 0, 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    try:
        code = app.main(arguments, prog_name="streamsvc", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE
    except StreamsvcError as error:
        click.echo(f"streamsvc: {error}", err=True)
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    return code if isinstance(code, int) else DONE


class _Group(click.Group):
    """Commands whose modules are loaded when they are called: `run` must be recording within half a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "simulate"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "simulate":
            from streamsvc.simulator.command import simulate  # noqa: PLC0415

            return simulate
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
def app() -> None:
    """Record what a crypto exchange says to Parquet, completely.

    Settings are environment variables, read also from .env; `.env.example` lists every one.
    """


def _load(*, must_record: bool = True) -> LoadedSettings:
    from streamsvc.settings.source import load_settings  # noqa: PLC0415

    return load_settings(os.environ, Path.cwd(), must_record=must_record)


def _hold_signals() -> None:
    """Hold back signals that come while modules load, until those in `shutdown` hear them."""
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        # A shell's background job begins with SIGINT ignored, and what is ignored may not be held back.
        signal.signal(number, lambda *_: None)


def _show_files(done: int, total: int) -> None:
    """Tell how far a reading of many files has come, where somebody looks."""
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} files", nl=done == total, err=True)


def _date_of(day: datetime | None) -> str | None:
    return None if day is None else day.date().isoformat()


@app.command()
def run() -> int:
    """Record until SIGTERM or Ctrl-C; both write and seal what is there, a second one stops at once."""
    _hold_signals()
    loaded = _load()
    from streamsvc.process import run_process  # noqa: PLC0415

    return run_process(loaded)


@app.command()
@click.argument("address", default="127.0.0.1:9464")
@click.option("--once", is_flag=True, help="Print it once.")
def top(address: str, *, once: bool) -> int:
    """Show a running recorder: a live table in a terminal (Ctrl-C ends it), elsewhere once.

    ADDRESS is its HTTP_LISTEN, or a URL. Exits with 1 where nobody answers.
    """
    from streamsvc.top import NoAnswerError, address_of, show  # noqa: PLC0415

    try:
        show(address_of(address), is_once=once)
    except NoAnswerError as fault:
        click.echo(str(fault), err=True)
        return FAILED
    except KeyboardInterrupt:
        pass
    return DONE


@app.command()
def config() -> None:
    """Print the settings in force, secrets hidden."""
    from streamsvc.settings.show import setting_rows  # noqa: PLC0415
    from streamsvc.terminal import console, table  # noqa: PLC0415

    rows = [(row.variable, row.value or "-", row.unit, row.source) for row in setting_rows(_load(must_record=False))]
    console().print(table("", ("variable", "value", "unit", "from"), rows))


@app.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="One UTC day; all if not given.")
@click.option("--deep", is_flag=True, help="Read everything again: every value, the journal, what was kept as text.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(folder: Path, day: datetime | None, *, deep: bool, as_json: bool) -> int:
    """Check a data folder: files, checksums, rows, ids without holes, nothing twice.

    Exits with 0 when it is complete, 1 when ids are missing and the gap ledger knows it, 3 when something is damaged,
    there twice, or missing without a word; with --day by that day alone.
    """
    from streamsvc.integrity.report import print_report  # noqa: PLC0415
    from streamsvc.integrity.verify import verify_folder  # noqa: PLC0415

    found = verify_folder(folder, _show_files, day=_date_of(day), is_deep=deep)
    if as_json:
        click.echo(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        print_report(found)
    return found.exit_code


@app.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), required=True, help="The UTC day.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder, which gets DAY.json and DAY.txt; only the verdict is printed then.",
)
def report(folder: Path, day: datetime, *, as_json: bool, out: Path | None) -> int:
    """Tell the quality of a day: coverage, gaps, silences, latencies, order books, of every stream.

    What waits in the journal is not looked at. Exits with 1 when a file could not be used.
    """
    from streamsvc.integrity.quality_day import measure_day  # noqa: PLC0415
    from streamsvc.integrity.quality_report import (  # noqa: PLC0415
        print_quality,
        quality_json,
        require_outside,
        write_report,
    )

    if out is not None:
        require_outside(out, folder)
    quality = measure_day(folder, day.date().isoformat(), time.time_ns(), _show_files)
    written = [] if out is None else write_report(quality, out)
    if as_json:
        click.echo(quality_json(quality).decode())
    elif out is None:
        print_quality(quality)
    else:
        click.echo("\n".join([*map(str, written), quality.verdict()]))
    return FAILED if quality.errors else DONE


@app.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("symbol")
@click.argument("time")
@click.option("--market", type=click.Choice(["spot", "futures"]), help="Needed where both record the symbol.")
@click.option("--levels", type=click.IntRange(min=1), default=10, show_default=True, help="How many of each side.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def book(  # noqa: PLR0913 - a command's arguments
    folder: Path, symbol: str, time: str, *, market: str | None, levels: int, as_json: bool
) -> None:
    """Rebuild an order book from the files, as it was after the updates of TIME.

    TIME is the exchange's: ISO 8601 in UTC, or an integer of milliseconds or nanoseconds since 1970. Fails where the
    book is not proven: without a snapshot before, or with updates missing between.
    """
    from streamsvc.integrity.book_report import book_as_json, find_book, print_book  # noqa: PLC0415

    found = find_book(folder, symbol, time, market)
    if as_json:
        click.echo(orjson.dumps(book_as_json(found, levels), option=orjson.OPT_INDENT_2).decode())
    else:
        print_book(found, levels)


@app.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="One UTC day; all that are over if not given.")
def compact(folder: Path, day: datetime | None) -> int:
    """Merge the files of finished UTC days into one a symbol and kind, in a folder that no service is using.

    A running service does this by itself. Exits with 1 when a day had to be left as it is.
    """
    from streamsvc.persistence.compaction_command import compact_folder  # noqa: PLC0415

    is_complete = compact_folder(folder, _date_of(day), time.time_ns(), tell=click.echo, pause=lambda: time.sleep(0.5))
    return DONE if is_complete else FAILED


@app.command(name="export-raw")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the files go.")
@click.option("--market", type=click.Choice(["spot", "futures"]), help="One market; both if not given.")
@click.option("--symbol", help="One symbol; all if not given.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="One UTC day of receipt; all if not given.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
def export_raw_command(  # noqa: PLR0913 - a command's arguments
    folder: Path, out: Path, *, market: str | None, symbol: str | None, day: datetime | None, overwrite: bool
) -> int:
    """Export what was recorded with RAW_ARCHIVE=true, as received: a .gz for each symbol and UTC day.

    A line is the time of receipt in ns and the message, in the order of receipt, as hftbacktest records it and its
    converter reads it; order books of REST among them, trades that were fetched later not. A service may be recording
    meanwhile. It takes the room of the files, and for a while as much again, in the folder of --out. Exits with 1 when
    something that was recorded is missing.
    """
    from streamsvc.persistence.raw_export import Telling, Wanted, export_raw  # noqa: PLC0415
    from streamsvc.schema import MARKETS_BY_LABEL  # noqa: PLC0415

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{done}/{total} segments", nl=done == total, err=True)

    wanted = Wanted(
        market=MARKETS_BY_LABEL[market] if market else None,
        symbol=symbol.upper() if symbol else None,
        date=day.date().isoformat() if day is not None else None,
    )
    telling = Telling(tell=click.echo, warn=lambda line: click.echo(f"streamsvc: {line}", err=True), progress=progress)
    is_complete = export_raw(folder, out, wanted, telling, is_overwriting=overwrite)
    return DONE if is_complete else FAILED


@app.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--where", "wheres", multiple=True, metavar="FIELD=VALUE", help="Only such; entry.side for nested fields."
)
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many; 20 for a table.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("--follow", is_flag=True, help="Go on with what is written from now on, as JSON; Ctrl-C ends it.")
@click.option(
    "--to-parquet", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write them to this file."
)
def trades(  # noqa: PLR0913 - a command's arguments
    path: Path, wheres: tuple[str, ...], *, last: int | None, as_json: bool, follow: bool, target: Path | None
) -> int:
    """Show what a trade recorder has written: rotated and compressed files and the live one, in order.

    PATH is the live file, trades.jsonl. A recorder may be writing meanwhile. Exits with 3 when a line or a file could
    not be read; the others are shown all the same.
    """
    from streamsvc.recorder.show import show_trades  # noqa: PLC0415

    try:
        is_whole = show_trades(path, wheres, last=last, as_json=as_json, is_following=follow, target=target)
    except FileNotFoundError as fault:
        click.echo(f"streamsvc: {fault.filename}: {fault.strerror}", err=True)
        return WRONG_USAGE
    except KeyboardInterrupt:
        return DONE
    return DONE if is_whole else DAMAGED


@app.command()
@click.option("--seconds", type=click.FloatRange(10, 3600), default=60, show_default=True, help="How long to record.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to record; a new folder under ./demo-data if not given.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated market.")
def demo(seconds: float, folder: Path | None, seed: int) -> int:
    """Record a simulated exchange, with a stall and a cut on the way, and verify what was recorded."""
    from streamsvc.demo import run_demo  # noqa: PLC0415

    return run_demo(seconds=seconds, folder=folder, seed=seed)
