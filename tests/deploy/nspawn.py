"""The service really runs under its sandbox: installed on a Debian 12 machine, killed, stopped, reloaded, and verified.

Not part of the tests that run for each change: it takes root, debootstrap, systemd-nspawn, a mirror of Debian and some
four minutes, two of them for the first machine. By hand:

    sudo .venv/bin/python tests/deploy/nspawn.py FOLDER [--mirror URL]

FOLDER keeps the machine's file system and the wheels for the next run (`machine.py`). One machine at a time: two would
share their control groups. The exchange is the simulated one, a unit of the same machine. Prints a line for each
situation, and ends at the first that is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from machine import Machine, booted, make_machine

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = "streamsvc.service"
DATA = "/var/lib/streamsvc"
KEY = "a-key-that-nobody-may-read-1234567890"
WATCHDOG_SEC = 10

CA_FILE = "/run/simulated-ca.pem"
EXCHANGE = f"""\
[Service]
ExecStart=/opt/streamsvc/.venv/bin/streamsvc simulate --host localhost --spot-port 9001 --futures-port 9002 \\
  --control-port 9003 --tls --ca-file {CA_FILE}
"""
SYMBOLS_FILE = "/etc/streamsvc/symbols.toml"
SYMBOLS = """\
[spot]
symbols = ["BTCUSDT"]
[futures]
symbols = ["ETHUSDT"]
"""
SETTINGS = f"""\
SYMBOLS_FILE={SYMBOLS_FILE}
BINANCE_SPOT_WS_URL=wss://localhost:9001
BINANCE_SPOT_REST_URL=https://localhost:9001
BINANCE_FUTURES_WS_URL=wss://localhost:9002
BINANCE_FUTURES_REST_URL=https://localhost:9002
TLS_CA_FILE={CA_FILE}
PARQUET_ROTATE_SEC=3
HEALTH_CHECK_INTERVAL=1
"""
# What merging finished days needs, too: no test is as long as a day.
PROBE = "import ctypes, os; os.nice(10); ctypes.CDLL(None).renameat2; open('/dev/shm/probe', 'w')"
DROP_IN = f"""\
[Service]
WatchdogSec={WATCHDOG_SEC}
RestartSec=1
ExecStartPre=/opt/streamsvc/.venv/bin/python -c "{PROBE}"
LoadCredential=binance_api_key:/etc/streamsvc/binance_api_key
Environment=BINANCE_API_KEY_FILE=%d/binance_api_key
"""


def main() -> int:
    """Run all situations in their order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mirror", default="", help="of Debian; else debootstrap's own")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    timed("a machine with Debian 12", lambda: make_machine(folder, arguments.mirror))
    began_at = time.monotonic()
    with booted(folder) as machine:
        print(f"{time.monotonic() - began_at:6.1f} s  booted", flush=True)
        for situation in SITUATIONS:
            try:
                timed((situation.__doc__ or "").rstrip("."), partial(situation, machine))
            except (AssertionError, RuntimeError):
                print(machine.run("journalctl", "--no-pager", "-n", "60").stdout, flush=True)
                raise
    return 0


def timed(what: str, act: Callable[[], object]) -> None:
    """Do something, and tell how long it took and what it returned."""
    began_at = time.monotonic()
    told = act()
    print(f"{time.monotonic() - began_at:6.1f} s  {what}{f': {told}' if told else ''}", flush=True)


def is_installed(machine: Machine) -> None:
    """Installed from nothing, and nothing is started."""
    machine.must("rm", "-rf", "/opt/streamsvc", "/etc/streamsvc")
    machine.must("sh", "-c", "rm -rf /etc/systemd/system/streamsvc* /var/lib/streamsvc* /var/lib/private/streamsvc*")
    machine.must("/src/deploy/install.sh")
    assert "inactive" == machine.show(UNIT, "ActiveState")
    assert "600" == machine.must("stat", "-c", "%a", "/etc/streamsvc/env").strip()
    machine.must("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{UNIT}")


