"""Sealing derived rows: what the analytics told is what the files hold."""

from decimal import Decimal
from functools import partial
from pathlib import Path

import attrs
import pytest
from derived_samples import MINUTE_MS, OPEN_MS, derived_block, derived_text, derived_values
from hypothesis import given, settings
from hypothesis import strategies as st
from persistence_samples import RECEIVED_NS, block, make_folder, spot_trade
from seal_support import quarantined, rows_of, seal_content

from streamsvc.derived import ROW_COLUMNS, encode_row
from streamsvc.gap import NOTE_KIND
from streamsvc.persistence.describing import describe_file
from streamsvc.persistence.manifest import QuarantinedId, StreamRange
from streamsvc.schema import COLUMNS, DERIVED_KINDS, SIGNED_COLUMNS, Kind, Market

KINDS = sorted(DERIVED_KINDS)


@pytest.fixture
def seal(tmp_path):
    return partial(seal_content, make_folder(tmp_path))


def decimals(*, is_signed):
    """Decimals of up to 15 significant digits, wherever their point stands."""
    digits = st.integers(-(10**15) + 1 if is_signed else 0, 10**15 - 1)
    return st.builds(lambda number, places: Decimal(number).scaleb(-places), digits, st.integers(0, 18))


def rows_of_kind(kind):
    values = {
        "string": st.sampled_from(["BTCUSDT", "1000PEPEUSDT", "币安人生USDT"]),
        "timestamp": st.integers(0, 1000).map(lambda number: OPEN_MS + number * 1000),
        "int64": st.integers(0, 2**63 - 1),
        "int32": st.integers(0, 2**31 - 1),
        "bool": st.booleans(),
    }
    columns = {
        name: decimals(is_signed=name in SIGNED_COLUMNS) if dtype == "float64" else values[dtype]
        for name, dtype in ROW_COLUMNS[kind].items()
    }
    return st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_a_row_comes_back_as_it_was_told(kind, tmp_path_factory):
    """Encode, seal, read: the same decimals, signs and integers, for every number of up to 15 digits."""
    folder = make_folder(tmp_path_factory.mktemp(kind.label))

    @settings(max_examples=25, deadline=None)
    @given(rows_of_kind(kind))
    def come_back(rows):
        manifest = seal_content(folder, [derived_block(kind, [encode_row(kind, row) for row in rows])])
        assert ({}, 0) == (manifest.quarantined, manifest.inexact_decimals)
        got = [dict(zip(COLUMNS[kind], row, strict=True)) for row in rows_of(manifest, kind)]
        # A file is of one day; the rows of a day keep their order.
        for expected, row in zip(sorted(rows, key=_day), got, strict=True):
            times = dict.fromkeys(("open_time", "exchange_time"), expected["open_time"] * 10**6)
            whole = expected | times | {"receive_time": RECEIVED_NS}
            assert whole == {
                name: Decimal(repr(value)) if COLUMNS[kind][name] == "float64" else value for name, value in row.items()
            }

    come_back()


def _day(row):
    return row["open_time"] // (1440 * MINUTE_MS)


def test_a_quotient_is_rounded_to_what_float64_gives_back(seal):
    """Else the text of every second would be kept beside the files."""
    third = Decimal(1) / 3
    manifest = seal([derived_block(Kind.PRICES_1S, [derived_text(Kind.PRICES_1S, microprice=third)])])
    ((row,), column) = rows_of(manifest, Kind.PRICES_1S), list(COLUMNS[Kind.PRICES_1S]).index("microprice")
    assert (float("0." + 15 * "3"), 0) == (row[column], manifest.inexact_decimals)


