"""The catalogue: one transaction a segment, last ids that never fall, clear words about files that cannot be used."""

import sqlite3

import attrs
import pytest
from persistence_samples import NAME

from streamsvc.errors import DamagedError, DiskFullError, NewerVersionError, UsageError
from streamsvc.persistence.catalogue import SCHEMA_VERSION, Catalogue, LastId, SealedFile
from streamsvc.persistence.manifest import Manifest, QuarantinedId, StreamRange
from streamsvc.schema import Kind, Market

FILE = SealedFile("parquet/trade/a.parquet", "trade", "spot", "2024-08-08", 3, 100, "ab", 1, 2)
STREAM = StreamRange(Market.SPOT, Kind.TRADE, "BTCUSDT", 0, 3, 5, 9, 20, 30)
MANIFEST = Manifest(
    segment=str(NAME),
    folder="",
    files=(FILE,),
    streams=(STREAM,),
    messages=4,
    quarantined={"negative": 1},
    quarantined_ids=(QuarantinedId(Market.SPOT, Kind.TRADE, "BTCUSDT", 0, 7, 7, "negative"),),
    damage={"torn_tail": 12},
)


@pytest.fixture
def catalogue(tmp_path):
    made = Catalogue(tmp_path / "catalogue.sqlite")
    made.prepare()
    return made


def test_what_was_committed_is_read(catalogue):
    catalogue.commit(MANIFEST, 1)
    assert ([FILE], True, 1, {"torn_tail": 12}) == (
        catalogue.sealed_files(),
        catalogue.is_committed(str(NAME)),
        catalogue.quarantined_messages(),
        catalogue.damage(),
    )
    assert (True, False) == (catalogue.has_file(FILE.path), catalogue.has_file("other"))


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(9, 4, 9), (4, 9, 9), (None, 4, 4), (4, None, 4), (None, None, None)]
)
def test_the_last_id_of_a_stream_is_a_maximum(catalogue, first, second, expected):
    """Old segments are sealed beside new ones, so they may come in any order."""
    for segment, last_id in (("a", first), ("b", second)):
        stream = attrs.evolve(STREAM, last_id=last_id)
        catalogue.commit(Manifest(segment=segment, folder="", streams=(stream,)), 1)
    times = STREAM.last_exchange_ns, STREAM.last_received_ns
    assert [LastId(Market.SPOT, "BTCUSDT", Kind.TRADE, 0, expected, *times)] == catalogue.last_ids()


def test_epochs_have_their_own_last_ids(catalogue):
    """Where the exchange starts its ids over, a small id is not an old one."""
    streams = (STREAM, attrs.evolve(STREAM, epoch=1, last_id=2))
    catalogue.commit(Manifest(segment="a", folder="", streams=streams), 1)
    assert {(0, 9), (1, 2)} == {(each.epoch, each.last_id) for each in catalogue.last_ids()}


def test_a_commit_that_fails_changes_nothing(catalogue):
    """All of a segment or nothing of it."""
    broken = attrs.evolve(MANIFEST, streams=(attrs.evolve(STREAM, last_id=2**63),))
    with pytest.raises(OverflowError):
        catalogue.commit(broken, 1)
    assert ([], False, []) == (catalogue.sealed_files(), catalogue.is_committed(str(NAME)), catalogue.last_ids())


def test_a_commit_survives_a_power_cut(catalogue):
    """The segment is removed once it is committed, so the commit must be on the disk by then."""
    with catalogue._connection() as connection:
        full = 2
        assert (full, "wal") == (
            connection.execute("pragma synchronous").fetchone()[0],
            connection.execute("pragma journal_mode").fetchone()[0],
        )


def test_preparing_again_changes_nothing(catalogue):
    catalogue.commit(MANIFEST, 1)
    catalogue.prepare()
    assert [FILE] == catalogue.sealed_files()


