"""The demo: what a new user sees, in a terminal and elsewhere, and when it says that something is wrong."""

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import attrs
import pytest

from streamsvc.cli import main
from streamsvc.demo import compare, print_comparison
from streamsvc.integrity.report import Gap, Report, StreamCoverage
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.gap_table import GapRow
from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.ledger import IdRanges, StreamRecord
from streamsvc.terminal import Console

SECONDS = 12
DONE_SEC_MAX = 120.0
TERMINAL_ROWS, TERMINAL_COLUMNS = 50, 140
_CURSOR_UP = re.compile(r"\x1b\[\d*A")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@attrs.frozen
class Shown:
    """What a demo left: its exit code, what it printed, and its folder."""

    code: int
    output: str
    errors: str
    folder: Path

    def events(self):
        """The log, an object a line."""
        return [json.loads(line) for line in (self.folder / "demo.log").read_text().splitlines()]


def start(folder, **more):
    command = [sys.executable, "-m", "streamsvc", "demo", "--seconds", str(SECONDS), "--folder", str(folder)]
    environment = {**os.environ, "TERM": "xterm-256color"}
    return subprocess.Popen(command, env=environment, **more)


def read_until_closed(descriptor, pieces):
    """Read a terminal's other end; the kernel reports its end as an error."""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            return
        if not piece:
            return
        pieces.append(piece)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """One demo without a terminal and one in a terminal, at the same time."""
    folder = tmp_path_factory.mktemp("demo")
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", TERMINAL_ROWS, TERMINAL_COLUMNS, 0, 0))
    pieces = []
    reader = threading.Thread(target=read_until_closed, args=(terminal, pieces))
    with (
        start(folder / "plain", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as plain,
        start(folder / "terminal", stdin=inside, stdout=inside, stderr=inside) as shown,
    ):
        os.close(inside)
        reader.start()
        try:
            output, errors = plain.communicate(timeout=DONE_SEC_MAX)
            shown.wait(timeout=DONE_SEC_MAX)
        finally:
            plain.kill()
            shown.kill()
    reader.join(timeout=DONE_SEC_MAX)
    os.close(terminal)
    return {
        "plain": Shown(plain.returncode, output, errors, folder / "plain"),
        "terminal": Shown(shown.returncode, b"".join(pieces).decode(), "", folder / "terminal"),
    }


@pytest.fixture
def plain(demos):
    return demos["plain"]


@pytest.mark.parametrize("where", ["plain", "terminal"])
def test_it_ends_well(demos, where):
    """What is missing is exactly what the exchange withheld, so it exits 0, and says nothing on standard error."""
    shown = demos[where]
    assert (0, "") == (shown.code, shown.errors), shown.output
    assert "What was fetched again or is missing is exactly what the exchange withheld." in shown.output


def test_plain_lines_tell_the_story_in_order(plain):
    """No terminal: lines without a control character, each step told once."""
    steps = [
        "Recording a simulated exchange into",
        "! the exchange falls silent on spot btcusdt@trade",
        "the recorder calls it stalled, and subscribes it anew",
        "! the exchange speaks again",
        "! the exchange cuts all 3 futures connections",
        "COMPLETE: ",
        "What was fetched again or is missing is exactly what the exchange withheld.",
        "Ask the files",
        "Verify again:",
    ]
    assert "\x1b" not in plain.output
    assert [1] * len(steps) == [plain.output.count(step) for step in steps]
    assert sorted(plain.output.index(step) for step in steps) == [plain.output.index(step) for step in steps]
    assert re.search(r"recording \(normal\); 4/4 connections up; .* messages/s", plain.output)


def test_the_stall_is_found_and_repaired(plain):
    """The muted stream, and no guess by others: stalled, subscribed anew, recovered, in this order."""
    stream = ("spot", "BTCUSDT", "trade")
    told = [
        event["event"]
        for event in plain.events()
        if stream == (event.get("market"), event.get("symbol"), event.get("kind")) and event["event"] != "stream_late"
    ]
    assert ["stream_stalled", "stream_repair", "stream_recovered"] == told[:3]
    resubscribed = [event for event in plain.events() if event["event"] == "stream_resubscribed"]
    assert any("btcusdt@trade" in event["streams"] for event in resubscribed)


def test_the_cut_is_found_and_mended(plain):
    """All futures connections are lost, no other, and each is opened again."""
    events = plain.events()
    lost = [event["connection"] for event in events if event["event"] == "connection_lost"]
    assert ["futures-market-1", "futures-public-1", "futures-trade-1"] == sorted(lost)
    opened = [event["connection"] for event in events if event["event"] == "connection_opened"]
    assert {"spot-1": 1, **dict.fromkeys(lost, 2)} == {name: opened.count(name) for name in opened}


def test_nothing_unexpected_is_in_the_log(plain):
    """Alarms belong to the two faults."""
    alarms = {event["event"] for event in plain.events() if event["level"] not in ("debug", "info")}
    expected = {"stream_stalled", "stream_repair", "stream_suspect", "stream_late", "connection_lost", "gap_opened"}
    expected.add("http_unavailable")  # Another demo may have the port.
    assert alarms <= expected | {"gap_unrepairable", "backfill_failed", "book_lost", "snapshot_failed"}


def test_the_data_set_lacks_what_was_withheld(plain):
    """At most order-book updates of the cut; trades of the muted stream were fetched again; nothing is damaged."""
    report = verify_folder(plain.folder)
    assert ([], 0, 0) == (report.errors, report.unknown, report.unsealed_segments)
    assert {gap.market for gap in report.gaps} <= {"futures"}
    assert ("spot", "BTCUSDT", "trade") not in {(gap.market, gap.symbol, gap.kind) for gap in report.gaps}
    with Catalogue.open_to_read(plain.folder / "catalogue.sqlite") as catalogue:
        assert ("spot", "BTCUSDT", "trade") in {
            (row.market, row.symbol, row.kind) for row in catalogue.gaps("repaired")
        }
    kinds = {"trade", "aggTrade", "depth", "depthSnapshot", "bookTicker", "markPrice", "instrument"}
    assert kinds == {stream.kind for stream in report.coverage}


def test_the_hint_for_duckdb_can_be_pasted(plain):
    duckdb = pytest.importorskip("duckdb", reason="an optional reader")
    (line,) = [line for line in plain.output.splitlines() if "read_parquet" in line]
    rows = duckdb.sql(line).fetchall()
    assert {("spot", "BTCUSDT"), ("futures", "ETHUSDT")} <= {row[:2] for row in rows}


def test_a_terminal_shows_a_table_that_renews_itself(demos):
    """Drawn over itself many times, whole, with what people look for."""
    output = demos["terminal"].output
    assert len(_CURSOR_UP.findall(output)) > 10 * SECONDS
    text = _CONTROL.sub("", output)
    for heading in ("market", "symbol", "kind", "messages", "rows", "per s", "age s", "state"):
        assert text.count(heading) > SECONDS
    assert "stalled" in text
    assert "! the exchange cuts all 3 futures connections" in text
    _first, *drawn = re.split(r"[\r\n]+", text.split("\nstreams")[0])
    assert max(map(len, drawn)) <= TERMINAL_COLUMNS


def test_ctrl_c_ends_it_in_good_order(tmp_path):
    """What was recorded until then is sealed, verified and compared; no traceback."""
    with start(tmp_path / "data", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            while "recording (normal)" not in demo.stdout.readline():
                assert demo.poll() is None
            demo.send_signal(signal.SIGINT)
            output, errors = demo.communicate(timeout=DONE_SEC_MAX)
        finally:
            demo.kill()
    assert (0, "") == (demo.returncode, errors)
    assert "What was fetched again or is missing is exactly what the exchange withheld." in output


def test_a_folder_that_is_not_empty(tmp_path, capsys):
    """Nothing of the user's is mixed with ours."""
    (tmp_path / "notes.txt").write_text("mine")
    assert 2 == main(["demo", "--folder", str(tmp_path)])
    assert "is not empty" in capsys.readouterr().err
    assert ["notes.txt"] == [path.name for path in tmp_path.iterdir()]


def test_too_short_a_demo(capsys):
    assert 2 == main(["demo", "--seconds", "3"])
    assert "seconds" in capsys.readouterr().err


# The comparison


def exchange_with(*records):
    exchange = Exchange(())
    for number, record in enumerate(records):
        exchange.ledger.records[Market.SPOT, f"stream{number}"] = record
    return exchange


def sent(*ranges, kind="trade", is_chained=True, produced=((1, 100),)):
    """The account of a stream whose market made `produced`, of which these ranges were sent."""
    return StreamRecord(
        Market.SPOT, "btcusdt", "BTCUSDT", kind, is_chained, produced=IdRanges(produced), sent=IdRanges(ranges)
    )


def found(*gaps, first=1, last=100, kind="trade"):
    """What verify found of that stream."""
    return Report(
        gaps=[Gap("spot", "BTCUSDT", kind, 0, *gap) for gap in gaps],
        coverage=[StreamCoverage("spot", "BTCUSDT", kind, 1, first, last, len(gaps))],
    )


@pytest.mark.parametrize(
    ("record", "report", "is_exact"),
    [
        (sent((1, 100)), found(), True),
        (sent((1, 40), (51, 100)), found((41, 50)), True),
        (sent((1, 40), (51, 70), (80, 100)), found((41, 50), (71, 79)), True),
        (sent((1, 40), (51, 100)), found((41, 51)), False),
        (sent((1, 40), (51, 100)), found((41, 49)), False),
        (sent((1, 40), (51, 100)), found(), False),
        (sent((1, 40), (51, 100)), found((41, 50), (60, 60)), False),
        (sent((1, 100)), found((60, 60)), False),
        (sent((1, 100)), Report(), False),
        (sent((1, 100)), found(kind="depth"), False),
    ],
    ids=[
        "nothing", "one hole", "two holes", "one id too many", "one id too few", "what nobody was sent is there",
        "a second hole", "a hole that is not the exchange's", "no rows at all", "rows of another kind",
    ],
)  # fmt: skip
def test_what_is_missing_beside_what_was_withheld(record, report, is_exact):
    assert [is_exact] == [one.is_exact for one in compare(exchange_with(record), report, {})]


@pytest.mark.parametrize(("last_id", "is_exact"), [(50, True), (49, False), (51, False)])
def test_what_was_fetched_again_is_no_longer_missing(last_id, is_exact):
    """It was withheld all the same: both together must be what the exchange withheld."""
    row = GapRow("spot", "BTCUSDT", "trade", 0, 45, last_id, None, None, "exchange", 1, "repaired", None, 1, 2)
    (one,) = compare(exchange_with(sent((1, 40), (51, 100))), found((41, 44)), {}, [row])
    assert is_exact == one.is_exact


def test_a_stream_that_ends_too_early():
    """What was sent well before the end and lies behind the last recorded id is lost as well."""
    exchange = exchange_with(sent((1, 100)))
    (key,) = exchange.ledger.records
    for due, is_exact in ((90, True), (100, False)):
        (one,) = compare(exchange, found(last=90), {key: due})
        assert is_exact == one.is_exact


def test_streams_without_ids_are_not_compared():
    assert [] == compare(exchange_with(sent((1, 10), kind="markPrice", is_chained=False)), Report(), {})


@pytest.mark.parametrize(("gap", "wrong", "answer"), [((41, 50), 0, "yes"), ((41, 55), 1, "NO")])
def test_the_verdict_is_printed(gap, wrong, answer):
    """A number that becomes the exit code, and a line that says which stream."""
    out = Console(file=io.StringIO(), width=200)
    assert wrong == print_comparison(exchange_with(sent((1, 40), (51, 100))), found(gap), out, {})
    lines = out.file.getvalue().splitlines()
    assert ["spot", "BTCUSDT", "trade", "10", "0", str(gap[1] - gap[0] + 1), answer] == lines[2].split()
    assert ("exactly" in lines[-1]) == (not wrong)
