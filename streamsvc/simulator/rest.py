"""The REST endpoints of one market: weights, parameters, answers, errors. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.schema import Market
from streamsvc.simulator.http import Answer, Request, json_answer
from streamsvc.simulator.instruments import changed_info, decimal_text
from streamsvc.simulator.limits import Verdict, WeightBudget
from streamsvc.simulator.wire import MINUTE_US, levels_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.simulator.events import AggTrade, Kline, Trade
    from streamsvc.simulator.history import History
    from streamsvc.simulator.options import MarketOptions
    from streamsvc.simulator.sources import Source

PREFIX = {Market.SPOT: "/api/v3/", Market.FUTURES: "/fapi/v1/"}
AGG_TRADES_AGE_US = 48 * 60 * MINUTE_US
QUOTE_DECIMALS = 8
DAY_US = 24 * 60 * MINUTE_US
_DEPTH_WEIGHTS = {
    Market.SPOT: ((100, 5), (500, 25), (1000, 50), (5000, 250)),
    Market.FUTURES: ((50, 2), (100, 5), (500, 10), (1000, 20)),
}
_FUTURES_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1000)
_WEIGHTS = {
    Market.SPOT: {
        "time": 1,
        "ping": 1,
        "exchangeInfo": 20,
        "aggTrades": 4,
        "trades": 25,
        "historicalTrades": 25,
        "klines": 2,
    },
    Market.FUTURES: {
        "time": 1,
        "ping": 1,
        "exchangeInfo": 1,
        "aggTrades": 20,
        "trades": 5,
        "historicalTrades": 200,
        "klines": 5,
    },
}
_TICKER_WEIGHTS = {Market.SPOT: (2, 80), Market.FUTURES: (1, 40)}


class RestError(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class RestApi:
    """One market's endpoints.

    Args:
        source: Whose past and present they tell.
        options: The market's rules.
        now_us: The exchange's clock.
    """

    def __init__(self, source: Source, options: MarketOptions, now_us: Callable[[], int]) -> None:
        self.weights = WeightBudget(options.weight_per_min)
        self._source = source
        self._market = source.market
        self._options = options
        self._now_us = now_us
        self._changes: dict[str, dict[str, str]] = {}
        self._endpoints: dict[str, Callable[[Request], Answer]] = {
            "ping": lambda _request: json_answer({}),
            "time": lambda _request: json_answer({"serverTime": now_us() // 1000}),
            "exchangeInfo": self._exchange_info,
            "depth": self._depth,
            "aggTrades": self._agg_trades,
            "trades": self._trades,
            "historicalTrades": self._historical_trades,
            "klines": self._klines,
            "ticker/24hr": self._ticker,
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request, within the address's weight."""
        prefix = PREFIX[self._market]
        name = request.path.removeprefix(prefix)
        if not request.path.startswith(prefix) or name not in self._endpoints:
            return Answer(404, b"<html><body><h2>404 Not found</h2></body></html>", (), "text/html")
        verdict = self.weights.spend(request.peer, self._weight(name, request), self._now_us() / 1e6)
        headers = (("X-MBX-USED-WEIGHT-1M", str(verdict.used_weight)),)
        if verdict.status != 200:
            return self._refusal(verdict, headers)
        if request.method != "GET":
            return json_answer({"code": -1101, "msg": f"Method {request.method} is not allowed here."}, 405, headers)
        try:
            answer = self._endpoints[name](request)
        except RestError as error:
            return json_answer({"code": error.code, "msg": str(error)}, error.status, headers)
        return Answer(answer.status, answer.body, headers)

    def ban(self, address: str, seconds: float) -> None:
        """Ban an address at once."""
        self.weights.ban(address, seconds, self._now_us() / 1e6)

    def change_symbol(self, symbol: str, **changes: str) -> None:
        """Say from now on that a symbol has another `status` or `tick_size`; its prices stay as they are."""
        if symbol not in self._source.histories():
            raise KeyError(symbol)
        self._changes[symbol] = self._changes.get(symbol, {}) | changes

    def _refusal(self, verdict: Verdict, headers: tuple[tuple[str, str], ...]) -> Answer:
        if self._options.has_retry_after:
            headers += (("Retry-After", str(verdict.retry_after_sec)),)
        message = "Too much request weight used; please use WebSocket Streams for live updates."
        if verdict.status == 418:
            message = f"Way too much request weight used; IP banned until {verdict.until_ms}."
        return json_answer({"code": -1003, "msg": message}, verdict.status, headers)

    def _weight(self, name: str, request: Request) -> int:
        if name == "ticker/24hr":
            return _TICKER_WEIGHTS[self._market]["symbol" not in request.query]
        if name != "depth":
            return _WEIGHTS[self._market][name]
        try:
            limit = int(request.query.get("limit", "100" if self._market is Market.SPOT else "500"))
        except ValueError:
            limit = 0
        weights = _DEPTH_WEIGHTS[self._market]
        return next((weight for most, weight in weights if limit <= most), weights[-1][1])

    def _history(self, request: Request) -> History:
        symbol = request.query.get("symbol")
        if symbol is None:
            raise RestError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        history = self._source.histories().get(symbol)
        if history is None:
            raise RestError(-1121, "Invalid symbol.")
        return history

    def _limit(self, request: Request, default: int, most: int) -> int:
        limit = _integer(request, "limit")
        if limit is None:
            return default
        if limit < 1:
            raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(limit, most)

    def _exchange_info(self, request: Request) -> Answer:
        infos = [changed_info(info, **self._changes.get(info["symbol"], {})) for info in self._source.symbol_infos()]
        wanted = _symbols(request)
        if wanted:
            infos = [info for info in infos if info["symbol"] in wanted]
            if len(infos) < len(wanted):
                raise RestError(-1121, "Invalid symbol.")
        weight_limit = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": self._options.weight_per_min,
        }
        info: dict[str, Any] = {"timezone": "UTC", "serverTime": self._now_us() // 1000}
        if self._market is Market.FUTURES:
            info["futuresType"] = "U_MARGINED"
        return json_answer(info | {"rateLimits": [weight_limit], "exchangeFilters": [], "symbols": infos})

    def _depth(self, request: Request) -> Answer:
        history = self._history(request)
        if self._market is Market.SPOT:
            limit = self._limit(request, 100, 5000)
        else:
            limit = self._limit(request, 500, 1 << 30)
            if limit not in _FUTURES_DEPTH_LIMITS:
                raise RestError(-4021, f"{limit} is not valid depth limit.")
        snapshot = history.books.snapshot(limit)
        if snapshot is None:
            raise RestError(-1000, "An unknown error occurred while processing the request.", 500)
        if snapshot.text is not None:
            return Answer(200, snapshot.text)
        times = ""
        if self._market is Market.FUTURES:
            times = f'"E":{self._now_us() // 1000},"T":{snapshot.time_us // 1000},'
        text = (
            f'{{"lastUpdateId":{snapshot.last_update_id},{times}"bids":{levels_text(snapshot.bids)},'
            f'"asks":{levels_text(snapshot.asks)}}}'
        )
        return Answer(200, text.encode())

    def _agg_trades(self, request: Request) -> Answer:
        history = self._history(request)
        limit = self._limit(request, 500, 1000)
        from_id = _integer(request, "fromId")
        start_ms, end_ms = _integer(request, "startTime"), _integer(request, "endTime")
        is_futures = self._market is Market.FUTURES
        has_times = start_ms is not None or end_ms is not None
        if from_id is not None and has_times:
            raise RestError(-1128, "Combination of optional parameters invalid.")
        oldest_us = self._now_us() - AGG_TRADES_AGE_US
        if is_futures and start_ms is not None and start_ms * 1000 < oldest_us:
            raise RestError(-4166, "Search window is restricted to recent 48 hours only.")
        if from_id is not None:
            trades = history.agg_trades_from(from_id, limit)
        elif has_times:
            start_us = (start_ms or 0) * 1000
            end_us = end_ms * 1000 + 999 if end_ms is not None else 1 << 62
            trades = history.agg_trades_between(start_us, end_us, limit)
        else:
            trades = history.last_agg_trades(limit)
        return json_answer([self._agg_trade_row(trade) for trade in trades])

    def _trades(self, request: Request) -> Answer:
        trades = self._history(request).last_trades(self._limit(request, 500, 1000))
        return json_answer([self._trade_row(trade) for trade in trades])

    def _historical_trades(self, request: Request) -> Answer:
        is_futures = self._market is Market.FUTURES
        if is_futures and not request.headers.get("x-mbx-apikey"):
            raise RestError(-2014, "API-key format invalid.", 401)
        history = self._history(request)
        limit = self._limit(request, 500, 500 if is_futures else 1000)
        from_id = _integer(request, "fromId")
        trades = history.last_trades(limit) if from_id is None else history.trades_from(from_id, limit)
        return json_answer([self._trade_row(trade) for trade in trades])

    def _klines(self, request: Request) -> Answer:
        history = self._history(request)
        interval = request.query.get("interval")
        if interval is None:
            raise RestError(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.")
        if interval != "1m":
            raise RestError(-1120, "Invalid interval.")
        limit = self._limit(request, 500, 1000 if self._market is Market.SPOT else 1500)
        start_ms, end_ms = _integer(request, "startTime"), _integer(request, "endTime")
        end_us = end_ms * 1000 if end_ms is not None else 1 << 62
        if start_ms is None:
            klines = history.klines_between(0, end_us, None)[-limit:]
        else:
            klines = history.klines_between(start_ms * 1000, end_us, limit)
        return json_answer([_kline_row(kline) for kline in klines])

    def _ticker(self, request: Request) -> Answer:
        if "symbol" in request.query:
            return json_answer(self._ticker_row(self._history(request)))
        return json_answer([self._ticker_row(history) for history in self._source.histories().values()])

    def _ticker_row(self, history: History) -> dict[str, Any]:
        now_us = self._now_us()
        klines = [k for k in history.klines_between(now_us - DAY_US, 1 << 62, None) if k.trade_count]
        opened = klines[0].open if klines else "0"
        row: dict[str, Any] = {
            "symbol": history.symbol,
            "openPrice": opened,
            "lastPrice": klines[-1].close if klines else "0",
            "lastQty": history.trades[-1].quantity if history.trades else "0",
            "openTime": (now_us - DAY_US) // 1000,
            "closeTime": now_us // 1000,
            "firstId": klines[0].first_trade_id if klines else -1,
            "lastId": history.trades[-1].trade_id if history.trades else -1,
            "count": sum(kline.trade_count for kline in klines),
        }
        snapshot = history.books.snapshot(1)
        if snapshot is not None and snapshot.bids and snapshot.asks and self._market is Market.SPOT:
            (row["bidPrice"], row["bidQty"]), (row["askPrice"], row["askQty"]) = snapshot.bids[0], snapshot.asks[0]
        return row

    def _trade_row(self, trade: Trade) -> dict[str, Any]:
        row = {
            "id": trade.trade_id,
            "price": trade.price,
            "qty": trade.quantity,
            "quoteQty": _product(trade.price, trade.quantity),
            "time": trade.time_us // 1000,
            "isBuyerMaker": trade.is_buyer_maker,
        }
        return row if self._market is Market.FUTURES else row | {"isBestMatch": True}

    def _agg_trade_row(self, trade: AggTrade) -> dict[str, Any]:
        row = {
            "a": trade.agg_trade_id,
            "p": trade.price,
            "q": trade.quantity,
            "f": trade.first_trade_id,
            "l": trade.last_trade_id,
            "T": trade.time_us // 1000,
            "m": trade.is_buyer_maker,
        }
        return row | ({"nq": trade.quantity} if self._market is Market.FUTURES else {"M": True})


def _kline_row(kline: Kline) -> list[Any]:
    return [
        kline.open_us // 1000,
        kline.open,
        kline.high,
        kline.low,
        kline.close,
        kline.volume,
        (kline.open_us + MINUTE_US) // 1000 - 1,
        kline.quote_volume,
        kline.trade_count,
        kline.taker_buy_volume,
        kline.taker_buy_quote_volume,
        "0",
    ]


def _symbols(request: Request) -> set[str]:
    """What `symbol`, or spot's `symbols` (a JSON array), names; empty: no restriction."""
    if "symbol" in request.query:
        return {request.query["symbol"]}
    try:
        return set(msgspec.json.decode(request.query.get("symbols", "[]"), type=list[str]))
    except msgspec.DecodeError:
        raise RestError(-1100, "Illegal characters found in parameter 'symbols'.") from None


def _integer(request: Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise RestError(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
        ) from None


def _product(price: str, quantity: str) -> str:
    """The exact product of two decimal strings."""
    price_whole, _, price_part = price.partition(".")
    quantity_whole, _, quantity_part = quantity.partition(".")
    units = int(price_whole + price_part) * int(quantity_whole + quantity_part)
    text = decimal_text(units, len(price_part) + len(quantity_part))
    # As many decimals as quotes have, unless there is something in the others.
    while len(text.partition(".")[2]) > QUOTE_DECIMALS and text.endswith("0"):
        text = text[:-1]
    return text
