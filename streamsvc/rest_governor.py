"""Paces every REST request of one market, so that the exchange never has to refuse us. It retries nothing.

Three rules. The weight of any minute stays within a share of what the exchange takes from one address. Once the
exchange asks us to stay away, nobody sends until that time is over, a restart included; then one request at a time
tries whether it really is. And each urgency has a part of the budget and one of the requests in flight to itself, so
that what is urgent never waits for what is not, and a backfill is slowed down but never starved.

The exchange counts by minutes of its clock, when a request arrives. We count a request from when it is sent until a
minute after it ended, which covers every minute in which it can have been counted.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from streamsvc.errors import StreamsvcError
from streamsvc.log import logger
from streamsvc.rest import RETRY_AFTER_SEC_MAX, RestError, RestLimitedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from streamsvc.schema import Market
    from streamsvc.venues.binance_rest import Request

MINUTE_SEC: Final = 60.0
IN_FLIGHT_MAX: Final = 4
"""As many as `RestClient` has connections."""
WAITING_MAX: Final = 1000
"""Requests of one urgency that may wait."""
REQUEST_WEIGHT_MAX: Final = 250
"""The dearest request that we know: 5000 levels of a spot book."""
BUDGET_MIN: Final = 4 * REQUEST_WEIGHT_MAX
"""With less, the dearest requests of all urgencies and their parts would not fit beside each other."""
WAIT_MIN_SEC: Final = 1.0
SLOW_DOWN_SEC: Final = 60.0
BAN_SEC: Final = 120.0
BAN_STORE_SEC: Final = 5.0
"""How long a request may wait for a ban to be kept."""

_DOUBLINGS_MAX = 12


class Urgency(enum.IntEnum):
    """How long a request can wait; the lowest first."""

    URGENT = 0
    NORMAL = 1
    BACKFILL = 2


_PARTS: Final = {Urgency.URGENT: 0.3, Urgency.NORMAL: 0.1, Urgency.BACKFILL: 0.1}
"""The part of our budget that belongs to each urgency; the rest goes to who comes first."""
_CEILINGS: Final = {Urgency.URGENT: 0.95, Urgency.NORMAL: 0.9, Urgency.BACKFILL: 0.8}
"""How far the exchange's own count for this address, which other programs may share, may go by each urgency."""


class RestBusyError(RestError):
    """Too many requests of this urgency are waiting already."""


class Client(Protocol):
    """What sends a request; see `rest.RestClient`."""

    @property
    def host(self) -> str:
        """The host, to which bans belong."""

    @property
    def used_weight(self) -> int | None:
        """The weight that the exchange says this address has used in this minute."""

    @property
    def weight_read_at(self) -> float:
        """When it said so, by Trio's clock."""

    async def get(self, path: str, parameters: Mapping[str, str | int], *, needs_key: bool = False) -> bytes:
        """The body of a successful answer; raises RestError."""


@attrs.define
class _Shares:
    """A quantity of which each urgency has a part to itself. Pure.

    Attributes:
        limit: How much there is.
        parts: How much of it belongs to each urgency.
        used: How much each has now.
    """

    limit: float
    parts: Mapping[Urgency, float]
    used: dict[Urgency, int] = attrs.field(factory=lambda: dict.fromkeys(Urgency, 0))

    def fits(self, urgency: Urgency, need: int, waiting: Mapping[Urgency, int]) -> bool:
        """Whether an urgency may have so much more.

        Args:
            urgency: Whose need it is.
            need: How much.
            waiting: The need of every urgency that waits. Of the others' parts nothing is taken, whether they wait or
                not; for who waits and needs more than its part, that much is kept. All keep the same, so that sooner or
                later everyone who waits has room.
        """
        total = sum(self.used.values()) + need
        if total > self.limit:
            return False
        if self.used[urgency] + need <= self.parts[urgency]:
            return True
        kept = sum(
            max(0.0, max(self.parts[other], waiting.get(other, 0)) - self.used[other])
            for other in Urgency
            if other != urgency
        )
        return total + kept <= self.limit


