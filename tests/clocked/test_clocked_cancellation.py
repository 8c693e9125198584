"""An end that comes at the k-th step of any task, for many k: no leak, and nothing that was accepted is lost."""

import os
from functools import partial

import pytest
import trio
from clocked_script import scripted, trade
from clocked_world import World

from streamsvc.schema import Kind
from streamsvc.service import run
from streamsvc.shutdown import Shutdown

RUN_SEC = 0.3
PLACES = int(os.environ.get("CLOCKED_PLACES", "24"))
"""How many steps are tried, spread over a run; with more than a run has, every one is."""


class AtStep(trio.abc.Instrument):
    """Does something once, before the k-th step of any task from now on."""

    def __init__(self, step, act):
        self.steps = 0
        self._step = step
        self._act = act

    def before_task_step(self, task):  # noqa: ARG002 - whichever
        self.steps += 1
        if self.steps == self._step:
            self._act()

    def __enter__(self):
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_exc):
        trio.lowlevel.remove_instrument(self)


@pytest.fixture
def worlds(world, nursery, data_folder):
    """Makes worlds with folders of their own, where two connections bring two hundred messages a second each."""

    async def converse(talk):
        symbol = talk.streams[0].split("@")[0].upper()
        await talk.play(0.005, lambda number: [trade(symbol, number, number * 5)])

    def make(name):
        made = World(nursery, data_folder.with_name(f"data-{name}"), world.log)
        made.servers["spot.test"] = made.servers["futures.test"] = scripted(converse)
        return made

    return make


SETTINGS = {
    "spot_kinds": (Kind.TRADE,),
    "futures_symbols": ("ETHUSDT",),
    "futures_kinds": (Kind.TRADE,),
    "parquet_rotate_sec": 0.1,
    "journal_sync_sec": 0.03,
    "health_check_interval": 0.05,
    "ping_interval_sec": 0.07,
    "orderbook_timeout": 1e6,
}


def spread(total):
    """Steps of a run that has so many."""
    return range(1, total + 1, max(1, total // PLACES))


class Started:
    """Keeps what the service gives when it is ready; it may end before."""

    def __init__(self, lives):
        self._lives = lives

    def started(self, live):
        self._lives.append(live)


async def run_until(world, step, how):
    """Run the service, and have it end at a step, or after a while; returns how many steps it took."""
    shutdown, scope = Shutdown(), trio.CancelScope()

    def act():
        if how == "cancel":
            scope.cancel()
        elif how == "request":
            shutdown.request("step")
        else:
            for live in world.lives:
                for slot in live.health.slots():
                    live.supervisor.replace(slot.stream)

    with AtStep(step, act) as steps, scope:
        async with trio.open_nursery() as nursery:
            around = world.surroundings()
            start = partial(
                run, world.settings(**SETTINGS), around, shutdown=shutdown, task_status=Started(world.lives)
            )
            nursery.start_soon(start)
            await trio.sleep(RUN_SEC)
            if how == "cancel":
                scope.cancel()
            shutdown.request("test")
    return steps.steps


async def check(world):
    """What holds however a run ended: nothing is open, the next run makes the data set whole, but for what was shed."""
    assert [] == [host for host, end in world.wires if not end.is_closed]
    world.sealers.takes_sec = 0.0
    await world.recover()
    world.verify()
    assert [] == world.leftovers()
    expected, stored = world.expected_rows(), world.stored_rows()
    assert not stored - expected
    return sum((expected - stored).values())


@pytest.mark.parametrize("how", ["request", "cancel", "replace"])
async def test_an_end_at_any_step(worlds, how):
    """Whatever is under way: no stream or file stays open, and what was read from a connection is in the data set."""
    total = await run_until(worlds("whole"), 0, how)
    assert total > 500
    lost = {}
    for step in spread(total):
        world = worlds(f"{how}-{step}")
        await run_until(world, step, how)
        lost[step] = await check(world)
    assert {} == {step: count for step, count in lost.items() if count}


async def test_an_end_at_any_step_of_a_recovery(worlds):
    """A run that ends while it seals what an earlier one left: the one after it finds everything, once."""

    async def recover_until(step):
        world = worlds(f"recovery-{step}")
        world.sealers.takes_sec = 1e6
        await run_until(world, 0, "request")
        assert len(world.leftovers()) >= 2
        world.sealers.takes_sec = 0.0
        world.dial_fault = ConnectionRefusedError(111, "refused")
        steps = await run_until(world, step, "cancel")
        await check(world)
        assert world.lives[0].intake.counts.accepted == sum(world.stored_rows().values())
        return steps

    total = await recover_until(0)
    assert total > 50
    for step in spread(total):
        await recover_until(step)
