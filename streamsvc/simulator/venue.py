"""One market of the exchange: it moves its source on, answers requests, and opens connections."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from streamsvc.simulator.frames import accept_key
from streamsvc.simulator.http import Answer, Request, Upgrade, json_answer
from streamsvc.simulator.hub import Hub
from streamsvc.simulator.limits import AttemptBudget
from streamsvc.simulator.requests import parse_endpoint
from streamsvc.simulator.rest import RestApi
from streamsvc.simulator.session import Session
from streamsvc.simulator.sources import SyntheticSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamsvc.simulator.ledger import Ledger
    from streamsvc.simulator.market import Activity
    from streamsvc.simulator.options import MarketOptions
    from streamsvc.simulator.requests import Endpoint
    from streamsvc.simulator.sources import Source
    from streamsvc.simulator.transport import Transport

TICK_SEC = 0.01
"""Messages go out in ticks: a wake-up costs more than a message."""
STEP_US_MAX = 50_000
"""A market that has fallen behind catches up in steps, so that connections are served in between."""


@attrs.define
class RestFault:
    """What happens to REST requests whose path holds `path`.

    Attributes:
        path: A part of the path; empty: all.
        answer: Given instead of the real one; None: only the delay.
        delay_sec: Before any answer.
        count: How many requests; infinite until lifted.
    """

    path: str = ""
    answer: Answer | None = None
    delay_sec: float = 0.0
    count: float = math.inf


@attrs.define
class DoorFault:
    """What happens to new connections.

    Attributes:
        is_closed: No TCP connection is accepted.
        is_stalled: TCP connections are accepted and hear nothing.
        drip_sec: The answer to an upgrade comes byte by byte with this pause.
        refusal: The answer to an upgrade.
        count: How many upgrades are refused.
    """

    is_closed: bool = False
    is_stalled: bool = False
    drip_sec: float = 0.0
    refusal: Answer | None = None
    count: float = math.inf


class Venue:
    """One market.

    Attributes:
        hub: Its streams and connections.
        rest: Its endpoints.
        door: What happens to new connections; change it with `set_door`.
        rest_faults: What happens to REST requests; the first that fits counts.
        told: Set to begin, where the market waits to be told.
        done: Set when the source has nothing more and everything is in the queues.
    """

    def __init__(
        self,
        source: Source,
        options: MarketOptions,
        ledger: Ledger,
        *,
        now_us: Callable[[], int],
        numbers: Iterator[int],
    ) -> None:
        self.market = source.market
        self.source = source
        self.options = options
        self.hub = Hub(source, options, ledger)
        self.rest = RestApi(source, options, now_us)
        self.door = DoorFault()
        self.door_changed = trio.Event()
        self.rest_faults: list[RestFault] = []
        self.told = trio.Event()
        self.done = trio.Event()
        self._symbols_changed = trio.Event()
        self._attempts = AttemptBudget(options.attempts_max)
        self._now_us = now_us
        self._numbers = numbers

    def set_door(self, door: DoorFault) -> None:
        """Change what happens to new connections."""
        self.door = door
        self.door_changed.set()
        self.door_changed = trio.Event()

    async def run(self) -> None:
        """Move the market on until its source has nothing more."""
        if self.options.start == "subscribed":
            await self.hub.subscribed.wait()
        elif self.options.start == "told":
            await self.told.wait()
        source, hub = self.source, self.hub
        reached_us = self._now_us()
        while not source.is_done:
            if source.is_unpaced:
                await hub.wait_room()
                hub.publish(source.advance(self._now_us()))
                continue
            now_us = self._now_us()
            reached_us = min(now_us, max(reached_us, source.next_due_us()) + STEP_US_MAX)
            hub.publish(source.advance(reached_us))
            behind = reached_us < now_us
            with trio.move_on_after(0 if behind else max(TICK_SEC, (source.next_due_us() - now_us) / 1e6)):
                await self._symbols_changed.wait()
                self._symbols_changed = trio.Event()
                reached_us = self._now_us()
        self.done.set()

    def list_symbol(self, symbol: str, activity: Activity) -> None:
        """Open the market of a symbol."""
        self._synthetic().list_symbol(symbol, activity, self._now_us())
        self._symbols_changed.set()
        self.hub.listed()

    def delist_symbol(self, symbol: str, *, is_absent: bool) -> None:
        """Close it."""
        self._synthetic().delist_symbol(symbol, is_absent=is_absent)

    def _synthetic(self) -> SyntheticSource:
        if not isinstance(self.source, SyntheticSource):
            raise KeyError("market to open or close a symbol in: a recording has the symbols that it has")
        return self.source

    async def handle(self, transport: Transport, request: Request) -> Answer | Upgrade | None:
        """Answer one HTTP request, or open a WebSocket connection."""
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._handle_upgrade(transport, request)
        for fault in self.rest_faults:
            if fault.path in request.path:
                fault.count -= 1
                if fault.count <= 0:
                    self.rest_faults.remove(fault)
                await trio.sleep(fault.delay_sec)
                if fault.answer is not None:
                    return fault.answer
                break
        return self.rest.answer(request)

    async def _handle_upgrade(self, transport: Transport, request: Request) -> Answer | Upgrade:
        if not self._attempts.is_allowed(request.peer, self._now_us() / 1e6):
            return json_answer({"code": -1003, "msg": "Too many connection attempts."}, 429)
        door = self.door
        if door.refusal is not None:
            door.count -= 1
            if door.count <= 0:
                self.set_door(attrs.evolve(door, refusal=None, count=math.inf))
            return door.refusal
        if len(request.target) > self.options.url_length_max:
            return Answer(414, b"URI Too Long", (), "text/plain")
        endpoint = parse_endpoint(self.market, request.path, request.query, request.target)
        key = request.headers.get("sec-websocket-key")
        if endpoint is None:
            return Answer(404, b"Not Found", (), "text/plain")
        if key is None or request.headers.get("sec-websocket-version") != "13":
            return Answer(400, b"Bad Request", (("Sec-WebSocket-Version", "13"),), "text/plain")
        headers = (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(key.encode("latin-1")).decode()),
        )
        session = self._open(transport, endpoint, request.peer)
        return Upgrade(headers, session.run, door.drip_sec)

    def _open(self, transport: Transport, endpoint: Endpoint, peer: str) -> Session:
        number = next(self._numbers)
        return Session(self.hub, transport, endpoint, connection=number, peer=peer, now_us=self._now_us)
