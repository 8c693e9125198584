"""Texts of the loop on their way to quarantine: bounded, never blocking, counted."""

import base64
import errno
import json

import pytest
import structlog
import trio
from persistence_samples import inline

from streamsvc.persistence import quarantine as module
from streamsvc.persistence.quarantine import Quarantine, QuarantineFolder, encode_item
from streamsvc.schema import Market


def put(quarantine, text, reason="malformed"):
    quarantine.put(market=Market.SPOT, connection=3, received_ns=7, reason=reason, text=text)


def lines_in(folder):
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as events:
        yield events


async def test_texts_are_kept_with_their_reason(tmp_path, autojump_clock):
    quarantine = Quarantine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quarantine.run, QuarantineFolder(tmp_path, 10_000), "a.jsonl", inline)
        put(quarantine, b'{"broken')
        await trio.sleep(5)
        put(quarantine, b"\xff\x00", "bad_utf8")
        quarantine.end()
    common = {"received_ns": 7, "market": "spot", "connection": 3}
    assert [
        {"reason": "malformed", "text": '{"broken', **common},
        {"reason": "bad_utf8", "base64": base64.b64encode(b"\xff\x00").decode(), **common},
    ] == lines_in(tmp_path)
    assert (2, 0) == (quarantine.kept, quarantine.dropped)


async def test_a_flood_is_counted_and_told_at_a_bounded_rate(tmp_path, autojump_clock, log):
    """Ten thousand bad texts in ten minutes are some ten lines of log, and every text is in one of the counts."""
    quarantine = Quarantine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quarantine.run, QuarantineFolder(tmp_path, 50_000), "a.jsonl", inline)
        for _ in range(10_000):
            put(quarantine, b"x" * 100)
            await trio.sleep(0.06)
        quarantine.end()
    assert (10_000, len(lines_in(tmp_path))) == (quarantine.kept + quarantine.dropped, quarantine.kept)
    assert 50_000 >= (tmp_path / "a.jsonl").stat().st_size > 40_000
    assert 10_000 == sum(event["reasons"]["malformed"] for event in log)
    assert 12 >= len(log)


async def test_the_buffer_is_bounded_while_the_disk_hangs(tmp_path, autojump_clock, monkeypatch):
    async def hanging(function, *args):
        await trio.sleep(1000)
        return function(*args)

    quarantine = Quarantine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quarantine.run, QuarantineFolder(tmp_path, 1 << 30), "a.jsonl", hanging)
        for _ in range(100):
            put(quarantine, b"x" * 1_000_000)
            await trio.sleep(1)
        assert 2 * module.BUFFER_BYTES_MAX / 1_000_000 >= 100 - quarantine.dropped
        quarantine.end()
    assert 100 == quarantine.kept + quarantine.dropped


async def test_a_full_disk_costs_texts_and_nothing_else(tmp_path, autojump_clock, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(module.os, "write", full)
    quarantine = Quarantine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quarantine.run, QuarantineFolder(tmp_path, 1000), "a.jsonl", inline)
        put(quarantine, b"x")
        quarantine.end()
    assert (0, 1) == (quarantine.kept, quarantine.dropped)


async def test_an_empty_folder_has_room_again(tmp_path, autojump_clock):
    folder = QuarantineFolder(tmp_path, 100)
    assert folder.append("a.jsonl", b"x" * 90)
    assert not folder.append("b.jsonl", b"x" * 20)
    (tmp_path / "a.jsonl").unlink()
    assert folder.append("b.jsonl", b"x" * 20)


def test_a_link_in_the_folder_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_bytes(b"x")
    folder = tmp_path / "quarantine"
    folder.mkdir()
    (folder / "a.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic"):
        QuarantineFolder(folder, 1000).append("a.jsonl", b"y")
    assert b"x" == (tmp_path / "precious").read_bytes()


def test_what_was_recorded_inexactly_may_fill_half(tmp_path):
    """It must not push out what was not recorded at all."""
    folder = tmp_path / "quarantine"
    folder.mkdir()
    source = tmp_path / "inexact.jsonl"
    source.write_bytes(encode_item("inexact", 1, "spot", 1, b"x") * 100)
    size = source.stat().st_size
    cut = QuarantineFolder(folder, size).take_file(source, "i.jsonl", share=0.5)
    assert 50 == cut
    assert size // 2 >= (folder / "i.jsonl").stat().st_size


async def test_a_folder_that_cannot_be_written_costs_texts_and_is_told_once(tmp_path, autojump_clock, log):
    """Such as one whose owner was changed, or a link in the file's place: recording goes on."""
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "precious")
    quarantine = Quarantine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(quarantine.run, QuarantineFolder(tmp_path, 1000), "a.jsonl", inline)
        for _ in range(3):
            put(quarantine, b"x")
            await trio.sleep(5)
        quarantine.end()
    assert (0, 3) == (quarantine.kept, quarantine.dropped)
    assert 1 == sum(event["event"] == "quarantine_failed" for event in log)


async def test_a_text_longer_than_the_buffer_is_kept_where_nothing_else_waits(tmp_path, autojump_clock):
    """MESSAGE_MAX_MB may be more than the buffer holds."""
    quarantine = Quarantine()
    for _ in range(2):
        put(quarantine, b"x" * (module.BUFFER_BYTES_MAX + 1))
    quarantine.end()
    await quarantine.run(QuarantineFolder(tmp_path, 1 << 30), "a.jsonl", inline)
    assert (1, 1) == (quarantine.kept, quarantine.dropped)
