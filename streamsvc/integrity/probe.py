"""Stalled or only quiet? The exchange knows: its last trade id is ours, or newer.

Asked before silent trades are repaired, at a price that hundreds of quiet symbols can pay: all symbols in one call
where that is cheaper. An aggTrade's own id costs a call a symbol, so it is kept with the last trade in it: as long as
that is the symbol's last trade, no aggTrade has come either. Without REST nobody knows, and the thresholds decide.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from streamsvc.errors import DecodeError
from streamsvc.log import logger
from streamsvc.rest import RestError, RestRefusedError
from streamsvc.rest_governor import Urgency
from streamsvc.schema import Kind
from streamsvc.venues.binance_rest import (
    NO_TRADE,
    last_agg_trade_request,
    last_trade_requests,
    parse_last_agg_trade,
    parse_last_trade_ids,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from streamsvc.integrity.backfill import Governor
    from streamsvc.integrity.chains import Chains
    from streamsvc.schema import Market
    from streamsvc.venues.binance_rest import LastAggTrade
    from streamsvc.venues.venue import Stream

PROBE_SEC_MAX = 5.0
"""Longer than this nobody waits for an answer: a stall must not hide behind a slow REST."""
AGG_TRADES_MAX = 20
"""So many aggTrades are asked for at a time; the others wait for the next look."""


class Probes:
    """Asks for last ids.

    Args:
        chains: Where our streams stand; what the exchange has beyond that is missing from then on.
    """

    def __init__(self, chains: Chains) -> None:
        self._chains = chains
        self._governors: dict[Market, Governor] = {}
        self._agg_trades: dict[tuple[Market, str], LastAggTrade] = {}

    def use(self, market: Market, governor: Governor) -> None:
        """A market's REST can be asked from now on."""
        self._governors[market] = governor

    @property
    def governors(self) -> Mapping[Market, Governor]:
        """The way of each market's requests that is in use."""
        return self._governors

    async def quiet(self, streams: Sequence[Stream]) -> set[Stream]:
        """Which of these silent streams of trades or aggTrades are only quiet, as far as that can be told in time."""
        quiet: set[Stream] = set()
        for market, governor in self._governors.items():
            own = [stream for stream in streams if stream.market is market]
            if not own or governor.closed_sec:
                continue
            try:
                with trio.move_on_after(PROBE_SEC_MAX) as scope:
                    quiet |= await self._ask(governor, own)
            except (RestError, DecodeError) as fault:
                logger.warning("probe_failed", market=market.label, detail=f"{type(fault).__name__}: {fault}")
            if scope.cancelled_caught:
                logger.warning("probe_failed", market=market.label, detail=f"no answer within {PROBE_SEC_MAX:g} s")
        return quiet

    async def _ask(self, governor: Governor, streams: Sequence[Stream]) -> set[Stream]:
        last_ids = await self._last_trade_ids(governor, {stream.symbol for stream in streams}, streams[0].market)
        quiet, asked = set(), 0
        for stream in streams:
            last_id = last_ids.get(stream.symbol)
            if last_id is None:
                continue
            if stream.kind is Kind.AGG_TRADE and last_id != NO_TRADE:
                known = self._agg_trades.get((stream.market, stream.symbol))
                if known is None or known.last_trade_id != last_id:
                    if asked == AGG_TRADES_MAX:
                        continue
                    asked += 1
                    known = await self._last_agg_trade(governor, stream)
                last_id = NO_TRADE if known is None else known.agg_trade_id
            if last_id == NO_TRADE or not self._chains.has_missed(stream, last_id, trio.current_time()):
                quiet.add(stream)
        return quiet

    async def _last_trade_ids(self, governor: Governor, symbols: Collection[str], market: Market) -> dict[str, int]:
        last_ids: dict[str, int] = {}
        for request in last_trade_requests(market, symbols):
            # A symbol that the exchange does not know says nothing of the others.
            with suppress(RestRefusedError):
                last_ids |= parse_last_trade_ids(await governor.get(request, Urgency.URGENT))
        return last_ids

    async def _last_agg_trade(self, governor: Governor, stream: Stream) -> LastAggTrade | None:
        request = last_agg_trade_request(stream.market, stream.symbol)
        found = parse_last_agg_trade(await governor.get(request, Urgency.URGENT))
        if found is not None:
            self._agg_trades[stream.market, stream.symbol] = found
        return found
