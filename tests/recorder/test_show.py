"""`streamsvc trades` as a user meets it."""

import gzip
import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import trio

from streamsvc.cli import main
from streamsvc.recorder import open_trade_recorder

PROGRAM = Path(sys.executable).with_name("streamsvc")
AT = "2025-11-04T15:20:30.125000Z"


@pytest.fixture
def path(tmp_path):
    """30 records: ten in a compressed file, ten in a rotated one, ten in the live one."""
    path = tmp_path / "trades.jsonl"
    records = [
        {"n": n, "symbol": ["BTCUSDT", "ETHUSDT"][n % 2], "price": 50_000.5 + n, "entry": {"side": "long", "at": AT}}
        for n in range(30)
    ]
    lines = [(json.dumps(record) + "\n").encode() for record in records]
    (tmp_path / "trades_20251104_152029.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:10])))
    (tmp_path / "trades_20251104_152030.jsonl").write_bytes(b"".join(lines[10:20]))
    path.write_bytes(b"".join(lines[20:]))
    return path


@pytest.fixture
def trades(path, capfdbinary):
    """Calls the command; returns its exit code, output and errors."""

    def call(*arguments, of=path):
        code = main(["trades", str(of), *map(str, arguments)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


def numbers_of(out):
    return [json.loads(line)["n"] for line in out.splitlines()]


def test_a_table_of_the_last_twenty(trades):
    code, out, err = trades()
    lines = out.splitlines()
    assert (0, 21, "20 of 30 records; --last N shows more, --json all\n") == (code, len(lines), err)
    assert ["n", "symbol", "price", "entry.side", "entry.at"] == lines[0].split()
    assert ["29", "ETHUSDT", "50029.5", "long", AT] == lines[-1].split()


def test_all_of_them_in_order(trades):
    code, out, _ = trades("--json")
    assert (0, list(range(30))) == (code, numbers_of(out))


@pytest.mark.parametrize(
    ("wheres", "expected"),
    [
        (["symbol=BTCUSDT"], range(0, 30, 2)),
        (["symbol=BTCUSDT", "n=4"], [4]),
        (["price=50003.5"], [3]),
        (["entry.side=long", "symbol=ETHUSDT"], range(1, 30, 2)),
        (["entry.side=short"], []),
        (["nothing=1"], []),
    ],
)
def test_only_such(trades, wheres, expected):
    code, out, _ = trades("--json", *[word for where in wheres for word in ("--where", where)])
    assert (0, list(expected)) == (code, numbers_of(out))


def test_the_last_so_many(trades):
    assert [28, 29] == numbers_of(trades("--json", "--last", 2)[1])
    assert 3 == len(trades("--last", 2)[1].splitlines())


def test_none_that_fits(trades):
    assert (0, "", "0 of 0 records\n") == trades("--where", "n=77")


def test_what_cannot_be_read_is_told_and_the_rest_is_shown(trades, path):
    """The exit code says it too."""
    with path.open("ab") as file:
        file.write(b'{"n":\n{"n":30}\n{"n":3')
    packed = path.with_name("trades_20251104_152029.jsonl.gz")
    packed.write_bytes(packed.read_bytes()[:-12])
    code, out, err = trades("--json")
    assert (3, list(range(10, 31))) == (code, numbers_of(out)[-21:])
    assert "trades.jsonl, line 11" in err
    assert "cannot be unpacked" in err
    assert 2 == len(err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "symbol"], "say FIELD=VALUE"),
        (["--follow", "--last", "1"], "exclude each other"),
        (["--to-parquet", "trades.jsonl"], "is there already"),
        (["--where", "n=77", "--to-parquet", "new.parquet"], "there is no such record"),
    ],
)
def test_wrong_usage(trades, path, monkeypatch, arguments, said):
    monkeypatch.chdir(path.parent)
    code, out, err = trades(*arguments)
    assert (2, "") == (code, out)
    assert said in err
    assert not (path.parent / "new.parquet").exists()


def test_where_nothing_is(trades, tmp_path):
    code, _, err = trades(of=tmp_path / "nothing.jsonl")
    assert 2 == code
    assert "nothing.jsonl: there are no records" in err


def test_to_parquet(trades, path, tmp_path):
    """Each column has the type that holds all of its values, and nulls where there is none."""
    with path.open("ab") as file:
        file.write(b'{"n":30,"price":1,"big":123456789012345678901,"mixed":1,"is":true,"list":[1,"a"],"none":null}\n')
        file.write(b'{"n":31,"mixed":"a","is":false}\n')
    target = tmp_path / "trades.parquet"
    code, out, _ = trades("--to-parquet", target)
    assert (0, f"32 records: {target}\n") == (code, out)
    read = pq.read_table(target)
    assert {
        "n": "int64",
        "symbol": "string",
        "price": "double",
        "entry.side": "string",
        "entry.at": "timestamp[ns]",
        "big": "string",
        "mixed": "string",
        "is": "bool",
        "list": "string",
        "none": "string",
    } == {
        name: str(kind).replace(", tz=UTC", "") for name, kind in zip(read.schema.names, read.schema.types, strict=True)
    }
    rows = read.to_pylist()
    assert list(range(32)) == [row["n"] for row in rows]
    assert AT.removesuffix("Z") == rows[0]["entry.at"].isoformat()
    assert (1.0, "123456789012345678901", "1", True, '[1,"a"]', None, None) == tuple(
        rows[30][name] for name in ("price", "big", "mixed", "is", "list", "none", "symbol")
    )
    assert [None, "1", "a"] == [row["mixed"] for row in rows[29:]]
    assert [] == list(tmp_path.glob("*.part"))


def test_follow_in_a_process(tmp_path):
    """What is written meanwhile comes, over rotations; Ctrl-C ends it well. The file need not be there yet."""
    path = tmp_path / "trades.jsonl"
    options = {"trades_file": path, "rotation_size_mb": 0.001, "flush_interval_sec": 0.01}

    async def write():
        async with open_trade_recorder(**options) as recorder:
            for n in range(200):
                await recorder.write_trade({"n": n, "at": datetime.now(UTC)})
                await trio.sleep(0.002)

    def as_in_a_terminal():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # A shell has those that it starts in the background ignore it.

    with subprocess.Popen(
        [PROGRAM, "trades", path, "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=as_in_a_terminal,  # noqa: PLW1509
    ) as process:
        try:
            trio.run(write)
            assert list(range(200)) == [json.loads(process.stdout.readline())["n"] for _ in range(200)]
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert (b"", b"", 0) == (*process.communicate(timeout=30), process.returncode)
        finally:
            process.kill()


def test_a_reader_that_goes_away(path):
    """As `head` does: no traceback."""
    command = f"{PROGRAM} trades {path} --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert (b"", 0) == (done.stderr, numbers_of(done.stdout.decode())[0])
