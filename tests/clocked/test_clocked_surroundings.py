"""What lies around the recording and must not harm it: REST, the wall clock, systemd."""

import pytest
import trio
from clocked_books import lacking
from clocked_world import WATCHDOG_SEC

from streamsvc.rest import RestLimitedError, RestUnavailableError
from streamsvc.simulator.market import Activity

YEAR_SEC = 365 * 86_400


@pytest.mark.parametrize(
    "fault", [RestUnavailableError("no answer"), RestLimitedError(is_ban=True, retry_after_sec=1200.0)]
)
async def test_rest_that_is_down(world, fault):
    """It is an alarm, asked again more and more rarely; recording does not notice."""
    world.has_rest = True
    await world.open_exchange(activity=Activity(0.1, 0.1))
    world.rest_fault = fault
    async with world.recording():
        await trio.sleep(600)
        down, banned = (world.log.times(name, market="spot") for name in ("rest_unavailable", "rest_banned"))
        asked = sorted(down + banned)
        world.rest_fault = None
        await world.log.wait("symbols_checked")
    assert asked[0] < 1
    assert (1 if isinstance(fault, RestLimitedError) else 5) <= len(asked) <= 9
    (checked_at,) = world.log.times("symbols_checked")
    assert checked_at >= 1200 or not isinstance(fault, RestLimitedError)
    world.verify_complete()


async def test_a_symbol_that_nobody_knows(world):
    """The log names it once, nobody waits for its messages, and the others are recorded."""
    world.has_rest = True
    await world.open_exchange()
    async with world.recording(spot_symbols=("BTCUSDT", "TYPOUSDT")):
        await trio.sleep(100)
    assert [["TYPOUSDT"]] == [event["symbols"] for event in world.log.events("symbol_unknown", market="spot")]
    assert [("TYPOUSDT", "absent")] == [(one["symbol"], one["status"]) for one in world.log.events("symbol_delisted")]
    assert [] == world.log.events("stream_suspect")
    assert {} == lacking(world.verify_complete())


@pytest.mark.parametrize("step_sec", [-3600, 3600, 12 * YEAR_SEC, -30 * YEAR_SEC])
async def test_a_wall_clock_that_steps(world, step_sec):
    """Waits, rotation and stalls go by another clock; names and days come from elsewhere: nothing is lost, or twice."""
    await world.open_exchange()
    async with world.recording():
        for _ in range(3):
            await trio.sleep(100)
            world.wall_step_ns += step_sec * 1_000_000_000
            await trio.sleep(100)
            world.wall_step_ns -= step_sec * 1_000_000_000
    assert 1 == len(world.dials)
    assert [] == world.log.events("stream_stalled") + world.log.events("stream_suspect")
    rotations = [event["seconds"] for event in world.log.events("rotated")]
    assert 10 <= len(rotations) <= 11
    assert all(59 < seconds < 61 for seconds in rotations[:-1])
    assert {} == lacking(world.verify_complete())


async def test_what_systemd_hears(world):
    """READY once and first, a status line every now and then, beats within a third of its patience, STOPPING last."""
    await world.open_exchange()
    async with world.recording(health_check_interval=30):
        await trio.sleep(290)
    assert 1 == len(world.notified.times("READY=1"))
    assert [290] == [round(at) for at in world.notified.times("STOPPING=1")]
    assert 10 == len(world.notified.times("STATUS="))
    assert 290 // (WATCHDOG_SEC // 3) + 1 == len(world.notified.times("WATCHDOG=1"))
    assert world.notified.events("STATUS=")[-1].startswith("STATUS=recording")
