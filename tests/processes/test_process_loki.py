"""The service's own log lines on their way to Loki, by the configurations that are shipped."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from loki_double import Loki, serving
from recorder_process import until

from streamsvc import log

LOKI = Path(__file__).parents[2] / "deploy" / "loki"


@pytest.fixture
def ship(tmp_path):
    """Ships a file of log lines by syslog-ng with the shipped configuration, but for source, address and folder."""
    program = shutil.which("syslog-ng") or shutil.which("syslog-ng", path="/usr/sbin")
    if program is None:
        pytest.skip("syslog-ng is not there")
    module = "/usr/lib/syslog-ng"
    if not any(Path(module).rglob("libhttp.so")):
        pytest.skip("syslog-ng's module for HTTP is not there")
    processes = []

    def begin(lines, url):
        text = (LOKI / "syslog-ng.conf").read_text()
        source = f'source s_streamsvc {{ file("{lines}" flags(no-parse) follow-freq(0.1)); }};'
        text, count = re.subn(r"source s_streamsvc \{.*?\n\};", source, text, flags=re.DOTALL)
        everything = 'filter f_streamsvc { not match("never" value("NEVER")); };'
        text, other = re.subn(r"filter f_streamsvc \{.*?\};", everything, text)
        assert (1, 1, 1) == (count, other, text.count("http://127.0.0.1:3100"))
        text = text.replace("http://127.0.0.1:3100", url).replace("time-reopen(5)", "time-reopen(1)")
        text = text.replace("reliable(yes)", f'reliable(yes) dir("{tmp_path}")')
        (tmp_path / "ng.conf").write_text(f"@version: 3.35\noptions {{ stats-freq(0); }};\n{text}")
        command = [
            program,
            "-F",
            "-e",
            "--no-caps",
            "-f",
            "ng.conf",
            "-R",
            "ng.persist",
            "-p",
            "ng.pid",
            "-c",
            "ng.ctl",
        ]
        processes.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL))

    yield begin
    for process in processes:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def copied_lines(log_file, target):
    """The lines of a recorder's log, written to a file of their own."""
    lines = [line for line in log_file.read_text().splitlines() if line.startswith("{")]
    target.write_text("\n".join(lines) + "\n")
    return lines


async def test_the_services_own_lines_reach_loki(stage, start, ship, tmp_path):
    """Each once, in order, with its labels, its own time and its metadata; what Loki could not take at first too."""
    recorder = start(stage, LOG_LEVEL="debug")
    await recorder.saw("rotated")
    assert 0 == await recorder.stop()
    lines = copied_lines(tmp_path / "log.0", tmp_path / "shipped.log")
    assert len(lines) > 10
    loki = Loki()
    loki.is_down = True
    with serving(loki) as url:
        ship(tmp_path / "shipped.log", url)
        await until(lambda: loki.answers, "the first push")
        loki.is_down = False
        await until(lambda: len(loki.entries) >= len(lines), "every line")
    assert {503, 204} == set(loki.answers)
    assert lines == [line for _, _, line, _ in loki.entries]
    for labels, time_ns, line, metadata in loki.entries:
        event = json.loads(line)
        assert {"service": "streamsvc", "environment": "production", "level": event["level"]} == labels
        whole, _, parts = event["time"].rstrip("Z").partition(".")
        assert f"{parts:0<9}" == str(time_ns)[-9:]
        assert whole[-2:] == f"{time_ns // 10**9 % 60:02}"
        names = ("market", "symbol", "connection")
        assert {name: str(event.get(name, "")) for name in names} == metadata


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 204),
        ({"labels": {f"l{number}": "x" for number in range(16)}}, 400),
        ({"labels": {}}, 400),
        ({"line": "x" * (256 * 1024 + 1)}, 400),
        ({"time": "1000000000"}, 400),
        ({"time": 7201 * 10**9}, 400),
        ({"line": "x" * 5_000_000}, 500),
    ],
)
def test_what_loki_refuses(change, status):
    """The double refuses what Loki does."""
    loki = Loki()
    labels = {"service": "streamsvc"}
    assert 204 == loki.push(json.dumps({"streams": [{"stream": labels, "values": [["7202000000000", "x"]]}]}))[0]
    labels, time, line = change.get("labels", labels), change.get("time", "7202000000001"), change.get("line", "x")
    assert status == loki.push(json.dumps({"streams": [{"stream": labels, "values": [[time, line]]}]}))[0]


def test_no_line_of_ours_is_too_long_for_loki():
    """The longest parts of an event are cut where it is logged."""
    assert log.EXCEPTION_CHARACTERS_MAX + 8 * log.FIELD_CHARACTERS_MAX < 256 * 1024


def test_alloy_is_configured_for_the_same():
    """Its program cannot be had here: braces balance, what is forwarded to exists, labels and metadata are right."""
    text = re.sub(r"//.*", "", re.sub(r'"[^"]*"', '""', (LOKI / "config.alloy").read_text()))
    assert text.count("{") == text.count("}")
    assert text.count("[") == text.count("]")
    whole = (LOKI / "config.alloy").read_text()
    components = {f"{kind}.{name}" for kind, name in re.findall(r'^([a-z_.]+) "(\w+)" \{', whole, re.MULTILINE)}
    used = re.findall(r"(loki\.\w+(?:\.\w+)?)\.(?:receiver|rules)\b", whole)
    assert used
    assert set(used) <= components
    assert 'labels        = { service = "streamsvc", environment = "production" }' in whole
    assert 'values = { level = "" }' in whole
    assert 'values = { market = "", symbol = "", connection = "" }' in whole
