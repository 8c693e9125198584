"""Nights of chance: whatever comes in whatever order, the books balance. A failing night runs again by its number.

`CLOCKED_NIGHTS` says how many there are: `CLOCKED_NIGHTS=1000 pytest tests/clocked/test_clocked_nights.py`.
"""

import errno
import os
import random
from collections import Counter

import pytest
import trio
from clocked_books import expected_rows
from clocked_world import HOSTS

from streamsvc.schema import Kind, Market
from streamsvc.simulator.faults import CORRUPTIONS, GARBAGE
from streamsvc.simulator.market import Activity

NIGHTS = int(os.environ.get("CLOCKED_NIGHTS", "4"))
EVENTS_PER_RUN = 15
RUNS = 3
STREAMS = {Market.SPOT: ("btcusdt@trade", "btcusdt@depth@100ms"), Market.FUTURES: ("btcusdt@trade", "btcusdt@aggTrade")}
SETTINGS = {
    "futures_symbols": ("BTCUSDT",),
    "futures_kinds": (Kind.TRADE, Kind.AGG_TRADE, Kind.BOOK_TICKER),
    "trade_timeout": 30.0,
    "orderbook_timeout": 30.0,
    "first_message_sec": 20.0,
    "stream_idle_sec": 40.0,
    "health_check_interval": 10.0,
    "parquet_rotate_sec": 30.0,
    "message_max_mb": 1,
    "reconnect_max_sec": 10.0,
    "backpressure_sec": 10.0,
    "drain_sec": 120.0,
    "seal_attempts": 50,
}


PARTS = ("accepted", "duplicates", "notices", "quarantined", "shed")
"""What becomes of what is received."""


class Chance:
    """Everything that may happen, each thing a method."""

    def __init__(self, world, exchange, rng):
        self._world = world
        self._exchange = exchange
        self._rng = rng
        self._acts = [getattr(self, name) for name in sorted(dir(self)) if not name.startswith("_")]

    def __call__(self):
        self._rng.choice(self._acts)()

    def _market(self):
        return self._rng.choice(list(STREAMS))

    def _stream(self):
        market = self._market()
        return market, self._rng.choice(STREAMS[market])

    def cut(self):
        self._exchange.cut(self._market(), "fin")

    def reset(self):
        self._world.reset_all(self._rng.choice([None, 0, 3, 100]))

    def close(self):
        self._exchange.close(self._market(), self._rng.choice([1000, 1001, 1008, 1012, 1013]))

    def freeze(self):
        self._exchange.freeze(self._market())

    def go(self):
        self._exchange.shut_down(self._market(), self._rng.uniform(0, 5))

    def flood(self):
        self._exchange.ping_flood(self._market(), 200)

    def mute(self):
        self._exchange.mute(*self._stream())

    def unmute(self):
        for market, streams in STREAMS.items():
            for stream in streams:
                self._exchange.unmute(market, stream)

    def drop(self):
        self._exchange.drop(*self._stream(), 3)

    def fragment(self):
        self._exchange.fragment(*self._stream(), 3)

    def corrupt(self):
        self._exchange.corrupt(*self._stream(), 2, self._rng.choice(CORRUPTIONS))

    def garbage(self):
        self._exchange.garbage(self._market(), self._rng.choice(GARBAGE), size_bytes=1 << 20)

    def mishear(self):
        self._exchange.fail_replies(self._market(), self._rng.choice(["error", "silent", "wrong_id"]), 2)

    def refuse(self):
        self._exchange.refuse_upgrades(self._market(), self._rng.choice([429, 502]), (("Retry-After", "20"),), count=1)

    def hang(self):
        self._world.disk.hang(self._rng.uniform(0, 40))

    def fill(self):
        self._world.files.fail(self._rng.choice(["write", "create", "replace"]), errno.ENOSPC, times=3)

    def shorten(self):
        self._world.files.write_bytes_max = self._rng.choice([None, 100, 5000])

    def slow_sealers(self):
        self._world.sealers.takes_sec = self._rng.choice([0.0, 0.0, 20.0])

    def kill_sealer(self):
        self._world.sealers.faults.append(MemoryError())

    def step_clock(self):
        self._world.wall_step_ns = self._rng.choice([0, 3_600_000_000_000, -7_200_000_000_000])


@pytest.mark.parametrize("night", range(NIGHTS))
async def test_a_night_of_chance(world, night):
    """Three runs in one folder: every message that was read is stored once, quarantined, talk, or counted as shed."""
    rng = random.Random(night)
    exchange = await world.open_exchange(markets=(Market.SPOT, Market.FUTURES), activity=Activity(1, 1))
    act = Chance(world, exchange, rng)
    for _ in range(RUNS):
        async with world.recording(**SETTINGS):
            for _ in range(EVENTS_PER_RUN):
                await trio.sleep(rng.uniform(0, 15))
                act()
            await trio.sleep(rng.uniform(0, 15))
    exchange.lift(Market.SPOT)
    exchange.lift(Market.FUTURES)
    world.sealers.takes_sec = 0.0
    await trio.sleep(60)
    await world.recover(**SETTINGS)
    report = world.verify()
    assert [] == world.leftovers()
    counts, heard = world.counts(), world.heard()
    assert len(heard) == counts["received"]
    assert counts["received"] == sum(counts[name] for name in PARTS)
    expected = expected_rows((HOSTS[host], text) for host, text in dict.fromkeys(heard))
    stored = world.stored_rows()
    assert not stored - expected
    lost = {key for key in expected if not stored[key]}
    assert all(stored[key] == expected[key] for key in stored)
    assert len(lost) <= counts["shed"] + report.quarantined + counts["quarantined"]
    texts = Counter(text.decode("utf-8", "replace") for _, text in heard)
    assert all(texts[text] for _, text in world.quarantined() if text.startswith("{"))
    assert len(world.quarantined()) == counts["quarantined"] + report.quarantined
    assert world.attempts_within(60) <= 2 * 60
