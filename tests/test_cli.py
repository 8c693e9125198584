"""The command line as a user meets it: commands, messages, exit codes, and what is written where."""

from __future__ import annotations

import os
import socket
import sqlite3
import struct
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from streamsvc import __version__
from streamsvc.cli import main
from streamsvc.persistence.catalogue import SCHEMA_VERSION, Catalogue
from streamsvc.persistence.journal import FILE_MAGIC, HEADER_BYTES, VERSION
from streamsvc.settings.variables import Settings
from streamsvc.streams.attempts import shared_path

PROGRAM = Path(sys.executable).with_name("streamsvc")
CANARY = "CanaryThatNobodyMaySee0123456789"
A_MOMENT = {"RUN_HOURS": "0.0001"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder without any variable of ours in the environment."""
    for name in Settings.__annotations__:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nobody():
    """Settings for an exchange that is not there: its port is taken, and refuses everybody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        yield {
            "BINANCE_SPOT_WS_URL": f"ws://{place}",
            "BINANCE_SPOT_REST_URL": f"http://{place}",
            "SPOT_SYMBOLS": "BTCUSDT",
            "DISK_RESERVE_MB": "0",
        }
    shared_path(f"ws://{place}").unlink(missing_ok=True)


@pytest.fixture
def program(here):
    """Runs the program as a process of its own in the working folder, with these variables and no others."""

    def call(*arguments, **settings):
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | settings
        command = [PROGRAM, *arguments]
        return subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return call


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_version(program):
    answer = program("--version")
    assert (0, f"streamsvc {__version__}\n", "") == (answer.returncode, answer.stdout, answer.stderr)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_help(here, capsys, word):
    """Every command is named."""
    assert 0 == main([word])
    said = capsys.readouterr()
    assert "" == said.err
    assert all(f"  {name} " in said.out for name in ("run", "demo", "simulate", "verify", "config"))


@pytest.mark.parametrize("command", ["run", "demo", "simulate", "verify", "config"])
def test_the_help_of_a_command(here, capsys, command):
    """It tells what the command does, and does nothing else."""
    assert 0 == main([command, "--help"])
    said = capsys.readouterr()
    assert "" == said.err
    assert said.out.startswith(f"Usage: streamsvc {command}")
    assert [] == files_below(here)


def test_no_command(here, capsys):
    """The help, as something that went wrong."""
    assert 2 == main([])
    said = capsys.readouterr()
    assert "" == said.out
    assert "verify" in said.err


@pytest.mark.parametrize("arguments", [["record"], ["run", "--fast"], ["verify"], ["demo", "--seconds", "1"]])
def test_a_command_that_is_none(here, capsys, arguments):
    """Wrong usage is told on standard error, and nothing is written."""
    assert 2 == main(arguments)
    said = capsys.readouterr()
    assert "" == said.out
    assert "Error:" in said.err
    assert [] == files_below(here)


def test_the_settings_in_force(here, capsys, monkeypatch):
    """Every variable with its value and where it came from; the environment wins over `.env`."""
    (here / ".env").write_text("SPOT_SYMBOLS=BTCUSDT\nTRADE_TIMEOUT=99\n")
    monkeypatch.setenv("SPOT_SYMBOLS", "ethusdt,dotusdt")

    assert 0 == main(["config"])

    lines = {words[0]: words[1:] for line in capsys.readouterr().out.splitlines() if (words := line.split())}
    assert {"variable", *map(str.upper, Settings.__annotations__)} == set(lines)
    assert ["ETHUSDT,DOTUSDT", "environment"] == lines["SPOT_SYMBOLS"]
    assert ["99", "s", ".env"] == lines["TRADE_TIMEOUT"]
    assert ["180", "s", "default"] == lines["ORDERBOOK_TIMEOUT"]
    assert [".env"] == files_below(here)


def test_settings_of_the_dotenv_file_are_in_force(program, here, nobody):
    """What `.env` in the working folder says is recorded."""
    (here / ".env").write_text("".join(f"{name}={value}\n" for name, value in (nobody | A_MOMENT).items()))
    answer = program("run")
    assert 0 == answer.returncode, answer.stderr
    assert '"connection":"spot-1"' in answer.stdout
    assert (here / "data" / "catalogue.sqlite").is_file()


def test_wrong_settings(program, here):
    """One message names every wrong variable, its value and what is allowed; nothing is written, nothing is logged."""
    (here / ".env").write_text("FUTURES_KINDS=candles\n")
    wrong = {"SPOT_SYMBOLS": "BTC/USDT", "TRADE_TIMEOUT": "soon", "SAVE_CONCURRENCY": "0", "TLS_CA_FILE": "ca.pem"}

    answer = program("run", **wrong)

    assert (2, "") == (answer.returncode, answer.stdout)
    assert answer.stderr.startswith("streamsvc: wrong settings:\n")
    told = answer.stderr.splitlines()[1:]
    assert {*wrong, "FUTURES_KINDS"} == {line.split("=")[0].strip() for line in told}
    assert all("allowed: " in line for line in told)
    assert "candles" in answer.stderr
    assert [".env"] == files_below(here)


def test_nothing_to_record(program, here):
    """The message says what to set; nothing is written."""
    answer = program("run")
    assert (2, "") == (answer.returncode, answer.stdout)
    assert "SPOT_SYMBOLS" in answer.stderr
    assert [] == files_below(here)


def test_a_folder_that_is_in_use(program, here, nobody):
    """The second instance is refused with a sentence; the first one goes on and ends as it should."""
    settings = nobody | {"RECONNECT_MIN_SEC": "0.1", "RECONNECT_MAX_SEC": "0.1"}
    environment = {"PATH": os.environ["PATH"]} | settings
    with subprocess.Popen([PROGRAM, "run"], cwd=here, env=environment, stdout=subprocess.PIPE, text=True) as first:
        try:
            while '"ready"' not in first.stdout.readline():
                assert first.poll() is None
            answer = program("run", **settings)

            assert 2 == answer.returncode
            assert "in use by another instance" in answer.stderr
            assert "Traceback" not in answer.stdout + answer.stderr
            assert '"cannot_record"' in answer.stdout
            while '"connection_failed"' not in first.stdout.readline():
                assert first.poll() is None
            first.terminate()
            assert '"stopped"' in first.stdout.read()
            assert 0 == first.wait()
        finally:
            first.kill()


def test_a_catalogue_of_a_newer_version(program, here, nobody):
    """It is refused and left as it is, by `run` and by `verify`."""
    catalogue = here / "data" / "catalogue.sqlite"
    catalogue.parent.mkdir()
    with closing(sqlite3.connect(catalogue)) as connection:
        connection.execute(f"pragma user_version = {SCHEMA_VERSION + 1}")
        connection.commit()

    for answer in (program("run", **nobody), program("verify", "data")):
        assert 2 == answer.returncode
        assert "newer version" in answer.stderr
        assert "Traceback" not in answer.stdout + answer.stderr
    with closing(sqlite3.connect(catalogue)) as connection:
        assert (SCHEMA_VERSION + 1,) == connection.execute("pragma user_version").fetchone()
        assert [] == connection.execute("select * from sqlite_schema").fetchall()


def test_a_journal_of_a_newer_version(program, here, nobody):
    """It is refused and left as it is."""
    journal = here / "data" / "journal"
    journal.mkdir(parents=True)
    header = struct.pack("<8sHIII", FILE_MAGIC, VERSION + 1, 7, 0xABCD, 0)
    content = header + struct.pack("<I", zlib.crc32(header)) + b"who knows"
    assert HEADER_BYTES == len(header) + 4
    segment = journal / "000007-0000abcd-000000.journal"
    segment.write_bytes(content)

    answer = program("run", **nobody)

    assert 2 == answer.returncode
    assert "newer version" in answer.stderr
    assert content == segment.read_bytes()
    assert not (here / "data" / "catalogue.sqlite").exists()


def test_a_damaged_catalogue(program, here, nobody):
    """`verify` calls it damage; a start moves it aside by itself, says so, and records with a new one."""
    catalogue = here / "data" / "catalogue.sqlite"
    catalogue.parent.mkdir()
    Catalogue(catalogue).prepare()
    garbage = b"no catalogue at all, " * 1000
    catalogue.write_bytes(garbage)

    answer = program("verify", "data")
    assert 3 == answer.returncode
    assert "is damaged" in answer.stdout
    assert "Traceback" not in answer.stderr

    answer = program("run", **nobody, **A_MOMENT)
    assert 0 == answer.returncode
    assert "catalogue_rebuilt" in answer.stdout
    assert garbage == (here / "data" / "catalogue.sqlite.damaged-1").read_bytes()
    assert 0 == program("verify", "data").returncode


@pytest.fixture
def read_only_folder(here):
    """A folder where nobody can write, whoever runs the tests."""
    folder = here / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("root can write everywhere, and a read-only mount is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", [".", "data/deeper"])
def test_a_folder_that_cannot_be_written(program, read_only_folder, name, nobody):
    """A sentence, and 2: starting again will not help."""
    answer = program("run", **nobody, DATA_DIR=str(read_only_folder / name))
    assert 2 == answer.returncode
    assert "DATA_DIR" in answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr


@pytest.mark.parametrize("name", ["nothing", "empty", "file"])
def test_verify_what_is_no_data_folder(here, capsys, name):
    """Wrong usage, not damage."""
    (here / "empty").mkdir()
    (here / "file").touch()
    assert 2 == main(["verify", name])
    said = capsys.readouterr()
    assert "" == said.out
    assert name in said.err
    assert ["empty", "file"] == files_below(here)


def assert_unseen(here, *answers):
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in here.rglob("*") if path.is_file())
    assert CANARY not in "".join(answer.stdout + answer.stderr for answer in answers)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_secret_is_seen_nowhere(program, here, log_format, nobody):
    """The key is in no output, no log and no file, whatever happens to the recorder."""
    key = {"BINANCE_API_KEY": CANARY, "LOG_LEVEL": "debug", "LOG_FORMAT": log_format}
    recorded = program("run", **nobody, **A_MOMENT, **key)
    wrong = program("run", **nobody, **key, TRADE_TIMEOUT=CANARY[:3], SPOT_DEPTH_MS="1")
    config = program("config", **key)
    (here / "data" / "catalogue.sqlite").write_bytes(b"x" * 10_000)
    damaged = program("run", **nobody, **A_MOMENT, **key)

    assert [0, 2, 0, 0] == [answer.returncode for answer in (recorded, wrong, config, damaged)]
    assert "BINANCE_API_KEY" in config.stdout
    assert_unseen(here, recorded, wrong, config, damaged)


def test_a_secret_in_the_fault_that_ends_the_process(here, nobody):
    """The traceback goes to the log and to standard error, and the key to neither."""
    code = (
        "import sys\n"
        "from streamsvc import service\n"
        "from streamsvc.cli import main\n"
        "async def run(settings, *_args, **_more):\n"
        "    key = settings.binance_api_key\n"
        "    raise ZeroDivisionError(f'{key.reveal()} {key!r} {settings!r}')\n"
        "service.run = run\n"
        "sys.exit(main(['run']))\n"
    )
    environment = {"PATH": os.environ["PATH"], "BINANCE_API_KEY": CANARY} | nobody
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert 1 == answer.returncode
    assert "ZeroDivisionError: ***" in answer.stderr
    assert '"crashed"' in answer.stdout
    assert_unseen(here, answer)


def test_a_secret_that_is_wrong_is_not_shown(program, here, nobody):
    """The message tells the variable and hides the value."""
    answer = program("run", **nobody, BINANCE_API_KEY=f"{CANARY} and a space")
    assert 2 == answer.returncode
    assert "BINANCE_API_KEY=***" in answer.stderr
    assert_unseen(here, answer)
