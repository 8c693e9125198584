"""What is recorded: markets, kinds, and the columns of every kind.

The numbers of `Market`, `Kind` and `Source` are written into journals, and the names of kinds and columns are the
data set's folders and columns: both are a contract with files that exist. Add, never change.
"""

from __future__ import annotations

import enum
from typing import Literal

ColumnType = Literal["timestamp", "int64", "int32", "float64", "bool", "string"]
"""`timestamp` is nanoseconds since 1970 in UTC."""


class Market(enum.IntEnum):
    """A market of an exchange: ids and symbols are unique within one."""

    SPOT = 1
    FUTURES = 2

    @property
    def label(self) -> str:
        """The name in folders, logs and the catalogue: `spot` or `futures`."""
        return self.name.lower()


class Source(enum.IntEnum):
    """Where the text of a journal frame came from."""

    STREAM = 1
    REST = 2
    DERIVED = 3


class Kind(enum.IntEnum):
    """A kind of message, one folder of the data set each."""

    TRADE = 1
    AGG_TRADE = 2
    DEPTH = 3
    BOOK_TICKER = 4
    KLINE_1M = 5
    MARK_PRICE = 6
    FORCE_ORDER = 7
    DEPTH_SNAPSHOT = 8
    INSTRUMENT = 9
    CVD_1M = 10
    BARS_1M = 11
    OFI_1S = 12
    OFI_1M = 13
    PRICES_1S = 14

    @property
    def label(self) -> str:
        """The name in settings, folders, logs and the catalogue, e.g. `aggTrade`."""
        return _LABELS[self]

    @classmethod
    def from_label(cls, label: str) -> Kind:
        """The kind of a label, which is matched exactly.

        Raises:
            KeyError: there is no such kind.
        """
        return _BY_LABEL[label]


_LABELS = {
    Kind.TRADE: "trade",
    Kind.AGG_TRADE: "aggTrade",
    Kind.DEPTH: "depth",
    Kind.BOOK_TICKER: "bookTicker",
    Kind.KLINE_1M: "kline_1m",
    Kind.MARK_PRICE: "markPrice",
    Kind.FORCE_ORDER: "forceOrder",
    Kind.DEPTH_SNAPSHOT: "depthSnapshot",
    Kind.INSTRUMENT: "instrument",
    Kind.CVD_1M: "cvd_1m",
    Kind.BARS_1M: "bars_1m",
    Kind.OFI_1S: "ofi_1s",
    Kind.OFI_1M: "ofi_1m",
    Kind.PRICES_1S: "prices_1s",
}
_BY_LABEL = {label: kind for kind, label in _LABELS.items()}

MARKETS_BY_LABEL = {market.label: market for market in Market}

STREAM_KINDS: dict[Market, tuple[Kind, ...]] = {
    Market.SPOT: (Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.BOOK_TICKER, Kind.KLINE_1M),
    Market.FUTURES: (
        Kind.TRADE,
        Kind.AGG_TRADE,
        Kind.DEPTH,
        Kind.BOOK_TICKER,
        Kind.KLINE_1M,
        Kind.MARK_PRICE,
        Kind.FORCE_ORDER,
    ),
}
"""The kinds that can be asked of each market's streams."""

TRADE_KINDS = frozenset({Kind.TRADE, Kind.AGG_TRADE})
"""Kinds whose silence is judged by `TRADE_TIMEOUT`."""

BOOK_KINDS = frozenset({Kind.DEPTH, Kind.BOOK_TICKER, Kind.MARK_PRICE, Kind.KLINE_1M})
"""Kinds whose silence is judged by `ORDERBOOK_TIMEOUT`; `forceOrder` is in neither: silence is normal there."""

CHAINED_KINDS = frozenset({Kind.TRADE, Kind.AGG_TRADE, Kind.DEPTH, Kind.KLINE_1M})
"""Kinds of which a missing message can be seen: their ids chain, candles by their minute."""

DERIVED_KINDS = frozenset({Kind.CVD_1M, Kind.BARS_1M, Kind.OFI_1S, Kind.OFI_1M, Kind.PRICES_1S})
"""Kinds that no exchange sends: computed from the streams, a row a time bin. Of several of one bin, which are different
revisions, the highest counts; nothing is missing where there is none."""

SIGNED_COLUMNS = frozenset({"funding_rate", "delta", "cvd", "ofi", "spread"})
"""Columns whose numbers may be negative."""

