"""A world for the whole service, under a clock that jumps."""

import gc
import os
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from clocked_doubles import captured_log
from clocked_world import World

import streamsvc.persistence.seal  # noqa: F401 - pandas and its friends must be there before the collector is told


def pytest_collection_modifyitems(items):
    """Have pytest-trio run the tests of a world under a clock that jumps whenever every task waits."""

    def run(main, **options):
        # pytest-trio lets the seed decide in which order tasks run; another seed finds other races.
        trio._core._run._r.seed(os.environ.get("CLOCKED_SEED", "1"))
        return trio.run(main, **options | {"clock": trio.testing.MockClock(autojump_threshold=0)})

    for item in items:
        if Path(__file__).parent in item.path.parents and "world" in item.fixturenames:
            item.add_marker(pytest.mark.trio(run=run), append=False)


@pytest.fixture(scope="package", autouse=True)
def _short_collections():
    """A sealer collects garbage after each segment: what pytest has gathered until now need not be looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def data_folder(tmp_path):
    """Where the service records: in memory where the machine has such a folder, since nobody cuts its power here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder) / "data"


@pytest.fixture
async def world(nursery, data_folder):
    """A world, and the log of what happens in it; a test that asks for it runs under the clock that jumps."""
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    async with captured_log() as log:
        yield World(nursery, data_folder, log)
