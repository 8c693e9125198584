"""Status and metrics of the whole service under the clock that jumps."""

from __future__ import annotations

import errno
import shutil
import subprocess

import pytest
import trio
from persistence_samples import inline
from prometheus_client.parser import text_string_to_metric_families

from streamsvc.recorder import open_trade_recorder
from streamsvc.schema import Kind, Market
from streamsvc.simulator.market import Activity
from streamsvc.web.looking import DiskLook, DiskLooks
from streamsvc.web.metrics import Metrics
from streamsvc.web.status import Watched, document

SPOT = Market.SPOT


def watched_of(world, recording):
    return Watched(
        live=recording.live,
        wall_ns=world.wall_ns,
        is_stopping=lambda: recording.shutdown.is_requested,
        patience_sec=30,
        reserve_bytes=512 << 20,
    )


def look_of(recording):
    gaps, latest, (files, size_bytes), free_bytes = recording.live.persistence.look(20)
    return DiskLook(gaps, latest, files, size_bytes, free_bytes)


def samples_of(exposition):
    """Every sample by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


async def test_what_is_told_of_a_stall_a_gap_and_a_full_disk(world):
    """Status and metrics agree with each other and with what was done."""
    world.has_rest = True
    exchange = await world.open_exchange(activity=Activity(trades_per_sec=5, quotes_per_sec=5))
    kinds = (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
    async with world.recording(spot_kinds=kinds, trade_timeout=20, health_check_interval=5) as recording:
        watched = watched_of(world, recording)
        metrics = Metrics(watched, is_per_symbol=True)
        await trio.sleep(30)
        found, samples = document(watched, look_of(recording)), samples_of(metrics.exposition(look_of(recording)))
        assert ("ok", True) == (found["verdict"]["level"], found["is_ready"])
        assert [["ok", "ok", "ok"]] == found["matrix"][0]["states"]
        assert 3 == samples["streamsvc_streams", "ok", "spot"]
        assert found["counts"]["accepted"] == sum(
            value for name, value in samples.items() if name[0] == "streamsvc_messages_total"
        )
        assert 1 == samples["streamsvc_ready",]

        exchange.mute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_stalled")
        found, samples = document(watched, look_of(recording)), samples_of(metrics.exposition(look_of(recording)))
        assert "BTCUSDT trade of spot" in found["verdict"]["text"]
        assert [["stalled", "ok", "ok"]] == found["matrix"][0]["states"]
        assert (1, 0) == (samples["streamsvc_streams", "spot", "stalled"], samples["streamsvc_ready",])
        assert ["1 streams are stalled"] == watched.unready()

        exchange.unmute(SPOT, "btcusdt@trade")
        await world.log.wait("stream_recovered")
        await trio.sleep(90)
        found, samples = document(watched, look_of(recording)), samples_of(metrics.exposition(look_of(recording)))
        assert "ok" == found["verdict"]["level"]
        assert (0, found["gaps"]["repaired"]) == (
            found["gaps"]["open"],
            samples["streamsvc_gaps", "repaired", "spot", "trade"],
        )
        assert found["counts"]["backfilled"] == samples["streamsvc_backfilled_rows_total", "spot"] > 0

        world.files.fail("write", errno.ENOSPC, times=10**9)
        await world.log.wait("paused_disk")
        await trio.sleep(1)
        found, samples = document(watched, look_of(recording)), samples_of(metrics.exposition(look_of(recording)))
        assert found["verdict"]["text"].startswith("The disk is full")
        assert (1, 0) == (
            samples["streamsvc_writer_state", "paused_disk"],
            samples["streamsvc_writer_state", "recording"],
        )
        assert "the writer is paused_disk" in watched.unready()
        world.files.fail("write", 0, times=0)
        await world.log.wait("disk_resumed")
    assert "stopping" in watched.unready()


@pytest.mark.parametrize(("is_per_symbol", "more"), [(False, 0), (True, 2 * 300 * 3 + 300)])
async def test_the_number_of_series(world, is_per_symbol, more):
    """As the README says: it does not grow with the number of symbols unless that is asked for."""
    symbols = tuple(f"S{number}USDT" for number in range(300))
    await world.open_exchange(symbols=symbols, activity=Activity(trades_per_sec=0.2, quotes_per_sec=0.2))
    kinds = (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
    async with world.recording(spot_symbols=symbols, spot_kinds=kinds) as recording:
        await trio.sleep(60)
        exposition = Metrics(watched_of(world, recording), is_per_symbol=is_per_symbol).exposition(look_of(recording))
    lines = [line for line in exposition.decode().splitlines() if not line.startswith("#")]
    ours = [line for line in lines if not line.startswith(("process_", "python_"))]
    assert 69 + 33 + 5 * len(kinds) + more == len(ours)
    if (promtool := shutil.which("promtool")) is not None:
        command = [promtool, "check", "metrics"]
        checked = subprocess.run(command, input=exposition, capture_output=True, check=False)  # noqa: ASYNC221
        assert (0, b"") == (checked.returncode, checked.stdout + checked.stderr)


async def test_a_trade_recorder_in_the_same_process(world, tmp_path):
    """Its statistics are told with the rest, in nine more series."""
    await world.open_exchange()
    async with world.recording() as recording:
        metrics = Metrics(watched_of(world, recording), is_per_symbol=False)
        before = set(samples_of(metrics.exposition(look_of(recording))))
        path = tmp_path / "trades.jsonl"
        async with open_trade_recorder(trades_file=path, run_blocking=inline, flush_interval_sec=1000) as recorder:
            await recorder.write_trades_batch([{"n": 0}, {"n": 1}])
            await recorder.write_trade({"n": 2})
            samples = samples_of(metrics.exposition(look_of(recording)))
    assert 3 == samples["streamsvc_recorder_writes_total", str(path)]
    assert 1 == samples["streamsvc_recorder_buffered", str(path)]
    assert 9 == len(samples.keys() - before)


async def test_however_often_somebody_asks_the_disk_is_read_now_and_then(autojump_clock):
    """And not at all while it fails: the last look is shown."""
    reads = []

    def read():
        reads.append(trio.current_time())
        if len(reads) == 2:
            raise OSError(errno.EIO, "gone")
        return DiskLook(parquet_files=len(reads))

    async def run_blocking(function):
        await trio.sleep(0.1)
        return function()

    looks = DiskLooks(read, run_blocking)
    seen = []
    for _ in range(120):
        seen.append((await looks.fresh()).parquet_files)
        await trio.sleep(0.1)
    assert 3 == len(reads)
    assert [1, 3] == sorted(set(seen))
