"""Symbols that come and go while the service runs: the symbols file, SIGHUP, patterns, listings."""

import random

import pytest
import trio

from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Market

THREE = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


def table(*symbols, kinds=("trade", "depth"), market="spot"):
    """A symbols file's text."""
    return f"[{market}]\nsymbols = {list(symbols)}\nkinds = {list(kinds)}\n"


async def test_a_file_that_changes_adds_and_removes(world, tmp_path):
    """New symbols are subscribed and old ones end on the connection that stands; the one that stays loses nothing."""
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT", "ETHUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        await trio.sleep(120)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT"))
        await trio.sleep(120)
        (connection,) = world.exchange.connections(Market.SPOT)
        assert {"btcusdt@trade", "btcusdt@depth@100ms", "bnbusdt@trade", "bnbusdt@depth@100ms"} == set(
            connection.streams
        )
        assert {"BTCUSDT", "BNBUSDT"} == {stream.symbol for stream in recording.live.health.streams()}
    (changed,) = world.log.events("symbols_changed")
    assert (["BNBUSDT"], ["ETHUSDT"]) == (changed["added"], changed["removed"])
    assert 1 == len(world.dials)
    report = world.verify_complete()
    assert [] == report.gaps


async def test_a_symbol_that_is_removed_and_added_again(world, tmp_path):
    """What lies between was not asked for: the ledger has it with that cause, nothing of it is fetched or missed."""
    world.has_rest = True
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    kinds = ("trade", "depth", "bookTicker")
    world.write_symbols(file, table(*THREE, kinds=kinds))
    async with world.recording(spot_symbols=(), symbols_file=file):
        await trio.sleep(120)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT", kinds=kinds))
        await trio.sleep(120)
        world.write_symbols(file, table(*THREE, kinds=kinds))
        await trio.sleep(120)
    assert [] == world.log.events("gap_opened")
    assert [] == world.log.events("backfilled")
    report = world.verify_complete()
    assert 0 == report.exit_code
    rows = Catalogue(DataFolder(world.folder).catalogue).gaps()
    assert {("ETHUSDT", kind, "removed", "unrecorded") for kind in kinds} == {
        (row.symbol, row.kind, row.cause, row.status) for row in rows
    }


async def test_a_stream_that_comes_back_after_a_restart(world, tmp_path):
    """What an earlier run had left alone is nobody's loss either: added at the start, or while the next run goes on."""
    world.has_rest = True
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    for symbols, later in ((THREE, THREE[:1]), (THREE[:1], THREE[:1]), (THREE[:2], THREE)):
        world.write_symbols(file, table(*symbols))
        async with world.recording(spot_symbols=(), symbols_file=file):
            await trio.sleep(60)
            world.write_symbols(file, table(*later))
            await trio.sleep(60)
        await trio.sleep(30)
    assert {"BTCUSDT"} == {gap.symbol for gap in world.verify().gaps if gap.is_loss}
    rows = Catalogue(DataFolder(world.folder).catalogue).gaps()
    assert {("BTCUSDT", "restart"), ("ETHUSDT", "removed"), ("BNBUSDT", "removed")} == {
        (row.symbol, row.cause) for row in rows if row.kind == "trade"
    }
    assert {"BTCUSDT"} == {event["symbol"] for event in world.log.events("backfilled")}


WRONG = {
    "[spot\n": "at line 1",
    '[spot]\nsymbols = "BTCUSDT"\n': "not a list",
    '[spot]\nsymbols = ["BTC USDT"]\n': "has a ' '",
    '[spot]\nsymbols = ["BTCUSDT"]\nkinds = ["markPrice"]\n': "no kind of spot",
    "[spot]\nsymbols = []\n": "nothing to record",
    "\n": "empty",
}


async def test_a_file_that_is_wrong(world, tmp_path):
    """It changes nothing and says why, once; asked for, it says so again; mended, it holds."""
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        await trio.sleep(30)
        for text in WRONG:
            for _ in range(3):
                world.write_symbols(file, text)
                await trio.sleep(5)
        refused = world.log.events("symbols_refused")
        assert len(WRONG) == len(refused)
        assert all(part in " ".join(one["reason"]) for part, one in zip(WRONG.values(), refused, strict=True))
        file.unlink()
        recording.reload.request("SIGHUP")
        await trio.sleep(5)
        assert (["there is no such file"], "SIGHUP") == (
            world.log.events("symbols_refused")[-1]["reason"],
            world.log.events("symbols_refused")[-1]["source"],
        )
        world.write_symbols(file, table("BTCUSDT"))
        await trio.sleep(5)
        assert ["file"] == [event["source"] for event in world.log.events("symbols_unchanged")]
        world.write_symbols(file, table("BTCUSDT", "ETHUSDT"))
        await trio.sleep(30)
    assert 1 == len(world.log.events("symbols_changed"))
    assert 1 == len(world.dials)
    assert [] == world.verify_complete().gaps


