"""Recorders with threads on file systems of their own: a disk that is full, one that cannot be written."""

import os
import subprocess

import pytest
import trio

from streamsvc.errors import UsageError
from streamsvc.recorder import open_trade_recorder, read_trades


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system."""
    places = []

    def mount(options):
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a file system is not permitted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", place], check=True)


async def test_a_full_disk(mounted):
    """Everything that was accepted is there once there is room, over rotations too."""
    place = mounted("size=1m")
    path, filler = place / "trades.jsonl", place / "filler"
    written = 0
    async with open_trade_recorder(trades_file=path, flush_interval_sec=0.01, rotation_size_mb=0.1) as recorder:
        with filler.open("wb") as file, pytest.raises(OSError, match="No space"):  # noqa: PT012
            while True:
                os.write(file.fileno(), b"x" * 4096)
        while not recorder.statistics().failed_flushes:
            await recorder.write_trade({"n": written, "text": "x" * 500})
            written += 1
            await trio.sleep(0.001)
        for _ in range(500):
            await recorder.write_trade({"n": written})
            written += 1
        await trio.sleep(0.5)
        assert recorder.statistics().buffered >= 500
        filler.unlink()
        await recorder.flush()
        assert list(range(written)) == [record["n"] for record in read_trades(path)]
        assert 0 == recorder.statistics().buffered


async def test_a_read_only_file_system(mounted):
    path = mounted("ro") / "trades.jsonl"
    with pytest.raises(UsageError, match="Read-only file system"):
        async with open_trade_recorder(trades_file=path):
            pass


async def test_a_folder_that_is_moved_while_tasks_write(tmp_path):
    """It is made again; what was written before is in the moved one, and every record is in one of them, once."""
    path, moved = tmp_path / "deep" / "trades.jsonl", tmp_path / "moved"

    async def write(task):
        for n in range(300):
            await recorder.write_trade({"task": task, "n": n})
            await trio.sleep(0.001)

    async with open_trade_recorder(trades_file=path, flush_interval_sec=0.01) as recorder:
        async with trio.open_nursery() as nursery:
            for task in range(3):
                nursery.start_soon(write, task)
            await trio.sleep(0.2)
            path.parent.rename(moved)
        await recorder.flush()
        records = [*read_trades(moved / path.name), *read_trades(path)]
    for task in range(3):
        assert list(range(300)) == [record["n"] for record in records if record["task"] == task]
