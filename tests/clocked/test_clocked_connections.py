"""Connections that fall silent, break, or never come to be: found, left closed, made again, and never too often."""

import random

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import scripted, trade

from streamsvc.schema import Kind, Market
from streamsvc.simulator.frames import close_frame
from streamsvc.simulator.market import Activity
from streamsvc.simulator.serve import make_tls

SPOT = Market.SPOT


async def test_a_connection_that_brings_nothing_while_it_answers_pings(world):
    """It is dropped as idle after STREAM_IDLE_SEC, and what lacks is what the exchange withheld meanwhile."""
    exchange = await world.open_exchange()
    async with world.recording(stream_idle_sec=40):
        await trio.sleep(30)
        for stream in ("btcusdt@trade", "btcusdt@depth@100ms"):
            exchange.mute(SPOT, stream)
        await world.log.wait("connection_lost")
        for stream in ("btcusdt@trade", "btcusdt@depth@100ms"):
            exchange.unmute(SPOT, stream)
        await trio.sleep(60)
    (lost,) = world.log.events("connection_lost")
    assert ("idle", 2) == (lost["cause"], len(world.dials))
    (lost_at,) = world.log.times("connection_lost")
    assert 70 >= lost_at > 60
    report = world.verify_complete()
    assert {"trade", "depth"} == {kind for _, _, kind in lacking(report)}
    assert withheld(exchange, report) == lacking(report)


async def test_liquidations_alone_may_be_silent_for_a_day(world):
    """forceOrder is sampled, so its silence is neither an idle connection nor a stall."""
    await world.open_exchange(markets=(Market.FUTURES,), activity=Activity(0.01, 0.01))
    wanted = {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": (Kind.FORCE_ORDER,)}
    quiet = {"health_check_interval": 900, "ping_interval_sec": 120, "max_connection_age_sec": 604800}
    async with world.recording(**wanted, **quiet, hours_max=24):
        await trio.sleep(86_000)
    assert 1 == len(world.dials)
    assert [] == world.log.events("connection_lost")
    assert [] == world.log.events("stream_stalled") + world.log.events("stream_suspect")


async def test_a_half_open_connection(world):
    """Not a byte and no FIN: our own ping finds it long before the idle timeout, and the gap is what was withheld."""
    exchange = await world.open_exchange()
    async with world.recording(stream_idle_sec=3600):
        await trio.sleep(65)
        exchange.freeze(SPOT)
        frozen_at = trio.current_time()
        await world.log.wait("connection_opened", attempt=2)
        await trio.sleep(30)
    (lost,) = world.log.events("connection_lost")
    (lost_at,) = world.log.times("connection_lost")
    assert "ping" == lost["cause"]
    assert lost_at <= frozen_at + 20 + 10 + 1
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report) != {}


async def test_without_pings_a_half_open_connection_is_idle(world):
    """PING_INTERVAL_SEC 0 leaves STREAM_IDLE_SEC to find it."""
    exchange = await world.open_exchange()
    async with world.recording(ping_interval_sec=0, stream_idle_sec=120):
        await trio.sleep(10)
        exchange.freeze(SPOT)
        await world.log.wait("connection_opened", attempt=2)
        await trio.sleep(10)
    assert ["idle"] == [lost["cause"] for lost in world.log.events("connection_lost")]
    world.verify_complete()


@pytest.mark.parametrize("unread_bytes", [None, 0, 1, 7, 50])
async def test_a_reset_in_the_middle_of_a_frame(world, unread_bytes):
    """A partial message is discarded, what came whole is kept, and another connection is made."""
    held = trio.Event()

    async def converse(talk):
        if len(world.dials) == 1:
            await talk.send(*(trade("BTCUSDT", number, 1) for number in range(1, 4)))
            held.set()
            await trio.sleep_forever()
        await talk.send(trade("BTCUSDT", 4, 1))
        await trio.sleep_forever()

    world.servers["spot.test"] = scripted(converse)
    async with world.recording(read_tick_ms=1000):
        await held.wait()
        assert 1 == world.reset_all(unread_bytes)
        await world.log.wait("connection_opened", attempt=2)
        await trio.sleep(5)
    assert ["reset"] == [lost["cause"] for lost in world.log.events("connection_lost")]
    report = world.verify_complete()
    assert 4 == report.coverage[0].last_id


