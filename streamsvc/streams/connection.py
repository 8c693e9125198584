"""One attempt of one connection: open it, read it until it ends, leave nothing open.

Events: `connection_opened`; `server_shutdown` (the exchange will end the connection); `stream_resubscribed`,
`subscribe_failed` (a repair, with the streams); `reply_unknown` (an answer to nothing that we asked).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from streamsvc.errors import ConnectionFaultError
from streamsvc.log import logger
from streamsvc.schema import Kind
from streamsvc.streams.faults import one_fault
from streamsvc.streams.requests import Pace, Requests
from streamsvc.streams.tap import PONGS_MAX
from streamsvc.streams.transport import Transport, Wiring, open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamsvc.batch import Batch
    from streamsvc.settings import Settings
    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.venues.venue import Stream, Venue


class Port(Protocol):
    """Where one attempt's batches go. Every method but `wait_room` is synchronous and does not fail."""

    def joining(self, streams: Sequence[Stream]) -> None:
        """These are about to be asked for, by the URL or later: their messages may come from now on."""

    def joined(self, streams: Sequence[Stream]) -> None:
        """These were asked for on an open connection."""

    def parted(self, streams: Sequence[Stream]) -> None:
        """Of these nothing comes any more, while the connection goes on."""

    def opened(self) -> None:
        """The handshake is done, and with it the streams of the URL are subscribed."""

    @property
    def has_room(self) -> bool:
        """Whether there is room for another batch."""

    async def wait_room(self) -> None:
        """Wait until there is."""

    def take(self, batch: Batch) -> list[bytes]:
        """Take a batch in, where there is room; returns the texts that are the exchange's talk about itself."""

    def is_behind(self) -> bool:
        """Whether something of its streams is missing that it may still bring."""

    def leave(self, batch: Batch) -> None:
        """Take a batch that was read before the end, if there is room; else count it as lost on purpose."""

    def close(self, cause: str) -> None:
        """The connection is gone, for this cause. Always called, once."""