_COMMON: dict[str, ColumnType] = {"symbol": "string", "receive_time": "timestamp"}
_BEST: dict[str, ColumnType] = {
    "bid_price": "float64",
    "bid_quantity": "float64",
    "ask_price": "float64",
    "ask_quantity": "float64",
}
_OFI: dict[str, ColumnType] = {
    "open_time": "timestamp",
    "exchange_time": "timestamp",
    "ofi": "float64",
    "update_count": "int64",
    **_BEST,
    "revision": "int32",
}

COLUMNS: dict[Kind, dict[str, ColumnType]] = {
    Kind.TRADE: {
        **_COMMON,
        "exchange_time": "timestamp",
        "event_time": "timestamp",
        "trade_id": "int64",
        "price": "float64",
        "quantity": "float64",
        "is_buyer_maker": "bool",
        "trade_type": "string",
        "is_backfilled": "bool",
        "epoch": "int32",
    },
    Kind.AGG_TRADE: {
        **_COMMON,
        "exchange_time": "timestamp",
        "event_time": "timestamp",
        "agg_trade_id": "int64",
        "first_trade_id": "int64",
        "last_trade_id": "int64",
        "price": "float64",
        "quantity": "float64",
        "is_buyer_maker": "bool",
        "is_backfilled": "bool",
        "epoch": "int32",
    },
    Kind.DEPTH: {
        **_COMMON,
        "exchange_time": "timestamp",
        "event_time": "timestamp",
        "first_update_id": "int64",
        "final_update_id": "int64",
        "previous_final_update_id": "int64",
        "side": "string",
        "price": "float64",
        "quantity": "float64",
        "epoch": "int32",
    },
    Kind.BOOK_TICKER: {
        **_COMMON,
        "update_id": "int64",
        **_BEST,
        "exchange_time": "timestamp",
        "epoch": "int32",
    },
    Kind.KLINE_1M: {
        **_COMMON,
        "open_time": "timestamp",
        "close_time": "timestamp",
        "first_trade_id": "int64",
        "last_trade_id": "int64",
        "open": "float64",
        "high": "float64",
        "low": "float64",
        "close": "float64",
        "volume": "float64",
        "quote_volume": "float64",
        "trade_count": "int64",
        "taker_buy_volume": "float64",
        "taker_buy_quote_volume": "float64",
        "is_closed": "bool",
        "event_time": "timestamp",
        "exchange_time": "timestamp",
    },
    Kind.MARK_PRICE: {
        **_COMMON,
        "exchange_time": "timestamp",
        "mark_price": "float64",
        "index_price": "float64",
        "settle_price": "float64",
        "funding_rate": "float64",
        "next_funding_time": "timestamp",
    },
    Kind.FORCE_ORDER: {
        **_COMMON,
        "exchange_time": "timestamp",
        "event_time": "timestamp",
        "side": "string",
        "order_type": "string",
        "time_in_force": "string",
        "price": "float64",
        "average_price": "float64",
        "quantity": "float64",
        "filled_quantity": "float64",
        "status": "string",
    },
    Kind.DEPTH_SNAPSHOT: {
        **_COMMON,
        "last_update_id": "int64",
        "side": "string",
        "price": "float64",
        "quantity": "float64",
        "exchange_time": "timestamp",
        "epoch": "int32",
    },
    Kind.INSTRUMENT: {
        **_COMMON,
        "exchange_time": "timestamp",
        "status": "string",
        "base_asset": "string",
        "quote_asset": "string",
        "contract_type": "string",
        "tick_size": "float64",
        "step_size": "float64",
        "min_notional": "float64",
        "raw": "string",
    },
    Kind.CVD_1M: {
        **_COMMON,
        "open_time": "timestamp",
        "exchange_time": "timestamp",
        "buy_quantity": "float64",
        "sell_quantity": "float64",
        "delta": "float64",
        "cvd": "float64",
        "trade_count": "int64",
        "is_complete": "bool",
        "revision": "int32",
    },
    Kind.BARS_1M: {
        **_COMMON,
        "open_time": "timestamp",
        "exchange_time": "timestamp",
        "open": "float64",
        "high": "float64",
        "low": "float64",
        "close": "float64",
        "volume": "float64",
        "quote_volume": "float64",
        "taker_buy_volume": "float64",
        "trade_count": "int64",
        "is_complete": "bool",
        "revision": "int32",
    },
    Kind.OFI_1S: _COMMON | _OFI,
    Kind.OFI_1M: _COMMON | _OFI,
    Kind.PRICES_1S: {
        **_COMMON,
        "open_time": "timestamp",
        "exchange_time": "timestamp",
        "last_price": "float64",
        "bid_price": "float64",
        "ask_price": "float64",
        "mid_price": "float64",
        "microprice": "float64",
        "spread": "float64",
        "revision": "int32",
    },
}
