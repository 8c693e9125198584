"""Attempts: how often connections are made again, whatever the exchange does, and what it is told meanwhile."""

from itertools import pairwise

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import scripted, trade

from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity

SPOT = Market.SPOT


async def test_flapping(world):
    """A thousand connections that live for one second each: the waits do not start over, the budget holds."""

    async def converse(talk):
        await talk.send(trade("BTCUSDT", len(world.dials), 1))
        await trio.sleep(1)

    world.servers["spot.test"] = scripted(converse)
    async with world.recording(health_check_interval=3000, parquet_rotate_sec=80_000, hours_max=12):
        await world.until(lambda: len(world.dials) >= 1000, every_sec=600)
    waits = [entry["after_sec"] for entry in world.log.events("connection_retry")]
    assert all(wait <= 2**number for number, wait in enumerate(waits))
    assert all(wait <= 60 for wait in waits)
    assert 25 < sum(waits[10:]) / len(waits[10:]) < 35
    assert world.attempts_within(60) <= 60
    assert world.attempts_within(300) <= 300
    report = world.verify_complete()
    assert len(world.log.events("connection_opened")) == report.rows


SYMBOLS = tuple(f"{'币' * 60}{number:04}" for number in range(480))
"""Names as long as they may be: 14 streams fill a URL, so 1,440 streams make 103 connections."""


def _hundred(world):
    async def converse(talk):
        symbol = talk.streams[0].split("@")[0].upper()
        await talk.play(30, lambda number: [trade(symbol, number, 1)])

    world.servers["spot.test"] = scripted(converse)
    kinds = (Kind.TRADE, Kind.AGG_TRADE, Kind.BOOK_TICKER)
    quiet = {"trade_timeout": 1e6, "orderbook_timeout": 1e6, "first_message_sec": 1e6}
    return world.recording(spot_symbols=SYMBOLS, spot_kinds=kinds, parquet_rotate_sec=1e6, **quiet)


async def test_a_hundred_connections_dropped_at_once(world):
    """They come back spread out: never more than 60 attempts a minute and 300 in five, over any window."""
    async with _hundred(world) as recording:
        assert len(recording.live.supervisor.statistics().connections) >= 100
        await trio.sleep(300)
        connections = recording.live.supervisor.statistics()
        assert connections.up == len(connections.connections)
        assert connections.up == world.reset_all()
        dropped_at = trio.current_time()
        await trio.sleep(300)
        assert connections.up == recording.live.supervisor.statistics().up
    back = [at for at, _ in world.dials if at > dropped_at]
    assert connections.up == len(back)
    assert len({round(at, 3) for at in back}) > 95
    assert world.attempts_within(60) <= 60
    assert world.attempts_within(300) <= 300
    assert min(after - before for before, after in pairwise(back)) >= 0.049
    world.verify_complete()


async def test_a_hundred_connections_to_an_exchange_that_stays_away(world):
    """Half an hour of refusals uses no more than the budget, and READY does not wait for it."""
    world.dial_fault = ConnectionRefusedError(111, "refused")
    async with _hundred(world):
        (ready_at,) = world.notified.times("READY=1")
        assert ready_at < 60
        await trio.sleep(1800)
    assert world.attempts_within(60) <= 60
    assert world.attempts_within(300) <= 300
    assert len(world.dials) > 1500


async def test_an_exchange_that_is_down_at_the_start(world):
    """READY after the first attempts, no exit, beats that go on; six hours later it is recorded within a minute."""
    exchange = await world.open_exchange()
    world.dial_fault = ConnectionRefusedError(111, "refused")
    async with world.recording(health_check_interval=600):
        (ready_at,) = world.notified.times("READY=1")
        assert ready_at < 1
        await trio.sleep(6 * 3600)
        beats = world.notified.times("WATCHDOG=1")
        assert max(after - before for before, after in pairwise(beats)) <= 15
        assert beats[-1] >= 6 * 3600 - 15
        world.dial_fault = None
        await exchange.wait_subscribed(SPOT, ["btcusdt@trade"])
        assert trio.current_time() <= 6 * 3600 + 61
        await trio.sleep(30)
    assert {"refused"} == {one["cause"] for one in world.log.events("connection_failed")}
    world.verify_complete()


