"""The command `streamsvc book`: times as people and programs write them, JSON, a table, exit codes."""

import json

import pytest
from book_samples import MS, BookFolder, Snapshot, Update

from streamsvc.cli import main
from streamsvc.errors import UsageError
from streamsvc.integrity.book_report import parse_moment
from streamsvc.schema import Market

TIME_MS = 1_700_000_000_000
"""2023-11-14T22:13:20Z."""
MOMENT = "2023-11-14T22:13:21"


@pytest.fixture
def folder(tmp_path):
    """A book of three levels, its last update two seconds after the first."""
    made = BookFolder(tmp_path / "data")
    levels = [(61836.0, 0.00009), (61835.5, 120000.0)], [(61836.5, 1.0)]
    made.put(
        Market.SPOT,
        Update(1, 4, 0, TIME_MS, [], []),
        Snapshot(4, TIME_MS, *levels),
        Update(5, 9, 0, TIME_MS + 1000, [(61836.0, 2.5)], []),
        Update(10, 12, 0, TIME_MS + 2000, [(61837.0, 1.0)], []),
    )
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000250", 1_700_000_000_250 * MS),
        ("1700000000250000001", 1_700_000_000_250_000_001),
        ("999999999999", 999_999_999_999 * MS),
        ("2023-11-14T22:13:20Z", TIME_MS * MS),
        ("2023-11-14t22:13:20z", TIME_MS * MS),
        ("2023-11-14 22:13:20", TIME_MS * MS),
        ("2023-11-14T22:13:20.25", TIME_MS * MS + 250 * MS),
        ("2023-11-14T22:13:20,123456789Z", TIME_MS * MS + 123_456_789),
        ("2023-11-15T00:13:20+02:00", TIME_MS * MS),
        ("2023-11-14T22:13", (TIME_MS - 20_000) * MS),
        ("2023-11-14", TIME_MS // 86_400_000 * 86_400_000 * MS),
    ],
)
def test_times(text, expected):
    """ISO 8601 is UTC where it names no zone; integers are milliseconds or nanoseconds by their length."""
    assert expected == parse_moment(text)


@pytest.mark.parametrize(
    "text",
    ["", "now", "17", "1700000000", "1700000000000000", "9999999999999999999", "²023-11-14", "2023-13-14", "20231114",
     "2023-11-14T22", "2023-11-14T22:13.5", "2023-11-14T25:00", "1969-12-31", "2300-01-01", "-1700000000000"],
)  # fmt: skip
def test_what_is_no_time(text):
    """Seconds and microseconds are refused, not guessed at."""
    with pytest.raises(UsageError, match="is no time: give ISO 8601 in UTC"):
        parse_moment(text)


def test_json(folder, capsys):
    """Prices and quantities are the exchange's decimals, times are ns."""
    assert 0 == main(["book", str(folder.root), "btcusdt", MOMENT, "--levels", "1", "--json"])
    said = capsys.readouterr()
    assert "" == said.err
    assert {
        "market": "spot",
        "symbol": "BTCUSDT",
        "time_ns": (TIME_MS + 1000) * MS,
        "exchange_time_ns": (TIME_MS + 1000) * MS,
        "update_id": 9,
        "snapshot_update_id": 4,
        "snapshot_time_ns": TIME_MS * MS,
        "updates": 1,
        "is_crossed": False,
        "bid_levels": 2,
        "ask_levels": 1,
        "bids": [["61836", "2.5"]],
        "asks": [["61836.5", "1"]],
    } == json.loads(said.out)


def test_a_table(folder, capsys):
    """Plain lines where there is no terminal; both sides best first, however many levels each has."""
    assert 0 == main(["book", str(folder.root), "BTCUSDT", "1700000000500", "--market", "spot"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [
        ["BTCUSDT", "spot", "at", "2023-11-14T22:13:20.500Z"],
        ["bid", "quantity", "bid", "ask", "ask", "quantity"],
        ["0.00009", "61836", "61836.5", "1"],
        ["120000", "61835.5"],
        ["2", "bids,", "1", "asks"],
        ["last", "update", "4", "of", "2023-11-14T22:13:20.000Z"],
        ["from", "the", "snapshot", "4", "of", "2023-11-14T22:13:20.000Z", "and", "0", "updates"],
    ] == lines


def test_a_crossed_book(folder, capsys):
    """People and programs are told."""
    arguments = ["book", str(folder.root), "BTCUSDT", "2023-11-14T22:13:22"]
    assert 0 == main(arguments)
    assert "CROSSED: the best bid is not below the best ask" in capsys.readouterr().out
    assert 0 == main([*arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["is_crossed"]


def test_a_book_that_is_not_known(folder, capsys):
    """A sentence, nothing on standard output, exit code 1."""
    assert 1 == main(["book", str(folder.root), "BTCUSDT", "2023-11-14T22:13:23", "--json"])
    said = capsys.readouterr()
    assert ("", True) == (said.out, said.err.startswith("streamsvc: the spot book of BTCUSDT at 2023-11-14T22:13:23"))
    assert 1 == len(said.err.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["DOGEUSDT", MOMENT],
        ["BTCUSDT", "yesterday"],
        ["BTCUSDT"],
        ["BTCUSDT", MOMENT, "--market", "options"],
        ["BTCUSDT", MOMENT, "--levels", "0"],
    ],
)
def test_wrong_usage(folder, capsys, arguments):
    assert 2 == main(["book", str(folder.root), *arguments])
    said = capsys.readouterr()
    assert ("", True) == (said.out, bool(said.err))


def test_a_folder_that_is_none(tmp_path, capsys):
    assert 2 == main(["book", str(tmp_path), "BTCUSDT", MOMENT])
    assert "is not a data folder of streamsvc" in capsys.readouterr().err
