"""What is asked of Binance's REST and how answers are read, against the simulated exchange and by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator_support import START_NS, synthetic

from streamsvc.errors import DecodeError
from streamsvc.schema import Kind, Market
from streamsvc.simulator import http
from streamsvc.simulator.options import default_options
from streamsvc.simulator.rest import RestApi
from streamsvc.venues.binance_rest import (
    NO_TRADE,
    WEIGHT_PER_MIN,
    LastAggTrade,
    Missing,
    Request,
    TradePage,
    exchange_info_request,
    has_history,
    journal_text,
    last_agg_trade_request,
    last_trade_requests,
    parse_exchange_info,
    parse_last_agg_trade,
    parse_last_trade_ids,
    parse_snapshot,
    parse_time,
    parse_trades,
    snapshot_request,
    time_request,
    trades_query,
)

SPOT, FUTURES = Market
TRADE, AGG_TRADE = Kind.TRADE, Kind.AGG_TRADE
RECORDINGS = Path(__file__).parents[1] / ".." / "shared" / "recordings"


class Desk:
    """A market after three minutes, and what it has in its history. What costs another weight than we say fails."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.now_us = START_NS // 1000
        source = synthetic(market)
        for _ in range(180):
            self.now_us += 1_000_000
            source.advance(self.now_us)
        options = attrs.evolve(default_options(market), weight_per_min=1 << 40)
        self.api = RestApi(source, options, lambda: self.now_us)
        history = source.histories()["BTCUSDT"]
        self.ids = {
            TRADE: [trade.trade_id for trade in history.trades],
            AGG_TRADE: [trade.agg_trade_id for trade in history.agg_trades],
        }
        self.last_trades_of_agg_trades = [trade.last_trade_id for trade in history.agg_trades]
        self.used_weight = 0

    def send(self, request: Request) -> bytes:
        query = {name: str(value) for name, value in request.parameters.items()}
        headers = {"x-mbx-apikey": "k"} if request.needs_key else {}
        answer = self.api.answer(http.Request("GET", request.path, "", query, headers, b"", "10.0.0.1"))
        assert 200 == answer.status, answer.body
        used_weight = int(dict(answer.headers)["X-MBX-USED-WEIGHT-1M"])
        assert request.weight == used_weight - self.used_weight
        self.used_weight = used_weight
        return answer.body


@pytest.fixture(scope="module", params=list(Market))
def desk(request):
    return Desk(request.param)


def fetch(desk, kind, first_id, last_id, *, with_history=True) -> tuple[list[int], list[Missing], int]:
    """Ask as long as there is more: ids, what is missing, and the first id that is not answered."""
    ids, missing, next_id = [], [], first_id
    while True:
        query = trades_query(desk.market, kind, "BTCUSDT", next_id, last_id, with_history=with_history)
        page = parse_trades(query, desk.send(query.request))
        ids += [trade_id for trade_id, _ in page.rows]
        missing += page.missing
        next_id = page.next_id
        if not page.has_more:
            return ids, missing, next_id


@pytest.mark.parametrize("kind", [TRADE, AGG_TRADE])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (5, 7), (0, 10**6), (3, 1000), (3, 1001)])
def test_a_range_in_the_past(desk, kind, start, count):
    """Every id comes once and in order, over as many answers as it takes."""
    ids = desk.ids[kind]
    wanted = ids[start : start + count]
    assert (wanted, [], wanted[-1] + 1) == fetch(desk, kind, wanted[0], wanted[-1])


@pytest.mark.parametrize("kind", [TRADE, AGG_TRADE])
def test_ids_that_the_exchange_has_no_longer(desk, kind):
    """They are missing for good; what it still has comes."""
    oldest = desk.ids[kind][0]
    expected = [Missing(oldest - 50, oldest - 1, "not_served")]
    assert ([oldest, oldest + 1], expected, oldest + 2) == fetch(desk, kind, oldest - 50, oldest + 1)


@pytest.mark.parametrize("kind", [TRADE, AGG_TRADE])
@pytest.mark.parametrize("with_history", [True, False])
def test_ids_that_the_exchange_does_not_have_yet(desk, kind, with_history):
    """They are not missing: the answer says nothing about them."""
    newest = desk.ids[kind][-1]
    expected = ([newest], [], newest + 1)
    assert expected == fetch(desk, kind, newest, newest + 10, with_history=with_history)
    assert ([], [], newest + 5) == fetch(desk, kind, newest + 5, newest + 10, with_history=with_history)


def test_trades_without_a_history(desk):
    """The newest 1000 come at once; what is older is out of reach."""
    newest = desk.ids[TRADE][-1]
    expected = [Missing(newest - 1500, newest - 1000, "beyond_latest")]
    found, missing, next_id = fetch(desk, TRADE, newest - 1500, newest - 3, with_history=False)
    assert (list(range(newest - 999, newest - 2)), expected, newest - 2) == (found, missing, next_id)
    expected = [Missing(newest - 1500, newest - 1400, "beyond_latest")]
    assert ([], expected, newest - 1399) == fetch(desk, TRADE, newest - 1500, newest - 1400, with_history=False)


