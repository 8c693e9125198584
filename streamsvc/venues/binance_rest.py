"""What we ask of Binance's REST, what it costs, and how its answers are read; spot and USD-M futures.

Weights and limits are the exchange's own (its documents of July and August 2026). Answers are checked as far as they
can be: a row of trades carries no symbol, so that only its id says whether it is what was asked for. What becomes a row
of the data set keeps the exchange's own text. Every parser raises `errors.DecodeError` for an answer that is not as
documented; nothing of such an answer may be used.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import attrs
import msgspec

from streamsvc.errors import DecodeError
from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_heads import DECODE_ERRORS, ID_MAX, Id, Millis, describe

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

WEIGHT_PER_MIN: Final = {Market.SPOT: 6000, Market.FUTURES: 2400}
"""What the exchange takes from one address in a minute."""
KEY_REFUSED_CODES: Final = frozenset({-2008, -2014, -2015})
"""Codes of a refusal that is the API key's fault: what needs none may still be asked."""
PAGE_ROWS_MAX: Final = 1000
NO_TRADE: Final = -1
"""The last trade id of a symbol without a trade in the last 24 hours."""

_PREFIX = {Market.SPOT: "/api/v3/", Market.FUTURES: "/fapi/v1/"}
_AGG_TRADES_WEIGHT = {Market.SPOT: 4, Market.FUTURES: 20}
_LATEST_WEIGHT = {Market.SPOT: 25, Market.FUTURES: 5}
_HISTORY_WEIGHT = {Market.SPOT: 25, Market.FUTURES: 200}
_HISTORY_ROWS_MAX = {Market.SPOT: 1000, Market.FUTURES: 500}
_TICKER_WEIGHT = {Market.SPOT: 2, Market.FUTURES: 1}
_ALL_TICKERS_WEIGHT = {Market.SPOT: 80, Market.FUTURES: 40}
_EXCHANGE_INFO_WEIGHT = {Market.SPOT: 20, Market.FUTURES: 1}
_DEPTH_WEIGHTS = {
    Market.SPOT: ((100, 5), (500, 25), (1000, 50), (5000, 250)),
    Market.FUTURES: ((50, 2), (100, 5), (500, 10), (1000, 20)),
}
_FUTURES_DEPTH_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1000})
_HOSTS_WITHOUT_HISTORY = frozenset({"data-api.binance.vision"})


@attrs.frozen
class Request:
    """One GET.

    Attributes:
        path: With its leading slash, without the query.
        parameters: Of the query, not yet encoded.
        weight: What it costs of the minute's weight.
        needs_key: Whether it must carry the API key.
    """

    path: str
    parameters: Mapping[str, str | int]
    weight: int
    needs_key: bool = False


@attrs.frozen
class TradesQuery:
    """A request for a symbol's trades or aggTrades, and what it is meant to bring.

    Attributes:
        request: What to send.
        kind: `trade` or `aggTrade`.
        first_id: The first id that is wanted.
        last_id: The last one.
        rows_max: A full answer has so many rows.
        is_latest: Whether it can only be asked for the newest rows, not from an id.
    """

    request: Request
    kind: Kind
    first_id: int
    last_id: int
    rows_max: int
    is_latest: bool


@attrs.frozen
class Missing:
    """Ids that were asked for and that the exchange did not give, though it gave later ones.

    Attributes:
        first_id: The first of them.
        last_id: The last one.
        reason: `not_served` (the exchange has no such row, or no longer; of futures it serves market trades only, not
            those of insurance fund and auto-deleveraging) or `beyond_latest` (older than the newest rows, which are
            all that can be asked for without an API key or from this host).
    """

    first_id: int
    last_id: int
    reason: Literal["not_served", "beyond_latest"]


@attrs.frozen
class TradePage:
    """An answer to a `TradesQuery`.

    Attributes:
        rows: Id and the exchange's own JSON of every row in the asked range, by id.
        missing: What will not come from here, by id.
        next_id: The first asked id of which this answer says nothing; after the last asked one: all is answered.
        has_more: Whether to ask again from `next_id` at once. If not, and ids are left, the exchange does not have them
            yet: REST may lag behind the streams.
    """

    rows: list[tuple[int, bytes]]
    missing: list[Missing]
    next_id: int
    has_more: bool


@attrs.frozen
class Snapshot:
    """An order book; `body` is the exchange's own JSON."""

    last_update_id: int
    body: bytes


@attrs.frozen
class LastAggTrade:
    """The newest aggTrade of a symbol and the last of the trades in it."""

    agg_trade_id: int
    last_trade_id: int


@attrs.frozen
class ExchangeInfo:
    """The symbols of a market.

    Attributes:
        server_time_ms: The exchange's clock.
        statuses: Of every symbol, e.g. `TRADING`.
        symbols: The exchange's own JSON of those that were asked for and that it knows.
    """

    server_time_ms: int
    statuses: dict[str, str]
    symbols: dict[str, bytes]


class _TradeRow(msgspec.Struct, gc=False):
    id: Id


