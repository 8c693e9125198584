"""Symbols that the exchange lists and delists while the service runs, and patterns that mean them."""

import trio
from clocked_books import lacking, withheld

from streamsvc.rest import RestUnavailableError
from streamsvc.schema import Market
from streamsvc.simulator.market import Activity

SPOT = Market.SPOT
LIVELY = Activity(0.5, 0.5)
HOURLY = {"instruments_interval_sec": 3600.0}


def recorded(recording):
    return {stream.symbol for stream in recording.live.health.streams()}


async def test_a_pattern_means_what_is_traded(world):
    """Plain names are recorded at once; those that fit join when the exchange has told its list, and no others do."""
    world.has_rest = True
    await world.open_exchange(symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT", "BTCEUR", "ETHEUR"), activity=LIVELY)
    async with world.recording(spot_symbols=("BTCEUR", "*USDT")) as recording:
        assert {"BTCEUR"} == recorded(recording)
        await trio.sleep(60)
        assert {"BTCEUR", "BTCUSDT", "ETHUSDT", "BNBUSDT"} == recorded(recording)
        (connection,) = world.exchange.connections(SPOT)
        assert 8 == len(connection.streams)
        assert 8 == recording.live.watch.statistics().ok
    assert ["exchangeInfo"] == [event["source"] for event in world.log.events("symbols_changed")]
    assert 0 == world.verify_complete().exit_code


async def test_a_listing_and_a_delisting(world):
    """Within the hour the new symbol joins; the old one ends without an alarm, and is back when it is traded."""
    world.has_rest = True
    exchange = await world.open_exchange(symbols=("BTCUSDT", "ETHUSDT", "LUNAUSDT"), activity=LIVELY)
    wanted = {"spot_symbols": ("LUNAUSDT", "*USDT"), "max_connection_age_sec": 604_800}
    async with world.recording(**wanted, **HOURLY, health_check_interval=300, parquet_rotate_sec=3600) as recording:
        await trio.sleep(1000)
        exchange.list_symbol(SPOT, "NEWUSDT", trades_per_sec=0.5, quotes_per_sec=0.5)
        exchange.delist_symbol(SPOT, "LUNAUSDT")
        await trio.sleep(3600)
        assert {"BTCUSDT", "ETHUSDT", "NEWUSDT"} == recorded(recording)
        (connection,) = exchange.connections(SPOT)
        assert not [name for name in connection.streams if "luna" in name]
        exchange.list_symbol(SPOT, "LUNAUSDT")
        await trio.sleep(3700)
        assert {"BTCUSDT", "ETHUSDT", "NEWUSDT", "LUNAUSDT"} == recorded(recording)
    (delisted,) = world.log.events("symbol_delisted")
    assert ("LUNAUSDT", "BREAK") == (delisted["symbol"], delisted["status"])
    assert [] == world.log.events("stream_stalled")
    assert [] == world.log.events("stream_repair")
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert 0 == report.exit_code
    assert withheld(exchange, report) == lacking(report)


async def test_a_listing_while_rest_is_down(world):
    """It is an alarm, and what is known is recorded; what patterns meant last is known over a restart."""
    world.has_rest = True
    await world.open_exchange(symbols=("BTCUSDT", "ETHUSDT"), activity=LIVELY)
    for _ in range(2):
        async with world.recording(spot_symbols=("BTCUSDT", "ETH*")) as recording:
            await trio.sleep(120)
            assert {"BTCUSDT", "ETHUSDT"} == recorded(recording)
        world.rest_fault = RestUnavailableError("down")
    assert world.log.events("rest_unavailable")
    world.verify_complete()


async def test_an_answer_that_ends_everything(world):
    """It is not believed, said once, and costs nothing."""
    world.has_rest = True
    symbols = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
    exchange = await world.open_exchange(symbols=symbols, activity=LIVELY)
    async with world.recording(spot_symbols=("*",), instruments_interval_sec=60.0) as recording:
        await trio.sleep(120)
        for symbol in symbols:
            exchange.change_symbol(SPOT, symbol, status="BREAK")
        await trio.sleep(600)
        assert set(symbols) == recorded(recording)
    (refused,) = world.log.events("listing_refused")
    assert "spot" == refused["market"]
    assert 0 == world.verify_complete().exit_code