def test_a_sum_with_more_digits_is_kept_as_text_too(seal):
    manifest = seal([derived_block(Kind.CVD_1M, [derived_text(Kind.CVD_1M, cvd=Decimal(-1234567890123456))])])
    ((line,), (row,)) = quarantined(manifest, "inexact.jsonl"), rows_of(manifest, Kind.CVD_1M)
    assert ("inexact", "cvd_1m") == (line["reason"], line["kind"])
    assert -1234567890123456.0 in row


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b'"delta":"0"': b'"delta":0.5'}, "wrong_shape"),
        ({b'"delta":"0",': b""}, "wrong_shape"),
        ({b'"cvd":"0"': b'"cvd":"NaN"'}, "not_finite"),
        ({b'"buy_quantity":"0"': b'"buy_quantity":"-1"'}, "negative"),
        ({b'"revision":0': b'"revision":-1'}, "wrong_shape"),
        ({str(OPEN_MS).encode(): b"-1"}, "wrong_shape"),
        ({b"{": b"{{"}, "malformed"),
    ],
    ids=["bare", "missing", "nan", "negative", "revision", "time", "json"],
)
def test_a_bad_row_costs_itself_and_nothing_else(seal, change, reason):
    good = derived_text(Kind.CVD_1M)
    ((old, new),) = change.items()
    bad = good.replace(old, new)
    assert bad != good
    manifest = seal([derived_block(Kind.CVD_1M, [good, bad, good])])
    (line,) = quarantined(manifest)
    assert [2, bad.decode(), reason] == [len(rows_of(manifest, Kind.CVD_1M)), line["text"], line["reason"]]


def test_derived_rows_stand_beside_streams_in_one_segment(seal):
    """Files, streams and messages of each; neither takes the other's."""
    note = attrs.evolve(derived_block(Kind.CVD_1M, [b'{"note":"x"}']), kinds=bytes([NOTE_KIND]))
    texts = [derived_text(Kind.CVD_1M, delta=Decimal("-1.5"), revision=revision) for revision in (0, 1)]
    manifest = seal(
        [
            block([spot_trade(1), spot_trade(2)]),
            derived_block(Kind.CVD_1M, texts),
            note,
            derived_block(Kind.CVD_1M, texts[:1], Market.FUTURES),
        ]
    )
    assert (5, {}, (b'{"note":"x"}',)) == (manifest.messages, manifest.quarantined, manifest.notes)
    assert {("cvd_1m", "spot", 2), ("cvd_1m", "futures", 1), ("trade", "spot", 2)} == {
        (file.kind, file.market, file.rows) for file in manifest.files
    }
    of_cvd = StreamRange(Market.SPOT, Kind.CVD_1M, "BTCUSDT", 0, 2, None, None, OPEN_MS * 10**6, RECEIVED_NS)
    assert of_cvd in manifest.streams


def test_a_refused_row_is_no_id_that_anybody_misses(seal):
    """Its symbol is told, where it can be read; the ledger takes notice of chained kinds alone."""
    manifest = seal([derived_block(Kind.CVD_1M, [derived_text(Kind.CVD_1M, buy_quantity=Decimal(-1)), b"{}"])])
    assert (QuarantinedId(Market.SPOT, Kind.CVD_1M, "BTCUSDT", 0, 0, 0, "negative"),) == manifest.quarantined_ids


def test_rows_with_wild_times_open_no_more_days_than_those_of_streams(seal):
    texts = [derived_text(Kind.CVD_1M, open_time=OPEN_MS - days * 1440 * MINUTE_MS) for days in range(12)]
    manifest = seal([derived_block(Kind.CVD_1M, texts)])
    assert (10, {"too_many_days": 2}) == (len(manifest.files), manifest.quarantined)


def test_a_kind_of_a_stream_is_none_that_could_be_derived(seal):
    manifest = seal([derived_block(Kind.TRADE, [spot_trade(1)])])
    assert {"unknown_kind": 1} == manifest.quarantined


def test_a_file_tells_again_what_its_manifest_said(seal):
    """A catalogue that was lost takes derived files in as all others."""
    texts = [derived_text(Kind.BARS_1M, open_time=OPEN_MS + minute * MINUTE_MS) for minute in range(3)]
    manifest = seal([derived_block(Kind.BARS_1M, texts)])
    (file,) = manifest.files
    described = describe_file(Path(manifest.folder) / file.path)
    assert (manifest.files, manifest.streams) == (described.files, described.streams)


@pytest.mark.parametrize(
    "values",
    [{"delta": Decimal("NaN")}, {"price": Decimal(1)}, {"cvd": Decimal("-Infinity")}],
    ids=["nan", "unknown", "infinite"],
)
def test_what_is_no_row_is_not_encoded(values):
    with pytest.raises(ValueError, match=r"cvd|delta|price"):
        derived_text(Kind.CVD_1M, **values)


def test_a_row_without_one_of_its_columns_is_not_encoded():
    values = derived_values(Kind.OFI_1S)
    del values["ofi"]
    with pytest.raises(KeyError):
        encode_row(Kind.OFI_1S, values)