class RestGovernor:
    """The way of all REST requests of one market. Its waits run by Trio's clock.

    A request may have to wait as long as a ban lasts, days even: who cannot wait sets a deadline of its own, or looks
    at `closed_sec` first.

    Args:
        client: Sends the requests; the caller closes it.
        market: For the log.
        weight_per_min: What the exchange takes from one address in a minute.
        share: How much of that may be ours, above 0 and at most 1.
        wall_ns: The wall clock, ns since 1970, by which bans are kept.
        load_bans: The bans that were kept, by host: when they end, ns since 1970. Called once, before any request.
        save_ban: Keeps a host's ban: its end (ns since 1970), HTTP status and reason. Both may raise StreamsvcError,
            which is logged and costs the keeping only.

    Raises:
        ValueError: the share leaves less than `BUDGET_MIN`.
    """

    def __init__(  # noqa: PLR0913 - what it governs, and its two seams
        self,
        client: Client,
        market: Market,
        *,
        weight_per_min: int,
        share: float,
        wall_ns: Callable[[], int],
        load_bans: Callable[[], Awaitable[Mapping[str, int]]],
        save_ban: Callable[[str, int, int, str], Awaitable[None]],
    ) -> None:
        budget = weight_per_min * share
        if not 0 < share <= 1 or budget < BUDGET_MIN:
            raise ValueError(f"a share of {share:g} of {weight_per_min} is not within {BUDGET_MIN} and all of it")
        self._client = client
        self._market = market
        self._weight_per_min = weight_per_min
        self._wall_ns = wall_ns
        self._load_bans = load_bans
        self._save_ban = save_ban
        self._weights = _Shares(budget, {urgency: part * budget for urgency, part in _PARTS.items()})
        self._flights = _Shares(IN_FLIGHT_MAX, dict.fromkeys(Urgency, 1))
        self._ended: deque[tuple[float, Urgency, int]] = deque()
        self._sent_weight = 0
        self._ahead_weight: int | None = None
        self._weight_read_at = -math.inf
        self._closed_until = -math.inf
        self._closures = 0
        self._turns = {urgency: trio.StrictFIFOLock() for urgency in Urgency}
        self._waiting = dict.fromkeys(Urgency, 0)
        self._heads: dict[Urgency, int] = {}
        self._changed = trio.Event()
        self._loading = trio.Lock()
        self._is_loaded = False

    @property
    def closed_sec(self) -> float:
        """How long nobody may send, because the exchange asked us to stay away; 0: one may."""
        return max(0.0, self._closed_until - trio.current_time())

    @property
    def weight_limit(self) -> int:
        """What the exchange takes from one address in a minute."""
        return self._weight_per_min

    @property
    def minute_weight(self) -> int:
        """What our own requests have used in the last minute."""
        self._forget()
        return sum(self._weights.used.values())

    async def get(self, request: Request, urgency: Urgency) -> bytes:
        """Send a request as soon as it may be sent, and give the body of a successful answer.

        Raises:
            RestBusyError: `WAITING_MAX` requests of this urgency wait already.
            RestLimitedError: the exchange asks us to stay away: from now on every request waits until that is over.
            RestError: see `rest.RestClient.get`.
        """
        await self.load()
        await self._wait_turn(request.weight, urgency)
        mark = self._sent_weight
        is_answered = False
        try:
            body = await self._client.get(request.path, request.parameters, needs_key=request.needs_key)
        except RestLimitedError as error:
            until_ns = self._close(error)
            with trio.move_on_after(BAN_STORE_SEC, shield=True) as scope:
                await self._keep_ban(until_ns, error)
            if scope.cancelled_caught:
                self._tell_store_failed(f"not kept within {BAN_STORE_SEC:g} s")
            raise
        else:
            is_answered = True
            return body
        finally:
            self._end(request.weight, urgency, mark, is_answered=is_answered)

    async def load(self) -> None:
        """Take over the ban that an earlier run left; without this, the first request does it."""
        async with self._loading:
            if self._is_loaded:
                return
            try:
                until_ns = (await self._load_bans()).get(self._client.host, 0)
            except StreamsvcError as fault:
                self._tell_store_failed(str(fault))
                until_ns = 0
            wait_sec = min((until_ns - self._wall_ns()) / 1e9, RETRY_AFTER_SEC_MAX)
            if wait_sec > 0:
                self._closed_until = trio.current_time() + wait_sec
                self._closures = 1
                self._tell_closed(wait_sec, is_ban=True)
            self._is_loaded = True

    async def _wait_turn(self, weight: int, urgency: Urgency) -> None:
        """Wait until a request may be sent, and count it. The first of each urgency waits, the others behind it."""
        assert 0 < weight <= REQUEST_WEIGHT_MAX
        if self._waiting[urgency] >= WAITING_MAX:
            await trio.lowlevel.checkpoint()
            raise RestBusyError(f"{WAITING_MAX} requests wait already")
        self._waiting[urgency] += 1
        try:
            async with self._turns[urgency]:
                self._heads[urgency] = weight
                self._tell()
                try:
                    while not self._may_go(urgency):
                        with trio.move_on_at(self._next_change()):
                            await self._changed.wait()
                    self._weights.used[urgency] += weight
                    self._flights.used[urgency] += 1
                    self._sent_weight += weight
                finally:
                    del self._heads[urgency]
        finally:
            self._waiting[urgency] -= 1
            self._tell()

    def _may_go(self, urgency: Urgency) -> bool:
        """Whether the first waiting request of an urgency goes now, rather than one that is more urgent."""
        self._forget()
        if self.closed_sec or (self._closures and any(self._flights.used.values())):
            return False
        for other in Urgency:
            if other == urgency:
                return self._fits(urgency)
            # Between one head and the next there is a moment in which it is not known what the next one needs.
            if self._waiting[other] and (other not in self._heads or self._fits(other)):
                return False
        raise AssertionError("not reached")

    def _fits(self, urgency: Urgency) -> bool:
        weight = self._heads[urgency]
        if not (self._flights.fits(urgency, 1, {}) and self._weights.fits(urgency, weight, self._heads)):
            return False
        if self._ahead_weight is None:
            return True
        return self._ahead_weight + self._sent_weight + weight <= self._weight_per_min * _CEILINGS[urgency]

    def _forget(self) -> None:
        """Leave behind what is more than a minute old."""
        now = trio.current_time()
        while self._ended and self._ended[0][0] <= now:
            _, urgency, weight = self._ended.popleft()
            self._weights.used[urgency] -= weight
        if self._weight_read_at + MINUTE_SEC <= now:
            self._ahead_weight = None

    def _next_change(self) -> float:
        """When something may change by itself, by Trio's clock."""
        # What the exchange last told of its count is no older than the request with which it came.
        times = [self._closed_until]
        if self._ended:
            times.append(self._ended[0][0])
        return min((time for time in times if time > trio.current_time()), default=math.inf)

    def _tell(self) -> None:
        """Whoever waits first looks again."""
        self._changed.set()
        self._changed = trio.Event()

    def _end(self, weight: int, urgency: Urgency, mark: int, *, is_answered: bool) -> None:
        self._flights.used[urgency] -= 1
        self._ended.append((trio.current_time() + MINUTE_SEC, urgency, weight))
        self._read_weight(mark)
        if is_answered and self._closures and not self.closed_sec:
            self._closures = 0
            logger.info("rest_resumed", market=self._market.label, host=self._client.host)
        self._tell()

    def _read_weight(self, mark: int) -> None:
        """Take over what the exchange says we all have used.

        It counted the requests up to `mark`, perhaps some after it: what is kept is by how much its count is ahead of
        ours, so that everything sent since comes on top.
        """
        if self._client.used_weight is not None and self._client.weight_read_at > self._weight_read_at:
            self._weight_read_at = self._client.weight_read_at
            self._ahead_weight = self._client.used_weight - mark

    def _close(self, error: RestLimitedError) -> int:
        """Let nobody send until the exchange's time is over; gives when that is, ns since 1970."""
        if not self.closed_sec:  # What was in flight when we closed is no new offence.
            self._closures += 1
        wait_sec = self._wait_sec(error)
        if wait_sec > self.closed_sec:
            self._closed_until = trio.current_time() + wait_sec
            self._tell_closed(wait_sec, is_ban=error.is_ban)
        return self._wall_ns() + math.ceil(self.closed_sec * 1e9)

    async def _keep_ban(self, until_ns: int, error: RestLimitedError) -> None:
        try:
            await self._save_ban(self._client.host, until_ns, 418 if error.is_ban else 429, str(error))
        except StreamsvcError as fault:
            self._tell_store_failed(str(fault))

    def _tell_closed(self, wait_sec: float, *, is_ban: bool) -> None:
        tell, event = (logger.error, "rest_banned") if is_ban else (logger.warning, "rest_limited")
        tell(
            event,
            market=self._market.label,
            host=self._client.host,
            wait_sec=math.ceil(wait_sec),
            own_weight=self.minute_weight,
            used_weight=self._client.used_weight,
        )

    def _tell_store_failed(self, detail: str) -> None:
        logger.error("ban_store_failed", market=self._market.label, detail=detail)

    def _wait_sec(self, error: RestLimitedError) -> float:
        """How long to stay away: as it says, else longer each time; at least a little longer each time."""
        doubled = 2.0 ** min(self._closures - 1, _DOUBLINGS_MAX)
        if error.retry_after_sec is not None:
            stated_sec = error.retry_after_sec
        elif error.until_ms is not None:
            stated_sec = error.until_ms / 1e3 - self._wall_ns() / 1e9
        else:
            stated_sec = (BAN_SEC if error.is_ban else SLOW_DOWN_SEC) * doubled
        return min(max(stated_sec, min(WAIT_MIN_SEC * doubled, SLOW_DOWN_SEC)), RETRY_AFTER_SEC_MAX)