class _AggTradeRow(msgspec.Struct, gc=False):
    id: Id = msgspec.field(name="a")
    last_trade_id: Id = msgspec.field(name="l")


class _Depth(msgspec.Struct):
    last_update_id: Id = msgspec.field(name="lastUpdateId")
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class _Ticker(msgspec.Struct, gc=False):
    symbol: str
    last_id: Annotated[int, msgspec.Meta(ge=NO_TRADE, le=ID_MAX)] = msgspec.field(name="lastId")


class _Time(msgspec.Struct):
    server_time_ms: Millis = msgspec.field(name="serverTime")


class _Info(msgspec.Struct):
    server_time_ms: Millis = msgspec.field(name="serverTime")
    symbols: list[msgspec.Raw]


class _Symbol(msgspec.Struct, gc=False):
    symbol: str
    status: str = ""


_ROWS: dict[Kind, msgspec.json.Decoder[Any]] = {
    Kind.TRADE: msgspec.json.Decoder(list[_TradeRow]),
    Kind.AGG_TRADE: msgspec.json.Decoder(list[_AggTradeRow]),
}
_RAW_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_DEPTH = msgspec.json.Decoder(_Depth)
_TICKERS = msgspec.json.Decoder(list[_Ticker] | _Ticker)
_TIME = msgspec.json.Decoder(_Time)
_INFO = msgspec.json.Decoder(_Info)
_SYMBOL = msgspec.json.Decoder(_Symbol)


def has_history(market: Market, host: str, *, has_key: bool) -> bool:
    """Whether trades older than the newest 1000 can be asked for: futures want a key, one host of spot has none.

    Args:
        market: The market.
        host: The host that is asked, with or without a port.
        has_key: Whether there is an API key, which has not been refused.
    """
    return has_key if market is Market.FUTURES else host.partition(":")[0] not in _HOSTS_WITHOUT_HISTORY


def trades_query(  # noqa: PLR0913 - what identifies the trades
    market: Market, kind: Kind, symbol: str, first_id: int, last_id: int, *, with_history: bool
) -> TradesQuery:
    """Ask for trades or aggTrades of a symbol by their ids, as many as one answer holds from `first_id` on.

    Args:
        market: The market.
        kind: `trade` or `aggTrade`.
        symbol: In upper case.
        first_id: The first id wanted.
        last_id: The last id wanted.
        with_history: See `has_history`; without it, `trade` is asked for the newest rows.
    """
    assert first_id <= last_id
    count = last_id - first_id + 1
    if kind is Kind.AGG_TRADE:
        name, weight, rows_max, is_latest = "aggTrades", _AGG_TRADES_WEIGHT[market], PAGE_ROWS_MAX, False
    elif with_history:
        name, weight, rows_max, is_latest = (
            "historicalTrades",
            _HISTORY_WEIGHT[market],
            _HISTORY_ROWS_MAX[market],
            False,
        )
    else:
        name, weight, rows_max, is_latest = "trades", _LATEST_WEIGHT[market], PAGE_ROWS_MAX, True
    parameters: dict[str, str | int] = {"symbol": symbol}
    if not is_latest:
        rows_max = min(rows_max, count)
        parameters["fromId"] = first_id
    parameters["limit"] = rows_max
    needs_key = name == "historicalTrades" and market is Market.FUTURES
    request = Request(_PREFIX[market] + name, parameters, weight, needs_key)
    return TradesQuery(request, kind, first_id, last_id, rows_max, is_latest)


def parse_trades(query: TradesQuery, body: bytes) -> TradePage:
    """Read the answer to a query: rows in the asked range, and what can be said of the ids between them."""
    _check_text(body)
    ids = [row.id for row in _decode(_ROWS[query.kind], body)]
    raws: list[msgspec.Raw] = _decode(_RAW_ROWS, body)
    if any(later <= earlier for earlier, later in itertools.pairwise(ids)):
        raise DecodeError("ids_not_ascending")
    if not query.is_latest and ids and ids[0] < query.first_id:
        raise DecodeError("id_not_asked_for")
    missing, next_id = _missing(query, ids)
    wanted = range(query.first_id, query.last_id + 1)
    rows = [(trade_id, bytes(raw)) for trade_id, raw in zip(ids, raws, strict=True) if trade_id in wanted]
    has_more = not query.is_latest and len(ids) >= query.rows_max and next_id <= query.last_id
    return TradePage(rows, missing, next_id, has_more)


def _missing(query: TradesQuery, ids: list[int]) -> tuple[list[Missing], int]:
    """The asked ids that an answer passes over, and the first that it does not reach."""
    missing: list[Missing] = []
    next_id = query.first_id
    for number, trade_id in enumerate(ids):
        if trade_id > next_id:
            is_older = query.is_latest and number == 0
            last_id = min(trade_id - 1, query.last_id)
            missing.append(Missing(next_id, last_id, "beyond_latest" if is_older else "not_served"))
        next_id = max(next_id, trade_id + 1)
        if next_id > query.last_id:
            return missing, query.last_id + 1
    return missing, next_id


