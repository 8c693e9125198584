"""What is traded: decimal places, texts of prices and quantities, and the answer to `exchangeInfo`. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs

from streamsvc.schema import Market

SPOT_TEXT_DECIMALS = 8
HALTED_STATUS = {Market.SPOT: "BREAK", Market.FUTURES: "SETTLING"}
"""What `exchangeInfo` says of a symbol that is not traded any more."""
_QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "TRY")
_KNOWN = {  # symbol: price in ticks, decimals of price and quantity on spot, then on futures
    "BTCUSDT": ((6_150_000, 2, 5), (615_000, 1, 3)),
    "ETHUSDT": ((268_000, 2, 4), (268_000, 2, 3)),
}


@attrs.frozen
class Instrument:
    """A symbol's units: prices are whole ticks, quantities whole lots.

    Attributes:
        symbol: In upper case.
        base: Base asset.
        quote: Quote asset.
        start_ticks: The price at which a synthetic market opens.
        price_decimals: A tick is 10 to the minus this.
        quantity_decimals: A lot is 10 to the minus this.
        price_padding: Zeros that the exchange writes after a price.
        quantity_padding: Zeros that it writes after a quantity.
    """

    symbol: str
    base: str
    quote: str
    start_ticks: int
    price_decimals: int
    quantity_decimals: int
    price_padding: str
    quantity_padding: str

    def price_text(self, ticks: int) -> str:
        """The exact decimal of a price."""
        return decimal_text(ticks, self.price_decimals) + self.price_padding

    def quantity_text(self, lots: int) -> str:
        """The exact decimal of a quantity."""
        return decimal_text(lots, self.quantity_decimals) + self.quantity_padding

    def middle_text(self, bid_ticks: int, ask_ticks: int) -> str:
        """The exact decimal of the price half-way between two, which takes one decimal more than a tick."""
        return decimal_text((bid_ticks + ask_ticks) * 5, self.price_decimals + 1)

    def quote_text(self, ticks_lots: int) -> str:
        """The exact decimal of price times quantity."""
        return decimal_text(ticks_lots, self.price_decimals + self.quantity_decimals)


def decimal_text(units: int, decimals: int) -> str:
    """An integer number of units of 10 to the minus `decimals`, written out without an exponent."""
    if decimals == 0:
        return str(units)
    scale = 10**decimals
    return f"{units // scale}.{units % scale:0{decimals}d}"


def default_instrument(market: Market, symbol: str) -> Instrument:
    """Units for any symbol: near the exchange's for the well-known, made up from the name for others."""
    base, quote = _assets(symbol)
    if symbol in _KNOWN:
        start_ticks, price_decimals, quantity_decimals = _KNOWN[symbol][market - 1]
    else:
        digest = hashlib.sha256(symbol.encode()).digest()
        start_ticks, price_decimals, quantity_decimals = 50_000 + int.from_bytes(digest[:2]), 2 + digest[2] % 3, 1
    is_spot = market is Market.SPOT
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        start_ticks=start_ticks,
        price_decimals=price_decimals,
        quantity_decimals=quantity_decimals,
        price_padding="0" * ((SPOT_TEXT_DECIMALS if is_spot else max(price_decimals, 2)) - price_decimals),
        quantity_padding="0" * (SPOT_TEXT_DECIMALS - quantity_decimals) if is_spot else "",
    )


def _assets(symbol: str) -> tuple[str, str]:
    for quote in _QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol, "USDT"


def symbol_info(market: Market, instrument: Instrument) -> dict[str, Any]:
    """One entry of `exchangeInfo`'s `symbols`."""
    tick = _step_text(instrument.price_decimals)
    step = _step_text(instrument.quantity_decimals)
    highest = instrument.price_text(instrument.start_ticks * 100)
    lot = {"minQty": step, "maxQty": "9000.00000000", "stepSize": step}
    info: dict[str, Any] = {
        "symbol": instrument.symbol,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
    }
    price_filter = {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": highest, "tickSize": tick}
    if market is Market.SPOT:
        return info | {
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "icebergAllowed": True,
            "ocoAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                price_filter,
                {"filterType": "LOT_SIZE", **lot},
                {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }
    return info | {
        "pair": instrument.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "marginAsset": instrument.quote,
        "pricePrecision": instrument.price_decimals,
        "quantityPrecision": instrument.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "filters": [
            price_filter,
            {"filterType": "LOT_SIZE", **lot},
            {"filterType": "MARKET_LOT_SIZE", **lot},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def changed_info(info: dict[str, Any], *, status: str | None = None, tick_size: str | None = None) -> dict[str, Any]:
    """An entry of `exchangeInfo` with another status or tick size; the entry itself stays as it is."""
    filters = info["filters"]
    if tick_size is not None:
        filters = [rule | {"tickSize": tick_size} if rule["filterType"] == "PRICE_FILTER" else rule for rule in filters]
    return info | {"filters": filters} | ({} if status is None else {"status": status})


def _step_text(decimals: int) -> str:
    return decimal_text(1, decimals)
