"""Order books rebuilt from files: equal to the reference, and refused with the reason where they are not proven."""

import json

import attrs
import pytest
from book_samples import (
    MS,
    RECORDED,
    RECORDINGS,
    BookFolder,
    Snapshot,
    Update,
    full_book_hash,
    texts,
)
from persistence_samples import block as samples_block
from persistence_samples import make_folder, make_publisher, put_segment

from streamsvc.errors import DamagedError, UsageError
from streamsvc.integrity.books import BookState
from streamsvc.integrity.rebuild import BookUnknownError, rebuild_book, time_text
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import Kind, Market, Source

SPOT, FUTURES = Market.SPOT, Market.FUTURES
BEGIN_MS = 1_700_000_000_000
"""2023-11-14T22:13:20Z."""
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
SEGMENT_MESSAGES = 1500
TODAY_NS = 1_795_000_000 * 10**9


def block(text, kind, market, source):
    """A frame of one message that is received today."""
    return attrs.evolve(samples_block([text], kind, market, TODAY_NS), source=source)


@pytest.fixture
def folder(tmp_path):
    return BookFolder(tmp_path / "data")


def update(number, *, at_ms=None, first=None, **more):
    """Spot's update of one id a second, which puts a bid of that many lots."""
    at_ms = BEGIN_MS + number * SECOND_MS if at_ms is None else at_ms
    return Update(number if first is None else first, number, 0, at_ms, [(100.0, float(number))], [], **more)


def snapshot(number, *, at_ms=None, **more):
    """A snapshot right after that update; its ask tells which one the book began with."""
    at_ms = BEGIN_MS + number * SECOND_MS + 400 if at_ms is None else at_ms
    return Snapshot(number, at_ms, [(100.0, float(number))], [(200.0 + number, 1.0)], **more)


def moment(number, after_ms=500):
    """A moment between this update and the next, in ns."""
    return (BEGIN_MS + number * SECOND_MS + after_ms) * MS


def found(folder, moment_ns, symbol="BTCUSDT", market=None):
    """The quantity of the one bid, which is the last update's id, the snapshot and the number of updates applied."""
    made = rebuild_book(folder.root, symbol, moment_ns, market)
    assert BookState.SYNCED is made.book.state
    assert float(made.update_id) == made.book.best_bid[1]
    assert 200.0 + made.snapshot_update_id == made.book.best_ask[0]
    return made.update_id, made.snapshot_update_id, made.updates


def reason(folder, moment_ns):
    """Why the book is not known."""
    with pytest.raises(BookUnknownError) as caught:
        rebuild_book(folder.root, "BTCUSDT", moment_ns)
    return str(caught.value)


def test_a_snapshot_and_the_updates_after_it(folder):
    """Updates of the moment itself are in the book, later ones are not."""
    folder.put(SPOT, *map(update, range(1, 5)), snapshot(4), *map(update, range(5, 20)))
    assert (9, 4, 5) == found(folder, moment(9))
    assert (9, 4, 5) == found(folder, moment(9, 0))
    assert (8, 4, 4) == found(folder, moment(9, 0) - 1)
    assert (4, 4, 0) == found(folder, moment(4, 900))


def test_several_snapshots(folder):
    """The newest one that does not lie after the moment is the beginning."""
    folder.put(SPOT, *map(update, range(1, 30)), *map(snapshot, (3, 10, 20)))
    assert [(9, 3, 6), (15, 10, 5), (25, 20, 5)] == [found(folder, moment(number)) for number in (9, 15, 25)]


def test_snapshots_of_one_time(folder):
    """Their levels are told apart by their ids."""
    folder.put(SPOT, *map(update, range(1, 30)), *(snapshot(number, at_ms=BEGIN_MS) for number in (9, 10, 3)))
    assert (15, 10, 5) == found(folder, moment(15))