def snapshot_request(market: Market, symbol: str, limit: int) -> Request:
    """Ask for a symbol's order book.

    Args:
        market: The market.
        symbol: In upper case.
        limit: Levels a side: on spot 1 to 5000, on futures 5, 10, 20, 50, 100, 500 or 1000.

    Raises:
        ValueError: the market knows no such limit.
    """
    is_known = limit in _FUTURES_DEPTH_LIMITS if market is Market.FUTURES else 1 <= limit <= 5000
    if not is_known:
        raise ValueError(f"{market.label} has no order books of {limit} levels")
    weight = next(weight for most, weight in _DEPTH_WEIGHTS[market] if limit <= most)
    return Request(_PREFIX[market] + "depth", {"symbol": symbol, "limit": limit}, weight)


def parse_snapshot(body: bytes) -> Snapshot:
    """Read an order book; its prices and quantities are only looked at by whoever uses them."""
    _check_text(body)
    return Snapshot(_decode(_DEPTH, body).last_update_id, body)


def last_trade_requests(market: Market, symbols: Collection[str]) -> list[Request]:
    """Ask for the last trade ids of symbols, together or one by one, whichever costs less."""
    path = _PREFIX[market] + "ticker/24hr"
    if len(symbols) * _TICKER_WEIGHT[market] > _ALL_TICKERS_WEIGHT[market]:
        return [Request(path, {}, _ALL_TICKERS_WEIGHT[market])]
    return [Request(path, {"symbol": symbol}, _TICKER_WEIGHT[market]) for symbol in symbols]


def parse_last_trade_ids(body: bytes) -> dict[str, int]:
    """Read the last trade id of every symbol in an answer; `NO_TRADE` where 24 hours brought none.

    It tells of trades, not of aggTrades, whose ids are others. No trade after the last one in our last aggTrade means
    no aggTrade either. A later trade proves nothing on futures, where those of insurance fund and auto-deleveraging are
    in no aggTrade: then, and where our last aggTrade's last trade is not known, `last_agg_trade_request` has to ask.
    """
    answer = _decode(_TICKERS, body)
    return {ticker.symbol: ticker.last_id for ticker in (answer if isinstance(answer, list) else [answer])}


def last_agg_trade_request(market: Market, symbol: str) -> Request:
    """Ask for the newest aggTrade of a symbol.

    It costs 4 on spot and 20 on futures, too much for hundreds of quiet symbols again and again: ask once, keep its
    `last_trade_id`, and ask `last_trade_requests` from then on until that moves.
    """
    return Request(_PREFIX[market] + "aggTrades", {"symbol": symbol, "limit": 1}, _AGG_TRADES_WEIGHT[market])


def parse_last_agg_trade(body: bytes) -> LastAggTrade | None:
    """Read the newest aggTrade; None if the symbol never had one."""
    rows: list[_AggTradeRow] = _decode(_ROWS[Kind.AGG_TRADE], body)
    return LastAggTrade(rows[-1].id, rows[-1].last_trade_id) if rows else None


def time_request(market: Market) -> Request:
    """Ask for the exchange's clock."""
    return Request(_PREFIX[market] + "time", {}, 1)


def parse_time(body: bytes) -> int:
    """Read the exchange's clock, ms since 1970."""
    server_time_ms: int = _decode(_TIME, body).server_time_ms
    return server_time_ms


def exchange_info_request(market: Market) -> Request:
    """Ask for all symbols of a market; the answer of spot has about 20 MB."""
    return Request(_PREFIX[market] + "exchangeInfo", {}, _EXCHANGE_INFO_WEIGHT[market])


def parse_exchange_info(body: bytes, symbols: Container[str]) -> ExchangeInfo:
    """Read the status of every symbol, and the whole of those in `symbols`. It takes about 1 ms for each MB."""
    info = _decode(_INFO, body)
    statuses: dict[str, str] = {}
    kept: dict[str, bytes] = {}
    for raw in info.symbols:
        head = _decode(_SYMBOL, raw)
        statuses[head.symbol] = head.status
        if head.symbol in symbols:
            kept[head.symbol] = bytes(raw)
            _check_text(kept[head.symbol])
    return ExchangeInfo(info.server_time_ms, statuses, kept)


def journal_text(symbol: str, data: bytes, *, time_ms: int | None = None) -> bytes:
    """The text under which a row, an order book or a symbol of REST is kept in the journal.

    Args:
        symbol: In upper case.
        data: The exchange's own JSON.
        time_ms: When the exchange said so, where the data do not tell.
    """
    time_text = b"" if time_ms is None else b'"time":%d,' % time_ms
    return b'{"symbol":' + msgspec.json.encode(symbol) + b"," + time_text + b'"data":' + data + b"}"


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(body)
    except DECODE_ERRORS as error:
        raise DecodeError(describe(error)) from error


def _check_text(body: bytes) -> None:
    """The decoder does not see bad UTF-8 in what it skips."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(describe(error)) from error
