"""What live analytics would have said of a recorded symbol: the same cores, fed from the files in the order of receipt.

The rows are those that one run of the service writes that was there all the time; where it was stopped in between, the
first quote after that had none before it, so only minutes of trades are the same.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from streamsvc import dataset
from streamsvc.analytics.symbol import SymbolAnalytics
from streamsvc.errors import UsageError
from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_live import MARKET_TRADES, LiveCandle, LiveQuote, LiveTrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from streamsvc.analytics.symbol import Row
    from streamsvc.analytics.trades import CvdReset

_NS_PER_MS = 1_000_000
_FED = (Kind.TRADE, Kind.AGG_TRADE, Kind.BOOK_TICKER, Kind.KLINE_1M, Kind.DEPTH)


def replay(  # noqa: PLR0913 - what to read, and how it was derived
    data_dir: str | Path,
    market: Market,
    symbol: str,
    start: datetime | str | int,
    end: datetime | str | int,
    *,
    reset: CvdReset = "never",
    grace_sec: float = 2.0,
) -> Iterator[Row]:
    """The rows of a symbol, as they would have been written; of a bin that was corrected all revisions.

    Args:
        data_dir: `DATA_DIR` of the service.
        market: The market.
        symbol: The symbol.
        start: See `dataset.load`.
        end: See `dataset.load`.
        reset: `CVD_RESET`.
        grace_sec: `ANALYTICS_GRACE_SEC`.

    Raises:
        UsageError: nothing of the symbol was recorded; see `dataset.load`.
    """
    events: list[tuple[int, int, Callable[[SymbolAnalytics], object]]] = []
    kinds = []
    for kind in _FED:
        try:
            frame = dataset.load(data_dir, kind.label, symbol, start, end, market=market.label)
        except UsageError:
            continue
        kinds.append(kind)
        columns = {name: frame[name].tolist() for name in frame.columns if frame[name].dtype.kind != "M"}
        times = {name: frame[name].astype("int64").tolist() for name in frame.columns if frame[name].dtype.kind == "M"}
        for place, received_ns in enumerate(times["receive_time"]):
            event = _event(kind, market, {name: each[place] for name, each in (columns | times).items()})
            if event is not None:
                events.append((received_ns, len(events), event))
    if not kinds:
        raise UsageError(f"nothing of {symbol!r} was recorded in {market.label}")
    trade_kind = Kind.TRADE if Kind.TRADE in kinds else Kind.AGG_TRADE
    of_symbol = SymbolAnalytics(market, symbol, trade_kind, reset, round(grace_sec * 1000))
    of_symbol.begin(None)
    events.sort(key=lambda event: event[:2])
    for place, (received_ns, _, event) in enumerate(events):
        event(of_symbol)
        if place + 1 == len(events) or events[place + 1][0] != received_ns:
            yield from of_symbol.close()
    yield from of_symbol.finish()


def _event(kind: Kind, market: Market, row: dict[str, Any]) -> Callable[[SymbolAnalytics], object] | None:
    """What is done with a row. An order-book update tells the time only."""
    received_ms = row["receive_time"] // _NS_PER_MS
    match kind:
        case Kind.TRADE | Kind.AGG_TRADE:
            trade = _trade(kind, row)
            if row["is_backfilled"]:
                return lambda of: of.take_trade(trade, row["epoch"]) if of.trade_kind is kind else None
            return lambda of: of.take_live_trade(trade, row["epoch"], received_ms) if of.trade_kind is kind else None
        case Kind.BOOK_TICKER:
            time_ms = row["exchange_time"] // _NS_PER_MS if market is Market.FUTURES else None
            bid, ask = _decimal(row["bid_price"]), _decimal(row["ask_price"])
            bid_quantity, ask_quantity = _decimal(row["bid_quantity"]), _decimal(row["ask_quantity"])
            quote = LiveQuote("", row["update_id"], bid, bid_quantity, ask, ask_quantity, time_ms)
            return lambda of: of.take_quote(quote, row["epoch"], received_ms)
        case Kind.KLINE_1M:
            volume, bought = _decimal(row["volume"]), _decimal(row["taker_buy_volume"])
            candle = LiveCandle("", row["open_time"] // _NS_PER_MS, volume, bought, bool(row["is_closed"]))
            return lambda of: of.take_candle(candle)
        case _:
            return lambda of: of.saw_time(row["event_time"] // _NS_PER_MS, received_ms)


def _trade(kind: Kind, row: dict[str, Any]) -> LiveTrade:
    is_market = row.get("trade_type", "") in MARKET_TRADES
    return LiveTrade(
        "",
        row["trade_id" if kind is Kind.TRADE else "agg_trade_id"],
        _decimal(row["price"]),
        _decimal(row["quantity"]),
        row["exchange_time"] // _NS_PER_MS,
        bool(row["is_buyer_maker"]),
        is_market and (kind is Kind.AGG_TRADE or bool(row["quantity"])),
    )


def _decimal(value: float) -> Decimal:
    """The shortest decimal that float64 takes for this value, which is the one that was sent."""
    return Decimal(repr(value))