def test_rows_keep_the_exchanges_text(desk):
    """Byte for byte, also in the journal."""
    first_id = desk.ids[TRADE][7]
    query = trades_query(desk.market, TRADE, "BTCUSDT", first_id, first_id + 1, with_history=True)
    body = desk.send(query.request)
    rows = parse_trades(query, body).rows
    assert body == b"[" + b",".join(row for _, row in rows) + b"]"
    text = journal_text("BTCUSDT", rows[0][1])
    assert {"symbol": "BTCUSDT", "data": json.loads(body)[0]} == json.loads(text)


@pytest.mark.parametrize("limit", [5, 50, 100, 500, 1000])
def test_an_order_book(desk, limit):
    body = desk.send(snapshot_request(desk.market, "BTCUSDT", limit))
    snapshot = parse_snapshot(body)
    assert json.loads(body)["lastUpdateId"] == snapshot.last_update_id
    assert body == snapshot.body


@pytest.mark.parametrize(("market", "limit"), [(SPOT, 0), (SPOT, 5001), (FUTURES, 5000), (FUTURES, 7)])
def test_an_order_book_of_a_size_that_there_is_not(market, limit):
    with pytest.raises(ValueError, match=market.label):
        snapshot_request(market, "BTCUSDT", limit)


def test_last_trade_ids_of_a_few_symbols(desk):
    """One request a symbol."""
    (request,) = last_trade_requests(desk.market, ["BTCUSDT"])
    assert {"BTCUSDT": desk.ids[TRADE][-1]} == parse_last_trade_ids(desk.send(request))


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (40, 40), (41, 1), (300, 1)])
def test_last_trade_ids_of_many_symbols(desk, count, expected):
    """One request for all, once that costs less."""
    symbols = [f"S{number}USDT" for number in range(count)]
    requests = last_trade_requests(desk.market, symbols)
    assert expected == len(requests)
    assert sum(request.weight for request in requests) <= (80 if desk.market is SPOT else 40)
    if count == 300:
        assert {"BTCUSDT", "ETHUSDT"} == set(parse_last_trade_ids(desk.send(requests[0])))


def test_a_symbol_without_a_trade():
    assert {"A": NO_TRADE, "B": 0} == parse_last_trade_ids(b'[{"symbol":"A","lastId":-1},{"symbol":"B","lastId":0}]')


def test_the_last_agg_trade(desk):
    """It tells both of its ids, so that the next time the last trade id is enough."""
    expected = LastAggTrade(desk.ids[AGG_TRADE][-1], desk.last_trades_of_agg_trades[-1])
    assert expected == parse_last_agg_trade(desk.send(last_agg_trade_request(desk.market, "BTCUSDT")))
    assert None is parse_last_agg_trade(b"[]")


