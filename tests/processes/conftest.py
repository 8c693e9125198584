"""Real processes against the simulated exchange, which is served in the test's own loop on loopback."""

from __future__ import annotations

import subprocess
import time
from functools import partial

import attrs
import pytest
from notify_socket import Manager
from recorder_process import COMMAND, QUICK, RecorderProcess

from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.options import default_options
from streamsvc.simulator.serve import Addresses, serve
from streamsvc.simulator.sources import SyntheticSource
from streamsvc.streams.attempts import shared_path

SYMBOLS = {"BTCUSDT": Activity(30, 60), "ETHUSDT": Activity(15, 20)}
NAMES = ",".join(SYMBOLS)
RECORDED = {
    "SPOT_SYMBOLS": NAMES,
    "FUTURES_SYMBOLS": NAMES,
    "SPOT_KINDS": "trade,aggTrade,depth,bookTicker",
    "FUTURES_KINDS": "trade,depth,bookTicker",
}


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=50, help="SIGKILLs at random moments (tests/processes)")
    parser.addoption("--kills-seed", type=int, default=None, help="the seed of a run that failed (tests/processes)")
    parser.addoption("--recorded-minute", action="store_true", help="a minute at its own pace (tests/processes)")
    parser.addoption("--system-calls", type=int, default=0, help="have each of the first N fail (tests/processes)")


@attrs.define
class Stage:
    """An exchange on real sockets, and where it is."""

    exchange: Exchange
    addresses: Addresses

    def sent(self) -> dict[tuple[str, str, str], int]:
        """The last id that was sent of every stream: market, symbol, kind."""
        return {
            (record.market.label, record.symbol, record.kind): record.last_id
            for record in self.exchange.ledger.records.values()
            if record.last_id
        }


@pytest.fixture
async def stage_of(nursery):
    """Makes exchanges of both markets."""
    stages = []

    async def make(*, tls=None, symbols=SYMBOLS, sources=None, **rules) -> Stage:
        start_us = time.time_ns() // 1000
        if sources is None:
            sources = [SyntheticSource(market, symbols, start_us=start_us, seed=market) for market in Market]
        options = {market: attrs.evolve(default_options(market), **rules) for market in Market}
        exchange = Exchange(sources, options=options)
        stage = Stage(exchange, await nursery.start(partial(serve, exchange, tls=tls)))
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        for name, url in stage.addresses.settings.items():
            if name.endswith("WS_URL"):
                shared_path(url).unlink(missing_ok=True)


@pytest.fixture
async def stage(stage_of):
    """One exchange with everything as it should be."""
    return await stage_of()


@pytest.fixture
def start(tmp_path):
    """Starts recorders, and ends them with all their workers when the test is over."""
    started = []

    def begin(stage=None, *, command=COMMAND, stdout=None, place=tmp_path, **settings) -> RecorderProcess:
        place.mkdir(exist_ok=True)
        addresses = stage.addresses.settings if stage is not None else {}
        wanted = RECORDED | QUICK | addresses | {"DATA_DIR": str(place / "data")} | settings
        recorder = RecorderProcess(place, wanted, command, stdout)
        started.append(recorder)
        return recorder

    yield begin
    for recorder in started:
        recorder.end()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def manager(tmp_path):
    """Who hears what recorders tell systemd."""
    made = Manager(tmp_path / "notify")
    yield made
    made.close()
