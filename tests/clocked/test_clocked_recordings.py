"""Turnover over recorded traffic: connections of both markets are replaced every six seconds, and nobody can tell."""

from __future__ import annotations

import random

import pytest
import trio
from clocked_recordings import recorded_sources, said
from recordings_support import RECORDINGS, assert_stored_once, cut_recordings, stored_columns

from streamsvc.schema import STREAM_KINDS, Market
from streamsvc.simulator.market import Activity

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared/recordings) are not here")

SPOT, FUTURES = Market.SPOT, Market.FUTURES
BESIDE = Activity(trades_per_sec=5, quotes_per_sec=10)
FIRST = ["spot-btcusdt-20240808.gz", "usdm-btcusdt-20240718.gz", "usdm-ethusdt-20240718.gz"]
BUSY = ["spot-btcusdt-20240809.gz", "usdm-btcusdt-20240719.gz", "usdm-ethusdt-20240719.gz"]
CANDLES = [
    "cryptofeed-spot-3-symbols.txt.gz", "cryptofeed-usdm-4-symbols-ws.txt.gz", "cryptofeed-usdm-4-symbols-http.txt.gz"
]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "run"),
    [(FIRST, (60, 0, 8)), (BUSY, (60, 1.0, 7)), (CANDLES, (95, 0.2, 3))],
    ids=["first minute", "busy minute, lagging", "aggTrades and candles"],
)
async def test_recorded_traffic_over_connections_that_live_six_seconds(world, tmp_path, names, run):
    """Every message of every kind is there once, value for value; a successor may be ahead of the old one or behind."""
    seconds, lag_sec_max, turnovers = run
    paths = [RECORDINGS / name for name in names] if names is CANDLES else cut_recordings(names, tmp_path, seconds)

    def beside(market, symbols):
        return world.synthetic(market, dict.fromkeys(symbols, BESIDE))

    sources = recorded_sources(paths, beside, seconds)
    exchange = await world.open_exchange_of(sources, is_logging=True, start="told")
    world.has_rest = True
    rng = random.Random(7)
    world.draw_lag_sec = lambda: rng.uniform(0, lag_sec_max)
    symbols = {source.market: tuple(source.histories()) for source in sources}
    kinds = {"spot_kinds": STREAM_KINDS[SPOT], "futures_kinds": STREAM_KINDS[FUTURES], "futures_depth_ms": 0}
    every = {"spot_symbols": symbols[SPOT], "futures_symbols": symbols[FUTURES]} | kinds
    async with world.recording(max_connection_age_sec=6, **every):
        for source in sources:
            await exchange.wait_subscribed(source.market, source.names)
            exchange.begin(source.market)
        for source in sources:
            await exchange.wait_done(source.market)
        await trio.sleep(10)

    report = world.verify()
    assert ([], 0, 0) == (report.gaps, report.exit_code, report.quarantined)
    assert [] == [event for name in ("connection_lost", "stream_suspect") for event in world.log.events(name)]
    renewed = [event["connection"] for event in world.log.events("connection_renewed")]
    assert turnovers <= min(renewed.count(name) for name in set(renewed))
    assert {"spot-1", "futures-public-1", "futures-market-1", "futures-trade-1"} == set(renewed)
    messages = said(paths, exchange)
    assert {(market, kind) for market in Market for kind in STREAM_KINDS[market]} == {stream[:2] for stream in messages}
    tables = {}
    for stream, sent in messages.items():
        if stream[:2] not in tables:
            tables[stream[:2]] = stored_columns(world.folder, *stream[:2])
        assert_stored_once(stream, sent, tables[stream[:2]], is_in_order=not lag_sec_max)
