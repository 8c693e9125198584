"""`streamsvc simulate` as a process: what it prints, how it ends."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys

import httpx2
import pytest
from click.testing import CliRunner

from streamsvc.simulator.command import simulate

PROGRAM = "from streamsvc.simulator.command import simulate; simulate()"


def started(*options):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    settings = {}
    for line in process.stdout:
        if line.startswith("# control"):
            return process, settings
        if not line.startswith("#"):
            name, _, value = line.strip().partition("=")
            settings[name] = value
    pytest.fail(process.stderr.read())


def finished(process, number):
    process.send_signal(number)
    process.communicate(timeout=10)
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_a_recorders_settings_and_ends_with_0(tmp_path, number):
    ca_file = tmp_path / "ca.pem"
    process, settings = started("--tls", "--ca-file", str(ca_file))
    try:
        expected = {f"BINANCE_{market}_{what}_URL" for market in ("SPOT", "FUTURES") for what in ("WS", "REST")}
        assert expected | {"TLS_CA_FILE", "SPOT_SYMBOLS", "FUTURES_SYMBOLS"} == set(settings)
        assert str(ca_file) == settings["TLS_CA_FILE"]
        trust = ssl.create_default_context(cafile=settings["TLS_CA_FILE"])
        url = settings["BINANCE_FUTURES_REST_URL"] + "/fapi/v1/ping"
        assert 200 == httpx2.get(url, verify=trust).status_code
        assert settings["BINANCE_SPOT_WS_URL"].startswith("wss://127.0.0.1:")
    finally:
        assert 0 == finished(process, number)


def test_it_plays_recordings(recordings):
    """Only the market that they hold."""
    process, settings = started("--recording", str(recordings / "cryptofeed-spot-3-symbols.txt.gz"), "--speed", "max")
    try:
        assert {"SPOT_SYMBOLS", "BINANCE_SPOT_WS_URL", "BINANCE_SPOT_REST_URL"} == set(settings)
        answer = httpx2.get(settings["BINANCE_SPOT_REST_URL"] + "/api/v3/depth?symbol=DOTUSDT&limit=5000")
        assert 1513939277 == answer.json()["lastUpdateId"]
    finally:
        assert 0 == finished(process, signal.SIGINT)


@pytest.mark.parametrize(
    "options",
    [
        ["--nonsense"],
        ["--speed", "fast"],
        ["--speed", "-1"],
        ["--rate", "0"],
        ["--spot-port", "70000"],
        ["--futures-trade-route", "private"],
        ["--recording", "/does/not/exist"],
        ["--spot-symbols", "", "--futures-symbols", ""],
    ],
)
def test_wrong_options_end_with_2(options):
    result = CliRunner().invoke(simulate, options)
    assert 2 == result.exit_code
    assert "Error" in result.output


def test_a_file_that_is_no_recording_ends_with_2(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(b"nothing")
    result = CliRunner().invoke(simulate, ["--recording", str(path)])
    assert (2, True) == (result.exit_code, "cannot be read as a recording" in result.output)


def test_a_port_that_is_taken_ends_with_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(simulate, ["--spot-port", port])
        assert (2, True) == (result.exit_code, "a port cannot be had" in result.output)
