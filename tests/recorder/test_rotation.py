"""Rotation, compression, what is kept, and reading it all again."""

import gzip
import re
from datetime import timedelta

import pytest
import trio
from recorder_support import BEGIN, NO_ROOM, in_line

from streamsvc.errors import DamagedError
from streamsvc.recorder import follow_trades, open_trade_recorder, read_trades
from streamsvc.recorder.names import RotatedName, rotated_files, rotated_path

SMALL = {"rotation_size_mb": 0.001, "flush_interval_sec": 100}
LONG = "x" * 400


async def write(recorder, numbers):
    for n in numbers:
        await recorder.write_trades_batch([{"n": n, "text": LONG}])


def test_names():
    """They order files as they were written, also where a clock is set back."""
    first = RotatedName("").after(BEGIN)
    assert RotatedName("20251104_152030", 1) == first
    assert first < first.after(BEGIN) == RotatedName("20251104_152030", 2)
    assert first < first.after(BEGIN - timedelta(days=1))
    assert RotatedName("20251104_152030", 9) < RotatedName("20251104_152030", 10)


async def test_a_file_that_is_large_enough_is_rotated(rig, autojump_clock):
    """It gets the time as its name, then becomes smaller."""
    async with rig.open(**SMALL) as recorder:
        await write(recorder, range(3))
        assert ["trades_20251104_152030.jsonl"] == [path.name for path in rig.folder.glob("trades_*")][:1]
        await write(recorder, [3])
        await trio.sleep(1)
        assert ["trades.jsonl", "trades_20251104_152030.jsonl.gz"] == rig.names()
        assert (1, 1) == (recorder.statistics().total_rotations, recorder.statistics().total_compressions)
        assert [0, 1, 2, 3] == rig.numbers()
    packed = gzip.decompress((rig.folder / "trades_20251104_152030.jsonl.gz").read_bytes())
    assert 3 == packed.count(b"\n")


async def test_many_rotations_in_a_second(rig, autojump_clock):
    """No file is written over."""
    async with rig.open(**SMALL, enable_compression=False) as recorder:
        await write(recorder, range(36))
        names = rig.names()
    assert 12 == len(names)
    assert {"trades_20251104_152030.jsonl", "trades_20251104_152030_12.jsonl"} <= set(names)
    assert list(range(36)) == rig.numbers()


async def test_a_clock_that_is_set_back(rig, autojump_clock):
    """Order is that of writing."""
    async with rig.open(**SMALL) as recorder:
        for n in range(12):
            rig.offset_sec = -1000 * n
            await write(recorder, [n])
    assert list(range(12)) == rig.numbers()


async def test_names_of_others_are_left_alone(rig, autojump_clock):
    for name in ("trades_.jsonl", "trades_20251104.jsonl", "trades_20251104_152030.csv", "other_20251104_152030.jsonl"):
        (rig.folder / name).write_text("{}")
    async with rig.open(**SMALL, keep_files=1) as recorder:
        await write(recorder, range(9))
    assert 4 == len([path for path in rig.folder.iterdir() if path.read_bytes() == b"{}"])


async def test_a_crash_while_a_file_is_compressed(rig, autojump_clock):
    """The next opening finishes it: what was half done is made again, what was done twice is there once."""
    plain = "".join(f'{{"n":{n}}}\n' for n in range(3))
    (rig.folder / "trades_20251104_152028.jsonl").write_text(plain.replace('"n":', '"n":1'))
    (rig.folder / "trades_20251104_152028.jsonl.gz.part").write_bytes(b"half")
    (rig.folder / "trades_20251104_152029.jsonl").write_text(plain.replace('"n":', '"n":2'))
    (rig.folder / "trades_20251104_152029.jsonl.gz").write_bytes(gzip.compress(plain.replace('"n":', '"n":2').encode()))
    expected = [10, 11, 12, 20, 21, 22]
    assert expected == rig.numbers()
    async with rig.open():
        await trio.sleep(1)
    assert expected == rig.numbers()
    assert ["trades.jsonl", "trades_20251104_152028.jsonl.gz", "trades_20251104_152029.jsonl.gz"] == rig.names()


async def test_rotation_that_fails(rig, log, autojump_clock):
    """It goes on with the same file, and tries again later."""
    rig.disk.faults["replace"] = [NO_ROOM]
    async with rig.open(**SMALL) as recorder:
        await write(recorder, range(5))
        assert 0 == recorder.statistics().total_rotations
        await trio.sleep(61)
        await write(recorder, [5])
        assert 1 == recorder.statistics().total_rotations
    assert list(range(6)) == rig.numbers()
    assert 1 == len(log.events("trade_file_not_rotated"))


async def test_compression_that_fails(rig, log, autojump_clock):
    """The plain file stays until it works."""
    async with rig.open(**SMALL) as recorder:
        rig.disk.faults["replace"] = [None, NO_ROOM]
        await write(recorder, range(3))
        await trio.sleep(1)
        assert ["trades_20251104_152030.jsonl"] == rig.names()
        await trio.sleep(60)
        assert ["trades_20251104_152030.jsonl.gz"] == rig.names()
    assert 1 == len(log.events("trade_files_not_compressed"))


