"""What a recorder's own process has loaded when it records; `start_time.py` measures how long that takes."""

from __future__ import annotations

from pathlib import Path

import psutil
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
    (worker,) = recorder.sealers()

    assert set() == loaded_libraries(recorder.pid)
    assert {"numpy", "pandas", "fastparquet"} <= loaded_libraries(worker.pid)

    assert 0 == await recorder.stop()
    await until(lambda: not recorder.orphans(), "no worker stays behind")
