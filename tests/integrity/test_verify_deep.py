"""The deep check: what a checksum cannot say, since somebody sealed it so; and what no other check reads at all."""

import json
import shutil

import numpy as np
import pytest
from compaction_samples import compact_all
from fastparquet import ParquetFile
from persistence_samples import NAME, block, segment_bytes
from verify_samples import (
    DAY_MS,
    TIME_MS,
    Recorded,
    agg_trade,
    candle,
    futures_depth,
    given_up,
    mark_price,
    opened,
    rewrite,
    setting,
    spot_depth,
    trade,
)

from streamsvc.cli import main
from streamsvc.gap import NOTE_KIND
from streamsvc.integrity.verify import verify_folder
from streamsvc.persistence.archive import archive_place
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.compression import compress
from streamsvc.persistence.parquet import read_coded, write_file
from streamsvc.schema import COLUMNS, Kind, Market

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A data folder with every kind that the samples can make, in rotations; tests work on copies."""
    recorded = Recorded(tmp_path_factory.mktemp("original") / "data")
    recorded.publish(
        *(trade(number) for number in range(5)), trade(1, symbol="ETHUSDT"), agg_trade(1), spot_depth(1, 5),
        futures_depth(11, 15, 9), candle(0), candle(1, is_closed=False, second=30), mark_price(0),
    )  # fmt: skip
    recorded.publish(*(trade(number, time_ms=TIME_MS + DAY_MS) for number in range(5, 9)), trade(9, price="NaN"))
    return recorded.root


@pytest.fixture
def recorded(original, tmp_path):
    shutil.copytree(original, tmp_path / "data")
    return Recorded(tmp_path / "data", segments=2)


def deep(recorded, **more):
    return verify_folder(recorded.root, is_deep=True, **more)


def plain_errors(recorded):
    return verify_folder(recorded.root).errors


def only_error(recorded, **more):
    (error,) = deep(recorded, **more).errors
    return error


# What is sound


@pytest.mark.parametrize("is_compacted", [False, True])
def test_nothing_is_wrong(recorded, is_compacted):
    """Rotations and merged files, waiting segments and kept texts: the deep check finds what the plain one does."""
    if is_compacted:
        compact_all(recorded)
    recorded.put_segment(trade(10), opened(3, 4), tail=b"\xf5\xf6\xf7\xf8torn")
    report, plain = deep(recorded), verify_folder(recorded.root)
    assert ([], 1, plain.rows, plain.gaps) == (report.errors, report.exit_code, report.rows, report.gaps)
    assert (1, 1, 8) == (report.unsealed_segments, report.unsealed_messages, report.torn_bytes)
    assert [] == deep(recorded, day="2023-11-14").errors


# Values that no sealer of ours writes


@pytest.mark.parametrize(
    ("part", "name", "value", "sentence"),
    [
        ("trade/market=spot/date=2023-11-14", "price", np.nan, "1 rows: price is not finite"),
        ("trade/market=spot/date=2023-11-14", "quantity", np.inf, "1 rows: quantity is not finite"),
        ("depth/market=spot", "price", -1.0, "1 rows: price is negative"),
        ("markPrice", "funding_rate", np.nan, "1 rows: funding_rate is not finite"),
        ("markPrice", "mark_price", -0.5, "1 rows: mark_price is negative"),
        ("trade/market=spot/date=2023-11-14", "receive_time", -1, "1 rows: receive_time lies before 1970"),
        ("kline_1m", "close_time", -(2**63), "1 rows: close_time lies before 1970"),
        ("aggTrade", "agg_trade_id", -7, "1 rows: agg_trade_id is negative"),
        ("trade/market=spot/date=2023-11-15", "epoch", -1, "1 rows: epoch is negative"),
        ("depth/market=futures", "side", 3, "1 rows: side is neither bid nor ask"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be(recorded, part, name, value, sentence):
    def change(columns, labels):
        if name == "side":
            labels["side"] = [*labels["side"], "middle"]
        columns[name][0] = value

    path = rewrite(recorded, part, change)
    assert f"{path}: {sentence}" in deep(recorded).errors


def test_a_text_that_is_null(recorded):
    path = rewrite(recorded, "trade/market=spot/date=2023-11-15", setting("trade_type", -1))
    assert f"{path}: 1 rows: trade_type is null" == only_error(recorded)
    assert [] == plain_errors(recorded)


def test_a_negative_funding_rate_is_what_the_exchange_sends(recorded):
    rewrite(recorded, "markPrice", setting("funding_rate", -0.5))
    assert [] == deep(recorded).errors


def test_rows_that_break_a_rule_are_counted(recorded):
    path = rewrite(recorded, "trade/market=spot/date=2023-11-14", setting("price", -1.0, slice(0, 4)))
    assert f"{path}: 4 rows: price is negative" == only_error(recorded)


@pytest.mark.parametrize("what", ["one more", "one less", "another type"])
def test_a_file_with_other_columns(recorded, what):
    def change(columns, _labels):
        if what == "one more":
            columns["note"] = np.zeros(len(columns["symbol"]), np.int64)
        elif what == "one less":
            del columns["is_buyer_maker"]

    path = rewrite(recorded, "aggTrade", change, keep_schema=False)
    if what == "another type":
        columns = {
            name: "float64" if name == "first_trade_id" else dtype for name, dtype in COLUMNS[Kind.AGG_TRADE].items()
        }
        (group,) = read_coded(recorded.root / path, list(columns))
        values = group.columns | {
            "first_trade_id": group.columns["first_trade_id"].astype(np.float64),
            "symbol": group.columns["symbol"].astype(np.int32),
        }
        with (recorded.root / path).open("wb") as file:
            write_file(file, columns, group.labels, [values])
        recorded.replace_bytes(path, (recorded.root / path).read_bytes())
    name = {"one more": "note", "one less": "is_buyer_maker", "another type": "first_trade_id"}[what]
    assert f"{path}: its columns are not those of aggTrade ({name})" == only_error(recorded)
    assert [] == plain_errors(recorded)


def test_a_column_that_no_other_check_reads_cannot_be_decoded(recorded):
    """Its bytes are those that were sealed: whoever sealed them had a broken memory."""
    (path,) = recorded.folder.parquet.glob("trade/*/date=2023-11-14/*.parquet")
    content = bytearray(path.read_bytes())
    (chunk,) = [each.meta_data for each in ParquetFile(path).row_groups[0].columns if "price" in str(each.meta_data)]
    begin = content.index(ZSTD_MAGIC, chunk.data_page_offset)
    content[begin : begin + 4] = b"none"
    recorded.replace_bytes(path.relative_to(recorded.root).as_posix(), bytes(content))
    assert [] == plain_errors(recorded)
    assert "cannot be read" in only_error(recorded)


def test_the_catalogue_has_other_times_of_a_file(recorded):
    """`dataset.load` asks by them, and would miss rows that are there."""
    recorded.sql("update files set last_exchange_ns = last_exchange_ns - 1 where path like '%aggTrade%'")
    assert "readers may miss it" in only_error(recorded)
    assert [] == plain_errors(recorded)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_compacted_file_out_of_order(recorded, is_known):
    compact_all(recorded)

    def change(columns, _labels):
        if is_known:
            for name in columns:
                columns[name][:2] = columns[name][1::-1].copy()

    (path,) = recorded.folder.parquet.glob("trade/market=spot/date=2023-11-15/BTCUSDT.*.parquet")
    rewrite(recorded, path.name, change)
    assert is_known == any("they are not in order" in error for error in deep(recorded).errors)
    assert [] == plain_errors(recorded)


def test_a_compacted_file_of_another_symbol(recorded):
    """A reader of that symbol alone passes it over, by its name."""
    compact_all(recorded)
    (path,) = recorded.folder.parquet.glob("trade/market=spot/date=2023-11-15/BTCUSDT.*.parquet")
    target = path.relative_to(recorded.root).as_posix().replace("BTCUSDT", "BNBUSDT")
    recorded.move(path.relative_to(recorded.root).as_posix(), target)
    assert f"{target}: 4 rows: symbol is another than the file's name says" == only_error(recorded)
    assert [] == plain_errors(recorded)


# The catalogue


def test_rows_are_gone_from_the_end_of_a_stream(recorded):
    """No id behind them shows a hole; the catalogue still knows how far the stream came."""
    (path,) = recorded.folder.parquet.glob("trade/*/date=2023-11-15/*.parquet")
    path.unlink()
    recorded.sql("delete from files where path = ?", path.relative_to(recorded.root).as_posix())
    assert [] == plain_errors(recorded)
    assert "catalogue: spot trade: the files of BTCUSDT end at 4, and it was recorded up to 8" == only_error(recorded)


def test_all_of_a_stream_is_gone(recorded):
    """A kind with ids, and one whose place is known by its time."""
    for part in ("aggTrade", "markPrice"):
        (path,) = recorded.folder.parquet.glob(f"{part}/*/*/*.parquet")
        path.unlink()
        recorded.sql("delete from files where path = ?", path.relative_to(recorded.root).as_posix())
    assert [
        f"catalogue: futures markPrice: BTCUSDT was recorded up to {TIME_MS * 10**6}, and no file has a row of it",
        "catalogue: spot aggTrade: BTCUSDT was recorded up to 1, and no file has a row of it",
    ] == sorted(deep(recorded).errors)


def test_days_that_were_removed_are_not_missed(recorded):
    """What ended before the oldest day that is left may have gone with `RETENTION_DAYS`."""
    for path in recorded.folder.parquet.glob("*/*/date=2023-11-14/*.parquet"):
        path.unlink()
        recorded.sql("delete from files where path = ?", path.relative_to(recorded.root).as_posix())
    assert [] == deep(recorded).errors


@pytest.mark.parametrize("change", ["last_id = 7", "last_id = 9"])
def test_the_catalogue_has_another_last_id(recorded, change):
    """Too low, what is recorded next would count as there already; too high, as missing."""
    recorded.sql(f"update streams set {change} where symbol = 'BTCUSDT' and kind = 'trade'")
    assert only_error(recorded).startswith("catalogue: spot trade: the files of BTCUSDT ")
    assert [] == plain_errors(recorded)


def test_the_catalogue_does_not_know_a_stream(recorded):
    recorded.sql("delete from streams where symbol = 'ETHUSDT'")
    assert "catalogue: spot trade: the stream ETHUSDT, epoch 0 has files, and is not known" == only_error(recorded)


@pytest.mark.parametrize("asked", ["last_ids", "sealed_files"])
def test_what_is_published_meanwhile_is_no_disagreement(recorded, monkeypatch, asked):
    """The catalogue goes on between two questions: the files hold what the first answer says, or more."""
    real, done = getattr(Catalogue, asked), []

    def publish_behind(catalogue):
        answer = real(catalogue)
        if not done:
            done.append(recorded.publish(trade(10, time_ms=TIME_MS + DAY_MS), agg_trade(2)))
        return answer

    monkeypatch.setattr(Catalogue, asked, publish_behind)
    assert [] == deep(recorded).errors


def test_an_index_of_the_catalogue_is_damaged(recorded):
    """Whoever asks by it is told something else than the table has."""
    recorded.publish(opened(20, 30), given_up(20, 24))
    recorded.script(
        "pragma writable_schema = on; "
        "update sqlite_master set sql = 'create index gaps_of_stream on gaps (symbol, market, kind, epoch, first_id)' "
        "where name = 'gaps_of_stream'"
    )
    assert [] == plain_errors(recorded)
    assert any("catalogue.sqlite: " in error and "gaps_of_stream" in error for error in deep(recorded).errors)


# The journal, and kept texts


@pytest.mark.parametrize("is_aside", [False, True])
def test_a_segment_is_damaged_in_its_middle(recorded, is_aside):
    name = recorded.put_segment(trade(10), trade(11), trade(12))
    path = recorded.folder.segment(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if is_aside:
        path.rename(path := recorded.folder.failed / path.name)
    place = path.relative_to(recorded.root).as_posix()
    report = deep(recorded)
    assert [f"{place}: it could not be sealed"] * is_aside == [each for each in report.errors if "sealed" in each]
    assert any(each.startswith(f"{place}: ") and "(damaged_frame)" in each for each in report.errors)
    assert 2 == report.unsealed_messages


def test_a_note_for_the_ledger_that_is_none(recorded):
    name = recorded.put_segment((Market.SPOT, NOTE_KIND, b'{"note":"lost"}', 0))
    assert f"journal/{name}.journal: 1 notes for the gap ledger cannot be read" == only_error(recorded)


def test_a_segment_of_a_newer_version(recorded):
    name = recorded.put_segment(trade(10))
    path = recorded.folder.segment(name)
    content = path.read_bytes()
    from streamsvc.persistence import journal  # noqa: PLC0415 - what a newer one would write

    old, journal.VERSION = journal.VERSION, 99
    try:
        header = journal.encode_header(name)
    finally:
        journal.VERSION = old
    path.write_bytes(header + content[len(header) :])
    assert "was written in format 99 by a newer version" in only_error(recorded)


def test_a_segment_is_sealed_while_we_look(recorded, monkeypatch):
    name = recorded.put_segment(trade(10))
    monkeypatch.setattr(type(recorded.folder), "segments", lambda _folder: [name])
    recorded.folder.segment(name).unlink()
    assert [] == deep(recorded).errors


@pytest.mark.parametrize(
    "line",
    [b"no json", b"[1]", b'{"text":"x"}', b'{"reason":"syntax"}', b'{"reason":"syntax","base64":"?"}',
     b'{"reason":"syntax","base64":7}', b'{"reason":"syntax","text":7}', b'{"reason":"\xff","text":"x"}'],
)  # fmt: skip
def test_a_kept_text_is_damaged(recorded, line):
    (path,) = recorded.folder.quarantine.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + line + b"\n" + b'{"reason":"utf8","base64":"/w=="}\n')
    assert f"quarantine/{path.name}: 1 lines are no kept texts, the first is line 2" == only_error(recorded)
    assert [] == plain_errors(recorded)


def test_a_kept_text_that_was_not_written_whole(recorded):
    """A kill leaves such, of what nobody could read anyway."""
    (path,) = recorded.folder.quarantine.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"reason":"syn')
    report = deep(recorded)
    assert ([], 14) == (report.errors, report.torn_bytes)


def test_a_kept_text_that_cannot_be_read(recorded, monkeypatch):
    (path,) = recorded.folder.quarantine.glob("*.jsonl")
    real_open = type(path).open

    def failing_open(self, *args, **kwargs):
        if self == path:
            raise OSError(5, "Input/output error", str(self))
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(type(path), "open", failing_open)
    assert "Input/output error" in only_error(recorded)


def test_the_command_reads_deep(recorded, capsysbinary):
    rewrite(recorded, "markPrice", setting("mark_price", np.nan))
    assert 1 == main(["verify", str(recorded.root)])
    assert 3 == main(["verify", str(recorded.root), "--deep", "--day", "2023-11-14"])
    capsysbinary.readouterr()
    assert 3 == main(["verify", str(recorded.root), "--deep", "--json"])
    report = json.loads(capsysbinary.readouterr().out)
    assert (True, 1) == (report["deep"], len(report["errors"]))


@pytest.mark.parametrize("damage", ["cut", "flipped", None])
def test_an_archived_segment(recorded, damage):
    """What RAW_ARCHIVE keeps is read as well."""
    path = recorded.root / archive_place(NAME, 1, 1)
    path.parent.mkdir(parents=True)
    content = bytearray(compress(segment_bytes([block([b"{}"])])))
    if damage == "flipped":
        content[10] ^= 0xFF
    path.write_bytes(content[:20] if damage == "cut" else content)
    errors = deep(recorded).errors
    assert (damage is not None) == bool([error for error in errors if path.name in error]), errors
