"""Compares the symbols that the settings name with what the exchange lists.

A stream of a symbol that does not exist is accepted and silent, and one of a symbol that is halted or was taken off the
list falls silent: the log names them at the first look, and again whenever there are others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamsvc.schema import Market

SYMBOLS_TOLD_MAX: Final = 100
_TRADING = "TRADING"


class SymbolCheck:
    """Logs the symbols of a market that the exchange does not know or does not trade.

    Args:
        market: The market.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._is_checked = False
        self._unknown: list[str] = []
        self._halted: list[str] = []

    def look(self, statuses: Mapping[str, str], symbols: Iterable[str]) -> None:
        """Take the status of every symbol of the market, and tell what is not as it was of the configured ones."""
        wanted = sorted(set(symbols))
        unknown = [symbol for symbol in wanted if symbol not in statuses]
        halted = [symbol for symbol in wanted if statuses.get(symbol, _TRADING) != _TRADING]
        market = self._market.label
        if unknown and unknown != self._unknown:
            logger.error("symbol_unknown", market=market, symbols=unknown[:SYMBOLS_TOLD_MAX], count=len(unknown))
        if halted and halted != self._halted:
            logger.warning("symbol_not_trading", market=market, symbols=halted[:SYMBOLS_TOLD_MAX], count=len(halted))
        if not self._is_checked:
            logger.info("symbols_checked", market=market, symbols=len(wanted), unknown=len(unknown))
        self._is_checked, self._unknown, self._halted = True, unknown, halted
