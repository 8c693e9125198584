"""Beside live analytics: where an earlier run ended, and minutes that are too old to be corrected from memory.

Both read published files in a process of their own, and neither holds up what is recorded: until it is known where the
earlier run ended minutes are gathered and not closed.

Events: `analytics_begun` (streams, with how many minutes of them), `analytics_corrected` (minutes),
`analytics_unread` (detail, attempts_left: files could not be read), `analytics_begun_anew` (they never could: sums
begin with 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from streamsvc.analytics.minute import Ended, TradeStream
from streamsvc.log import logger
from streamsvc.schema import TRADE_KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streamsvc.analytics.live import Analytics
    from streamsvc.analytics.minute import Begin, Rebuilt
    from streamsvc.integrity.chains import Chains
    from streamsvc.persistence.nursery import Persistence
    from streamsvc.schema import Market

LOOK_SEC = 5.0
RETRY_SEC = 60.0
ATTEMPTS_MAX = 10
STALE_MINUTES_MAX = 5_000
"""So many minutes are made again in one reading."""
_MODULE = "streamsvc.analytics.recorded"


def ended_streams(chains: Chains) -> list[Ended]:
    """How far streams of trades have come; asked before the first connection, that is where earlier runs ended."""
    return [
        Ended(TradeStream(stream.market, stream.kind, stream.symbol), chain.epoch, last_id, chain.event_ms or 0)
        for kind in TRADE_KINDS
        for track in chains.tracks(kind)
        if (last_id := (chain := track.chain).last_id) is not None and (stream := track.stream)
    ]


class History:
    """What live analytics must know of what is recorded.

    Args:
        analytics: Told of it.
        ended: Where earlier runs ended.
        root: `DATA_DIR`.
        persistence: Says when files are published.
        run_apart: Runs a function, by its module and name, in a process of its own.
    """

    def __init__(
        self,
        analytics: Analytics,
        ended: Sequence[Ended],
        root: str,
        persistence: Persistence,
        run_apart: Callable[..., Awaitable[Any]],
    ) -> None:
        self._analytics = analytics
        self._ended = ended
        self._root = root
        self._persistence = persistence
        self._run_apart = run_apart

    async def run(self) -> None:
        """Find where minutes go on, then correct old ones, until cancelled."""
        await self._begin()
        while True:
            await trio.sleep(LOOK_SEC)
            if self._analytics.has_stale:
                # The rows that came late must be in files before they are read.
                await self._persistence.wait_published()
                await self._correct()

    async def _begin(self) -> None:
        await self._persistence.wait_recovered()
        found = await self._read("read_begins", self._persistence.run, self._ended)
        if found is None:
            logger.error("analytics_begun_anew")
            self._analytics.begin_anew()
            return
        begins: Mapping[TradeStream, Begin]
        begins, written = found
        self._analytics.begin(self._chosen(begins), written)
        minutes = sum(len(begin.minutes) for begin in begins.values())
        logger.info("analytics_begun", streams=len(begins), minutes=minutes)

    def _chosen(self, begins: Mapping[TradeStream, Begin]) -> dict[tuple[Market, str], Begin]:
        """Of a symbol whose trades and aggTrades are recorded, the trades."""
        ordered = sorted(begins.items(), key=lambda item: item[0].kind is Kind.TRADE)
        return {(stream.market, stream.symbol): begin for stream, begin in ordered}

    async def _correct(self) -> None:
        wanted = self._analytics.take_stale(STALE_MINUTES_MAX)
        rebuilt: list[Rebuilt] | None = await self._read("rebuild_minutes", wanted)
        if rebuilt is None:
            self._analytics.put_back_stale(wanted)
            return
        corrected = sum(self._analytics.correct(one) for one in rebuilt)
        if corrected:
            logger.info("analytics_corrected", minutes=corrected)

    async def _read(self, function: str, *args: Any) -> Any:
        """What a function reads from files; where that fails it is told, and tried again. None: it never worked."""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await trio.sleep(RETRY_SEC)
            try:
                return await self._run_apart(_MODULE, function, self._root, *args)
            except Exception as fault:  # noqa: BLE001 - old files that cannot be read must not stop the recording
                logger.error("analytics_unread", detail=repr(fault), attempts_left=ATTEMPTS_MAX - attempt - 1)
        return None
