"""The ledger's file: a catalogue that is lost knows its gaps again, wherever the process ended."""

import errno
import sqlite3

import attrs
import pytest
import structlog
from persistence_samples import NAME, Crash, FailingFiles, block, make_folder, make_publisher, put_segment, spot_trade

from streamsvc.errors import DiskFullError, NewerVersionError
from streamsvc.gap import NOTE_KIND, GapFilled, GapOpened, encode_note
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.files import Files
from streamsvc.persistence.gap_table import GapRow
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.ledger_file import SIZE_BYTES_MIN, Change, LedgerFile
from streamsvc.persistence.recovery import recover
from streamsvc.persistence.seal import seal_segment

ROW = GapRow("spot", "BTCUSDT", "trade", 0, 5, 9, 10, None, "damage", None, "open", None, 7, None)
OPENED = encode_note(GapOpened("spot", "BTCUSDT", "trade", 0, 20, 29, None, None, "disconnect", 1, 7))
FILLED = encode_note(GapFilled("spot", "BTCUSDT", "trade", 0, 20, 24, 8))
CHANGES = [Change("a", [OPENED], [ROW]), Change("b", [FILLED], [])]


def ledger_at(path, files=None):
    return LedgerFile(path / "ledger.jsonl", files or Files())


def noted(*notes):
    """A block of two trades, one of which no sealer can record, and notes."""
    texts = [spot_trade(1), spot_trade(2, p="-1"), *notes]
    whole = block(texts)
    return attrs.evolve(whole, kinds=whole.kinds[:2] + bytes([NOTE_KIND]) * len(notes))


def restart(folder, files=None):
    publisher = make_publisher(folder, files)
    for segment in recover(publisher, 77).segments:
        publisher.publish(segment.name, seal_segment(str(folder.segment(segment.name)), str(folder.tmp)))


def gaps(folder):
    return [(row.first_id, row.last_id, row.cause, row.status) for row in Catalogue(folder.catalogue).gaps()]


def lose_catalogue(folder):
    for path in folder.root.glob("catalogue.sqlite*"):
        path.unlink()


EXPECTED = [
    (2, 2, "quarantined", "open"), (20, 24, "disconnect", "repaired"), (25, 29, "disconnect", "open"),
]  # fmt: skip


def test_what_was_appended_is_read(tmp_path):
    """The last line of a segment counts, and segments that will be published again are left out."""
    ledger = ledger_at(tmp_path)
    assert (False, []) == (ledger.prepare(), list(ledger.changes()))
    for change in (Change("a", [b"{}"]), *CHANGES):
        ledger.append(change)
    assert (True, CHANGES) == (ledger.prepare(), list(ledger.changes()))
    assert CHANGES[1:] == list(ledger.changes(without={"a"}))


def test_a_file_that_was_cut_anywhere_keeps_its_whole_lines(tmp_path):
    ledger, path = ledger_at(tmp_path), tmp_path / "ledger.jsonl"
    for change in CHANGES:
        ledger.append(change)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size] + b"\0" * (size % 3))
        ledger.prepare()
        assert CHANGES[:1] == list(ledger.changes())
        ledger.append(CHANGES[1])
        assert CHANGES == list(ledger.changes())


def test_a_bit_that_flips_costs_its_line(tmp_path):
    ledger, path = ledger_at(tmp_path), tmp_path / "ledger.jsonl"
    for change in CHANGES:
        ledger.append(change)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with structlog.testing.capture_logs() as events:
        assert CHANGES[1:] == list(ledger.changes())
    assert [("ledger_line_damaged", 1)] == [(event["event"], event["line"]) for event in events]


def test_no_room_appends_nothing(tmp_path):
    """Not half a line either: the next one would be lost with it."""
    files = FailingFiles(2, errno.ENOSPC, only="write")
    ledger = ledger_at(tmp_path, files)
    ledger.append(CHANGES[0])
    with pytest.raises(DiskFullError):
        ledger.append(CHANGES[1])
    ledger.append(CHANGES[1])
    assert CHANGES == list(ledger.changes())


