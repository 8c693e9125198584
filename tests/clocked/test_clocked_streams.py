"""Streams that stall, stay silent or bring what cannot be read, while their connection lives."""

from collections import Counter

import pytest
import trio
from clocked_books import lacking, withheld
from clocked_script import most_within, scripted, trade

from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity

SPOT, FUTURES = Market.SPOT, Market.FUTURES
TRADES = {"market": "spot", "symbol": "BTCUSDT", "kind": "trade"}


async def test_trades_that_stall_while_the_book_flows_and_come_back_after_a_resubscription(world):
    """The stall is told with its age, the stream is subscribed again on the same connection, and it recovers."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(60)
        exchange.mute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_resubscribed")
        exchange.unmute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_recovered")
        await trio.sleep(30)
    (stalled,), (stalled_at,) = world.log.events("stream_stalled"), world.log.times("stream_stalled")
    assert TRADES == {name: stalled[name] for name in TRADES}
    assert 150 <= stalled["age_sec"] <= 150 + 25
    assert 60 + 150 - 10 <= stalled_at <= 60 + 150 + 25
    assert ["resubscribe"] == [repair["step"] for repair in world.log.events("stream_repair", **TRADES)]
    assert 1 == len(world.log.events("stream_recovered", **TRADES))
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert {("spot", "BTCUSDT", "trade")} == set(lacking(report))
    assert withheld(exchange, report) == lacking(report)


async def test_trades_that_stall_until_their_connection_is_replaced(world):
    """A resubscription that changed nothing is followed, a timeout later, by another connection."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(60)
        exchange.mute(SPOT, "btcusdt@trade")
        await world.log.wait("connection_lost", cause="repair")
        replaced_at = trio.current_time()
        exchange.unmute(SPOT, "btcusdt@trade")
        await world.log.wait("connection_opened", attempt=2)
        assert trio.current_time() - replaced_at <= 1.5
        await world.log.wait("stream_recovered", **TRADES)
        await trio.sleep(30)
    assert ["resubscribe", "replace"] == [repair["step"] for repair in world.log.events("stream_repair")]
    first_at, second_at = world.log.times("stream_repair")
    assert 150 <= second_at - first_at <= 150 + 25
    assert 1 == len(world.log.events("stream_stalled"))
    report = world.verify_complete()
    assert {("spot", "BTCUSDT", "trade"), ("spot", "BTCUSDT", "depth")} >= set(lacking(report))
    assert withheld(exchange, report) == lacking(report)


async def test_a_replacement_costs_its_neighbours_no_more_than_a_reconnect(world):
    """The old connection is left at once: its close needs no timeout where the exchange answers."""
    exchange = await world.open_exchange()
    async with world.recording():
        exchange.mute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_repair", step="replace")
        asked_at = trio.current_time()
        await world.log.wait("connection_lost", cause="repair")
        assert trio.current_time() - asked_at <= 0.1


@pytest.mark.parametrize("how", ["error", "silent", "wrong_id"])
async def test_an_answer_to_a_subscription_that_does_not_come(world, how):
    """An error, silence and a wrong id are told, and asked again, within the messages that the exchange takes."""
    exchange = await world.open_exchange()
    async with world.recording():
        exchange.mute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_repair")
        exchange.fail_replies(SPOT, how, count=2)
        await world.log.wait("stream_resubscribed")
        exchange.unmute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_recovered")
    assert 2 == len(world.log.events("subscribe_failed", streams=["btcusdt@trade"]))
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert withheld(exchange, report) == lacking(report)


