"""Checks once after the start that the exchange knows the configured symbols.

A stream of a symbol that does not exist is accepted and silent. REST that is down is an alarm, never a stop: recording
goes on, and the question is asked again, more and more rarely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from streamsvc.log import logger
from streamsvc.rest import RestError, RestLimitedError

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from streamsvc.schema import Market

RETRY_MIN_SEC: Final = 5.0
RETRY_MAX_SEC: Final = 3600.0
SYMBOLS_TOLD_MAX: Final = 100
_TRADING = "TRADING"


async def check_symbols(
    market: Market,
    symbols: Iterable[str],
    fetch: Callable[[], Awaitable[Mapping[str, str]]],
    rng: random.Random,
) -> None:
    """Log the symbols of a market that the exchange does not know or does not trade; returns when that is known.

    Args:
        market: The market.
        symbols: The configured symbols.
        fetch: The status of every symbol of the market; raises RestError.
        rng: Spreads the retries of many instances.
    """
    wanted = sorted(set(symbols))
    wait_sec = RETRY_MIN_SEC
    while True:
        try:
            statuses = await fetch()
        except RestError as error:
            retry_sec = wait_sec * rng.uniform(0.5, 1.0)
            if isinstance(error, RestLimitedError) and error.retry_after_sec is not None:
                retry_sec = max(retry_sec, error.retry_after_sec)
            logger.error("rest_unavailable", market=market.label, reason=str(error), retry_sec=round(retry_sec))
            await trio.sleep(retry_sec)
            wait_sec = min(wait_sec * 2, RETRY_MAX_SEC)
        else:
            break
    unknown = [symbol for symbol in wanted if symbol not in statuses]
    halted = [symbol for symbol in wanted if statuses.get(symbol, _TRADING) != _TRADING]
    if unknown:
        logger.error("symbol_unknown", market=market.label, symbols=unknown[:SYMBOLS_TOLD_MAX], count=len(unknown))
    if halted:
        logger.warning("symbol_not_trading", market=market.label, symbols=halted[:SYMBOLS_TOLD_MAX], count=len(halted))
    logger.info("symbols_checked", market=market.label, symbols=len(wanted), unknown=len(unknown))