async def test_a_signal_to_read_the_symbols_again(world, tmp_path):
    """It is answered whatever comes of it: a change nobody has seen, nothing new, nothing to read, a bad time."""
    await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        await trio.sleep(30)
        recording.reload.request("SIGHUP")
        await trio.sleep(5)
        assert ["SIGHUP"] == [event["source"] for event in world.log.events("symbols_unchanged")]
        file.write_text(table("BTCUSDT", "ETHUSDT"))  # On a disk that tells nobody of changes, as of the network.
        await trio.sleep(5)
        recording.reload.request("SIGHUP")
        await trio.sleep(30)
        assert ["SIGHUP"] == [event["source"] for event in world.log.events("symbols_changed")]
        recording.shutdown.request("test")
        recording.reload.request("SIGHUP")
    async with world.recording() as recording:
        await trio.sleep(5)
        recording.reload.request("SIGHUP")
    assert ["stopping", "no SYMBOLS_FILE"] == [
        part
        for event in world.log.events("reload_refused")
        for part in ("stopping", "no SYMBOLS_FILE")
        if part in event["reason"]
    ]
    world.verify_complete()


async def test_a_change_with_redundancy(world, tmp_path):
    """Every copy follows; a message that both bring is recorded once, and nothing is lost at the change."""
    exchange = await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT", "ETHUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file, redundancy=2):
        await trio.sleep(60)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT"))
        await trio.sleep(60)
        one, other = exchange.connections(Market.SPOT)
        assert set(one.streams) == set(other.streams)
        assert {"btcusdt@trade", "btcusdt@depth@100ms", "bnbusdt@trade", "bnbusdt@depth@100ms"} == set(one.streams)
    assert 2 == len(world.dials)
    report = world.verify()
    assert 0 == report.exit_code
    assert [] == report.gaps
    assert [] == world.quarantined()


@pytest.mark.parametrize("redundancy", [1, 2])
async def test_changes_while_connections_are_replaced_every_few_seconds(world, tmp_path, redundancy):
    """Whether a connection stands, is made, or hands over: what is wanted is carried, and what stays loses nothing."""
    exchange = await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT"))
    wanted = {"spot_symbols": (), "symbols_file": file, "redundancy": redundancy, "max_connection_age_sec": 6.0}
    rng = random.Random(redundancy)
    async with world.recording(**wanted) as recording:
        for _ in range(60):
            await trio.sleep(rng.uniform(0.0, 4.0))
            others = rng.sample(THREE[1:], rng.randrange(3))
            world.write_symbols(file, table("BTCUSDT", *others))
        await trio.sleep(20)
        expected = {f"{symbol.lower()}@{name}" for symbol in ("BTCUSDT", *others) for name in ("trade", "depth@100ms")}
        assert [expected] == [set(one) for one in {frozenset(each.streams) for each in exchange.connections()}]
        assert {"BTCUSDT", *others} == {stream.symbol for stream in recording.live.health.streams()}
    report = world.verify()
    assert 0 == report.exit_code
    assert {"removed"} >= {gap.cause for gap in report.gaps}
    assert "BTCUSDT" not in {gap.symbol for gap in report.gaps}
    assert 15 * redundancy < len(world.dials)
    assert [] == world.quarantined()


async def test_a_change_while_the_connection_is_down(world, tmp_path):
    """The next URL names what is wanted by then."""
    exchange = await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT", "ETHUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        await trio.sleep(60)
        world.dial_fault = ConnectionRefusedError(111, "refused")
        world.reset_all()
        await trio.sleep(5)
        world.write_symbols(file, table("BNBUSDT", "BTCUSDT"))
        await trio.sleep(5)
        assert {"BTCUSDT", "BNBUSDT"} == {stream.symbol for stream in recording.live.health.streams()}
        world.dial_fault = None
        await trio.sleep(120)
        (connection,) = exchange.connections(Market.SPOT)
        assert "btcusdt@trade" in connection.target
        assert "bnbusdt@trade" in connection.target
        assert "ethusdt" not in connection.target
    assert [] == world.log.events("streams_subscribed")
    assert {"BTCUSDT"} == {gap.symbol for gap in world.verify_complete().gaps}


