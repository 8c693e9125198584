"""Trades that follow one another, summed at once: a tenth of what adding each of them would cost. Pure.

The sums are exact, as those of single trades are: decimals in, decimals out, by functions that loop outside Python.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from itertools import compress
from operator import attrgetter, mul
from typing import TYPE_CHECKING

import attrs

from streamsvc.analytics.rows import ZERO
from streamsvc.venues.binance_heads import TradeHead
from streamsvc.venues.binance_live import MARKET_TRADES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamsvc.venues.binance_heads import AggTradeHead

_PRICE, _QUANTITY, _IS_BUYER_MAKER = attrgetter("p"), attrgetter("q"), attrgetter("m")
_TRADE_TYPE = attrgetter("X")


@attrs.frozen
class TradeRun:
    """Trades of one symbol and one minute, whose ids follow one another.

    Attributes:
        first_id: The id of the first.
        last_id: The id of the last.
        last_ms: The time of the last.
        open: The price of the first.
        high: The highest price.
        low: The lowest price.
        close: The price of the last.
        buy_quantity: What takers bought.
        sell_quantity: What takers sold.
        quote_volume: The sum of price times quantity.
    """

    first_id: int
    last_id: int
    last_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    buy_quantity: Decimal
    sell_quantity: Decimal
    quote_volume: Decimal

    @property
    def trade_count(self) -> int:
        """How many they are."""
        return self.last_id - self.first_id + 1


def sum_trades(heads: Sequence[TradeHead | AggTradeHead]) -> TradeRun | None:
    """Sum trades of one minute whose ids follow one another, as the intake read them.

    None where that has to be done one by one: a number cannot be read or is not finite, or one of them is no trade of
    the market.
    """
    first, last = heads[0], heads[-1]
    if isinstance(first, TradeHead) and not MARKET_TRADES.issuperset(map(_TRADE_TYPE, heads)):
        return None
    try:
        prices = list(map(Decimal, map(_PRICE, heads)))
        quantities = list(map(Decimal, map(_QUANTITY, heads)))
        high, low = max(prices), min(prices)
        quote_volume = sum(map(mul, prices, quantities), ZERO)
    except InvalidOperation:  # Also where one that is no number is compared.
        return None
    quantity = sum(quantities, ZERO)
    if not (quantity.is_finite() and high.is_finite() and low.is_finite()):
        return None
    sold = sum(compress(quantities, map(_IS_BUYER_MAKER, heads)), ZERO)
    return TradeRun(first.id, last.id, last.T, prices[0], high, low, prices[-1], quantity - sold, sold, quote_volume)
