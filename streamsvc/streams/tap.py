"""The frame tap: the stream that trio-websocket reads from, while the data messages leave sideways as batches.

    socket > TLS > FrameTap.receive_some > trio-websocket      (the answer to the upgrade, control frames)
                        ├> deliver                             (data messages, where they can be taken at once)
                        └> BatchSlot > the connection's task   (data messages, else)

The slot holds one batch. The tap reads on only when it is empty, so a slow consumer slows the socket; control frames of
the same read have been passed on before that wait begins.

While little comes at a time the tap does not wait for each of it: at every tick of `ReadTick` it is asked to look, and
reads and delivers what is there without a scheduler's turn, which costs more than the messages in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from streamsvc.batch import Batch
from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.frames import FrameSplitter, Stage
from streamsvc.streams.handshake import read_refusal
from streamsvc.streams.nowait import READ_BYTES, nowait_reader
from streamsvc.streams.window import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.streams.tick import ReadTick

_QUIET_TICKS_MAX = 16
"""After so many looks that found nothing the stream itself is waited for."""

_FULL_BYTES = 32 * 1024
"""A read that brought this much says that more is waiting: no pause is made after it."""

PONGS_MAX = 2
BUDGET_WINDOW_SEC = 1.5
"""How many pings are answered within so long; what is left of the exchange's budget is for our own messages.

The exchange counts what arrives within a second. The network may bring closer together what we sent apart, hence the
longer window.
"""


class BatchSlot:
    """One batch on its way from the tap to the connection's task."""

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._is_over = False
        self._taken = trio.lowlevel.ParkingLot()
        self._filled = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        """Whether a batch lies there."""
        return self._batch is not None

    def put_nowait(self, batch: Batch) -> None:
        """Fill the slot, which must be empty: see `wait_empty`."""
        assert self._batch is None
        self._batch = batch
        self._filled.unpark()

    async def wait_empty(self) -> None:
        """Wait until the batch is taken, or nobody will take it any more."""
        while self._batch is not None and not self._is_over:
            await self._taken.park()

    async def take(self) -> Batch:
        """Wait for a batch.

        Raises:
            trio.EndOfChannel: the slot is empty, and there will be no other batch.
        """
        if self._batch is None and not self._is_over:
            await self._filled.park()
        else:
            await trio.lowlevel.checkpoint()
        batch = self.take_nowait()
        if batch is None:
            raise trio.EndOfChannel
        return batch

    def take_nowait(self) -> Batch | None:
        """What lies in the slot."""
        batch, self._batch = self._batch, None
        self._taken.unpark_all()
        return batch

    def end(self) -> None:
        """There will be no other batch; what lies in the slot can still be taken."""
        self._is_over = True
        self._filled.unpark_all()
        self._taken.unpark_all()


def _refuse(_batch: Batch) -> bool:
    return False


