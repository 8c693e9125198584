"""Fetches and records order-book snapshots of one market, one at a time: at the start, after every gap, now and then.

A broken book is mended alone: its neighbours keep their state, and pay no request. What is urgent goes first; how fast,
the market's governor decides. Whether a book is synced is proved by ids alone (`books.BookChain`); the levels are only
recorded, and `streamsvc book` puts them together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn, Protocol

import attrs
import trio

from streamsvc.errors import DecodeError
from streamsvc.log import logger
from streamsvc.rest import RestError
from streamsvc.rest_governor import Urgency
from streamsvc.venues.binance_rest import parse_snapshot, snapshot_request

if TYPE_CHECKING:
    from streamsvc.integrity.backfill import Governor
    from streamsvc.integrity.books import BookChain
    from streamsvc.integrity.chains import Chains
    from streamsvc.integrity.track import Track
    from streamsvc.schema import Market
    from streamsvc.venues.venue import Stream

LOOK_SEC = 1.0
RETRY_MIN_SEC, RETRY_MAX_SEC = 1.0, 300.0
_DOUBLINGS_MAX = 20


class Recorder(Protocol):
    """Where snapshots go; see `intake.Intake`."""

    async def wait_room(self) -> None:
        """Wait until the writer's channel has room."""

    def record_snapshot(self, stream: Stream, epoch: int, body: bytes) -> None:
        """Record a snapshot, right after `wait_room`."""


@attrs.define
class _Plan:
    """When a symbol's next snapshot may be fetched (`not_before`) and when it is due anyway, monotonic seconds."""

    not_before: float = -math.inf
    due_at: float = -math.inf
    attempts: int = 0


class Snapshots:
    """Keeps one market's books provable.

    Args:
        market: The market.
        chains: The streams, each with its book.
        governor: The way of its requests.
        recorder: Where snapshots go.
        interval_sec: How long a synced book goes without another snapshot.
        levels: How many levels a side are asked for.
    """

    def __init__(  # noqa: PLR0913 - what it joins
        self,
        market: Market,
        *,
        chains: Chains,
        governor: Governor,
        recorder: Recorder,
        interval_sec: float,
        levels: int,
    ) -> None:
        self._market = market
        self._governor = governor
        self._recorder = recorder
        self._interval_sec = interval_sec
        self._levels = levels
        self._chains = chains
        self._plans: dict[BookChain[None], _Plan] = {}  # A symbol that was away comes back with another book.
        self._failures = 0

    async def run(self) -> NoReturn:
        """Fetch what is needed, until cancelled."""
        while True:
            chosen = self._choose(trio.current_time())
            if chosen is None:
                await trio.sleep(LOOK_SEC)
                continue
            track, book = chosen
            try:
                await self._fetch(track, book)
            except (RestError, DecodeError) as fault:
                wait_sec = min(RETRY_MIN_SEC * 2**self._failures, RETRY_MAX_SEC)
                self._failures = min(self._failures + 1, _DOUBLINGS_MAX)
                logger.warning(
                    "snapshot_failed",
                    market=self._market.label,
                    symbol=track.stream.symbol,
                    detail=f"{type(fault).__name__}: {fault}",
                    retry_sec=round(wait_sec),
                )
                await trio.sleep(wait_sec)
            else:
                self._failures = 0

    def _choose(self, now: float) -> tuple[Track, BookChain[None]] | None:
        """The book that needs a snapshot most: broken ones first, then the one that has waited longest."""
        best: tuple[tuple[bool, float], Track, BookChain[None]] | None = None
        tracks = self._chains.books(self._market)
        self._plans = {track.book: self._plans.get(track.book) or _Plan() for track in tracks if track.book is not None}
        for track in tracks:
            book = track.book
            # A stream that has not come yet has nothing that a snapshot could be joined with.
            if book is None or not track.is_begun or now < self._plans[book].not_before:
                continue
            plan = self._plans[book]
            if not book.needs_snapshot and now < plan.due_at:
                continue
            rank = not book.needs_snapshot, plan.due_at
            if best is None or rank < best[0]:
                best = rank, track, book
        return None if best is None else best[1:]

    async def _fetch(self, track: Track, book: BookChain[None]) -> None:
        plan = self._plans[book]
        urgency = Urgency.URGENT if book.needs_snapshot else Urgency.NORMAL
        request = snapshot_request(self._market, track.stream.symbol, self._levels)
        snapshot = parse_snapshot(await self._governor.get(request, urgency))
        await self._recorder.wait_room()
        if track.book is not book:
            return  # The symbol was removed meanwhile.
        self._recorder.record_snapshot(track.stream, track.chain.epoch, snapshot.body)
        track.take_snapshot(snapshot.last_update_id)
        now = trio.current_time()
        plan.due_at = now + self._interval_sec
        # One that is older than the updates that came is fetched again, but not at once and for ever.
        plan.attempts = plan.attempts + 1 if book.needs_snapshot else 0
        wait_sec = min(RETRY_MIN_SEC * 2 ** min(plan.attempts, _DOUBLINGS_MAX), RETRY_MAX_SEC)
        plan.not_before = now + wait_sec