def test_it_is_written_anew_when_it_has_grown(tmp_path):
    """A crash at any call leaves the old one or the new one."""
    rows = [attrs.evolve(ROW, first_id=10 * number, last_id=10 * number + 1) for number in range(1200)]
    for at in range(7):
        folder = tmp_path / str(at)
        folder.mkdir()
        ledger = ledger_at(folder)
        while not ledger.is_grown(10):
            ledger.append(Change("a", [b"{}" * 50_000]))
        assert SIZE_BYTES_MIN < (folder / "ledger.jsonl").stat().st_size
        try:
            ledger_at(folder, FailingFiles(at, Crash())).rewrite(rows)
        except Crash:
            assert at
        ledger = ledger_at(folder)
        ledger.prepare()
        found = list(ledger.changes())
        assert found[0].name == "a" or rows == [row for change in found for row in change.opened]
        assert ["ledger.jsonl"] == [path.name for path in folder.iterdir()]


def test_a_lost_catalogue_knows_its_gaps_again(tmp_path):
    folder = make_folder(tmp_path)
    put_segment(folder, [noted(OPENED, FILLED)])
    restart(folder)
    assert EXPECTED == gaps(folder)
    before = Catalogue(folder.catalogue).gaps()
    lose_catalogue(folder)
    restart(folder)
    assert before == Catalogue(folder.catalogue).gaps()


def test_a_catalogue_that_is_lost_after_a_crash_at_any_call(tmp_path):
    """Every change is in the ledger once, whether its transaction came to its end or not."""
    counting = FailingFiles()
    folder = make_folder(tmp_path / "count")
    put_segment(folder, [noted(OPENED, FILLED)])
    restart(folder, counting)
    assert len(counting.calls) > 15
    for at in range(1, len(counting.calls) + 1):
        folder = make_folder(tmp_path / str(at))
        put_segment(folder, [noted(OPENED, FILLED)])
        with pytest.raises(Crash):
            restart(folder, FailingFiles(at, Crash()))
        lose_catalogue(folder)
        restart(folder)
        assert EXPECTED == gaps(folder), at
        lose_catalogue(folder)
        restart(folder)
        assert EXPECTED == gaps(folder), at


def test_a_folder_of_version_1_gets_the_file_and_the_tables(tmp_path):
    """Its catalogue alone knew the gaps until now."""
    folder = make_folder(tmp_path)
    put_segment(folder, [noted(OPENED, FILLED)])
    restart(folder)
    folder.ledger.unlink()
    connection = sqlite3.connect(folder.catalogue)
    connection.executescript("drop table suspects; drop table seen; pragma user_version = 1")
    connection.close()
    put_segment(folder, [block([spot_trade(3)])], SegmentName(1, 5, 1))
    restart(folder)
    assert EXPECTED == gaps(folder)
    assert [] == Catalogue(folder.catalogue).gaps("x")
    connection = sqlite3.connect(folder.catalogue)
    assert (2,) == connection.execute("pragma user_version").fetchone()
    connection.close()
    lose_catalogue(folder)
    restart(folder)
    assert EXPECTED == gaps(folder)


@pytest.mark.parametrize("place", [0, 40, 4096, 8192])
def test_a_damaged_catalogue_is_moved_aside_and_made_again(tmp_path, place):
    """The first two and the latest are kept."""
    folder = make_folder(tmp_path)
    put_segment(folder, [noted(OPENED, FILLED)])
    restart(folder)
    publisher = make_publisher(folder)
    for _ in range(5):
        data = bytearray(folder.catalogue.read_bytes())
        data[place : place + 5000] = b"\xff" * len(data[place : place + 5000])
        folder.catalogue.write_bytes(data)
        recover(publisher, 7)
        assert EXPECTED == gaps(folder)
    kept = sorted(path.name for path in folder.root.glob("*.damaged-?"))
    assert [f"catalogue.sqlite.damaged-{number}" for number in (1, 2, 3)] == kept


def test_a_newer_catalogue_is_neither_used_nor_moved(tmp_path):
    folder = make_folder(tmp_path)
    publisher = make_publisher(folder)
    connection = sqlite3.connect(folder.catalogue)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(NewerVersionError):
        recover(publisher, 7)
    assert [] == list(folder.root.glob("*damaged*"))


def test_a_segment_that_was_published_says_what_the_loop_must_know(tmp_path):
    folder = make_folder(tmp_path)
    put_segment(folder, [noted()])
    publisher = make_publisher(folder)
    published = publisher.publish(NAME, seal_segment(str(folder.segment(NAME)), str(folder.tmp)))
    assert [(2, 2, "quarantined")] == [(row.first_id, row.last_id, row.cause) for row in published.losses.gaps]
    assert [] == list(published.losses.suspects)
