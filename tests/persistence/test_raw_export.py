"""`streamsvc export-raw`: what was received, once, in the order of receipt, and never something else in its place."""

import gzip
import os

import attrs
import pytest
from derived_samples import derived_block, derived_text
from persistence_samples import (
    DAY_MS,
    RECEIVED_NS,
    block,
    futures_depth,
    make_folder,
    make_publisher,
    put_segment,
    spot_trade,
)

from streamsvc.cli import main
from streamsvc.errors import DiskFullError, UsageError
from streamsvc.gap import NOTE_KIND
from streamsvc.persistence import raw_sources
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.raw_export import Telling, Wanted, export_raw
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_rest import journal_text

DAY_NS = DAY_MS * 10**6
MIDNIGHT_NS = (RECEIVED_NS // DAY_NS + 1) * DAY_NS
DATE = "2023-11-14"
FILE = "spot/BTCUSDT-20231114.gz"


class Rig:
    """A data folder, and what the export says."""

    def __init__(self, root):
        self.folder = make_folder(root / "data")
        self.out = root / "out"
        self.publisher = make_publisher(self.folder)
        self.segments = 0
        self.told, self.warnings, self.progress = [], [], []

    def put(self, *blocks):
        name = SegmentName(1, 5, self.segments)
        self.segments += 1
        put_segment(self.folder, list(blocks), name)
        return name

    def archive(self, *blocks, keeps_raw=True):
        """Record a segment of these blocks and seal it."""
        name = self.put(*blocks)
        self.seal(name, keeps_raw=keeps_raw)
        return name

    def seal(self, name, *, keeps_raw=True):
        manifest = seal_segment(str(self.folder.segment(name)), str(self.folder.tmp), keeps_raw=keeps_raw)
        self.publisher.publish(name, manifest)

    def export(self, *, is_overwriting=False, **wanted):
        telling = Telling(
            tell=self.told.append, warn=self.warnings.append, progress=lambda *done: self.progress.append(done)
        )
        return export_raw(self.folder.root, self.out, Wanted(**wanted), telling, is_overwriting=is_overwriting)

    def files(self):
        """The lines of every file that was made."""
        return {
            str(path.relative_to(self.out)): gzip.decompress(path.read_bytes()).splitlines()
            for path in sorted(self.out.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def line(received_ns, text):
    return b"%d %b" % (received_ns, text)


def fetched(kind, text, market=Market.SPOT, received_ns=RECEIVED_NS):
    return attrs.evolve(block([text], kind, market, received_ns), source=Source.REST)


def test_every_symbol_and_day_gets_a_file_of_what_was_received(rig):
    """By receipt, not by the exchange's time; a segment may span days and symbols, of both markets."""
    other, depth = spot_trade(7, symbol="ETHUSDT"), futures_depth(1, [["1", "2"]], [])
    rig.archive(
        block([spot_trade(1), other, spot_trade(2)]),
        block([depth], Kind.DEPTH, Market.FUTURES),
        block([spot_trade(3)], received_ns=MIDNIGHT_NS - 1),
        block([spot_trade(4)], received_ns=MIDNIGHT_NS),
    )
    assert rig.export()
    assert {
        "futures/BTCUSDT-20231114.gz": [line(RECEIVED_NS, depth)],
        FILE: [*(line(RECEIVED_NS, spot_trade(n)) for n in (1, 2)), line(MIDNIGHT_NS - 1, spot_trade(3))],
        "spot/BTCUSDT-20231115.gz": [line(MIDNIGHT_NS, spot_trade(4))],
        "spot/ETHUSDT-20231114.gz": [line(RECEIVED_NS, other)],
    } == rig.files()
    assert f"{FILE}: 3 lines" in rig.told
    assert ([], [(1, 2), (2, 2)]) == (rig.warnings, rig.progress)


def test_what_is_not_sealed_yet_and_what_could_not_be_is_there_too(rig):
    """Archive, journal and `journal/failed/` together are what was recorded; one that is in two places counts once."""
    rig.archive(block([spot_trade(1)]))
    failed, twice = rig.put(block([spot_trade(2)])), rig.put(block([spot_trade(3)]))
    rig.put(block([spot_trade(4)]))
    rig.publisher.set_aside(failed)
    content = rig.folder.segment(twice).read_bytes()
    rig.seal(twice)
    rig.folder.segment(twice).write_bytes(content)
    assert rig.export()
    assert {FILE: [line(RECEIVED_NS, spot_trade(n)) for n in (1, 2, 3, 4)]} == rig.files()


def test_the_torn_end_of_a_segment_that_is_being_written_is_no_fault(rig):
    rig.archive(block([spot_trade(1)]))
    path = rig.folder.segment(rig.put(block([spot_trade(2)]), block([spot_trade(3)])))
    path.write_bytes(path.read_bytes()[:-5])
    assert rig.export()
    assert [line(RECEIVED_NS, spot_trade(n)) for n in (1, 2)] == rig.files()[FILE]
    assert [] == rig.warnings


def test_a_segment_that_is_sealed_meanwhile_is_found_in_the_archive(rig, monkeypatch):
    rig.archive(block([spot_trade(1)]))
    name = rig.put(block([spot_trade(2)]))
    copy = raw_sources._copy

    def copy_later(*args):
        if rig.folder.segments():
            rig.seal(name)
        copy(*args)

    monkeypatch.setattr(raw_sources, "_copy", copy_later)
    assert rig.export()
    assert [line(RECEIVED_NS, spot_trade(n)) for n in (1, 2)] == rig.files()[FILE]


def test_lines_are_in_the_order_of_receipt(rig):
    """Connections overtake each other on their way to the journal, and a clock is set back over a restart."""
    times = [5, 3, 9, 7, 1, 8, 2]
    for begin in (0, 4):
        rig.archive(*(block([spot_trade(ns)], received_ns=RECEIVED_NS + ns) for ns in times[begin : begin + 4]))
    assert rig.export()
    assert [line(RECEIVED_NS + ns, spot_trade(ns)) for ns in sorted(times)] == rig.files()[FILE]


def test_an_order_book_of_rest_is_a_line_as_hftbacktest_records_it(rig):
    """The exchange's JSON alone, on one line whatever it had been laid out like."""
    body = b'{"lastUpdateId":1,\n "bids":[["1","2"]],"asks":[]}'
    rig.archive(fetched(Kind.DEPTH_SNAPSHOT, journal_text("BTCUSDT", body)))
    assert rig.export()
    assert [line(RECEIVED_NS, body.replace(b"\n", b" "))] == rig.files()[FILE]


def test_trades_that_were_fetched_later_are_left_out_and_told(rig):
    """Their time of receipt is not when they happened, and a converter would not know their form."""
    texts = [b'{"id":2,"price":"1","qty":"1","time":1700000000000,"isBuyerMaker":true}'] * 2
    rig.archive(
        block([spot_trade(1)]),
        *(fetched(Kind.TRADE, journal_text(symbol, text)) for symbol in ("BTCUSDT", "ETHUSDT") for text in texts),
    )
    assert rig.export(symbol="BTCUSDT")
    assert {FILE: [line(RECEIVED_NS, spot_trade(1))]} == rig.files()
    assert ["left out: 2 trades that were fetched later, since they have no text of a stream"] == rig.warnings


def test_notes_and_symbols_of_rest_make_no_line(rig):
    rig.archive(block([spot_trade(1)]))
    rig.put(
        block([b'{"note":"x"}'], NOTE_KIND),
        fetched(Kind.INSTRUMENT, journal_text("BTCUSDT", b"{}", time_ms=1)),
    )
    assert rig.export()
    assert ([line(RECEIVED_NS, spot_trade(1))], []) == (rig.files()[FILE], rig.warnings)


def test_derived_rows_make_no_line(rig):
    """They were received from nobody; a day that has nothing else has no file."""
    later_ns = RECEIVED_NS + 2 * 86_400 * 10**9
    texts = [derived_text(Kind.CVD_1M)]
    rig.archive(block([spot_trade(1)]), derived_block(Kind.CVD_1M, texts))
    rig.archive(derived_block(Kind.CVD_1M, texts, received_ns=later_ns))
    assert rig.export()
    assert ({FILE: [line(RECEIVED_NS, spot_trade(1))]}, []) == (rig.files(), rig.warnings)


def test_a_text_with_the_name_of_its_stream_behind_is_read_too(rig):
    text = b'{"data": ' + spot_trade(1)[33:-1] + b', "stream": "btcusdt@trade"}'
    rig.archive(block([text]))
    assert rig.export()
    assert {FILE: [line(RECEIVED_NS, text)]} == rig.files()


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        ({"market": Market.FUTURES}, ["futures/BTCUSDT-20231114.gz"]),
        ({"symbol": "ETHUSDT"}, ["spot/ETHUSDT-20231115.gz"]),
        ({"date": DATE}, ["futures/BTCUSDT-20231114.gz", FILE]),
        ({"date": "2023-11-15", "market": Market.SPOT}, ["spot/ETHUSDT-20231115.gz"]),
    ],
)
def test_a_part_can_be_asked_for(rig, wanted, files):
    rig.archive(block([spot_trade(1)]), block([futures_depth(1, [], [])], Kind.DEPTH, Market.FUTURES))
    rig.put(block([spot_trade(2, symbol="ETHUSDT")], received_ns=MIDNIGHT_NS))
    assert rig.export(**wanted)
    assert files == [*rig.files()]


def test_a_symbol_never_becomes_a_path(rig):
    symbols = ["../X", "币安人生USDT", ".HIDDEN"]
    rig.archive(*(block([spot_trade(1, symbol=symbol)]) for symbol in symbols))
    assert rig.export()
    assert 3 == len(rig.files())
    assert all(name.startswith("spot/") and "/." not in name and name.isascii() for name in rig.files())


def test_what_is_there_is_not_overwritten_unasked(rig):
    """And it is said before anything is made."""
    rig.archive(block([spot_trade(1, symbol="ETHUSDT"), spot_trade(1)]))
    (rig.out / "spot").mkdir(parents=True)
    mine = rig.out / "spot/ETHUSDT-20231114.gz"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        rig.export()
    assert [(mine, "mine")] == [(path, path.read_text()) for path in (rig.out / "spot").iterdir()]
    assert rig.export(is_overwriting=True)
    assert [line(RECEIVED_NS, spot_trade(1))] == rig.files()[FILE]


def test_the_same_lines_are_the_same_file(rig):
    rig.archive(block([spot_trade(1)]))
    contents = []
    for _ in range(2):
        rig.export(is_overwriting=True)
        contents.append((rig.out / FILE).read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_could_not_be_written_leaves_nothing_behind(rig, monkeypatch, fault):
    rig.archive(block([spot_trade(1)]))

    def fail(*_):
        raise fault

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFullError if isinstance(fault, OSError) else KeyboardInterrupt):
        rig.export()
    assert {} == rig.files()


def test_a_damaged_file_of_the_archive_is_told_and_the_others_are_exported(rig):
    rig.archive(block([spot_trade(1)]))
    rig.archive(block([spot_trade(2)]))
    path = min(rig.folder.archive.rglob("*.zst"))
    path.write_bytes(path.read_bytes()[:-3])
    assert not rig.export()
    assert [line(RECEIVED_NS, spot_trade(2))] == rig.files()[FILE]
    assert 1 == len(rig.warnings)
    assert path.name in rig.warnings[0]


def test_damage_that_was_kept_is_told(rig):
    name = rig.put(block([spot_trade(1)]), block([spot_trade(2)]), block([spot_trade(3)]))
    content = bytearray(rig.folder.segment(name).read_bytes())
    content[len(content) // 2] ^= 1
    rig.folder.segment(name).write_bytes(content)
    rig.seal(name)
    assert rig.export()
    assert [line(RECEIVED_NS, spot_trade(n)) for n in (1, 3)] == rig.files()[FILE]
    assert ["hold no whole frame" in warning for warning in rig.warnings] == [True]


def test_what_was_sealed_without_the_archive_is_missed(rig):
    """Days before the setting was made are none of the export's, but a day that it only has in part is told."""
    rig.archive(block([spot_trade(9)], received_ns=RECEIVED_NS - DAY_NS), keeps_raw=False)
    rig.archive(block([spot_trade(1)]), keeps_raw=False)
    rig.archive(block([spot_trade(2)]))
    assert not rig.export()
    assert {FILE: [line(RECEIVED_NS, spot_trade(2))]} == rig.files()
    assert [f"{DATE}: 1 segments are not in the archive: they were sealed without RAW_ARCHIVE"] == rig.warnings


def test_a_folder_without_an_archive_says_what_to_set(rig, capsys):
    rig.archive(block([spot_trade(1)]), keeps_raw=False)
    assert 2 == main(["export-raw", str(rig.folder.root), "--out", str(rig.out)])
    assert "RAW_ARCHIVE=true" in capsys.readouterr().err
    assert not rig.out.exists()


def test_nothing_that_is_wanted_is_told(rig):
    rig.archive(block([spot_trade(1)]))
    with pytest.raises(UsageError, match="nothing of that"):
        rig.export(symbol="NOPE")
    assert {} == rig.files()


@pytest.mark.parametrize("place", ["archive", "parquet/trade", "journal"])
def test_the_folders_of_the_recorder_are_not_written_into(rig, place):
    rig.archive(block([spot_trade(1)]))
    rig.out = rig.folder.root / place
    with pytest.raises(UsageError, match="another folder"):
        rig.export()


def test_a_folder_that_cannot_be_made_is_told(rig):
    rig.archive(block([spot_trade(1)]))
    rig.out.touch()
    with pytest.raises(UsageError, match="cannot be used"):
        rig.export()


def test_the_command(rig, capsys):
    rig.archive(block([spot_trade(1)]))
    place = ["export-raw", str(rig.folder.root), "--out", str(rig.out)]
    assert 0 == main([*place, "--symbol", "btcusdt", "--market", "spot", "--day", DATE])
    assert f"{FILE}: 1 lines\n" == capsys.readouterr().out
    assert 2 == main(place)
    assert 0 == main([*place, "--overwrite"])
    rig.archive(block([spot_trade(2)]), keeps_raw=False)
    assert 1 == main([*place, "--overwrite"])
    assert "sealed without RAW_ARCHIVE" in capsys.readouterr().err
