"""What every batch goes through on its way from a connection to the journal.

One synchronous object for all connections. It reads each message's stream, symbol and ids (order-book levels stay raw
text), marks health, sets aside what is not market data, and puts the rest into the writer's channel. A connection first
waits for room, then takes and puts without an await between: a cancellation can never fall between seen and put.

What it cannot read goes to quarantine with a reason and costs neither the connection nor its neighbours:
`malformed`, `wrong_shape`, `bad_utf8`, `too_deep`, `unknown_stream`, `symbol_mismatch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from streamsvc.batch import Batch, Block, BlockSender
from streamsvc.log import logger
from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_heads import (
    DECODE_ERRORS,
    decode_heads,
    decode_notice,
    describe,
    head_decoder,
    head_type,
    is_notice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.venues.binance_heads import Envelope
    from streamsvc.venues.venue import Stream
    from streamsvc.watchdog.health import Health, StreamHealth

_NAME_BEGIN = len(b'{"stream":"')
_DEPTH_BRACKETS = 2
"""Brackets of an order-book update that are no level: its two lists."""


class Quarantine(Protocol):
    """Where text goes that cannot be read. Bounded, and never blocks."""

    def put(self, *, market: Market, connection: int, received_ns: int, reason: str, text: bytes) -> None:
        """Keep a text with the reason, or count it where there is no room."""


class _Lane:
    """A stream as the hot path sees it: how to read it, and whose health it marks."""

    __slots__ = ("decode", "head_type", "health", "is_depth", "kind_number", "symbol")

    def __init__(self, stream: Stream, health: StreamHealth) -> None:
        self.decode: Callable[[bytes], Any] = head_decoder(stream.market, stream.kind)
        self.head_type: type[Any] = head_type(stream.market, stream.kind)
        self.health = health
        self.is_depth = stream.kind is Kind.DEPTH
        self.kind_number = int(stream.kind)
        self.symbol = stream.symbol


@attrs.define
class IntakeCounts:
    """What became of the messages that connections brought: received = accepted + notices + quarantined + shed."""

    received: int = 0
    accepted: int = 0
    notices: int = 0
    quarantined: int = 0
    shed: int = 0


class Intake:
    """The one way from connections to the writer.

    Args:
        health: Where messages are marked; it knows every stream that may come.
        sender: The channel to the writer. The caller closes it; each port has a clone of its own and closes that.
        quarantine: Where unreadable text goes.
        late_ms: Receive time minus event time above which a message counts as late.
    """

    def __init__(self, health: Health, sender: BlockSender, quarantine: Quarantine, *, late_ms: int) -> None:
        self.health = health
        self._sender = sender
        self._quarantine = quarantine
        self._late_ms = late_ms
        self._lanes = {
            market: {
                slot.stream.name: _Lane(slot.stream, slot) for slot in health.slots() if slot.stream.market is market
            }
            for market in Market
        }
        self.counts = IntakeCounts()

    def open_port(self, plan: ConnectionPlan, number: int) -> IntakePort:
        """The port of one attempt of a connection; `number` is unique within the run and goes into the journal."""
        return IntakePort(self, plan, number, self._sender.clone())

    def rows_by_symbol(self) -> dict[tuple[Market, str], int]:
        """Rows accepted since the start, by market and symbol; an order-book level counts as a row."""
        rows: dict[tuple[Market, str], int] = {}
        for slot in self.health.slots():
            key = slot.stream.market, slot.stream.symbol
            rows[key] = rows.get(key, 0) + slot.rows
        return rows

    def read(self, market: Market, connection: int, batch: Batch, now: float) -> tuple[Block | None, list[bytes]]:
        """Sort a batch into what is recorded and what is the server's talk about itself.

        Args:
            market: The market of the connection.
            connection: The number of the connection.
            batch: What one read brought.
            now: Monotonic time, seconds.

        Returns:
            The accepted messages, None if there are none; and the notices, in order.
        """
        lanes, late_from_ms = self._lanes[market], batch.received_ns // 1_000_000 - self._late_ms
        accepted: list[bytes] = []
        kinds = bytearray()
        notices: list[bytes] = []
        for text, envelope in zip(batch.messages, self._decode(market, connection, batch, notices), strict=True):
            if envelope is None:
                continue
            lane = lanes.get(envelope.stream)
            head: Any = envelope.data
            if lane is None or type(head) is not lane.head_type or head.s != lane.symbol:
                self._refuse(market, connection, batch, text, _reason(lane, head))
                continue
            health = lane.health
            health.messages += 1
            health.last_message = now
            if lane.is_depth:
                health.more_rows += max(1, text.count(b"[") - _DEPTH_BRACKETS) - 1
            if head.E < late_from_ms:
                health.late_messages += 1
                health.latency_ms = batch.received_ns // 1_000_000 - head.E
            kinds.append(lane.kind_number)
            accepted.append(text)
        self.counts.received += len(batch.messages)
        self.counts.accepted += len(accepted)
        if not accepted:
            return None, notices
        is_whole = len(accepted) == len(batch.messages)
        block = Block(
            market=market,
            source=Source.STREAM,
            connection=connection,
            received_ns=batch.received_ns,
            kinds=bytes(kinds),
            messages=accepted,
            size_bytes=batch.size_bytes if is_whole else sum(map(len, accepted)),
        )
        return block, notices

    def _decode(
        self, market: Market, connection: int, batch: Batch, notices: list[bytes]
    ) -> Sequence[Envelope[Any] | None]:
        """What the loop reads of each message; None for those that are notices or were refused."""
        try:
            return decode_heads(batch.messages)
        except DECODE_ERRORS:
            pass
        return [self._decode_one(market, connection, batch, text, notices) for text in batch.messages]

    def _decode_one(
        self, market: Market, connection: int, batch: Batch, text: bytes, notices: list[bytes]
    ) -> Envelope[Any] | None:
        # The exchange writes the stream's name first and without spaces; whoever does not takes the slower way.
        lane = self._lanes[market].get(text[_NAME_BEGIN : text.find(b'"', _NAME_BEGIN)].decode("utf-8", "replace"))
        try:
            if lane is None:
                notice = decode_notice(text)
                if is_notice(notice):
                    self.counts.notices += 1
                    notices.append(text)
                    return None
                lane = self._lanes[market].get(notice.stream)
            if lane is not None:
                envelope: Envelope[Any] = lane.decode(text)
                return envelope
            reason = "unknown_stream" if notice.stream else "wrong_shape"
        except DECODE_ERRORS as fault:
            reason = describe(fault)
        self._refuse(market, connection, batch, text, reason)
        return None

    def _refuse(self, market: Market, connection: int, batch: Batch, text: bytes, reason: str) -> None:
        self.counts.quarantined += 1
        self._quarantine.put(
            market=market, connection=connection, received_ns=batch.received_ns, reason=reason, text=text
        )


def _reason(lane: _Lane | None, head: Any) -> str:
    if lane is None:
        return "unknown_stream"
    return "symbol_mismatch" if type(head) is lane.head_type else "wrong_shape"


class IntakePort:
    """One attempt of one connection: its way into the intake. The connection closes it."""

    def __init__(self, intake: Intake, plan: ConnectionPlan, number: int, sender: BlockSender) -> None:
        self._intake = intake
        self._plan = plan
        self._number = number
        self._sender = sender

    def opened(self) -> None:
        """The connection stands and its streams were asked for."""
        self._intake.health.subscribed(self._plan.streams, trio.current_time())

    async def wait_room(self) -> None:
        """Wait until the writer's channel has room."""
        await self._sender.wait_room()

    def take(self, batch: Batch) -> list[bytes]:
        """Take in a batch, right after `wait_room`, and put it; returns the notices in it."""
        block, notices = self._intake.read(self._plan.market, self._number, batch, trio.current_time())
        if block is not None:
            self._sender.put_nowait(block)
        return notices

    def leave(self, batch: Batch) -> None:
        """Take in what was read before the connection ended, or drop it on purpose where the writer has no room."""
        if self._sender.has_room:
            self.take(batch)
            return
        counts = self._intake.counts
        counts.received += len(batch.messages)
        counts.shed += len(batch.messages)
        logger.warning("messages_shed", connection=self._plan.name, messages=len(batch.messages), cause="shed")

    def close(self, cause: str) -> None:
        """The connection is gone."""
        del cause
        self._sender.close()
        self._intake.health.unsubscribed(self._plan.streams)