def test_over_midnight_and_several_files(folder):
    """Days and rotations are no borders."""
    midnight_ms = (BEGIN_MS // DAY_MS + 1) * DAY_MS
    parts = [[update(n, at_ms=midnight_ms + (n - 50) * SECOND_MS) for n in range(b, b + 10)] for b in range(1, 100, 10)]
    folder.put(SPOT, *parts[0], snapshot(5, at_ms=midnight_ms - 45 * SECOND_MS))
    for part in parts[1:]:
        folder.put(SPOT, *part)
    assert (77, 5, 72) == found(folder, (midnight_ms + 27 * SECOND_MS) * MS)


@pytest.mark.parametrize("off_ms", [0, 1000 * DAY_MS])
def test_hours_after_the_snapshot(folder, off_ms):
    """Updates are looked for as far back as the snapshot lies, in whichever file, and if its clock was wrong."""
    for begin in range(1, 400, 50):
        part = [update(n, at_ms=BEGIN_MS + n * MINUTE_MS) for n in range(begin, begin + 50)]
        folder.put(SPOT, *part)
    folder.put(SPOT, snapshot(2, at_ms=BEGIN_MS + 2 * MINUTE_MS + 1 + off_ms))
    assert (390, 2, 388) == found(folder, (BEGIN_MS + 390 * MINUTE_MS + 5) * MS)


def test_a_quiet_symbol(folder):
    """Hours without an update: the one that follows proves that none is missing."""
    folder.put(SPOT, update(1), update(2), snapshot(1))
    folder.put(SPOT, *(update(n, at_ms=BEGIN_MS + (n - 2) * 5 * HOUR_MS) for n in range(3, 6)))
    assert (3, 1, 2) == found(folder, (BEGIN_MS + 9 * HOUR_MS) * MS)


def test_only_the_files_that_matter_are_read(folder):
    """Neither those before the snapshot nor those after the update that follows the moment."""

    def hour(begin):
        return [update(n, at_ms=BEGIN_MS + n * MINUTE_MS) for n in range(begin, begin + 60)]

    others = [path for begin in (0, 60, 120) for path in folder.put(SPOT, *hour(begin))]
    folder.put(SPOT, *hour(180), *hour(240), snapshot(185, at_ms=BEGIN_MS + 185 * MINUTE_MS))
    others += [path for begin in (300, 360) for path in folder.put(SPOT, *hour(begin))]
    for path in others:
        path.write_bytes(b"nobody looks")
    assert (290, 185, 105) == found(folder, (BEGIN_MS + 290 * MINUTE_MS) * MS)


def test_an_update_that_a_wrong_clock_stamped(folder):
    """One that the snapshot has taken in does not end the book, though its time lies after the moment."""
    late = update(2, at_ms=BEGIN_MS + 15 * SECOND_MS)
    folder.put(SPOT, update(1), late, *map(update, range(3, 20)), snapshot(4))
    assert (10, 4, 6) == found(folder, moment(10))


@pytest.mark.parametrize("off_ms", [-3 * MINUTE_MS, -1500, 1500, 3 * MINUTE_MS, 1000 * DAY_MS])
def test_a_snapshot_that_a_wrong_clock_stamped(folder, off_ms):
    """Its place is told by its id; of spot the time is the local clock's, and a recording is played years later."""
    folder.put(SPOT, *map(update, range(1, 30)))
    for number in (5, 12):
        folder.put(SPOT, snapshot(number, at_ms=BEGIN_MS + number * SECOND_MS + off_ms))
    assert [(10, 5, 5), (13, 12, 1)] == [found(folder, moment(number)) for number in (10, 13)]


def test_other_symbols_and_markets(folder):
    """Rows of others in the same files, and the same symbol in the other market, are not in the book."""
    others = [update(n, symbol=symbol) for n in range(1, 30) for symbol in ("AAAUSDT", "ZZZUSDT")]
    folder.put(SPOT, *others, *map(update, range(1, 20)), snapshot(3), snapshot(9, symbol="AAAUSDT"))
    folder.put(FUTURES, *(Update(n, n, n - 1, BEGIN_MS + n, [(7.0, 7.0)], []) for n in range(1, 9)))
    assert (15, 3, 12) == found(folder, moment(15), market=SPOT)
    with pytest.raises(UsageError, match="BTCUSDT is recorded in futures and spot: say which with --market"):
        found(folder, moment(15))
    with pytest.raises(UsageError, match="no order book of DOGEUSDT was ever recorded here"):
        found(folder, moment(15), symbol="DOGEUSDT")
    assert (15, 9, 6) == found(folder, moment(15), symbol="AAAUSDT")


def test_futures_chain_by_previous_id(folder):
    """`U` may lie behind `pu` + 1."""
    updates = [Update(10 * n + 5, 10 * n + 9, 10 * n - 1, BEGIN_MS + n, [(100.0, 10 * n + 9.0)], []) for n in range(9)]
    folder.put(FUTURES, *updates, Snapshot(29, BEGIN_MS + 2, [(90.0, 1.0)], [(229.0, 1.0)]))
    assert (59, 29, 4) == found(folder, (BEGIN_MS + 5) * MS)


def test_updates_of_a_second_connection(folder):
    """Other windows, and updates written late, even into the next file: they are put in order by their ids."""
    folder.put(SPOT, update(1), update(2), snapshot(2), *map(update, (3, 4, 7, 8, 5)))
    folder.put(SPOT, update(6), update(9), update(11, first=8), update(10), *map(update, range(12, 15)))
    # 9 follows 8; 10 follows 9; the window from 8 to 11 reaches over 10.
    assert (13, 2, 11) == found(folder, moment(13))


def test_a_day_that_was_merged(folder):
    """A merged file of many row groups, and a segment sealed since: only its own symbol's file is read."""
    updates = [update(n, at_ms=BEGIN_MS + n * SECOND_MS) for n in range(1, 200)]
    others = folder.put(SPOT, update(1, symbol="ETHUSDT"), name="ETHUSDT.0123456789abcdef.parquet")
    folder.put(SPOT, *updates[:150], snapshot(20), name="BTCUSDT.0123456789abcdef.parquet", group_messages=20)
    folder.put(SPOT, *updates[150:])
    others[0].write_bytes(b"nobody looks")
    assert (160, 20, 140) == found(folder, moment(160))


def test_ids_that_start_over(folder):
    """Another epoch is another chain: neither updates nor snapshots of the old one count in the new one."""
    old = [update(n, at_ms=BEGIN_MS + n) for n in range(10, 30)]
    new = [update(n, epoch=1) for n in range(5, 30)]
    folder.put(SPOT, *old, snapshot(12, at_ms=BEGIN_MS + 12), *new)
    assert "there is no snapshot (depthSnapshot) at or before update 8" in reason(folder, moment(8))
    stale = Snapshot(10, BEGIN_MS + 11 * SECOND_MS, [(50.0, 1.0)], [(60.0, 1.0)])
    folder.put(SPOT, stale, snapshot(10, epoch=1))
    assert (12, 10, 2) == found(folder, moment(12))
    assert (17, 12, 5) == found(folder, (BEGIN_MS + 17) * MS)


def test_no_snapshot_before(folder):
    """The error says so, whatever lies after."""
    folder.put(SPOT, *map(update, range(1, 20)), snapshot(12))
    said = reason(folder, moment(8))
    assert said == (
        "the spot book of BTCUSDT at 2023-11-14T22:13:28.500Z is not known: there is no snapshot (depthSnapshot) "
        "at or before update 8"
    )


def test_no_update_before(folder):
    folder.put(SPOT, *map(update, range(5, 20)), snapshot(12))
    assert "no update of it was recorded in the day before" in reason(folder, moment(3))


def test_a_gap(folder):
    """Before it the book is known, behind it not until the next snapshot; nor within it."""
    folder.put(SPOT, *map(update, range(1, 10)), snapshot(3), *map(update, range(13, 20)))
    folder.put(SPOT, *map(update, range(20, 30)), snapshot(22))
    assert (8, 3, 5) == found(folder, moment(8))
    assert (25, 22, 3) == found(folder, moment(25))
    missing = (
        "updates 10 to 12 are missing, between 2023-11-14T22:13:29.000Z and 2023-11-14T22:13:33.000Z; "
        "the last snapshot before is 3 of 2023-11-14T22:13:23.400Z"
    )
    for number in (9, 11, 15, 21):
        assert missing in reason(folder, moment(number))


def test_the_moment_of_the_last_update_before_a_gap(folder):
    """Nothing has to follow it: the book is known at that very moment."""
    folder.put(SPOT, *map(update, range(1, 10)), snapshot(3), *map(update, range(13, 20)))
    assert (9, 3, 6) == found(folder, moment(9, 0))


def test_a_snapshot_that_nothing_joins(folder):
    """The update after it is missing: it is the same as a gap."""
    folder.put(SPOT, *map(update, range(1, 4)), snapshot(5), *map(update, range(8, 20)))
    assert "updates 6 to 7 are missing" in reason(folder, moment(12))


def test_the_end_of_the_data(folder):
    """At the last update the book is known; later nobody can tell."""
    folder.put(SPOT, *map(update, range(1, 20)), snapshot(3))
    assert (19, 3, 16) == found(folder, moment(19, 0))
    assert "the updates that are recorded and sealed end at 2023-11-14T22:13:39.000Z" in reason(folder, moment(19, 1))
    assert "no update of it was recorded in the day before" in reason(folder, moment(19, 2 * DAY_MS))


@pytest.mark.parametrize(("sent_ms", "stands_ms"), [(0, 0), (7, 7), (10**9, 1000), (-(10**9), 0)])
def test_a_last_update_that_was_sent_later(folder, sent_ms, stands_ms):
    """What was changed until it was sent is in it: so far the book is known; a wrong time proves little."""
    folder.put(SPOT, *map(update, range(1, 9)), snapshot(3), update(9, sent_ms=BEGIN_MS + 9 * SECOND_MS + sent_ms))
    assert (9, 3, 6) == found(folder, moment(9, stands_ms))
    assert "end at 2023-11-14T22:13:29.000Z" in reason(folder, moment(9, stands_ms + 1))


def test_updates_without_levels_and_with_deletions(folder):
    """An update may say nothing, and the row with an empty side is no level."""
    empty = Update(5, 5, 0, BEGIN_MS + 5, [], [])
    deleting = Update(6, 6, 0, BEGIN_MS + 6, [(100.0, 0.0), (99.0, 2.0)], [(300.0, 1.0)])
    folder.put(SPOT, update(4, at_ms=BEGIN_MS), Snapshot(4, BEGIN_MS, [(100.0, 1.0)], []), empty, deleting)
    made = rebuild_book(folder.root, "BTCUSDT", (BEGIN_MS + 6) * MS)
    assert ([(99.0, 2.0)], [(300.0, 1.0)], 2) == (made.book.levels("bid", 9), made.book.levels("ask", 9), made.updates)


def test_no_data_folder(tmp_path):
    with pytest.raises(UsageError, match=r"is not a data folder of streamsvc: it has no catalogue\.sqlite"):
        rebuild_book(tmp_path, "BTCUSDT", moment(1))


def test_a_file_that_is_gone(folder, monkeypatch):
    """It may have been merged meanwhile, so it is looked for again; in the end it is damage."""
    monkeypatch.setattr("streamsvc.integrity.rebuild._PAUSE_SEC", 0)
    (path,) = folder.put(SPOT, *map(update, range(1, 20)))
    folder.put(SPOT, snapshot(3))
    path.unlink()
    with pytest.raises(DamagedError, match="the catalogue lists a file that is not there"):
        rebuild_book(folder.root, "BTCUSDT", moment(5))


def test_a_file_that_is_merged_meanwhile(folder, monkeypatch):
    """Reading begins again with what the catalogue lists by then."""
    (path,) = folder.put(SPOT, *map(update, range(1, 20)))
    folder.put(SPOT, snapshot(3))
    content = path.read_bytes()
    path.unlink()
    monkeypatch.setattr("streamsvc.integrity.rebuild.time.sleep", lambda _sec: path.write_bytes(content))
    assert (5, 3, 2) == found(folder, moment(5))


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [(BEGIN_MS * MS, "2023-11-14T22:13:20.000Z"), (BEGIN_MS * MS + 1, "2023-11-14T22:13:20.000000001Z")],
)
def test_times_in_sentences(time_ns, expected):
    assert expected == time_text(time_ns)


