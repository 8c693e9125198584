"""Trades that are opened and closed: one record for both, over restarts and crashes."""

import json
from decimal import Decimal

import pytest
import trio
from recorder_support import NO_ROOM

from streamsvc.errors import UsageError
from streamsvc.recorder import NotWrittenError, PairError, RecordError


def pending_of(rig):
    return json.loads((rig.folder / "pending.json").read_text())["open"]


async def test_entry_and_exit_become_one_record(rig, autojump_clock):
    async with rig.open() as recorder:
        await recorder.open_trade("T1", {"price": Decimal("50000.10"), "side": "long"})
        await trio.sleep(60)
        await recorder.close_trade("T1", {"price": Decimal(51000)})
    expected = {
        "trade_id": "T1",
        "opened_at": "2025-11-04T15:20:30Z",
        "closed_at": "2025-11-04T15:21:30Z",
        "entry": {"price": "50000.10", "side": "long"},
        "exit": {"price": "51000"},
    }
    assert [expected] == rig.records()
    assert {} == pending_of(rig)


async def test_what_is_open_survives_a_restart(rig, autojump_clock):
    async with rig.open() as recorder:
        await recorder.open_trade("T1", {"price": 1.5})
        await recorder.open_trade("T2", {"price": 2.5})
        await recorder.close_trade("T2", {})
    async with rig.open() as recorder:
        assert {"T1": {"price": 1.5}} == recorder.pending()
        await recorder.close_trade("T1", {"price": 3})
        assert {} == recorder.pending()
    assert ["T2", "T1"] == [record["trade_id"] for record in rig.records()]


async def test_ids_that_are_not_open_or_open_already(rig, autojump_clock):
    """The error names the id."""
    async with rig.open() as recorder:
        with pytest.raises(PairError, match="trade T1 is not open") as caught:
            await recorder.close_trade("T1", {})
        assert "T1" == caught.value.trade_id
        await recorder.open_trade("T1", {})
        with pytest.raises(PairError, match="trade T1 is open already, since 2025"):
            await recorder.open_trade("T1", {})
        await recorder.close_trade("T1", {})
        with pytest.raises(PairError, match="T1"):
            await recorder.close_trade("T1", {})
        await recorder.open_trade("T1", {"again": True})
        assert {"T1": {"again": True}} == recorder.pending()
    assert 1 == len(rig.records())


async def test_an_id_that_is_used_again_before_its_record_is_written(rig, autojump_clock):
    """Both are there."""
    async with rig.open(flush_interval_sec=100) as recorder:
        await recorder.open_trade("T1", {"n": 1})
        await recorder.close_trade("T1", {})
        await recorder.open_trade("T1", {"n": 2})
        assert 1 == len(rig.records())
    assert {"n": 2} == pending_of(rig)["T1"]["entry"]


async def test_what_cannot_be_written_changes_nothing(rig, autojump_clock):
    async with rig.open() as recorder:
        with pytest.raises(RecordError):
            await recorder.open_trade("T1", {"price": float("nan")})
        await recorder.open_trade("T1", {})
        with pytest.raises(RecordError):
            await recorder.close_trade("T1", {"price": object()})
        assert {"T1": {}} == recorder.pending()


async def test_a_pending_file_that_cannot_be_replaced(rig, autojump_clock):
    """The trade is not open."""
    async with rig.open() as recorder:
        rig.disk.faults["replace"] = [NO_ROOM]
        with pytest.raises(NotWrittenError, match="T1 could not be opened"):
            await recorder.open_trade("T1", {})
        assert {} == recorder.pending()
        await recorder.open_trade("T1", {})
    assert ["T1"] == list(pending_of(rig))


async def test_a_crash_between_the_record_and_the_pending_file(rig, autojump_clock):
    """The record is there once: the next opening strikes the trade out."""
    async with rig.open() as recorder:
        await recorder.open_trade("T1", {"n": 1})
        await recorder.open_trade("T2", {"n": 2})
        before = (rig.folder / "pending.json").read_bytes()
        await recorder.close_trade("T1", {})
    (rig.folder / "pending.json").write_bytes(before)
    async with rig.open() as recorder:
        assert {"T2": {"n": 2}} == recorder.pending()
        with pytest.raises(PairError):
            await recorder.close_trade("T1", {})
        await recorder.open_trade("T3", {})
    assert ["T2", "T3"] == sorted(pending_of(rig))


async def test_a_large_file_waits_for_the_pending_file(rig, log, autojump_clock):
    """Else the next opening would look for the record in the wrong one."""
    async with rig.open(rotation_size_mb=0.001) as recorder:
        await recorder.open_trade("T1", {"text": "x" * 2000})
        rig.disk.faults["replace"] = [NO_ROOM, NO_ROOM]
        await recorder.close_trade("T1", {})
        await recorder.flush()
        assert 0 == recorder.statistics().total_rotations
        await recorder.write_trades_batch([{"n": 1}])
        await recorder.write_trades_batch([{"n": 2}])
        assert 1 == recorder.statistics().total_rotations
    assert 2 == len(log.events("pending_trades_not_kept"))


async def test_a_closed_trade_is_synced_before_it_is_struck_out(rig, autojump_clock):
    async with rig.open(sync_each_flush=False, flush_interval_sec=0.1) as recorder:
        await recorder.open_trade("T1", {})
        rig.disk.calls.clear()
        await recorder.close_trade("T1", {})
        await trio.sleep(1)
        assert ["write", "sync", "replace"] == rig.disk.calls


async def test_many_open_at_once(rig, autojump_clock):
    """One replacing serves all who wait for it."""
    async with rig.open() as recorder:
        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(recorder.open_trade, f"T{n}", {"n": n})
        assert 50 == len(pending_of(rig))
        assert rig.disk.calls.count("replace") < 10


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":1,"open":{"T1":7}}', b"\xff"])
async def test_a_damaged_pending_file(rig, content, autojump_clock):
    """Nothing is touched: it may be all that is known of open trades."""
    (rig.folder / "pending.json").write_bytes(content)
    with pytest.raises(UsageError, match="is damaged"):
        async with rig.open():
            pass
    assert content == (rig.folder / "pending.json").read_bytes()


async def test_a_pending_file_of_a_newer_version(rig, autojump_clock):
    (rig.folder / "pending.json").write_bytes(b'{"version":2,"open":{}}')
    with pytest.raises(UsageError, match="another version"):
        async with rig.open():
            pass


async def test_without_a_pending_file(rig, autojump_clock):
    async with rig.open(pending_file=None) as recorder:
        with pytest.raises(UsageError, match="pending_file"):
            await recorder.open_trade("T1", {})
