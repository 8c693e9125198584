"""Lines that live but are odd: no pings, little bandwidth, every way to say goodbye, a machine that was asleep."""

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import depth, scripted

from streamsvc.schema import Kind, Market

SPOT = Market.SPOT


async def test_a_server_that_no_longer_pings(world):
    """Data is a sign of life: for an hour nobody hangs up on a server that sends no ping and answers none of ours."""

    async def converse(talk):
        talk.answers_pings = False
        await talk.play(1, lambda number: [depth("BTCUSDT", number, number * 1000)])

    world.servers["spot.test"] = scripted(converse)
    kinds = {"spot_kinds": (Kind.DEPTH,), "latency_warn_ms": 10**13}
    async with world.recording(**kinds, health_check_interval=600, parquet_rotate_sec=3600):
        await trio.sleep(3600)
    assert [] == world.log.events("connection_lost")
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert [] == report.gaps
    assert report.rows > 3600 - 10


async def test_a_line_of_100_kbit(world):
    """What comes late is told as late, at a bounded rate, and recorded; what waits lies with the exchange, not here."""

    async def converse(talk):
        # Ten updates a second, of which the line takes one.
        begun_ms = world.wall_ns() // 1_000_000
        for number in range(1, 1300):
            await talk.send(depth("BTCUSDT", number, begun_ms + number * 100, padding_bytes=12_300))
            await trio.sleep(12_500 / (100_000 / 8))
        await trio.sleep_forever()

    world.servers["spot.test"] = scripted(converse)
    async with world.recording(spot_kinds=(Kind.DEPTH,), health_check_interval=25) as recording:
        highest = 0
        for _ in range(1300):
            await trio.sleep(1)
            highest = max(highest, recording.live.channel().used_bytes)
    assert 1 == len(world.dials)
    late = [event["latency_ms"] for event in world.log.events("stream_late")]
    assert 3 == len(late)
    assert sorted(late) == late
    assert late[-1] > 1_000_000
    assert highest < 20_000
    report = world.verify_complete()
    assert [] == report.gaps


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 1013])
async def test_every_way_to_say_goodbye(world, code):
    """The code is told; only a violation is an error and keeps us away for long; what lacks is what was withheld."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(60)
        exchange.close(SPOT, code, "goodbye")
        await world.log.wait("connection_opened", attempt=2)
        await trio.sleep(60)
    (lost,) = world.log.events("connection_lost")
    assert ("closed", code) == (lost["cause"], lost["status"])
    assert ("error" if code == 1008 else "warning") == lost["level"]
    (retry,) = world.log.events("connection_retry")
    assert (retry["after_sec"] >= 150) == (code == 1008)
    assert code == 1008 or retry["after_sec"] <= 1
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report)


async def test_a_machine_that_was_asleep_for_two_hours(world):
    """All connections are dead and the wall clock has moved on: each is found once, and made again once."""
    exchange = await world.open_exchange()
    async with world.recording(health_check_interval=25) as recording:
        await trio.sleep(100)
        # Suspended: the monotonic clock stands still, the exchange's end has long gone, the line says nothing.
        exchange.freeze(SPOT)
        world.wall_step_ns += 7200 * 10**9
        await world.log.wait("connection_opened", attempt=2)
        await trio.sleep(200)
        assert recording.live.watch.statistics().ok == 2
    assert 1 == len(world.log.events("connection_lost"))
    assert [] == world.log.events("stream_stalled")
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report) != {}


async def test_a_clock_of_waits_that_jumps_two_hours(world):
    """A virtual machine that is resumed: every deadline is over at once, and a few steps later all is as before."""
    await world.open_exchange()
    async with world.recording(health_check_interval=25) as recording:
        await trio.sleep(100)
        trio.lowlevel.current_clock().jump(7200)
        await trio.sleep(300)
        assert recording.live.watch.statistics().ok == 2
        beats = world.notified.times("WATCHDOG=1")
        assert [] == world.log.events("watchdog_withheld")
        assert trio.current_time() - beats[-1] <= 11
    assert len(world.dials) <= 2
    assert len(world.log.events("stream_stalled")) <= 2
    rotations = [event["seconds"] for event in world.log.events("rotated")]
    assert 1 >= sum(seconds > 61 for seconds in rotations)
    assert {} != lacking(world.verify_complete())
