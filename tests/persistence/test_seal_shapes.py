"""Sealing what is valid JSON, but not what the exchange documents: it is quarantined, and nothing else is."""

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persistence_samples import block, futures_depth, make_folder, spot_trade
from seal_support import rows_of, seal_content
from test_decoding import decode_texts
from test_seal import sample
from test_seal_rest import SAMPLES

from streamsvc.persistence.decoding import PIECE_TEXTS
from streamsvc.schema import STREAM_KINDS, Kind, Market, Source
from streamsvc.venues.binance_payloads import PAYLOADS

STREAMED = {(Source.STREAM, market, kind): sample(market, kind) for market in Market for kind in STREAM_KINDS[market]}
FETCHED = {(Source.REST, market, kind): text for (market, kind), text in SAMPLES.items()}
TEXTS = STREAMED | FETCHED
QUOTED = {
    Kind.TRADE: {"p", "q", "price", "qty"},
    Kind.AGG_TRADE: {"p", "q"},
    Kind.BOOK_TICKER: {"b", "B", "a", "A"},
    Kind.KLINE_1M: {"o", "h", "l", "c", "v", "q", "V", "Q"},
    Kind.MARK_PRICE: {"p", "P", "i", "r"},
    Kind.FORCE_ORDER: {"p", "ap", "q", "z"},
    Kind.INSTRUMENT: {"tickSize", "stepSize", "minNotional", "notional"},
}
"""What the exchange's documents show as strings that hold numbers, of what is recorded."""


@pytest.fixture
def seal(tmp_path):
    """Seals blocks; returns the manifest."""
    return partial(seal_content, make_folder(tmp_path))


def strings_in(value, path=()):
    """Every string that holds a number, with the way to it and the name of the field that it lies in."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(inner, str) and inner.replace(".", "").replace("-", "").isdigit():
            yield (*path, key)
        yield from strings_in(inner, (*path, key))


def with_number_at(text, path):
    """The text with a bare number in place of the string there."""
    whole = json.loads(text)
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "<" + place[path[-1]] + ">"
    return json.dumps(whole, separators=(",", ":")).replace('"<', "").replace('>"', "").encode()


BARE = [(key, path) for key, text in TEXTS.items() for path in strings_in(json.loads(text))]


@pytest.mark.parametrize(
    ("key", "path"), BARE, ids=lambda part: "-".join(str(getattr(each, "label", each)) for each in part)
)
def test_a_number_where_a_string_is_documented_is_of_the_wrong_shape(key, path):
    """Alone, and among many that are as documented. Fields that nobody reads are free."""
    kind = key[2]
    good, bad = TEXTS[key], with_number_at(TEXTS[key], path)
    is_level = kind in (Kind.DEPTH, Kind.DEPTH_SNAPSHOT)
    expected = ["wrong_shape"] if is_level or path[-1] in QUOTED[kind] else []
    for texts in ([bad], [good] * 30 + [bad] + [good] * 30):
        decoded = decode_texts(texts, PAYLOADS[key], kind)
        assert expected == [item.reason for item in decoded.refusals if item.reason != "too_many_days"]


def test_every_number_of_every_kind_was_tried():
    """The samples have all of them."""
    for source, market, kind in TEXTS:
        tried = {path[-1] for key, path in BARE if key == (source, market, kind)}
        names = {"price", "qty"} if source is Source.REST and kind is Kind.TRADE else QUOTED.get(kind, set())
        if source is Source.STREAM and kind is Kind.TRADE:
            names = {"p", "q"}
        if kind is Kind.INSTRUMENT:
            names = names - ({"notional"} if market is Market.SPOT else {"minNotional"})
        assert names <= tried


@pytest.mark.parametrize("key", TEXTS, ids=lambda key: "-".join(part.name for part in key))
def test_bad_utf8_anywhere_is_quarantined(key):
    """Also in a field that is skipped, and in the name of one."""
    good = TEXTS[key]
    bad = [
        good[:-2] + b',"new":"\xff"}}',
        good[:-2] + b',"\xc3\x28":1}}',
        good.replace(b'"data":', b'"\xff":1,"data":'),
    ]
    decoded = decode_texts([good, *bad, good], PAYLOADS[key], key[2])
    assert [(1, "bad_utf8"), (2, "bad_utf8"), (3, "bad_utf8")] == [
        (item.index, item.reason) for item in decoded.refusals if item.reason != "too_many_days"
    ]


@pytest.mark.parametrize("white", [" ", "\t", "\r", "\n", "\r\n  "])
def test_white_space_hides_no_number(white):
    """A message with white space is as good as one without."""
    spread = [spot_trade(7).replace(b":", f":{white}".encode()), spot_trade(8).replace(b",", f"{white},".encode())]
    hidden = spot_trade(9).replace(b'"p":"37.5"', f'"p":{white}37.5'.encode())
    decoded = decode_texts([spot_trade(1), *spread, hidden])
    assert ([0, 1, 2], [(3, "wrong_shape")]) == (
        decoded.kept.tolist(), [(item.index, item.reason) for item in decoded.refusals],
    )  # fmt: skip


def test_new_fields_are_ignored_whatever_their_names_end_with():
    """Numbers in them too, and text that looks like a field: the exchange adds fields as it likes."""
    more = {"np": 1, "xq": -2.5, "list": [1, 2], "text": 'a "p":1 b', "币": "q"}
    trades = [spot_trade(number, **more) for number in range(3)]
    assert [] == decode_texts(trades).refusals
    key = Source.STREAM, Market.FUTURES, Kind.DEPTH
    updates = [futures_depth(number, [["1", "2"]], [], new=[1, 2], text="3,4") for number in range(1, 4)]
    decoded = decode_texts(updates, PAYLOADS[key], Kind.DEPTH)
    assert ([], [1.0, 2.0]) == (decoded.refusals, decoded.chunk.levels[0].tolist())


def test_of_two_fields_of_one_name_the_last_is_taken(seal):
    """As the intake does, so that ids in the files are those that it has counted."""
    text = spot_trade(7)
    assert b'"p":"37.5"' in text
    twice = text.replace(b'"p":"37.5"', b'"p":"1","p":"37.5"').replace(b'"t":7', b'"t":6,"t":7')
    once = rows_of(seal([block([text])]), Kind.TRADE)
    manifest = seal([block([twice])])
    assert ({}, once) == (manifest.quarantined, rows_of(manifest, Kind.TRADE))
    assert 1 == len(once)


@given(st.sets(st.integers(0, 3 * PIECE_TEXTS - 1), max_size=5))
def test_bad_messages_are_found_wherever_they_stand(places):
    texts = [spot_trade(number) for number in range(3 * PIECE_TEXTS)]
    for place in places:
        texts[place] = spot_trade(place, q=1)
    assert places == {item.index for item in decode_texts(texts).refusals}


def test_a_contract_without_funding_is_recorded(seal):
    """Delivery contracts have an empty rate and no next time: 0 and 1970, which no contract with funding has."""
    text = sample(Market.FUTURES, Kind.MARK_PRICE)
    without = text.replace(b'"r":"-0.00003936","T":1786176000000', b'"r":"","T":0')
    manifest = seal([block([text, without], Kind.MARK_PRICE, Market.FUTURES)])
    assert ({}, [(-0.00003936, 1786176000000 * 10**6), (0.0, 0)]) == (
        manifest.quarantined, [row[6:8] for row in rows_of(manifest, Kind.MARK_PRICE)],
    )  # fmt: skip
