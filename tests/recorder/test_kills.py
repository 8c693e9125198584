"""SIGKILL at random moments: what a flush confirmed is there, once, in order, and what was open is open."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from streamsvc.recorder import read_trades

KILLS = 50
WRITER = Path(__file__).parent / "recorder_writer.py"


def run_until_killed(folder, seconds):
    """Returns what it said."""
    command = [sys.executable, WRITER, folder / "trades.jsonl", folder / "pending.json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = [process.stdout.readline()]
    time.sleep(seconds)
    process.kill()
    said += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    assert "ready\n" == said[0]
    return [tuple(line.split()) for line in said[1:] if line.endswith("\n")]


def test_fifty_kills(tmp_path):
    rng = random.Random(7)
    opened, confirmed = [], -1
    for _ in range(KILLS):
        for word, value in run_until_killed(tmp_path, rng.uniform(0, 0.1)):
            if word == "flushed":
                confirmed = int(value)
            else:
                opened.append(value)
        records = list(read_trades(tmp_path / "trades.jsonl"))
        numbers = [record["n"] for record in records if "n" in record]
        assert list(range(len(numbers))) == numbers
        assert len(numbers) > confirmed
    run_until_killed(tmp_path, 0.2)  # It closes what was open at its start.
    closed = Counter(record["trade_id"] for record in read_trades(tmp_path / "trades.jsonl") if "trade_id" in record)
    assert {1} == set(closed.values())
    assert not set(opened) - closed.keys()
    assert len(opened) > KILLS