class FrameTap(trio.abc.Stream):
    """The stream between the socket (or TLS) and trio-websocket.

    It never closes the stream below: whoever opened that closes it.

    Attributes:
        slot: Where the data messages go that `deliver` does not take.
        deliver: Takes a batch at once, or says False: then nothing was taken.
        opening: Cancelled when the connection ends, which trio-websocket does not tell to who waits for the handshake.
        fault: Why the connection ended, where the bytes themselves did not say it with a close frame.
        reading_since: When the read that is under way began, `trio.current_time()`; infinite between reads.
        splitter: What it makes of the bytes.
        wall_ns: The wall clock, ns since 1970.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        message_bytes_max: int,
        message_sec_max: float,
        tick: ReadTick,
        wall_ns: Callable[[], int],
    ) -> None:
        """`message_sec_max` is how long one message may take to arrive."""
        self.slot = BatchSlot()
        self.deliver: Callable[[Batch], bool] = _refuse
        self.opening = trio.CancelScope()
        self.fault: ConnectionFaultError | None = None
        self.reading_since = math.inf
        self.splitter = FrameSplitter(message_bytes_max)
        self._stream = stream
        self._read_nowait = nowait_reader(stream)
        self._message_sec_max = message_sec_max
        self._tick = tick
        self.wall_ns = wall_ns
        self._pings = SlidingWindow(PONGS_MAX, BUDGET_WINDOW_SEC)
        self._must_pause = False
        self._quiet_ticks = 0
        self._passed = b""  # What trio-websocket must see of what was read at a tick.
        self._is_over = False
        self._is_send_cut = False
        self._incomplete_since = math.inf

    def end(self, fault: ConnectionFaultError | None = None) -> None:
        """Nothing more is read; what lies in the slot is still delivered. The first fault given is kept."""
        if self._is_over:
            return
        self._is_over = True
        self.fault = fault
        self.slot.end()
        self.opening.cancel()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What trio-websocket must see; empty at the end, for whatever reason it comes."""
        del max_bytes  # trio-websocket takes any size.
        while True:
            if self._must_pause:
                self._quiet_ticks = 0
                await self._tick.wait(self._look if self._read_nowait is not None else None)
            await self.slot.wait_empty()
            if self._passed:
                passed, self._passed = self._passed, b""
                return passed
            if self._is_over or self.splitter.is_closed:
                break
            try:
                chunk = await self._read()
            except ConnectionFaultError as fault:
                self.end(fault)
                break
            passed = self._take(chunk)
            if passed and not self._is_over:
                return passed
        self.end()
        await trio.lowlevel.checkpoint()
        return b""

    async def _read(self) -> bytes:
        self.reading_since = trio.current_time()
        try:
            chunk = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionFaultError("reset", "the connection was reset") from error
        finally:
            self.reading_since = math.inf
        if not chunk:
            raise ConnectionFaultError("eof", "the connection ended without a close frame")
        return bytes(chunk)

    def _look(self) -> bool:
        """At a tick: read and deliver what has come; whether the next look may be waited for."""
        if self._is_over or self.slot.is_full:
            return False
        assert self._read_nowait is not None
        try:
            chunk = self._read_nowait()
        except ConnectionFaultError as fault:
            self.end(fault)
            return False
        if not chunk:
            self._quiet_ticks += 1
            return chunk is None and self._quiet_ticks < _QUIET_TICKS_MAX
        self._quiet_ticks = 0
        self._tick.saw(len(chunk))
        self._passed = self._take(chunk)
        return self._must_pause and not (self._passed or self._is_over or self.splitter.is_closed)

    def _take(self, chunk: bytes) -> bytes:
        """Sort what a read brought; returns what trio-websocket must see."""
        received_ns, now = self.wall_ns(), trio.current_time()
        splitter = self.splitter
        was_in_head = splitter.stage is Stage.HEAD
        splitter.pings_allowed = allowed = self._pings.left(now)
        messages, passed = splitter.feed(chunk)
        for _ in range(allowed - splitter.pings_allowed):
            self._pings.add(now)
        if messages:
            batch = Batch(messages, received_ns, sum(map(len, messages)))
            if not self.deliver(batch):
                self.slot.put_nowait(batch)
            self._must_pause = len(chunk) < _FULL_BYTES
        if was_in_head and splitter.head:
            refusal = read_refusal(splitter.head, received_ns // 1_000_000_000)
            if refusal is not None:
                self.end(refusal)
        self._watch_message(now, has_messages=bool(messages))
        return passed

    def _watch_message(self, now: float, *, has_messages: bool) -> None:
        """Bound the time that one message may take: fragments without an end, or a frame that drips in."""
        if not self.splitter.is_incomplete:
            self._incomplete_since = math.inf
        elif has_messages or self._incomplete_since == math.inf:
            self._incomplete_since = now
        elif now - self._incomplete_since > self._message_sec_max:
            self.end(ConnectionFaultError("protocol", f"a message took longer than {self._message_sec_max:g} s"))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what trio-websocket says.

        Raises:
            trio.BrokenResourceError: the connection has ended; or an earlier send was cut off by a deadline, so that
                the peer could not make sense of what follows.
        """
        if self._is_send_cut:
            self.end(ConnectionFaultError("reset", "an earlier send was cut off"))
            raise trio.BrokenResourceError
        self._is_send_cut = True
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.end(ConnectionFaultError("reset", "the connection broke while something was sent"))
            raise trio.BrokenResourceError from error
        self._is_send_cut = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream below may take more."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """End the tap; the stream below belongs to whoever opened it."""
        self.end()
        await trio.lowlevel.checkpoint()