def test_a_newer_catalogue_is_refused(catalogue, tmp_path):
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.execute(f"pragma user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(NewerVersionError, match="newer version"):
        catalogue.prepare()
    with (
        pytest.raises(NewerVersionError, match="newer version"),
        Catalogue.open_to_read(tmp_path / "catalogue.sqlite"),
    ):
        pytest.fail("it was opened")


@pytest.mark.parametrize("place", [0, 40, 4096])
def test_a_damaged_catalogue_says_what_to_do(catalogue, tmp_path, place):
    catalogue.commit(MANIFEST, 1)
    path = tmp_path / "catalogue.sqlite"
    data = bytearray(path.read_bytes())
    data[place:] = b"\xff" * (len(data) - place)
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="moves it aside"):
        catalogue.sealed_files()


def test_a_catalogue_without_its_tables_is_damaged(tmp_path):
    """Such as one that another program has made."""
    connection = sqlite3.connect(tmp_path / "catalogue.sqlite")
    connection.execute("pragma user_version = 1")
    connection.close()
    with pytest.raises(DamagedError, match="no such table"):
        Catalogue(tmp_path / "catalogue.sqlite").sealed_files()


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    with pytest.raises(UsageError, match="cannot be used"):
        Catalogue(tmp_path / "missing" / "catalogue.sqlite").prepare()


def test_reading_makes_no_catalogue(tmp_path):
    path = tmp_path / "catalogue.sqlite"
    with pytest.raises(UsageError, match="unable to open"), Catalogue.open_to_read(path):
        pytest.fail("it was opened")
    assert not path.exists()


def test_it_is_read_while_it_is_written(catalogue, tmp_path):
    """`verify` looks at a folder that is being recorded into."""
    with Catalogue.open_to_read(tmp_path / "catalogue.sqlite") as reader:
        assert [] == reader.sealed_files()
        catalogue.commit(MANIFEST, 1)
        assert [FILE] == reader.sealed_files()


def test_a_full_disk_is_no_damage(catalogue, tmp_path, monkeypatch):
    """SQLite's own limit on pages stands for the disk's."""
    connect = sqlite3.connect

    def tight(*args, **options):
        connection = connect(*args, **options)
        connection.execute("pragma max_page_count = 1")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", tight)
        many = tuple(attrs.evolve(STREAM, symbol=f"S{number}" * 50) for number in range(1000))
        with pytest.raises(DiskFullError):
            catalogue.commit(attrs.evolve(MANIFEST, streams=many), 1)
    assert ([], False) == (catalogue.sealed_files(), catalogue.is_committed(str(NAME)))


def test_runs_are_numbered_upwards(catalogue):
    assert [1, 2, 7, 8] == [catalogue.begin_run(at_least, 0, 0) for at_least in (1, 1, 7, 3)]


def test_what_the_gap_ledger_and_bans_will_need_is_there(catalogue, tmp_path):
    """A table that came later would cost the users' catalogues a migration."""
    connection = sqlite3.connect(tmp_path / "catalogue.sqlite")
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    connection.close()
    assert {"gaps", "bans", "files", "streams", "segments", "runs"} <= tables


def test_a_catalogue_that_cannot_be_opened_in_mid_run_is_tried_again(catalogue, tmp_path):
    """Too many open files are no mistake of the user's: the service must neither end with 2 nor stop."""
    (tmp_path / "catalogue.sqlite").unlink()
    (tmp_path / "catalogue.sqlite").mkdir()
    with pytest.raises(DiskFullError, match="unable to open"):
        catalogue.commit(MANIFEST, 1)
    with pytest.raises(UsageError, match="cannot be used"):
        catalogue.prepare()


@pytest.mark.parametrize(("now_ns", "until_ns"), [(150, 190), (1000, 190), (20, 110)])
def test_a_ban_lasts_no_longer_than_it_was_said(catalogue, now_ns, until_ns):
    """A clock that was ahead when it was kept, and was set back, must not close REST for as long."""
    catalogue.note_ban("host", 190, 418, "banned", 100)
    assert {"host": until_ns} == catalogue.bans(now_ns)