def starts(machine: Machine) -> str:
    """It starts: READY, a status, files; as a user without any right, under a filter of system calls."""
    machine.write("/etc/systemd/system/exchange.service", EXCHANGE)
    machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", DROP_IN)
    machine.write("/etc/streamsvc/env", SETTINGS)
    machine.write(SYMBOLS_FILE, SYMBOLS)
    machine.write("/etc/streamsvc/binance_api_key", KEY)
    machine.must("chmod", "600", "/etc/streamsvc/env", "/etc/streamsvc/binance_api_key")
    machine.must("systemctl", "daemon-reload")
    start_exchange(machine)
    machine.must("systemctl", "start", UNIT)
    assert "active" == machine.show(UNIT, "ActiveState")
    machine.until(lambda: "recording" in machine.show(UNIT, "StatusText"), "a status")
    machine.until(lambda: parquet_files(machine) > 5, "files")
    rights = process_status(machine)
    assert ("2", "1", "0000000000000000") == (rights["Seccomp"], rights["NoNewPrivs"], rights["CapEff"])
    assert "0" != rights["Uid"].split()[0]
    return machine.show(UNIT, "StatusText")


def is_upgraded(machine: Machine) -> str:
    """Installed again while it runs: started anew from another environment, settings stay as they are."""
    before = machine.must("readlink", "/opt/streamsvc/.venv")
    restarted_after(machine, lambda: machine.must("/src/deploy/install.sh"))
    assert before != machine.must("readlink", "/opt/streamsvc/.venv")
    assert SETTINGS == machine.must("cat", "/etc/streamsvc/env")
    return verified(machine)


def is_killed(machine: Machine) -> str:
    """SIGKILL of the main process: started again, nothing lost but what the ledger knows."""
    restarted_after(machine, lambda: machine.must("kill", "-KILL", machine.show(UNIT, "MainPID")))
    assert "signal" in machine.journal(UNIT) or "killed" in machine.journal(UNIT)
    return verified(machine)


def stands_still(machine: Machine) -> str:
    """A main process that stands still (SIGSTOP): SIGABRT by the watchdog, and started again."""
    restarted_after(machine, lambda: machine.must("kill", "-STOP", machine.show(UNIT, "MainPID")))
    log = machine.journal(UNIT)
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log
    return verified(machine)


def reads_symbols_again(machine: Machine) -> str:
    """Reload: SIGHUP, answered in the journal; and a file that changes is seen by itself."""
    before = machine.show(UNIT, "MainPID")
    machine.must("systemctl", "reload", UNIT)
    machine.until(lambda: '"source":"SIGHUP"' in machine.journal(UNIT).replace(" ", ""), "an answer")
    answer = next(line for line in machine.journal(UNIT).splitlines() if "SIGHUP" in line)
    assert "symbols_unchanged" in answer, answer
    machine.write(SYMBOLS_FILE, SYMBOLS.replace('"ETHUSDT"', '"BTCUSDT", "ETHUSDT"'))
    machine.until(lambda: "symbols_changed" in machine.journal(UNIT), "the change is seen")
    machine.until(lambda: "streams: 9 ok" in machine.show(UNIT, "StatusText"), "streams of another symbol")
    assert before == machine.show(UNIT, "MainPID")
    return answer


def outlives_exchange(machine: Machine) -> str:
    """The exchange frozen, then gone, each for twice the watchdog's time: not started again, and well."""
    before = machine.show(UNIT, "NRestarts"), machine.show(UNIT, "MainPID")
    machine.must("kill", "-STOP", machine.show("exchange", "MainPID"))
    time.sleep(2 * WATCHDOG_SEC)
    machine.must("kill", "-CONT", machine.show("exchange", "MainPID"))
    time.sleep(1)
    machine.must("systemctl", "stop", "exchange")
    time.sleep(2 * WATCHDOG_SEC)
    assert before == (machine.show(UNIT, "NRestarts"), machine.show(UNIT, "MainPID"))
    assert "active" == machine.show(UNIT, "ActiveState")
    return machine.show(UNIT, "StatusText")


def stops(machine: Machine) -> str:
    """A stop is clean: everything sealed, exit 0."""
    machine.must("systemctl", "stop", UNIT)
    assert ("inactive", "success", "0") == tuple(
        machine.show(UNIT, name) for name in ("ActiveState", "Result", "ExecMainStatus")
    )
    return verified(machine)


