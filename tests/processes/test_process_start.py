"""What a recorder's own process has loaded when it records; `start_time.py` measures how long that takes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pyarrow.parquet
from recorder_process import until

HEAVY = ("numpy", "pandas", "fastparquet", "cramjam", "pyarrow")
"""Libraries for the sealers alone."""


def loaded_libraries(pid):
    """The heavy libraries whose compiled parts a process has in memory."""
    paths = {mapped.path for mapped in psutil.Process(pid).memory_maps(grouped=True)}
    return {name for name in HEAVY for path in paths if name in Path(path).parts}


async def test_only_sealers_load_what_sealing_needs(stage, start):
    """The recorder never waits for pandas, not even while segments are sealed."""
    recorder = start(stage)
    await recorder.saw("rotated")
    await recorder.saw("analytics_begun")  # Which a process of its own has found out.
    await until(lambda: len(recorder.sealers()) == 1, "that process is gone")
    (worker,) = recorder.sealers()

    assert set() == loaded_libraries(recorder.pid)
    assert {"numpy", "pandas", "fastparquet"} <= loaded_libraries(worker.pid)

    assert 0 == await recorder.stop()
    await until(lambda: not recorder.orphans(), "no worker stays behind")


async def test_a_secret_is_in_no_file(stage, start, tmp_path):
    """The key is neither in the log nor in anything that is recorded."""
    canary = "CanaryThatNobodyMaySee0123456789"
    recorder = start(stage, BINANCE_API_KEY=canary, LOG_LEVEL="debug", RUN_HOURS="0.0003")

    assert 0 == await recorder.ended()

    assert recorder.events("rotated")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in files)
    assert [] == [path for path in files if canary.encode() in path.read_bytes()]
    footers = [pyarrow.parquet.read_schema(path) for path in files if path.suffix == ".parquet"]
    assert [] == [footer for footer in footers if canary in str(footer.metadata)]