@pytest.fixture(scope="module", params=RECORDED, ids=lambda recording: recording.name)
def recorded(request, tmp_path_factory):
    """A recording, and a folder of what sealers and publisher made of it, as a replay of today is recorded.

    So the snapshot, where it has no time of its own, is years younger than the updates that it belongs to.
    """
    if not RECORDINGS.is_dir():
        pytest.skip("the recordings (../shared/recordings) are not here")
    recording = request.param
    folder = make_folder(tmp_path_factory.mktemp(recording.name) / "data")
    publisher = make_publisher(folder)
    blocks = []
    for message in recording.messages():
        if "lastUpdateId" in message:
            text = json.dumps({"symbol": recording.symbol, "data": message}).encode()
            blocks.append(block(text, Kind.DEPTH_SNAPSHOT, recording.market, Source.REST))
        elif "U" in message:
            text = json.dumps({"stream": "btcusdt@depth@100ms", "data": message}).encode()
            blocks.append(block(text, Kind.DEPTH, recording.market, Source.STREAM))
    for number, begin in enumerate(range(0, len(blocks), SEGMENT_MESSAGES)):
        name = SegmentName(run=1, token=0, sequence=number)
        path = put_segment(folder, blocks[begin : begin + SEGMENT_MESSAGES], name)
        publisher.publish(name, seal_segment(str(path), str(folder.tmp)))
    return recording, folder


def test_the_recorded_traffic(recorded):
    """At the time of every line of the reference the whole book is equal, over midnight and many files."""
    recording, folder = recorded
    lines = recording.reference()
    for line in [*lines[::6], lines[-1]]:
        made = rebuild_book(folder.root, "BTCUSDT", line["E"] * MS)
        assert (line["u"], line["applied"]) == (made.update_id, made.updates)
        assert (line["n_bids"], line["n_asks"]) == (made.book.level_count("bid"), made.book.level_count("ask"))
        assert line["bids10"] == texts(made.book.levels("bid", 10))
        assert line["asks10"] == texts(made.book.levels("ask", 10))
        assert line["sha256_full_book"] == full_book_hash(made.book)
