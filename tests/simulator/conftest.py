"""Exchanges under a clock that jumps, and the recordings."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from simulator_support import START_NS, Stage, synthetic

from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.options import default_options

RECORDINGS = Path(__file__).parents[2] / ".." / "shared" / "recordings"


@pytest.fixture
async def stage_of(nursery):
    """Makes stages. The test itself must ask for `autojump_clock`, else the clock is the real one."""

    async def make(*sources, **changes) -> Stage:
        sources = sources or tuple(synthetic(market) for market in Market)
        options = {one.market: attrs.evolve(default_options(one.market), **changes) for one in sources}
        started = trio.current_time()

        def wall_ns() -> int:
            return START_NS + round((trio.current_time() - started) * 1e9)

        exchange = Exchange(sources, options=options, wall_ns=wall_ns, is_logging=True)
        await nursery.start(exchange.run)
        return Stage(exchange, nursery)

    return make


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings."""
    if not RECORDINGS.is_dir():
        pytest.skip("there are no recordings beside the project")
    return RECORDINGS
