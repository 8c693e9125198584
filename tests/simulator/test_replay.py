"""Recordings: read whole, sent byte for byte, and answered from by REST."""

from __future__ import annotations

import gzip
import json
import math

import msgspec
import pytest
import trio
import trio.testing

from streamsvc.errors import UsageError
from streamsvc.schema import Market
from streamsvc.simulator.http import Request
from streamsvc.simulator.options import default_options
from streamsvc.simulator.recording import open_recording
from streamsvc.simulator.replay import RecordingSource, open_sources
from streamsvc.simulator.rest import RestApi
from streamsvc.simulator.streams import parse_stream

SPOT, FUTURES = Market
PAIRS = {
    "usdm-btcusdt": ("usdm-btcusdt-20240718.gz", "usdm-btcusdt-20240719.gz"),
    "usdm-ethusdt": ("usdm-ethusdt-20240718.gz", "usdm-ethusdt-20240719.gz"),
    "spot-btcusdt": ("spot-btcusdt-20240808.gz", "spot-btcusdt-20240809.gz"),
    "cryptofeed-spot": ("cryptofeed-spot-3-symbols.txt.gz",),
    "cryptofeed-usdm": ("cryptofeed-usdm-4-symbols-ws.txt.gz", "cryptofeed-usdm-4-symbols-http.txt.gz"),
}


def recorded_texts(paths):
    """Every message of the files as it stands there, by another way than the reader's."""
    texts = []
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            at = line.find(b'{"stream":')
            if at >= 0 and not line.startswith((b"ws", b"http")):
                texts.append(line[at:])
    return texts


def numbers(levels):
    return [[float(text) for text in level] for level in levels]


def write(path, *lines):
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def trade_line(number, time_ns=1_700_000_000_000_000_000, price="10.50"):
    time_ms = time_ns // 1_000_000
    return (
        f'{time_ns} {{"stream":"aaausdt@trade","data":{{"e":"trade","E":{time_ms},"s":"AAAUSDT","t":{number},'
        f'"p":"{price}","q":"2.0","T":{time_ms},"m":false,"M":true}}}}'
    )


@pytest.mark.parametrize("pair", PAIRS)
async def test_every_message_of_a_recording_arrives_byte_for_byte(autojump_clock, stage_of, recordings, pair):
    """As fast as it is read, over one connection: all texts, in the recorded order of each stream."""
    paths = [recordings / name for name in PAIRS[pair]]
    ((market, source),) = open_sources(paths, speed=math.inf).items()
    stage = await stage_of(source, start="told", ping_interval_sec=0)
    names = list(source.names)
    clients = [await stage.client(market, f"/{route}stream?streams=" + "/".join(names)) for route in _routes(market)]
    received = []

    async def listen(client):
        while True:
            received.append((await client.text()).encode())

    for client in clients:
        stage.nursery.start_soon(listen, client)
    stage.exchange.begin(market)
    await stage.exchange.wait_done(market)
    await trio.testing.wait_all_tasks_blocked()
    expected = recorded_texts(paths)
    assert len(expected) == len(received) == sum(source.names.values())
    assert sorted(expected) == sorted(received)
    for name in names:
        head = b'{"stream":"%b"' % name.encode()
        assert [text for text in expected if text.startswith(head)] == [
            text for text in received if text.startswith(head)
        ]
    assert all(not record.missing for record in stage.exchange.ledger.records.values())


def _routes(market):
    return ("",) if market is SPOT else ("public/", "market/")


@pytest.mark.parametrize("pair", PAIRS)
def test_the_book_of_a_recording_is_the_one_its_diffs_make(recordings, pair):
    """No break in any of them: the book stands at the last diff, best bid below best ask."""
    ((_, source),) = open_sources([recordings / name for name in PAIRS[pair]], speed=math.inf).items()
    last = {}
    while not source.is_done:
        for event in source.advance(0):
            if "@depth" in event.stream:
                last[event.stream.partition("@")[0].upper()] = event.last_id
    for symbol, update_id in last.items():
        book = source.histories()[symbol].books.snapshot(10)
        assert update_id == book.last_update_id
        assert float(book.bids[0][0]) < float(book.asks[0][0])


def test_books_agree_with_those_computed_elsewhere(recordings):
    """Top ten levels after every 250th diff."""
    for pair, reference in (
        ("usdm-btcusdt", "usdm-btcusdt-20240718-19.book.jsonl"),
        ("spot-btcusdt", "spot-btcusdt-20240808-09.book.jsonl"),
    ):
        ((_, source),) = open_sources([recordings / name for name in PAIRS[pair]], speed=math.inf).items()
        expected = [json.loads(line) for line in (recordings / reference).read_text().splitlines()]
        wanted = {line["u"]: line for line in expected if "u" in line}
        assert wanted
        symbol = source._symbols["BTCUSDT"]
        checked = 0
        original = symbol._apply

        def apply(diff, original=original, symbol=symbol, wanted=wanted):
            nonlocal checked
            original(diff)
            line = wanted.get(diff.final_id)
            if line is not None:
                book = symbol.snapshot(10)
                if book is None:
                    return  # It came before the snapshot, and is applied again behind it.
                assert numbers(line["bids10"]) == numbers(book.bids)
                assert numbers(line["asks10"]) == numbers(book.asks)
                checked += 1

        symbol._apply = apply
        while not source.is_done:
            source.advance(0)
        assert len(wanted) == checked


