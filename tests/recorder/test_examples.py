"""What `docs/trade_recorder.md` shows does what it says, in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamsvc.recorder import read_trades

PAGE = Path(__file__).parents[2] / "docs" / "trade_recorder.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run(example, folder):
    command = [sys.executable, "-W", "error", "-c", example]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ("", 0) == (done.stderr, done.returncode), done
    return [record["trade_id"] for record in read_trades(folder / "data" / "trades.jsonl")], done.stdout


def test_the_first_example(tmp_path):
    ids, said = run(EXAMPLES[0], tmp_path)
    assert ["T1", "T2", "T3", "T4"] == ids
    assert "total_writes=4" in said


def test_from_asyncio(tmp_path):
    pytest.importorskip("trio_asyncio")
    assert ["T0", "T1", "T2"] == run(EXAMPLES[1], tmp_path)[0]
