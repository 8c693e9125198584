"""What was seen and is lost: the catalogue's own judgement, from what came before and how far the loop has come."""

import attrs
import pytest

from streamsvc.gap import GapFilled, GapOpened, StreamCounted, encode_note
from streamsvc.persistence.catalogue import ADOPT
from streamsvc.persistence.catalogue_ledger import LedgerCatalogue
from streamsvc.persistence.losses import SeenRange
from streamsvc.persistence.manifest import Manifest, StreamRange
from streamsvc.schema import Kind, Market

KEY = Market.SPOT, "BTCUSDT", Kind.TRADE
LABELS = "spot", "BTCUSDT", "trade"


@pytest.fixture
def catalogue(tmp_path):
    made = LedgerCatalogue(tmp_path / "catalogue.sqlite")
    made.prepare()
    with made._transaction() as connection:
        connection.execute("delete from pending where task = ?", (ADOPT,))
    return made


def commit(catalogue, segment, *seen, notes=(), damage=0, epoch=0):
    """Commit a segment with these ids; returns what the loop is told."""
    market, symbol, kind = KEY
    streams = [StreamRange(market, kind, symbol, epoch, 1, seen[0][0], seen[-1][1], 5, 5)] if seen else []
    manifest = Manifest(
        segment=segment, folder="", streams=tuple(streams), damage={"damaged_frame": damage} if damage else {},
        notes=tuple(map(encode_note, notes)),
    )  # fmt: skip
    ranges = [SeenRange(*KEY, epoch, first, last, 10 * first, 10 * last) for first, last in seen]
    return catalogue.commit(manifest, 1, seen=ranges if catalogue.wants_ids(manifest) else ())


def counted(next_id, *missing, epoch=0):
    return StreamCounted(*LABELS, epoch, next_id, 10 * next_id, list(missing))


def gaps(catalogue):
    return [(row.first_id, row.last_id, row.status) for row in catalogue.gaps()]


def test_a_sound_segment_asks_for_nothing(catalogue):
    """No id is read, nothing is told, and no count changes anything."""
    assert not commit(catalogue, "a", (1, 10))
    assert not commit(catalogue, "b", (15, 20), notes=[counted(21)])
    assert ([], []) == (catalogue.suspects(), gaps(catalogue))


def test_holes_inside_a_damaged_segment_and_behind_it(catalogue):
    """All of them are in the ledger when the count is committed, with the times around them, and the loop is told."""
    commit(catalogue, "a", (1, 10))
    told = commit(catalogue, "b", (13, 20), (25, 30), damage=5)
    assert [10] == [one.last_id for one in told.suspects]
    assert [] == gaps(catalogue)
    told = commit(catalogue, "c", (33, 40), notes=[counted(36)])
    assert [(11, 12, "open"), (21, 24, "open"), (31, 32, "open")] == gaps(catalogue)
    assert [(5, 130), (200, 250), (300, 330)] == [(row.first_time_ns, row.last_time_ns) for row in told.gaps]
    assert {"damage"} == {row.cause for row in told.gaps}
    assert [] == catalogue.suspects()


def test_a_quiet_stream_whose_last_rows_were_lost(catalogue):
    """It need not come again: the loop knows how far it was."""
    commit(catalogue, "a", (1, 10))
    catalogue.lose_segment()
    told = commit(catalogue, "c", notes=[counted(15)])
    assert [(11, 14, "open")] == gaps(catalogue)
    assert [150] == [row.last_time_ns for row in told.gaps]


def test_what_comes_late_while_a_stream_is_suspect(catalogue):
    """A backfill that lies behind the last id known hides nothing of what was lost."""
    commit(catalogue, "a", (1, 10))
    catalogue.lose_segment()  # It held 51 to 60, and the note that 11 to 50 are missing.
    commit(catalogue, "c", (11, 50), notes=[GapFilled(*LABELS, 0, 11, 50, 1)])
    commit(catalogue, "d", (61, 70), notes=[counted(71)])
    assert [(51, 60, "open")] == gaps(catalogue)


def test_what_the_loop_knows_to_be_missing_is_left_to_it(catalogue):
    """It enters the ledger, whose note was lost; but telling the loop would fetch what it may have by now."""
    commit(catalogue, "a", (1, 10))
    catalogue.lose_segment()
    told = commit(catalogue, "c", (15, 20), notes=[counted(21, (11, 12))])
    assert [(11, 14, "open")] == gaps(catalogue)
    assert [(13, 14)] == [(row.first_id, row.last_id) for row in told.gaps]


def test_a_repair_that_was_lost_is_told(catalogue):
    """The loop takes it for repaired and would never fetch it again."""
    opened = GapOpened(*LABELS, 0, 5, 9, None, None, "disconnect", 1, 1)
    commit(catalogue, "a", (1, 4), (10, 20), notes=[opened])
    catalogue.lose_segment()
    told = commit(catalogue, "c", (21, 30), notes=[counted(31)])
    assert ([(5, 9, "open")], [(5, 9)]) == (gaps(catalogue), [(row.first_id, row.last_id) for row in told.gaps])


def test_a_count_in_a_damaged_segment_counts_nothing(catalogue):
    """What was lost may lie behind it: the next one counts."""
    commit(catalogue, "a", (1, 10))
    catalogue.lose_segment()
    commit(catalogue, "c", (15, 20), notes=[counted(16)], damage=5)
    assert [] == gaps(catalogue)
    commit(catalogue, "d", (25, 30), notes=[counted(31)])
    assert [(11, 14, "open"), (21, 24, "open")] == gaps(catalogue)


def test_a_stream_that_a_damaged_segment_is_the_first_to_have(catalogue):
    commit(catalogue, "a", (5, 10), (15, 20), damage=5)
    commit(catalogue, "b", (21, 30), notes=[counted(31)])
    assert [(11, 14, "open")] == gaps(catalogue)


def test_ids_that_started_over_meanwhile(catalogue):
    """The new ids are judged from the first that came."""
    commit(catalogue, "a", (100, 110))
    catalogue.lose_segment()
    commit(catalogue, "b", (1, 4), (8, 9), epoch=1)
    commit(catalogue, "c", (12, 20), notes=[counted(21, epoch=1)], epoch=1)
    assert [(5, 7, "open"), (10, 11, "open")] == gaps(catalogue)
    assert {1} == {row.epoch for row in catalogue.gaps()}


def test_while_files_are_taken_in_nobody_is_suspect(catalogue):
    """How far a stream had come is not known then; afterwards all of them are."""
    with catalogue._transaction() as connection:
        connection.execute("insert into pending values (?)", (ADOPT,))
    commit(catalogue, "a", (1, 10), damage=5)
    assert (False, []) == (bool(catalogue.lose_segment()), catalogue.suspects())
    told = catalogue.adopted(is_new=False)
    assert [10] == [one.last_id for one in told.suspects]


def test_where_a_stream_is_taken_up_again_the_ledger_may_know_more(catalogue):
    """Ids that are missing behind the last one in the files are not missed a second time."""
    commit(catalogue, "a", (1, 10), notes=[GapOpened(*LABELS, 0, 11, 19, None, None, "disconnect", 1, 1)])
    assert [19] == [one.last_id for one in catalogue.lose_segment().suspects]
    assert not attrs.asdict(commit(catalogue, "b", (20, 30), notes=[counted(31, (11, 19))]))["gaps"]
    assert [(11, 19, "open")] == gaps(catalogue)