def test_rest_gives_the_recorded_snapshot_byte_for_byte(recordings):
    """Before anything has been played it is the first one; REST trades are the recorded ones afterwards."""
    paths = [recordings / name for name in PAIRS["spot-btcusdt"]]
    ((market, source),) = open_sources([*paths, recordings / "exchange-info-spot.txt.gz"], speed=math.inf).items()
    api = RestApi(source, default_options(market), lambda: 1)

    def get(name, **query):
        return api.answer(Request("GET", f"/api/v3/{name}", "", query, {}, b"", "x"))

    text = next(
        line.split(b" ", 1)[1]
        for line in gzip.decompress(paths[0].read_bytes()).splitlines()
        if b' {"lastUpdateId"' in line
    )
    assert text == get("depth", symbol="BTCUSDT", limit="5000").body
    top = msgspec.json.decode(get("depth", symbol="BTCUSDT", limit="5").body)
    assert json.loads(text)["bids"][:5] == top["bids"]
    assert "0.01000000" in get("exchangeInfo", symbol="BTCUSDT").body.decode()
    while not source.is_done:
        source.advance(0)
    rows = msgspec.json.decode(get("trades", symbol="BTCUSDT", limit="1").body)
    last = json.loads([one for one in recorded_texts(paths) if b"@trade" in one][-1])["data"]
    assert (last["t"], last["p"], last["T"]) == (rows[0]["id"], rows[0]["price"], rows[0]["time"])


def test_candles_of_a_recording_are_the_exchanges_own(recordings):
    """The minutes that the recording covers whole, against the published candles."""
    ((_, source),) = open_sources([recordings / name for name in PAIRS["usdm-btcusdt"]], speed=math.inf).items()
    while not source.is_done:
        source.advance(0)
    made = {kline.open_us // 1000: kline for kline in source.histories()["BTCUSDT"].klines}
    checked = 0
    for line in (recordings / "usdm-btcusdt-20240718-19.klines.csv").read_text().splitlines():
        fields = line.split(",")
        if not fields[0].isdigit() or int(fields[0]) not in made or int(fields[0]) == min(made):
            continue
        kline = made[int(fields[0])]
        ours = [kline.open, kline.high, kline.low, kline.close, kline.volume]
        assert [float(text) for text in fields[1:6]] == [float(text) for text in ours]
        checked += 1
    assert checked >= 5


def test_messages_come_at_their_own_pace_or_faster(tmp_path):
    second = 1_000_000_000
    path = write(tmp_path / "a.gz", *(trade_line(n, 1_700_000_000 * second + n * second) for n in range(5)))
    for speed, ids in ((1.0, [[0], [1], [2]]), (2.0, [[0], [1, 2], [3, 4]])):
        source = RecordingSource(SPOT, [open_recording(path)], speed=speed)
        found = [[event.first_id for event in source.advance(1000 + at * 1_000_000)] for at in range(3)]
        assert ids == found
    assert source.is_done


def test_years_between_recordings_are_skipped(tmp_path):
    """They follow each other by time, with a pause of seconds."""
    year_ns = 365 * 86400 * 1_000_000_000
    later = write(tmp_path / "a.gz", trade_line(2, 1_700_000_000_000_000_000 + year_ns))
    earlier = write(tmp_path / "b.gz", trade_line(1))
    source = RecordingSource(SPOT, [open_recording(later), open_recording(earlier)])
    assert [1] == [event.first_id for event in source.advance(0)]
    assert [2] == [event.first_id for event in source.advance(10_000_000)]


def test_depth_is_given_as_recorded_whatever_speed_was_asked(tmp_path):
    path = write(
        tmp_path / "a.gz",
        '1700000000000000000 {"stream":"aaausdt@depth@0ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"AAAUSDT",'
        '"U":5,"u":6,"pu":4,"b":[["1.0","2"]],"a":[]}}',
    )
    recording = open_recording(path)
    assert FUTURES is recording.market
    source = RecordingSource(FUTURES, [recording])
    assert "aaausdt@depth@0ms" == source.watch(parse_stream(FUTURES, "aaausdt@depth@100ms"))
    assert source.watch(parse_stream(FUTURES, "aaausdt@trade")) is None


def test_a_message_that_makes_no_sense_is_passed_over(tmp_path):
    path = write(
        tmp_path / "a.gz",
        trade_line(1),
        "what is this",
        '1700000000000000000 {"stream":"aaausdt@trade","data":{"t":"x"}}',
        trade_line(2),
    )
    source = RecordingSource(SPOT, [open_recording(path)], speed=math.inf)
    assert [1, 2] == [event.first_id for event in source.advance(0)]


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"nothing of use\n")])
def test_what_is_no_recording_is_the_users_mistake(tmp_path, content):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        open_recording(path)