async def test_three_hundred_quiet_symbols(world):
    """Three hours of symbols that trade every ten minutes: repairs become rarer, and are no storm at any time."""
    symbols = tuple(f"Q{number:03}USDT" for number in range(300))
    talks = []

    async def converse(talk):
        talks.append(talk)
        await talk.play(2, lambda number: [trade(symbols[number % 300], number // 300, number * 2000)])

    world.servers["spot.test"] = scripted(converse)
    hours = 3
    async with world.recording(spot_symbols=symbols, spot_kinds=(Kind.TRADE,), parquet_rotate_sec=80_000):
        await trio.sleep(hours * 3600)
    repairs = world.log.events("stream_repair")
    # Doubling waits from 150 s fit five times into three hours; a replacement counts for all of its connection.
    assert 1 <= max(Counter(repair["symbol"] for repair in repairs).values()) <= 7
    assert 300 <= len(world.log.events("stream_stalled"))
    by_hour = Counter(int(at // 3600) for at in world.log.times("stream_repair"))
    assert by_hour[hours - 1] < by_hour[0] / 3
    replaced = world.log.events("connection_lost", cause="repair")
    assert len(replaced) <= 5
    assert 1 + len(replaced) == len(world.dials) == len(talks)
    assert max(most_within(talk.heard_at, 1.0) for talk in talks) <= 5
    world.verify_complete()


async def test_a_quiet_futures_symbol_on_the_right_route(world):
    """A route that has delivered is not left for silence: a symbol that trades now and then loses nothing."""

    async def converse(talk):
        if talk.path != "/public/stream":
            await trio.sleep_forever()
        await talk.play(100, lambda number: [trade("BTCUSDT", number, number * 100_000)])

    world.servers["futures.test"] = scripted(converse)
    wanted = {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": (Kind.TRADE,)}
    async with world.recording(**wanted):
        await trio.sleep(3650)
        assert world.counts()["accepted"]
        world.reset_all()
        await trio.sleep(3600)
    report = world.verify_complete()
    assert {} == lacking(report)


async def test_futures_trades_on_a_wrong_route_that_may_be_left(world):
    """With `auto`, silence on one route is told and leads to the other one, where everything is recorded."""
    exchange = await world.open_exchange(markets=(FUTURES,), trade_route="market")
    wanted = {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": (Kind.TRADE, Kind.DEPTH)}
    async with world.recording(**wanted):
        await exchange.wait_subscribed(FUTURES, ["btcusdt@trade"])
        assert trio.current_time() <= 60 + 5
        await trio.sleep(60)
    (changed,) = world.log.events("route_changed")
    assert ("futures-trade-1", "public", "market") == tuple(
        changed[name] for name in ("connection", "from_route", "to_route")
    )
    report = world.verify_complete()
    assert {"trade", "depth"} == {stream.kind for stream in report.coverage}
    assert {} == lacking(report)


@pytest.mark.parametrize("route", ["auto", "public"])
async def test_a_wrong_route_is_told_with_its_stream(world, route):
    """A stream without its first message is suspect: market, symbol, kind and route stand in the log."""
    await world.open_exchange(markets=(FUTURES,), trade_route="market")
    wanted = {"spot_symbols": (), "futures_symbols": ("BTCUSDT",), "futures_kinds": (Kind.TRADE,)}
    async with world.recording(**wanted, futures_trade_route=route, health_check_interval=10):
        await trio.sleep(119)
    suspect, *_ = world.log.events("stream_suspect")
    expected = {"market": "futures", "symbol": "BTCUSDT", "kind": "trade", "route": "public"}
    assert expected == {name: suspect[name] for name in expected}
    (suspect_at, *_) = world.log.times("stream_suspect")
    assert 60 <= suspect_at <= 60 + 10


async def test_a_stream_that_never_spoke_on_a_connection_that_flows(world):
    """It is suspect after FIRST_MESSAGE_SEC and stalled after its timeout; the connection is not idle."""
    exchange = await world.open_exchange()
    async with world.recording():
        exchange.mute(SPOT, "btcusdt@trade")
        await trio.sleep(200)
    assert 1 == len(world.log.events("stream_suspect", **TRADES))
    (suspect_at,), (stalled_at,) = world.log.times("stream_suspect"), world.log.times("stream_stalled")
    assert 60 <= suspect_at <= 85
    assert 150 <= stalled_at <= 175
    assert 1 == len(world.dials)


async def test_the_exchange_says_that_it_will_go(world):
    """`serverShutdown` is told and is no market data; another connection takes over before the close."""
    exchange = await world.open_exchange()
    async with world.recording():
        await trio.sleep(120)
        exchange.shut_down(SPOT, 10)
        await trio.sleep(60)
    assert [120] == [round(at) for at in world.log.times("server_shutdown")]
    assert [] == world.log.events("connection_lost")
    assert 120 <= world.log.times("connection_opened")[-1] <= world.log.times("connection_renewed")[0] <= 130
    assert 1 == world.counts()["notices"]
    assert [] == world.quarantined()
    report = world.verify()
    assert ([], {}, {}) == (report.errors, withheld(exchange, report), lacking(report))


async def test_traffic_that_becomes_extreme_and_calm_again(world):
    """The rotation becomes short while one symbol is busy, and long again below 60 % of the threshold."""

    async def converse(talk):
        count = 0

        def make(number):
            nonlocal count
            first = count
            count += 100 if 60 <= number < 180 else 1
            return [trade("BTCUSDT", trade_id, number * 1000) for trade_id in range(first, count)]

        await talk.play(1, make)

    world.servers["spot.test"] = scripted(converse)
    async with world.recording(
        extreme_traffic_threshold=1000, extreme_rotate_sec=10, parquet_rotate_sec=60, latency_warn_ms=10**13
    ) as recording:
        await trio.sleep(100)
        assert "extreme" == recording.live.persistence.state.mode
        await trio.sleep(200)
        assert "normal" == recording.live.persistence.state.mode
    (entered,) = world.log.events("extreme_traffic_entered")
    assert ("spot", "BTCUSDT") == (entered["market"], entered["symbol"])
    assert 1 == len(world.log.events("extreme_traffic_left"))
    (entered_at,), (left_at,) = world.log.times("extreme_traffic_entered"), world.log.times("extreme_traffic_left")
    assert 60 < entered_at <= 75
    assert 180 < left_at <= 205
    short = world.log.events("rotated", mode="extreme")
    assert 10 <= len(short) <= 14
    assert all(event["seconds"] < 11.1 for event in short)
    assert all(event["seconds"] > 55 for event in world.log.events("rotated", mode="normal")[1:-1])
    report = world.verify_complete()
    assert 0 == len(report.gaps)


async def test_all_kinds_of_both_markets(world):
    """Every kind that the exchange streams is recorded beside the others, and no id lacks."""
    exchange = await world.open_exchange(markets=(SPOT, FUTURES), activity=Activity(2, 1))
    kinds = (Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.BOOK_TICKER, Kind.KLINE_1M)
    more = (Kind.MARK_PRICE, Kind.FORCE_ORDER)
    wanted = {"futures_symbols": ("BTCUSDT",), "spot_kinds": kinds, "futures_kinds": kinds + more}
    async with world.recording(**wanted):
        await trio.sleep(200)
    report = world.verify()
    assert [] == world.leftovers()
    expected = {("spot", kind.label) for kind in kinds} | {("futures", kind.label) for kind in kinds + more}
    assert expected == {(stream.market, stream.kind) for stream in report.coverage}
    assert {} == lacking(report) == withheld(exchange, report)