def is_set_wrongly(machine: Machine) -> None:
    """A wrong setting: exit 2 with its name, not started again."""
    machine.write("/etc/streamsvc/env", f"{SETTINGS}JOURNAL_SYNC_SEC=soon\n")
    assert machine.run("systemctl", "start", UNIT).returncode
    time.sleep(3)
    assert ("failed", "2", "0") == tuple(
        machine.show(UNIT, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")
    )
    assert "JOURNAL_SYNC_SEC" in machine.journal(UNIT, "-n", "20")
    machine.write("/etc/streamsvc/env", SETTINGS)


def keeps_secret(machine: Machine) -> None:
    """The key is read, since a wrong one is refused; neither is in the journal, or in what systemd shows."""
    machine.write("/etc/streamsvc/binance_api_key", f"{KEY} {KEY}")
    assert machine.run("systemctl", "start", UNIT).returncode
    assert "BINANCE_API_KEY_FILE" in machine.journal(UNIT, "-n", "20")
    machine.write("/etc/streamsvc/binance_api_key", KEY)
    assert KEY not in machine.must("journalctl", "--no-pager", "--all", "-o", "export")
    assert KEY not in machine.must("systemctl", "show", UNIT)


def share_budget(machine: Machine) -> str:
    """Two instances beside the plain one: folders of their own, one budget of attempts, which outlives a stop."""
    machine.must("/src/deploy/install.sh", "a", "b")
    for port, name in enumerate("ab", start=9471):
        machine.write(f"/etc/streamsvc/{name}.env", f"{SETTINGS}HTTP_LISTEN=127.0.0.1:{port}\n")
    start_exchange(machine)
    machine.must("systemctl", "start", UNIT)
    spent = [attempts(machine)]
    for name in "ab":
        machine.must("systemctl", "start", f"streamsvc@{name}")
        machine.until(partial(parquet_files, machine, f"{DATA}-{name}/"), f"files of {name}")
        spent.append(attempts(machine))
    machine.must("systemctl", "stop", UNIT, "streamsvc@a", "streamsvc@b")
    assert spent[0] < spent[1] < spent[2] == attempts(machine), spent
    assert all("0" == machine.show(f"streamsvc@{name}", "ExecMainStatus") for name in "ab")
    for name in "ab":
        verified(machine, f"{DATA}-{name}")
    return f"{spent} attempts"


SITUATIONS = (
    is_installed,
    starts,
    reads_symbols_again,
    is_upgraded,
    is_killed,
    stands_still,
    outlives_exchange,
    stops,
    is_set_wrongly,
    keeps_secret,
    share_budget,
)


def start_exchange(machine: Machine) -> None:
    """Start it, and wait until its authority can be read."""
    machine.must("rm", "-f", CA_FILE)
    machine.must("systemctl", "start", "exchange")
    machine.until(lambda: not machine.run("test", "-s", CA_FILE).returncode, "the exchange's certificate")


def restarted_after(machine: Machine, act: Callable[[], object]) -> None:
    """Do something, and wait for the start that follows."""
    before = machine.show(UNIT, "MainPID")
    act()
    machine.until(lambda: machine.show(UNIT, "MainPID") not in {before, "0"}, "another process")
    machine.until(lambda: "active" == machine.show(UNIT, "ActiveState"), "READY again")
    files = parquet_files(machine)
    machine.until(lambda: parquet_files(machine) > files, "more files")


def verified(machine: Machine, folder: str = DATA) -> str:
    """Check a data folder; it may miss what the ledger knows, and nothing else."""
    done = machine.run("streamsvc", "verify", folder, "--json")
    assert done.returncode in {0, 1}, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    found = json.loads(done.stdout)
    counts = ", ".join(f"{value} {name}" for name, value in found.items() if type(value) is int)
    return f"verify: {done.returncode}, {counts}"


def parquet_files(machine: Machine, folder: str = f"{DATA}/") -> int:
    """How many there are."""
    return machine.run("find", folder, "-name", "*.parquet").stdout.count("\n")


def process_status(machine: Machine) -> dict[str, str]:
    """What the kernel says of the main process."""
    lines = machine.must("cat", f"/proc/{machine.show(UNIT, 'MainPID')}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def attempts(machine: Machine) -> int:
    """How many the shared files count, of both markets: eight bytes each."""
    sizes = machine.run("sh", "-c", "stat -c %s /run/private/streamsvc/streamsvc-attempts-*").stdout
    return sum(map(int, sizes.split())) // 8


if __name__ == "__main__":
    sys.exit(main())