async def test_leaving_waits_for_compression_under_a_limit(rig, log, autojump_clock):
    """It says what it has left undone, and the next recorder does it."""

    async def slow(function, *arguments):
        if getattr(getattr(function, "func", None), "__name__", "") == "_compress":
            await trio.sleep(30)
        return await in_line(function, *arguments)

    options = {"files": rig.disk, "run_blocking": slow, "now": rig.now, **SMALL}
    async with open_trade_recorder(trades_file=rig.path, close_sec_max=20, **options) as recorder:
        await write(recorder, range(3))
    assert 20 == trio.current_time()
    assert ["trades_20251104_152030.jsonl"] == rig.names()
    assert 1 == log.events("trade_recorder_closed")[0]["uncompressed_files"]
    async with rig.open():
        pass
    assert [0, 1, 2] == rig.numbers()
    assert "trades_20251104_152030.jsonl.gz" in rig.names()


@pytest.mark.parametrize("is_compressed", [True, False])
async def test_so_many_files_are_kept(rig, log, is_compressed, autojump_clock):
    async with rig.open(**SMALL, keep_files=2, enable_compression=is_compressed) as recorder:
        await write(recorder, range(12))
        await trio.sleep(1)
    assert list(range(6, 12)) == rig.numbers()
    assert 2 == sum(len(event["files"]) for event in log.events("trade_files_removed"))


async def test_files_are_kept_for_so_many_days(rig, autojump_clock):
    for day in range(1, 4):
        (rig.folder / f"trades_2025110{day}_152031.jsonl").write_text(f'{{"n":{day}}}\n')
    async with rig.open(keep_days=2):
        await trio.sleep(1)
    assert [2, 3] == [record["n"] for record in rig.records()] or [3] == rig.numbers()


async def test_reading_while_files_are_rotated_and_compressed(rig, autojump_clock):
    """Every record once, in order, whatever happens under the reader."""
    async with rig.open(**SMALL) as recorder:
        await write(recorder, range(7))
        reader, seen = read_trades(rig.path), []
        for n in range(7, 40):
            seen.append(next(reader)["n"])
            await write(recorder, [n])
            await trio.sleep(0.01)
        seen += [record["n"] for record in reader]
        assert list(range(40)) == seen


async def test_following(rig, autojump_clock):
    """What is there, and then what comes, over rotations."""
    seen = []

    class EnoughError(Exception):
        pass

    def pause(_seconds):
        raise EnoughError

    async with rig.open(**SMALL) as recorder:
        written = 0
        rig.path.write_bytes(b"")
        for count in (2, 5, 1, 9):
            await write(recorder, range(written, written + count))
            written += count
            follower = follow_trades(rig.path, sleep=pause)
            seen.clear()
            with pytest.raises(EnoughError):
                seen.extend(record["n"] for record in iter(lambda follower=follower: next(follower), None))
        pauses = []

        def go_on(_seconds):
            pauses.append(len(seen))
            if len(pauses) == 3:
                raise EnoughError

        follower = follow_trades(rig.path, sleep=go_on)
        seen += [next(follower)["n"] for _ in range(written)]
    assert list(range(written)) == seen[-written:]


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no records"):
        next(read_trades(tmp_path / "trades.jsonl"))


def test_a_line_that_is_being_written_is_not_read(tmp_path):
    path = tmp_path / "trades.jsonl"
    path.write_bytes(b'{"n":0}\n{"n":1')
    assert [{"n": 0}] == list(read_trades(path))


def test_damage(tmp_path):
    """The place is named; who asks for the rest gets it."""
    path = tmp_path / "trades.jsonl"
    packed = gzip.compress(b"".join(b'{"n":%d}\n' % n for n in range(20_000)))
    (tmp_path / "trades_20251104_152030.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    path.write_bytes(b'{"n":-1}\nrubbish\n[1]\n{"n":-2}\n')
    with pytest.raises(DamagedError, match=r"trades_20251104_152030.jsonl.gz: the rest of it cannot be unpacked"):
        list(read_trades(path))
    told = []
    numbers = [record["n"] for record in read_trades(path, told.append)]
    assert [-1, -2] == numbers[-2:]
    assert list(range(len(numbers) - 2)) == numbers[:-2]
    assert len(numbers) > 5000
    assert ["line 2", "line 3"] == [re.search("line .", str(fault))[0] for fault in told[1:]]


def test_a_file_of_each_name(tmp_path):
    live = tmp_path / "trades.jsonl"
    names = [RotatedName("20251104_152030", n) for n in range(1, 12)]
    for name in reversed(names):
        rotated_path(live, name).touch()
    assert names == [rotated.name for rotated in rotated_files(live)]
