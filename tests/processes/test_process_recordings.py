"""Real traffic and everything that can go wrong with it, in one run of the real program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
import trio
from held_source import HeldSource, play
from recorded import verified
from recorder_process import until
from recordings_support import RECORDINGS, assert_stored_once, cut_recordings, recorded_messages, stored_columns

from streamsvc.integrity.sequence import Coverage, IdRange
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.layout import DataFolder
from streamsvc.schema import Kind, Market
from streamsvc.simulator.replay import open_sources
from streamsvc.simulator.venue import DoorFault

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared/recordings) are not here")

SPOT, FUTURES = Market.SPOT, Market.FUTURES
PAIRS = [
    f"{name}.gz"
    for name in (
        "spot-btcusdt-20240808", "spot-btcusdt-20240809", "usdm-btcusdt-20240718", "usdm-btcusdt-20240719",
        "usdm-ethusdt-20240718", "usdm-ethusdt-20240719",
    )
]  # fmt: skip
SPEED = 40
SETTINGS = {
    "SPOT_SYMBOLS": "BTCUSDT",
    "FUTURES_SYMBOLS": "BTCUSDT,ETHUSDT",
    "SPOT_KINDS": "trade,depth,bookTicker",
    "FUTURES_DEPTH_MS": "0",
    "GAP_GRACE_SEC": "0.5",
    "TRADE_TIMEOUT": "2",
    "HEALTH_CHECK_INTERVAL": "0.5",
    "PARQUET_ROTATE_SEC": "1",
}


class Run:
    """A market that is played in steps, and what is done to it in between."""

    def __init__(self, stage):
        self.exchange = stage.exchange
        self.recorder = None

    async def play(self, part):
        await play(self.exchange, part)

    async def begin(self, recorder):
        """Wait until somebody hears every stream."""
        self.recorder = recorder
        await self.heard()

    async def heard(self):
        for market, venue in self.exchange.venues.items():
            await self.exchange.wait_subscribed(market, venue.source.names)

    async def cut(self, market, mode, part):
        """Cut all connections; none is made until so much has been played."""
        self.exchange.refuse_upgrades(market, 503)
        assert self.exchange.cut(market, mode) > 0
        await self.play(part)
        self.exchange.venues[market].set_door(DoorFault())
        await self.heard()

    async def repaired(self):
        """Wait until every trade that nobody was sent has been fetched; the market stands still meanwhile.

        Futures give the last 1000 trades of a symbol and no more, so that repairs must keep the pace of the losses.
        """
        await until(lambda: not self._unrepaired(), "repairs of all trades")

    def _unrepaired(self):
        repaired = defaultdict(Coverage)
        for row in gaps_of(self.recorder.data, "trade"):
            if row.status == "repaired":
                repaired[row.market, row.symbol].add([IdRange(row.first_id, row.last_id)])
        lost = [
            (record.market.label, record.symbol, first, min(last, record.last_id))
            for record in self.exchange.ledger.records.values()
            if record.kind == "trade"
            for first, last in record.missing
            if first < record.last_id
        ]
        lost += [
            (event["market"], event["symbol"], event["first_id"], event["last_id"])
            for event in self.recorder.events("gap_opened")
            if event["kind"] == "trade"
        ]
        return [
            (market, symbol, lack)
            for market, symbol, first, last in lost
            for lack in repaired[market, symbol].lacking(IdRange(first, last))
        ]


def gaps_of(data, kind):
    return [row for row in Catalogue(DataFolder(data).catalogue, is_read_only=True).gaps() if row.kind == kind]


async def cuts(run):
    await run.play(0.06)
    await run.cut(SPOT, "rst", 0.09)
    await run.play(0.11)
    await run.cut(FUTURES, "fin", 0.13)
    await run.play(0.14)
    await run.repaired()
    for market, mode in ((SPOT, "fin"), (FUTURES, "rst")):
        run.exchange.cut(market, mode)  # With more on the way, and another connection at once.
    await run.play(0.17)
    await run.heard()
    await run.play(0.18)
    await run.repaired()


async def mutes(run):
    await run.play(0.29)
    muted = [(SPOT, "btcusdt@trade"), (FUTURES, "ethusdt@trade")]
    for market, stream in muted:
        run.exchange.mute(market, stream)
    await run.play(0.31)
    await run.recorder.saw("stream_stalled", 2)
    await run.play(0.32)
    for market, stream in muted:
        run.exchange.unmute(market, stream)
    await run.play(0.33)
    await run.repaired()


async def notices(run):
    told = sum(run.exchange.shut_down(market, 4.0) for market in Market)
    await run.play(0.40)
    await run.recorder.saw("connection_renewed", told)
    await run.play(0.50)


async def a_kill_without_rest(run, restart):
    for market in Market:
        run.exchange.fail_rest(market, 503)
        await run.cut(market, "rst", 0.51 if market is SPOT else 0.52)
    await run.play(0.53)
    await run.recorder.saw("backfill_failed", 2)
    await run.recorder.kill()
    await run.play(0.55)
    for market in Market:
        run.exchange.lift(market)
    await run.begin(restart())
    await run.play(0.56)
    await run.repaired()


async def cuts_after_the_restart(run):
    await run.play(0.86)
    await run.cut(SPOT, "fin", 0.87)
    await run.cut(FUTURES, "rst", 0.88)
    await run.play(0.89)
    await run.repaired()
    await run.play(1)


@pytest.mark.timeout(600)
async def test_cuts_mutes_a_notice_no_rest_and_a_kill_in_one_run(stage_of, start):
    """Every trade of the recordings is there once; the depth updates that are lost are exactly those in the ledger."""
    stage = await stage_of(sources=[HeldSource(market, PAIRS, SPEED) for market in Market])
    run = Run(stage)
    await run.begin(start(stage, **SETTINGS))
    await cuts(run)
    await mutes(run)
    await notices(run)
    await a_kill_without_rest(run, partial(start, stage, **SETTINGS))
    await cuts_after_the_restart(run)
    assert 0 == await run.recorder.stop(), run.recorder.errors()

    data = run.recorder.data
    report = verify(data)
    assert ([], {"bookTicker", "depth"}) == (report["errors"], {gap["kind"] for gap in report["gaps"]})
    assert {"disconnect", "stall", "restart"} <= {
        row.cause for row in [*gaps_of(data, "trade"), *gaps_of(data, "depth")]
    }
    for stream, messages in recorded_messages(PAIRS).items():
        if stream[1] is Kind.TRADE:
            assert_trades(stream, messages, data)
        elif stream[1] is Kind.DEPTH:
            assert_depth(stream, messages, data, report)


def verify(data):
    """What `streamsvc verify --json` says of a folder from which something is missing, and nothing is damaged."""
    command = [sys.executable, "-m", "streamsvc", "verify", str(data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (1, "") == (done.returncode, done.stderr)
    return json.loads(done.stdout)


def assert_trades(stream, messages, data):
    """Every one is there once, from whichever source, and says what the recording says."""
    market, kind, symbol = stream
    table = stored_columns(data, market, kind)
    own = np.flatnonzero(table["symbol"] == symbol)
    own = own[np.argsort(table["trade_id"][own], kind="stable")]
    assert [message["t"] for message in messages] == table["trade_id"][own].tolist()
    assert [float(message["p"]) for message in messages] == table["price"][own].tolist()
    assert [float(message["q"]) for message in messages] == table["quantity"][own].tolist()
    assert [message["m"] for message in messages] == table["is_buyer_maker"][own].tolist()
    assert [message["T"] * 10**6 for message in messages] == table["exchange_time"][own].tolist()
    assert table["is_backfilled"][own].any()


def assert_depth(stream, messages, data, report):
    """What is there is there once, value for value; what is not are the ids of the ledger, not one more or less."""
    market, kind, symbol = stream
    table = stored_columns(data, market, kind)
    there = set(table["final_update_id"][table["symbol"] == symbol].tolist())
    assert_stored_once(stream, [message for message in messages if message["u"] in there], table)
    lost = ranges_of(market, [message for message in messages if message["u"] not in there])
    assert lost
    ledger = [
        IdRange(row.first_id, row.last_id)
        for row in gaps_of(data, "depth")
        if (row.market, row.symbol, row.status) == (market.label, symbol, "unrepairable")
    ]
    assert lost == sorted(ledger)
    assert lost == sorted(
        IdRange(gap["first_missing_id"], gap["last_missing_id"])
        for gap in report["gaps"]
        if (gap["market"], gap["symbol"], gap["kind"]) == (market.label, symbol, "depth")
    )


def ranges_of(market, messages):
    """The ids that these depth updates account for, in order, as few ranges as possible."""
    ranges = []
    for message in messages:
        first = message["U"] if market is SPOT else message["pu"] + 1
        if ranges and first == ranges[-1].last + 1:
            first = ranges.pop().first
        ranges.append(IdRange(first, message["u"]))
    return ranges


@pytest.mark.timeout(600)
async def test_a_recorded_minute_over_connections_that_live_six_seconds(stage_of, start, tmp_path, pytestconfig):
    """At the recordings' own pace over real sockets: nothing lost, nothing twice, in every kind and in their order."""
    if not pytestconfig.getoption("--recorded-minute"):
        pytest.skip("it takes its minute: --recorded-minute; under the clock that jumps, tests/clocked plays it")
    paths = cut_recordings([name for name in PAIRS if "18" in name or "0809" in name], tmp_path, 60)
    sources = open_sources(paths)
    stage = await stage_of(sources=sources.values(), start="told")
    recorder = start(stage, **SETTINGS | {"MAX_CONNECTION_AGE_SEC": "6", "TRADE_TIMEOUT": "150"})
    for market, source in sources.items():
        await stage.exchange.wait_subscribed(market, source.names)
        stage.exchange.begin(market)
    for market in sources:
        await stage.exchange.wait_done(market)
    messages = recorded_messages(map(str, paths))
    await trio.sleep(3)  # What the kernel still has.
    assert 0 == await recorder.stop(), recorder.errors()

    assert ([], 0) == (verified(recorder.data).gaps, len(recorder.events("connection_lost")))
    renewed = [event["connection"] for event in recorder.events("connection_renewed")]
    assert {"spot-1", "futures-public-1"} == set(renewed)
    assert 7 <= min(map(renewed.count, renewed))
    for stream, sent in messages.items():
        assert_stored_once(stream, sent, stored_columns(recorder.data, *stream[:2]))
