"""How long a recorder takes from its start to the first message in its journal. `python tests/processes/start_time.py`.

Prints every run in ms: until the log is there, the connections stand, and the first frame is on the disk, beside the
CPU time of the recorder's own process. The exchange is one of its own, on loopback, in another process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

import psutil

PROGRAM = str(Path(sys.executable).with_name("streamsvc"))
RUNS = 10
HEADER_BYTES = 26
LOOK_SEC = 0.001
PATIENCE_SEC = 30


@contextlib.contextmanager
def simulated_exchange(folder):
    """The settings that lead to an exchange."""
    with subprocess.Popen([PROGRAM, "simulate", "--rate", "100"], cwd=folder, stdout=subprocess.PIPE, text=True) as one:
        try:
            settings = {}
            while "BINANCE_FUTURES_REST_URL" not in settings or "BINANCE_SPOT_REST_URL" not in settings:
                line = one.stdout.readline()
                assert line, "the exchange has ended"
                if not line.startswith("#"):
                    settings.update([line.strip().split("=", 1)])
            yield settings
        finally:
            one.terminate()


def measure(folder, settings):
    """One start: ms to the first line of the log, to READY, to the first frame; CPU ms of the process by then."""
    environment = {"PATH": os.environ["PATH"]} | settings | {"DATA_DIR": str(folder / "data")}
    log = folder / "log"
    began, began_wall = time.monotonic(), time.time()
    with (
        log.open("wb") as output,
        subprocess.Popen([PROGRAM, "run"], cwd=folder, env=environment, stdout=output) as recorder,
    ):
        while not any(path.stat().st_size > HEADER_BYTES for path in folder.glob("data/journal/*.journal")):
            assert time.monotonic() < began + PATIENCE_SEC, log.read_text()
            time.sleep(LOOK_SEC)
        frame_ms = (time.monotonic() - began) * 1000
        cpu = psutil.Process(recorder.pid).cpu_times()
        while b'"ready"' not in log.read_bytes():
            time.sleep(LOOK_SEC)
        recorder.terminate()
    events = {event["event"]: event for event in map(json.loads, log.read_text().splitlines())}
    at = {name: _wall_sec(events[name]["time"]) - began_wall for name in ("starting", "ready")}
    return at["starting"] * 1000, at["ready"] * 1000, frame_ms, (cpu.user + cpu.system) * 1000


def _wall_sec(text):
    return datetime.fromisoformat(text).timestamp()


def main():
    headings = ("log", "ready", "first frame", "CPU")
    print(f"ms from exec, {RUNS} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("".join(f"{heading:>14}" for heading in headings))
    with tempfile.TemporaryDirectory() as folder, simulated_exchange(folder) as addresses:
        settings = addresses | {"SPOT_SYMBOLS": "BTCUSDT,ETHUSDT", "FUTURES_SYMBOLS": "BTCUSDT,ETHUSDT"}
        rows = []
        for number in range(RUNS):
            place = Path(folder, str(number))
            place.mkdir()
            rows.append(measure(place, settings | {"DISK_RESERVE_MB": "0"}))
            print("".join(f"{value:14.0f}" for value in rows[-1]))
    for name, choose in (("median", median), ("least", min)):
        print("".join(f"{choose(column):14.0f}" for column in zip(*rows, strict=True)), f" {name}")


if __name__ == "__main__":
    main()
