"""Fetches again what did not come: trades and aggTrades by their ids, over REST, through the same journal and files.

One task a market works on the gaps that the ledger was told, the oldest first. What a page brings is taken in like any
message: only ids that are still missing become rows, so that nothing is there twice whatever happens in between. What
the exchange will never give is given up, with the reason; anything else is tried again, for as long as it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

import attrs
import trio

from streamsvc.errors import DecodeError
from streamsvc.log import logger
from streamsvc.rest import RestError, RestRefusedError
from streamsvc.rest_governor import Urgency
from streamsvc.schema import TRADE_KINDS
from streamsvc.venues.binance_rest import KEY_REFUSED_CODES, has_history, parse_trades, trades_query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamsvc.integrity.chains import Chains
    from streamsvc.integrity.continuity import Missing
    from streamsvc.integrity.ledger import Ledger
    from streamsvc.schema import Market
    from streamsvc.venues.binance_rest import Request, TradePage
    from streamsvc.venues.venue import Stream

RETRY_MIN_SEC, RETRY_MAX_SEC = 1.0, 300.0
EMPTY_ANSWERS_MAX = 10
"""So often the exchange may not have ids yet that its streams have passed; then it never will."""

_REFUSED_FOR_GOOD = frozenset({-4166, -1121})
"""Codes that say that these ids will never be given: too old, no such symbol. A wrong URL says no such thing."""

_REASONS = {
    "not_served": "the exchange does not serve these ids",
    "beyond_latest": "only the newest 1000 trades can be asked for without an API key",
}
_OTHER_KIND = "messages of this kind cannot be fetched again"
_OTHER_EPOCH = "the exchange has started its ids over since"


class Governor(Protocol):
    """The way of a market's REST requests; see `rest_governor.RestGovernor`."""

    @property
    def closed_sec(self) -> float:
        """How long nobody may send."""

    @property
    def minute_weight(self) -> int:
        """What our own requests have used in the last minute."""

    @property
    def weight_limit(self) -> int:
        """What the exchange takes from one address in a minute."""

    async def get(self, request: Request, urgency: Urgency) -> bytes:
        """The body of a successful answer; raises RestError."""


class Intake(Protocol):
    """Where what was fetched goes; see `intake.Intake`."""

    async def wait_room(self) -> None:
        """Wait until the writer's channel has room."""

    def take_fetched(self, stream: Stream, epoch: int, rows: Sequence[tuple[int, bytes]]) -> int:
        """Record what is still missing of these rows, right after `wait_room`; how many that were."""


@attrs.define
class _Patience:
    """How long to wait before the next request, after one that brought nothing."""

    failures: int = 0

    async def wait(self) -> None:
        delay_sec = min(RETRY_MIN_SEC * 2**self.failures, RETRY_MAX_SEC)
        self.failures = min(self.failures + 1, 20)
        await trio.sleep(delay_sec)


class Backfill:
    """Repairs one market's gaps.

    Args:
        market: The market.
        host: The host of its REST, some of which have no history.
        has_key: Whether there is an API key.
        governor: The way of its requests.
        chains: What is missing.
        intake: Where its rows go.
        ledger: Told what is given up.
    """

    def __init__(  # noqa: PLR0913 - what it joins
        self,
        market: Market,
        *,
        host: str,
        has_key: bool,
        governor: Governor,
        chains: Chains,
        intake: Intake,
        ledger: Ledger,
    ) -> None:
        self._market = market
        self._host = host
        self._has_key = has_key
        self._governor = governor
        self._chains = chains
        self._intake = intake
        self._ledger = ledger
        self._patience = _Patience()
        self._empty_answers: dict[tuple[Stream, int, int], int] = {}
        self.rows = 0

    async def run(self) -> NoReturn:
        """Repair what the ledger is told, until cancelled."""
        while True:
            # A task that starts while the service stops runs up to here, and must not write any more.
            await trio.lowlevel.checkpoint()
            told = [one for one in self._chains.told(self._market) if not self._give_up_if_hopeless(*one)]
            if not told:
                self._empty_answers.clear()
                await self._ledger.wait_opened()
                continue
            is_progress = False
            for stream, missing in told:
                is_progress |= await self._fetch(stream, missing)
            if is_progress:
                self._patience.failures = 0
            else:
                await self._patience.wait()

    def _give_up_if_hopeless(self, stream: Stream, missing: Missing) -> bool:
        if stream.kind not in TRADE_KINDS:
            self._give_up(stream, missing, _OTHER_KIND)
        elif missing.epoch != self._chains.track(stream).chain.epoch:
            self._give_up(stream, missing, _OTHER_EPOCH)
        else:
            return False
        return True

    async def _fetch(self, stream: Stream, missing: Missing) -> bool:
        """Ask for one page of a gap; whether that changed anything."""
        history = has_history(self._market, self._host, has_key=self._has_key)
        query = trades_query(
            self._market, stream.kind, stream.symbol, missing.first, missing.last, with_history=history
        )
        try:
            page = parse_trades(query, await self._governor.get(query.request, Urgency.BACKFILL))
        except RestRefusedError as fault:
            return self._refused(stream, missing, fault, needed_key=query.request.needs_key)
        except (RestError, DecodeError) as fault:
            return self._failed(stream, fault)
        await self._intake.wait_room()
        return self._take(stream, missing, page)

    def _take(self, stream: Stream, missing: Missing, page: TradePage) -> bool:
        rows = self._intake.take_fetched(stream, missing.epoch, page.rows)
        self.rows += rows
        for part in page.missing:
            never = attrs.evolve(missing, first=part.first_id, last=part.last_id)
            self._give_up(stream, never, _REASONS[part.reason])
        if rows:
            logger.info(
                "backfilled",
                market=self._market.label,
                symbol=stream.symbol,
                kind=stream.kind.label,
                first_id=page.rows[0][0],
                last_id=page.rows[-1][0],
                rows=rows,
            )
        if rows or page.missing:
            return True
        return self._wait_or_give_up(stream, missing)

    def _wait_or_give_up(self, stream: Stream, missing: Missing) -> bool:
        """REST may lag behind the streams, but not for ever."""
        key = stream, missing.first, missing.last
        self._empty_answers[key] = self._empty_answers.get(key, 0) + 1
        if self._empty_answers[key] < EMPTY_ANSWERS_MAX:
            return False
        self._give_up(stream, missing, _REASONS["not_served"])
        return True

    def _refused(self, stream: Stream, missing: Missing, fault: RestRefusedError, *, needed_key: bool) -> bool:
        if needed_key and (fault.code in KEY_REFUSED_CODES or fault.status == 401):
            logger.error("api_key_refused", market=self._market.label, detail=str(fault))
            self._has_key = False
        elif fault.code in _REFUSED_FOR_GOOD:
            self._give_up(stream, missing, f"the exchange refuses: {fault}")
        else:
            return self._failed(stream, fault)
        return True

    def _failed(self, stream: Stream, fault: Exception) -> bool:
        logger.warning(
            "backfill_failed",
            market=self._market.label,
            symbol=stream.symbol,
            kind=stream.kind.label,
            detail=f"{type(fault).__name__}: {fault}",
        )
        return False

    def _give_up(self, stream: Stream, missing: Missing, reason: str) -> None:
        self._chains.forget(stream, missing)
        self._ledger.give_up(stream, missing, reason)