class Connection:
    """One attempt.

    Attributes:
        plan: What its URL names.
        opened_at: When the handshake was done, `trio.current_time()`; None before.
        delivered_at: When the last market data came; None before the first.
        pings_dropped: Pings that were not answered because there were too many.
        on_opened: Called when the handshake is done.
        renewal: Set when the connection should have a successor: it has grown old, or the exchange will end it.
        age_sec_max: When it has grown old; a tenth of that is left to chance.
        first_message_sec: How long the first market data may take, where that is less than `STREAM_IDLE_SEC`: while it
            is not known whether its route serves the streams.
    """

    def __init__(self, plan: ConnectionPlan, number: int, *, venue: Venue, port: Port, wiring: Wiring) -> None:
        """`number` is the number of the attempt, unique within the run. The caller closes the port."""
        self.plan = plan
        self.opened_at: float | None = None
        self.delivered_at: float | None = None
        self.pings_dropped = 0
        self.on_opened: Callable[[], None] = lambda: None
        self.renewal = trio.Event()
        self._end = ConnectionFaultError("repair", "the connection was replaced to repair a stream")
        self.first_message_sec = math.inf
        self.age_sec_max = wiring.settings.max_connection_age_sec
        self._venue = venue
        self._port = port
        self._settings = wiring.settings
        self._wiring = wiring
        self._log = logger.bind(connection=plan.name, attempt=number)
        self._scope = trio.CancelScope()
        self._is_serving = False
        self._untaken: Batch | None = None
        self._pace = Pace(max(1, venue.limits.messages_per_sec - PONGS_MAX - 1))  # One is left as a margin.
        self._requests = Requests(plan, venue, self._pace, self._log, port)
        self._idle_sec = _idle_sec(plan.streams, wiring.settings)

    @property
    def is_up(self) -> bool:
        """Whether its streams are subscribed and read."""
        return self._is_serving and not self._scope.cancel_called

    @property
    def is_behind(self) -> bool:
        """Whether it is up and may still bring something that is missing."""
        return self.is_up and self._port.is_behind()

    @property
    def delivered_sec(self) -> float:
        """How long it has delivered market data, from its opening to the last message."""
        if self.opened_at is None or self.delivered_at is None:
            return 0.0
        return self.delivered_at - self.opened_at

    def aim(self, streams: Sequence[Stream]) -> None:
        """It should carry these from now on, and no others; once it is up it asks for them."""
        self._idle_sec = _idle_sec(streams, self._settings)
        self._requests.aim(streams)

    def resubscribe(self, name: str) -> bool:
        """Ask for a repair of one stream; False when the connection is not up or a repair is under way."""
        return self.is_up and self._requests.resubscribe(name)

    def replace(self) -> bool:
        """Ask the connection to end, with cause `repair`; False when it is not up."""
        if not self.is_up:
            return False
        self._scope.cancel()
        return True

    def retire(self) -> None:
        """A successor has taken over: end, with cause `renewed`."""
        self._end = ConnectionFaultError("renewed", "another connection has taken over")
        self._scope.cancel()

    async def run(self) -> NoReturn:
        """Make the attempt, and read until the connection ends.

        Raises:
            ConnectionFaultError: always, if nothing unexpected happens: why it could not be made, or has ended.
        """
        begun_at = trio.current_time()
        left: list[Batch] = []
        try:
            with self._scope:
                self._port.joining(self.plan.streams)
                url = self._venue.url(self.plan.route, self.plan.streams)
                async with open_transport(url, self._wiring, left) as transport:
                    self.opened_at = trio.current_time()
                    self._port.opened()
                    self.on_opened()
                    took_sec = round(self.opened_at - begun_at, 3)
                    self._log.info("connection_opened", streams=len(self.plan.streams), seconds=took_sec)
                    with one_fault():
                        await self._serve(transport)
        finally:
            # Whatever ended the connection, what was read of it is not lost for that.
            for batch in (self._untaken, *left):
                if batch is not None:
                    self._port.leave(batch)
        raise self._end

    async def _serve(self, transport: Transport) -> None:
        self._is_serving = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ping, transport)
                nursery.start_soon(self._requests.run, transport)
                nursery.start_soon(self._grow_old)
                transport.deliver_to(self._take_at_once)
                await self._read(transport)
        finally:
            self._is_serving = False
            self.pings_dropped = transport.pings_dropped

    async def _read(self, transport: Transport) -> NoReturn:
        while True:
            self._untaken = await self._receive(transport)
            await self._wait_room()
            taken, self._untaken = self._untaken, None
            self._take(taken)

    def _take_at_once(self, batch: Batch) -> bool:
        """Take a batch as it is read, if there is room and nothing before it waits for some."""
        if not self._is_serving or self._untaken is not None or not self._port.has_room:
            return False
        self._take(batch)
        return True

    def _take(self, batch: Batch) -> None:
        notices = self._port.take(batch)
        if len(notices) < len(batch.messages):
            self.delivered_at = trio.current_time()
        for text in notices:
            self._requests.hear(text)

    async def _grow_old(self) -> None:
        """Ask for a successor in time; not all connections at once."""
        with trio.move_on_after(self.age_sec_max * self._wiring.rng.uniform(0.9, 1.0)):
            await self._requests.shutdown.wait()
        self.renewal.set()

    async def _receive(self, transport: Transport) -> Batch:
        """A batch that could not be taken at once, maybe never; what is taken at once is a sign of life as well."""
        batch = transport.receive_nowait()
        if batch is not None:
            return batch
        while (deadline := self._idle_at()) > trio.current_time():
            with trio.move_on_at(deadline):
                return await transport.receive()
        raise ConnectionFaultError("idle", "no message within the time that its streams must need")

    def _idle_at(self) -> float:
        """When it has been without market data for too long."""
        if self.delivered_at is not None:
            return self.delivered_at + self._idle_sec
        assert self.opened_at is not None
        return self.opened_at + min(self._idle_sec, self.first_message_sec)

    async def _wait_room(self) -> None:
        with trio.move_on_after(self._settings.backpressure_sec) as scope:
            await self._port.wait_room()
        if scope.cancelled_caught:
            raise ConnectionFaultError("shed", f"no room for {self._settings.backpressure_sec:g} s: the disk is slow")

    async def _ping(self, transport: Transport) -> None:
        """Find a connection that is only half there: no pong, and not a byte since the ping."""
        interval_sec, timeout_sec = self._settings.ping_interval_sec, self._settings.ping_timeout_sec
        if not interval_sec or not timeout_sec:
            return
        while True:
            await trio.sleep(interval_sec)
            if transport.is_held:
                continue  # The disk is slow, so we do not read: a pong would lie behind data.
            await self._pace.wait()
            sent_at = trio.current_time()
            with trio.move_on_after(timeout_sec) as scope:
                await transport.ping()
            if scope.cancelled_caught and transport.reading_since <= sent_at:
                raise ConnectionFaultError("ping", f"no answer to a ping within {timeout_sec:g} s, and no other byte")


def _idle_sec(streams: Sequence[Stream], settings: Settings) -> float:
    """How long the connection may be without market data; liquidations alone may be silent for ever."""
    must_flow = any(stream.kind is not Kind.FORCE_ORDER for stream in streams)
    return settings.stream_idle_sec if must_flow else math.inf
