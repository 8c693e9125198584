"""What every batch goes through on its way from a connection to the journal.

One synchronous object for all connections. It reads each message's stream, symbol and ids (order-book levels stay raw
text), marks health, sets aside what is not market data, and puts the rest into the writer's channel. A connection first
waits for room, then takes and puts without an await between: a cancellation can never fall between seen and put.

What it cannot read goes to quarantine with a reason and costs neither the connection nor its neighbours:
`malformed`, `wrong_shape`, `bad_utf8`, `too_deep`, `unknown_stream`, `symbol_mismatch`.

Continuity and deduplication happen here, once, for the kinds whose ids chain: see `integrity.continuity`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from streamsvc.batch import Batch, Block, BlockSender
from streamsvc.gap import NOTE_KIND
from streamsvc.intake.fetched import Fetched
from streamsvc.intake.held import HeldUpdates
from streamsvc.intake.lanes import Lane, levels_of, refusal
from streamsvc.intake.port import IntakePort
from streamsvc.integrity.chains import Chains
from streamsvc.integrity.latency import Latency
from streamsvc.schema import Kind, Market, Source
from streamsvc.venues.binance_heads import (
    DECODE_ERRORS,
    NO_EVENT_TIME,
    decode_heads,
    decode_notice,
    describe,
    is_notice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.venues.binance_heads import Envelope
    from streamsvc.venues.venue import Stream
    from streamsvc.watchdog.health import Health, StreamHealth

_NAME_BEGIN = len(b'{"stream":"')


class Quarantine(Protocol):
    """Where text goes that cannot be read. Bounded, and never blocks."""

    def put(self, *, market: Market, connection: int, received_ns: int, reason: str, text: bytes) -> None:
        """Keep a text with the reason, or count it where there is no room."""


class _Taken:
    """What is recorded of a batch: its messages, what was read of them, their kinds and epochs.

    Epochs begin to count with the first 1.
    """

    __slots__ = ("epochs", "heads", "kinds", "messages")

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.heads: list[Any] = []
        self.kinds = bytearray()
        self.epochs: list[int] = []

    def add_notes(self, notes: list[bytes]) -> None:
        """Add notes for the ledger, and make the columns equally long."""
        if self.epochs:
            self.epochs[:0] = [0] * (len(self.messages) - len(self.epochs))
            self.epochs += [0] * len(notes)
        self.messages += notes
        self.kinds += bytes([NOTE_KIND]) * len(notes)


@attrs.define
class IntakeCounts:
    """What became of the messages that connections brought.

    received = accepted + duplicates + notices + quarantined + shed, once nothing is held any more
    """

    received: int = 0
    accepted: int = 0
    duplicates: int = 0
    notices: int = 0
    quarantined: int = 0
    shed: int = 0


class Intake:
    """The one way from connections, and from REST, to the writer.

    Args:
        health: Where messages are marked; it knows every stream that may come.
        sender: The channel to the writer. The caller closes it; each port has a clone of its own and closes that.
        quarantine: Where unreadable text goes.
        late_ms: Receive time minus event time above which a message counts as late; see `integrity.latency`.
        wall_ns: The wall clock, for what REST brings.

    Attributes:
        is_disk_full: Whether the writer waits for room on the disk, so that what is shed is shed for that.
        on_ended: Told of a stream that was removed, when nothing of it comes any more.
    """

    def __init__(
        self,
        health: Health,
        sender: BlockSender,
        quarantine: Quarantine,
        *,
        late_ms: int,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.health = health
        self._sender = sender
        self._quarantine = quarantine
        self.latency = Latency(late_ms)
        self.wall_ns = wall_ns
        self.is_disk_full: Callable[[], bool] = lambda: False
        self.on_ended: Callable[[Stream], None] = lambda _stream: None
        self.chains = Chains(health.streams())
        self._lanes = {market: [dict[str, Lane]() for _ in range(health.copies)] for market in Market}
        for slot in health.slots():
            self._open_lane(slot)
        self._ending: set[tuple[Market, str]] = set()
        self.counts = IntakeCounts()
        self.fetched = Fetched(self.chains, sender, wall_ns)
        self.held = HeldUpdates(self.chains, sender, self.counts)

    def _open_lane(self, slot: StreamHealth) -> None:
        stream = slot.stream
        self._lanes[stream.market][slot.copy][stream.name] = Lane(slot, self.chains.track(stream))

    def add(self, streams: Iterable[Stream]) -> None:
        """Take these in from now on; one that has not quite ended goes on."""
        for stream in streams:
            key = stream.market, stream.name
            if key in self._ending:
                self._ending.discard(key)
                continue
            self.chains.add(stream)
            for slot in self.health.add(stream):
                self._open_lane(slot)

    def remove(self, streams: Iterable[Stream]) -> None:
        """Take these in as long as a connection carries them, and then forget them."""
        streams = list(streams)
        self._ending.update((stream.market, stream.name) for stream in streams)
        self.settle(streams)

    def settle(self, streams: Iterable[Stream]) -> None:
        """Let those end that are to end and that no connection carries any more."""
        for stream in streams:
            key = stream.market, stream.name
            if key not in self._ending or self.chains.is_carried(stream):
                continue
            self._ending.discard(key)
            self.held.end(self.chains.track(stream))
            self.chains.remove(stream)
            for slot in self.health.remove(stream):
                del self._lanes[stream.market][slot.copy][stream.name]
            self.on_ended(stream)

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

    def read(  # noqa: C901 - the hot path: what could be taken out of it would cost a call a message
        self, market: Market, connection: int, batch: Batch, now: float, copy: int = 0
    ) -> tuple[Block | None, list[bytes]]:
        """Sort a batch into what is recorded and what is the server's talk about itself.

        Args:
            market: The market of the connection.
            connection: The number of the connection.
            batch: What one read brought.
            now: Monotonic time, seconds.
            copy: Which of the connections that carry its streams at once this is.

        Returns:
            The accepted messages, None if there are none; and the notices, in order.
        """
        # Where two connections bring a stream, or the first message after a break is to come, each one is looked at.
        is_careful = bool(self.chains.doubled or self.chains.broken)
        lanes, lateness = self._lanes[market][copy], self.latency.by_market[market]
        received_ms = batch.received_ns // 1_000_000 + lateness.offset_ms
        late_from_ms = received_ms - lateness.limit_ms
        taken = _Taken()
        accepted, heads, kinds, epochs = taken.messages, taken.heads, taken.kinds, taken.epochs
        notices: list[bytes] = []
        for text, envelope in zip(batch.messages, self._decode(market, connection, batch, notices), strict=True):
            if envelope is None:
                continue
            lane = lanes.get(envelope.stream)
            head: Any = envelope.data
            if lane is None or type(head) is not lane.head_type or head.s != lane.symbol:
                self._refuse(market, connection, batch, text, refusal(lane, head))
                continue
            health = lane.health
            health.last_message = now
            chain = lane.chain
            if lane.is_trade and head.id == chain.next_id:  # The usual case costs no call.
                chain.next_id = head.id + 1
                chain.event_ms = head.E
            elif lane.is_chained or is_careful:
                if not self._takes(lane, head, text, batch.received_ns, now, connection):
                    continue
            else:
                lane.track.last_head = head
                lane.track.last_received_ns = batch.received_ns
            if lane.is_depth:
                health.more_rows += levels_of(text) - 1
            if head.E < late_from_ms:
                health.late_messages += 1
                health.latency_ms = received_ms - head.E
            health.messages += 1
            health.size_bytes += len(text)
            kinds.append(lane.kind_number)
            accepted.append(text)
            heads.append(head)
            if self.chains.has_epochs:
                epochs.append(chain.epoch)
        self.counts.received += len(batch.messages)
        self.counts.accepted += len(accepted)
        self.counts.duplicates = self.chains.duplicates
        if not accepted:
            return None, notices
        if head.E != NO_EVENT_TIME:
            self.latency.histograms[market].add((batch.received_ns // 1_000_000 - head.E) / 1000)
        return self._block(market, connection, batch, taken), notices

    def _takes(  # noqa: PLR0913, PLR0917 - what is known of a message
        self, lane: Lane, head: Any, text: bytes, received_ns: int, now: float, connection: int
    ) -> bool:
        """Whether a message is recorded: it is none that was seen already."""
        track = lane.track
        is_doubled = track in self.chains.doubled
        if is_doubled and lane.is_depth and self.held.waits(lane, head, text, received_ns, now, connection):
            return False
        if lane.is_chained and not self.chains.takes(track, head, now, connection):
            return False
        if is_doubled and self._is_repeated(lane, head, text, now, connection):
            return False
        if not lane.is_chained:
            if track.broken is not None:
                self.chains.listened(track, head, received_ns, now)
            track.last_head, track.last_received_ns = head, received_ns
        return True

    def _is_repeated(self, lane: Lane, head: Any, text: bytes, now: float, connection: int) -> bool:
        """Whether another connection brought a message whose ids do not chain; the keys are those of `binance.md`."""
        order = head.E
        match lane.track.stream.kind:
            case Kind.BOOK_TICKER:
                key: Hashable = (order := head.u)
            case Kind.MARK_PRICE:
                key = head.E
            case Kind.KLINE_1M if not head.k.x:
                key = head.E, head.k.t
            case Kind.FORCE_ORDER:
                key = text[text.find(b'"o":') :]
            case _:
                return False
        return self.chains.is_repeated(lane.track, key, order, connection, now)

    def _block(self, market: Market, connection: int, batch: Batch, taken: _Taken) -> Block:
        """What was taken of a batch, and what it means for the ledger."""
        is_whole = len(taken.messages) == len(batch.messages)
        noted = self.chains.notes(batch.received_ns)
        taken.add_notes(noted)
        return Block(
            market=market,
            source=Source.STREAM,
            connection=connection,
            received_ns=batch.received_ns,
            kinds=bytes(taken.kinds),
            messages=taken.messages,
            size_bytes=batch.size_bytes if is_whole and not noted else sum(map(len, taken.messages)),
            epochs=taken.epochs or None,
            heads=taken.heads,
        )

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
        lanes = self._lanes[market][0]  # Every copy of a stream is read alike.
        lane = lanes.get(text[_NAME_BEGIN : text.find(b'"', _NAME_BEGIN)].decode("utf-8", "replace"))
        try:
            if lane is None:
                notice = decode_notice(text)
                if is_notice(notice):
                    self.counts.notices += 1
                    notices.append(text)
                    return None
                lane = lanes.get(notice.stream)
            if lane is not None:
                envelope: Envelope[Any] = lane.decode(text)
                return envelope
            reason = "unknown_stream" if notice.stream else "wrong_shape"
        except DECODE_ERRORS as fault:
            reason = describe(fault)
            if lane is not None:
                lane.chain.interrupt("quarantined")
        self._refuse(market, connection, batch, text, reason)
        return None

    def _refuse(self, market: Market, connection: int, batch: Batch, text: bytes, reason: str) -> None:
        self.counts.quarantined += 1
        self._quarantine.put(
            market=market, connection=connection, received_ns=batch.received_ns, reason=reason, text=text
        )