async def test_kinds_that_need_a_connection_of_their_own(world, tmp_path):
    """A connection is made for what no other may carry, and says goodbye when nothing of it is left."""
    exchange = await world.open_exchange(markets=(Market.FUTURES,))
    file = tmp_path / "symbols.toml"
    public, both = ("depth", "bookTicker"), ("depth", "bookTicker", "aggTrade", "markPrice")
    world.write_symbols(file, table("BTCUSDT", kinds=public, market="futures"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        for _ in range(2):
            await trio.sleep(60)
            world.write_symbols(file, table("BTCUSDT", kinds=both, market="futures"))
            await trio.sleep(60)
            assert {"futures-public-1", "futures-market-1"} == set(recording.live.supervisor.statistics().connections)
            world.write_symbols(file, table("BTCUSDT", kinds=public, market="futures"))
            await trio.sleep(60)
            (connection,) = exchange.connections(Market.FUTURES)
            assert "/public/" in connection.target
    assert ["futures-market-1"] * 2 == [event["connection"] for event in world.log.events("connection_ended")]
    assert [] == world.log.events("connection_lost")
    assert 3 == len(world.dials)
    report = world.verify_complete()
    assert 0 == report.exit_code
    assert {("aggTrade", "removed"), ("markPrice", "removed")} == {(gap.kind, gap.cause) for gap in report.gaps}


@pytest.mark.parametrize("how", ["error", "silent", "wrong_id"])
async def test_requests_that_the_exchange_does_not_answer(world, tmp_path, how):
    """They are made again; what is asked away in vain is recorded on until it is gone."""
    exchange = await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT", "ETHUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file) as recording:
        await trio.sleep(30)
        exchange.fail_replies(Market.SPOT, how, 4)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT"))
        await trio.sleep(240)
        (connection,) = exchange.connections(Market.SPOT)
        assert {"btcusdt@trade", "btcusdt@depth@100ms", "bnbusdt@trade", "bnbusdt@depth@100ms"} == set(
            connection.streams
        )
        assert {"BTCUSDT", "BNBUSDT"} == {stream.symbol for stream in recording.live.health.streams()}
    assert 4 == len(world.log.events("subscribe_failed"))
    assert 1 == len(world.dials)
    assert 0 == world.verify_complete().exit_code


async def test_a_gap_of_a_symbol_that_is_removed(world, tmp_path):
    """Its trades are fetched all the same, also while its requests were under way, and by the next run."""
    world.has_rest = True
    exchange = await world.open_exchange(symbols=THREE)
    file = tmp_path / "symbols.toml"
    world.write_symbols(file, table("BTCUSDT", "ETHUSDT", "BNBUSDT", kinds=("trade",)))
    async with world.recording(spot_symbols=(), symbols_file=file):
        await trio.sleep(60)
        exchange.delay_rest(Market.SPOT, 10, path="historicalTrades")
        exchange.drop(Market.SPOT, "ethusdt@trade", 3)
        while not world.log.events("gap_opened", symbol="ETHUSDT"):  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.1)
        world.write_symbols(file, table("BTCUSDT", "BNBUSDT", kinds=("trade",)))
        await trio.sleep(60)
        assert ["ETHUSDT"] == [event["symbol"] for event in world.log.events("backfilled")]
        exchange.lift(Market.SPOT)
        exchange.fail_rest(Market.SPOT, 500, path="historicalTrades")
        exchange.drop(Market.SPOT, "bnbusdt@trade", 3)
        while not world.log.events("gap_opened", symbol="BNBUSDT"):  # noqa: ASYNC110 - the log tells nobody
            await trio.sleep(0.1)
        world.write_symbols(file, table("BTCUSDT", kinds=("trade",)))
        await trio.sleep(60)
    exchange.lift(Market.SPOT)
    async with world.recording(spot_symbols=(), symbols_file=file):
        await trio.sleep(60)
    assert {"ETHUSDT", "BNBUSDT"} == {event["symbol"] for event in world.log.events("backfilled")}
    rows = Catalogue(DataFolder(world.folder).catalogue).gaps()
    assert {"repaired"} == {row.status for row in rows}
    assert 0 == world.verify().exit_code


async def test_a_market_that_comes_later(world, tmp_path):
    """It gets connections and REST when something of it is wanted, and nothing stays of a symbol that has gone."""
    world.has_rest = True
    exchange = await world.open_exchange(markets=(Market.SPOT, Market.FUTURES))
    file = tmp_path / "symbols.toml"
    futures = table("BTCUSDT", kinds=("trade", "depth"), market="futures")
    world.write_symbols(file, table("BTCUSDT"))
    async with world.recording(spot_symbols=(), symbols_file=file, futures_trade_route="public") as recording:
        await trio.sleep(60)
        world.write_symbols(file, table("BTCUSDT") + futures)
        await trio.sleep(60)
        assert 1 == len(exchange.connections(Market.FUTURES))
        world.write_symbols(file, futures)
        await trio.sleep(60)
        assert [] == exchange.connections(Market.SPOT)
        intake = recording.live.intake
        assert {Market.FUTURES} == {stream.market for stream in recording.live.health.streams()}
        assert [{}] == intake._lanes[Market.SPOT]
        assert [] == intake.chains.books(Market.SPOT)
        assert {Market.FUTURES} == {market for market, _ in intake.rows_by_symbol()}
    assert {"spot", "futures"} == {event["market"] for event in world.log.events("instruments_recorded")}
    assert {"spot", "futures"} == {event["market"] for event in world.log.events("book_synced")}
    assert 0 == world.verify_complete().exit_code