async def test_a_fin_without_a_close_frame(world):
    """It is an end like any other: everything before it is kept, and the connection is made again."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(60)
        assert 1 == exchange.cut(SPOT, "fin")
        await trio.sleep(60)
    assert ["eof"] == [lost["cause"] for lost in world.log.events("connection_lost")]
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report)


@pytest.mark.parametrize("is_before_opening", [False, True])
async def test_a_close_frame_without_a_fin(world, is_before_opening):
    """A peer that says goodbye and then neither listens nor hangs up is left within CLOSE_TIMEOUT_SEC."""

    async def converse(talk):
        talk.answers_close = talk.answers_pings = False
        if not is_before_opening:
            await talk.send(trade("BTCUSDT", len(world.dials), 1))
            await trio.sleep(5)
        await talk.send_bytes(close_frame(1001, "going away"))
        await trio.sleep_forever()

    world.servers["spot.test"] = scripted(converse)
    async with world.recording(reconnect_max_sec=2):
        await trio.sleep(60)
    lost = world.log.events("connection_lost")
    assert len(lost) >= 4
    assert {("closed", 1001)} == {(one["cause"], one["status"]) for one in lost}
    lived = zip(world.log.times("connection_opened"), world.log.times("connection_lost"), strict=False)
    assert all(lost_at - opened_at <= 5 + 2 + 2 for opened_at, lost_at in lived)
    world.verify_complete()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_handshake_that_stalls(world, scheme):
    """CONNECT_TIMEOUT_SEC bounds dialling, TLS and the upgrade together; the socket is closed, the next try works."""
    exchange = await world.open_exchange()
    exchange.stall_handshakes(SPOT)
    async with world.recording(binance_spot_ws_url=f"{scheme}://spot.test", reconnect_max_sec=1):
        assert [20.0] == world.log.times("connection_failed", cause="timeout")
        assert world.wires[0][1].is_closed
        await trio.sleep(100)
        assert 4 <= len(world.dials) <= 6
        exchange.lift(SPOT)
        if scheme == "ws":
            await world.log.wait("connection_opened")
            await trio.sleep(10)
    world.verify_complete()


async def test_a_handshake_that_drips_in_byte_by_byte(world):
    """Progress does not extend CONNECT_TIMEOUT_SEC."""
    exchange = await world.open_exchange()
    exchange.stall_handshakes(SPOT, drip_sec=1.0)
    async with world.recording(reconnect_max_sec=1):
        assert [20.0] == world.log.times("connection_failed", cause="timeout")
        assert world.wires[0][1].is_closed
        exchange.lift(SPOT)
        await world.log.wait("connection_opened")
        await trio.sleep(10)
    world.verify_complete()


async def test_a_dial_that_hangs(world):
    """A blackholed address costs CONNECT_TIMEOUT_SEC an attempt, READY is told, and nothing piles up."""
    world.is_blackholed = True
    async with world.recording():
        assert [20.0] == world.log.times("connection_failed", cause="timeout")
        assert [20.0] == world.notified.times("READY=1")
        await trio.sleep(3600)
    assert 60 <= len(world.dials) <= 120
    assert [] == world.log.events("connection_opened")


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls(world, data_folder, is_trusted):
    """What a trusted exchange says is recorded, also right before a cut; from another not a byte is taken."""
    ca_file = data_folder.with_name("authority.pem")
    exchange = await world.open_exchange(tls=make_tls(ca_file, "spot.test"), activity=Activity(5, 5))
    if is_trusted:
        world.ssl_context.load_verify_locations(ca_file)
    async with world.recording(binance_spot_ws_url="wss://spot.test"):
        await trio.sleep(60)
        exchange.cut(SPOT, "fin")
        await trio.sleep(60)
    report = world.verify()
    if is_trusted:
        assert ["eof"] == [one["cause"] for one in world.log.events("connection_lost")]
        assert withheld(exchange, report) == lacking(report)
        assert report.rows > 500
        assert [stream.last_id for stream in report.coverage if stream.kind == "trade"] == [
            record.last_id for record in exchange.ledger.records.values() if record.kind == "trade"
        ]
    else:
        assert 0 == report.rows == sum(len(record.sent) for record in exchange.ledger.records.values())
        assert [] != world.log.events("connection_failed", cause="tls", level="error")
        waits = [retry["after_sec"] for retry in world.log.events("connection_retry")]
        assert min(waits) >= 30


async def test_pings_without_end(world):
    """Ten thousand pings at once: we answer within what the exchange takes from us, and go on recording."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(10)
        exchange.ping_flood(SPOT, 10_000)
        await trio.sleep(60)
    assert [] == world.log.events("connection_lost")
    world.verify_complete()


async def test_a_day_of_chance(world):
    """Whatever mixture of cuts, resets, freezes and goodbyes comes: what lacks is what was withheld."""
    rng = random.Random(5)
    exchange = await world.open_exchange()
    async with world.recording(reconnect_max_sec=4, health_check_interval=100):
        for _ in range(40):
            await trio.sleep(rng.uniform(5, 40))
            rng.choice(
                [
                    lambda: exchange.cut(SPOT, "fin"),
                    lambda: exchange.close(SPOT, rng.choice([1000, 1001, 1012, 1013])),
                    lambda: exchange.freeze(SPOT),
                    lambda: exchange.ping_flood(SPOT, 50),
                    lambda: exchange.fragment(SPOT, "btcusdt@trade", 5),
                ]
            )()
        exchange.thaw(SPOT)
        await trio.sleep(40)
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report) != {}