def test_time_and_symbols(desk):
    assert desk.now_us // 1000 == parse_time(desk.send(time_request(desk.market)))
    body = desk.send(exchange_info_request(desk.market))
    info = parse_exchange_info(body, {"ETHUSDT", "NOBODY"})
    assert desk.now_us // 1000 == info.server_time_ms
    assert {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"} == info.statuses
    assert ["ETHUSDT"] == list(info.symbols)
    assert info.symbols["ETHUSDT"] in body
    text = journal_text("ETHUSDT", info.symbols["ETHUSDT"], time_ms=info.server_time_ms)
    expected = {"symbol": "ETHUSDT", "time": info.server_time_ms, "data": json.loads(info.symbols["ETHUSDT"])}
    assert expected == json.loads(text)


@pytest.mark.parametrize(("name", "known"), [("spot", "BTCUSDT"), ("usdm", "BTCUSDT")])
def test_symbols_of_the_real_exchange(name, known):
    path = RECORDINGS / f"exchange-info-{name}.txt.gz"
    if not path.exists():
        pytest.skip("there are no recordings beside the project")
    body = gzip.decompress(path.read_bytes()).splitlines()[0].split(b": ", 1)[1]
    info = parse_exchange_info(body, {known})
    assert "TRADING" == info.statuses[known]
    assert known == json.loads(info.symbols[known])["symbol"]
    assert len(json.loads(body)["symbols"]) == len(info.statuses)


def test_order_books_of_the_real_exchange():
    path = RECORDINGS / "cryptofeed-usdm-4-symbols-http.txt.gz"
    if not path.exists():
        pytest.skip("there are no recordings beside the project")
    lines = [line for line in gzip.decompress(path.read_bytes()).splitlines() if b"/depth?" in line]
    for line in lines:
        assert 600_859_600_000 < parse_snapshot(line.split(b": ", 1)[1]).last_update_id
    assert 4 == len(lines)


def test_a_symbol_in_other_letters():
    """It is text like any other in the journal."""
    assert {"symbol": '币安"USDT', "data": {}} == json.loads(journal_text('币安"USDT', b"{}"))


@pytest.mark.parametrize(
    ("market", "host", "has_key", "expected"),
    [
        (SPOT, "api.binance.com", False, True),
        (SPOT, "data-api.binance.vision", True, False),
        (SPOT, "data-api.binance.vision:443", True, False),
        (FUTURES, "fapi.binance.com", False, False),
        (FUTURES, "fapi.binance.com", True, True),
    ],
)
def test_who_has_a_history(market, host, has_key, expected):
    assert expected is has_history(market, host, has_key=has_key)


def test_only_futures_history_needs_the_key():
    for market in Market:
        for kind in (TRADE, AGG_TRADE):
            for with_history in (True, False):
                query = trades_query(market, kind, "BTCUSDT", 1, 2, with_history=with_history)
                assert (market is FUTURES and kind is TRADE and with_history) is query.request.needs_key
                assert query.request.weight * 10 < WEIGHT_PER_MIN[market]


def rows_of(ids) -> bytes:
    return msgspec.json.encode([{"id": one} for one in ids])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b'[{"id":"1"}]',
        b'[{"id":-1}]',
        b'[{"id":9223372036854775808}]',
        b'[{"a":10}]',
        b'[{"id":10},{"id":10}]',
        b'[{"id":11},{"id":10}]',
        b'[{"id":9}]',
        b'[{"id":10,"x":"\xff"}]',
        b"[" * 10_000,
    ],
)
def test_trades_that_are_not_as_documented(body):
    """Ids of the wrong type or order, ids before those asked for: nothing of such an answer is used."""
    with pytest.raises(DecodeError):
        parse_trades(trades_query(SPOT, TRADE, "BTCUSDT", 10, 20, with_history=True), body)


@pytest.mark.parametrize("with_history", [True, False])
def test_trades_that_no_request_brings(with_history):
    """Futures serve market trades only: between rows that are there, an id is missing for good, also without a key."""
    query = trades_query(FUTURES, TRADE, "BTCUSDT", 10, 20, with_history=with_history)
    page = parse_trades(query, rows_of([10, 11, 14, 22]))
    assert [(10, b'{"id":10}'), (11, b'{"id":11}'), (14, b'{"id":14}')] == page.rows
    assert [Missing(12, 13, "not_served"), Missing(15, 20, "not_served")] == page.missing
    assert (21, False) == (page.next_id, page.has_more)


@pytest.mark.parametrize("parse", [parse_snapshot, parse_last_trade_ids, parse_last_agg_trade, parse_time])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"3", b'"\xff"', b'{"code":-1121,"msg":"Invalid symbol."}', b"[" * 10_000]
)
def test_answers_that_are_not_as_documented(parse, body):
    with pytest.raises(DecodeError):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"serverTime":1,"symbols":3}',
        b'{"serverTime":-1,"symbols":[]}',
        b'{"serverTime":1,"symbols":[{}]}',
        b'{"serverTime":1,"symbols":[{"symbol":"BTCUSDT","x":"\xff"}]}',
    ],
)
def test_symbols_that_are_not_as_documented(body):
    with pytest.raises(DecodeError):
        parse_exchange_info(body, {"BTCUSDT"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"lastUpdateId":1,"bids":[["1","2"]]}',
        b'{"lastUpdateId":"1","bids":[],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[[1,2]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[],"asks":[],"x":"\xff"}',
    ],
)
def test_an_order_book_that_is_not_as_documented(body):
    with pytest.raises(DecodeError):
        parse_snapshot(body)


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_any_answer(ids, one, other, with_history):
    """Every asked id is a row, missing, or not yet answered; none is two of these."""
    first_id, last_id = min(one, other), max(one, other)
    query = trades_query(FUTURES, TRADE, "BTCUSDT", first_id, last_id, with_history=with_history)
    answered = sorted(trade_id for trade_id in ids if trade_id >= first_id or query.is_latest)[: query.rows_max]
    page: TradePage = parse_trades(query, rows_of(answered))
    rows = [trade_id for trade_id, _ in page.rows]
    missing = [trade_id for gap in page.missing for trade_id in range(gap.first_id, gap.last_id + 1)]
    open_ids = list(range(page.next_id, last_id + 1))
    assert list(range(first_id, last_id + 1)) == sorted(rows + missing + open_ids)
    assert [trade_id for trade_id in answered if first_id <= trade_id <= last_id] == rows
    assert all(answered and trade_id < answered[-1] for trade_id in missing)
    assert all(not answered or trade_id > answered[-1] for trade_id in open_ids)
    assert page.has_more is False or (len(answered) == query.rows_max and open_ids)