@pytest.mark.parametrize("how", ["refused", "mute"])
async def test_an_exchange_that_is_silent_for_six_hours(world, how):
    """Maintenance: the process stays up, staleness is told, beats go on, and so does recording once it is over."""
    exchange = await world.open_exchange()
    streams = ["btcusdt@trade", "btcusdt@depth@100ms"]
    async with world.recording(health_check_interval=300):
        await trio.sleep(120)
        if how == "refused":
            world.dial_fault = ConnectionRefusedError(111, "refused")
            exchange.close(SPOT, 1001, "maintenance")
        for stream in streams:
            exchange.mute(SPOT, stream)
        await trio.sleep(6 * 3600)
        # A connection that has just been made is not suspect yet: not every look meets an older one.
        assert 0 in [look["ok"] for look in world.log.events("health")[-6:]]
        beats = world.notified.times("WATCHDOG=1")
        assert max(after - before for before, after in pairwise(beats)) <= 15
        world.dial_fault = None
        for stream in streams:
            exchange.unmute(SPOT, stream)
        back_at, accepted = trio.current_time(), world.counts()["accepted"]
        await world.until(lambda: world.counts()["accepted"] > accepted, every_sec=1)
        assert trio.current_time() <= back_at + 61 + 10
        await trio.sleep(60)
    assert world.attempts_within(300) <= 60
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report) != {}
    assert [] == world.log.events("watchdog_withheld")


@pytest.mark.parametrize(("status", "retry_after"), [(429, 120), (418, 7200), (429, None), (418, None)])
async def test_an_exchange_that_bans_us(world, status, retry_after):
    """Until the ban is over no connection makes an attempt; without a time, we stay away longer than usual."""
    exchange = await world.open_exchange(symbols=SYMBOLS[:20], activity=Activity(0.01, 0.01))
    headers = (("Retry-After", str(retry_after)),) if retry_after else ()
    exchange.refuse_upgrades(SPOT, status, headers, count=1)
    async with world.recording(spot_symbols=SYMBOLS[:20]) as recording:
        assert len(recording.live.supervisor.statistics().connections) >= 3
        await world.log.wait("connection_opened")
        await trio.sleep(60)
        assert recording.live.supervisor.statistics().up == len(recording.live.supervisor.statistics().connections)
    (refused_at,) = world.log.times("connection_failed", cause="status", status=status, level="error")
    next_at = min(at for at, _ in world.dials if at > refused_at)
    least_sec, most_sec = (retry_after, retry_after + 2) if retry_after else (150, 302)
    assert refused_at + least_sec <= next_at <= refused_at + most_sec
    world.verify_complete()


@pytest.mark.parametrize(
    ("status", "least_sec", "level"),
    [(301, 0, "warning"), (403, 150, "error"), (451, 150, "error"), (502, 0, "warning")],
)
async def test_an_upgrade_that_is_refused(world, status, least_sec, level):
    """The firewall and the law are told as errors and left alone for long; a redirect is not followed."""
    exchange = await world.open_exchange()
    exchange.refuse_upgrades(SPOT, status, (("Location", "ws://elsewhere.test/"),), count=1)
    async with world.recording():
        await world.log.wait("connection_opened")
        await trio.sleep(10)
    (refused_at,) = world.log.times("connection_failed", cause="status", status=status, level=level)
    first, second = world.dials
    assert first[1] == second[1] == "spot.test"
    assert refused_at + least_sec <= second[0] <= refused_at + max(1, 2 * least_sec)
    world.verify_complete()


async def test_an_exchange_that_calls_it_a_violation(world):
    """After close code 1008 we stay away longer than after any other end."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(100)
        exchange.close(SPOT, 1008, "policy")
        await trio.sleep(400)
    (lost_at,) = world.log.times("connection_lost", cause="closed", status=1008, level="error")
    assert 150 <= world.dials[1][0] - lost_at <= 300
    world.verify_complete()
