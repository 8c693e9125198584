"""Fan-out of one market: each message becomes text once a form, a frame once, and goes to every subscriber.

Faults of single streams (mute, drop, duplicate, reorder, corrupt) act here; what they keep back is in the ledger.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from streamsvc.simulator.faults import corrupted
from streamsvc.simulator.frames import TEXT, frame
from streamsvc.simulator.ledger import Ledger, StreamRecord
from streamsvc.simulator.streams import Route, Stream, is_served, parse_stream
from streamsvc.simulator.wire import MILLISECOND, combined, payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamsvc.simulator.events import Event
    from streamsvc.simulator.faults import Corruption
    from streamsvc.simulator.options import MarketOptions
    from streamsvc.simulator.session import Session
    from streamsvc.simulator.sources import Source

ReplyFault = Literal["error", "silent", "wrong_id"]
_KIND_LABELS = {"kline": "kline_1m"}
UNPACED_QUEUE_BYTES = 1 << 20
"""An unpaced source goes on while no connection has more than this unsent."""


@attrs.frozen
class Form:
    """How a connection wants a stream: under which name, in an envelope or not, in which unit of time."""

    name: str
    is_combined: bool
    unit_us: int


@attrs.define
class StreamFault:
    """What is to happen to the next messages of a stream.

    Attributes:
        is_muted: Withhold every message.
        drop: How many to withhold.
        duplicate: How many to send twice.
        reorder: How many to collect and then send backwards.
        held: Those collected.
        corrupt: How many to damage.
        corruption: In which way.
        fragment: How many to send as fragmented frames, which is allowed.
    """

    is_muted: bool = False
    drop: int = 0
    duplicate: int = 0
    reorder: int = 0
    held: list[Event] = attrs.Factory(list)
    corrupt: int = 0
    corruption: Corruption = "truncated"
    fragment: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not (
            self.is_muted or self.drop or self.duplicate or self.reorder or self.held or self.corrupt or self.fragment
        )


class Channel:
    """One stream: who hears it in which form, its account, its faults."""

    __slots__ = ("fault", "forms", "record")

    def __init__(self, record: StreamRecord) -> None:
        self.record = record
        self.forms: dict[Form, dict[Session, None]] = {}
        self.fault: StreamFault | None = None


class Hub:
    """One market's streams and connections.

    Attributes:
        source: Where messages come from.
        options: The market's rules.
        ledger: The account, shared by the exchange's markets.
        sessions: The connections that are open, by number.
        reply_faults: What is to go wrong with the next answers to SUBSCRIBE and the like.
        subscribed: Set once a stream of the source has been asked for.
    """

    def __init__(self, source: Source, options: MarketOptions, ledger: Ledger) -> None:
        self.source = source
        self.market = source.market
        self.options = options
        self.ledger = ledger
        self.sessions: dict[int, Session] = {}
        self.channels: dict[str, Channel] = {}
        self.subscribed = trio.Event()
        self.reply_faults: deque[ReplyFault] = deque()
        self._changed: dict[Session, None] = {}
        self._drained = trio.lowlevel.ParkingLot()
        self._subscribed_again = trio.lowlevel.ParkingLot()

    def channel(self, stream: Stream) -> Channel | None:
        """The channel of a stream, made when first asked for; None if the source does not have it."""
        name = self.source.watch(stream)
        if name is None:
            return None
        channel = self.channels.get(name)
        if channel is None:
            kind = "depth" if stream.kind == "partial" else _KIND_LABELS.get(stream.kind, stream.kind)
            record = StreamRecord(self.market, name, stream.symbol.upper(), kind, stream.is_chained)
            self.ledger.records[self.market, name] = record
            channel = self.channels[name] = Channel(record)
        return channel

    def channel_named(self, name: str) -> Channel:
        """The channel of a stream as a user names it.

        Raises:
            KeyError: there is no such stream.
        """
        stream = parse_stream(self.market, name)
        channel = self.channel(stream) if stream is not None else None
        if channel is None:
            raise KeyError(name)
        return channel

    def subscribe(self, session: Session, name: str, route: Route, form: Form) -> Channel | None:
        """Let a connection hear a stream; one that nobody serves here stays silent (None)."""
        stream = parse_stream(self.market, name)
        if stream is None or not is_served(stream, route, self.options.trade_route):
            return None
        channel = self.channel(stream)
        if channel is not None:
            channel.forms.setdefault(form, {})[session] = None
            self.subscribed.set()
            self._subscribed_again.unpark_all()
        return channel

    def listed(self) -> None:
        """There are streams that were not: who asked for them in vain hears them from now on."""
        for session in self.sessions.values():
            session.ask_again()

    def unsubscribe(self, session: Session, form: Form, channel: Channel) -> None:
        """End that."""
        sessions = channel.forms[form]
        del sessions[session]
        if not sessions:
            del channel.forms[form]

    def lift(self) -> None:
        """End the faults of all streams; messages that were collected to be reordered are sent."""
        for channel in self.channels.values():
            fault, channel.fault = channel.fault, None
            for event in fault.held if fault is not None else ():
                self._deliver(channel, event)
        self.flush()

    def publish(self, events: Sequence[Event]) -> None:
        """Give messages to their subscribers' queues."""
        channels = self.channels
        for event in events:
            channel = channels.get(event.stream)
            if channel is None:
                continue
            record = channel.record
            record.produced_count += 1
            if record.is_chained:
                record.produced.add(event.first_id, event.last_id)
            if channel.fault is None:
                self._deliver(channel, event)
            else:
                self._deliver_faulty(channel, event, channel.fault)
        self.flush()

    def flush(self) -> None:
        """Wake the connections that have something to send."""
        for session in self._changed:
            session.wake()
        self._changed.clear()

    def take_reply_fault(self) -> ReplyFault | None:
        """What is to go wrong with the answer to a client's wish, if anything."""
        return self.reply_faults.popleft() if self.reply_faults else None

    def note_drained(self) -> None:
        """A connection has sent what it had."""
        if self._drained:
            self._drained.unpark_all()

    async def wait_room(self) -> None:
        """Wait until no connection has much unsent."""
        await trio.lowlevel.checkpoint()
        while any(session.queued_bytes > UNPACED_QUEUE_BYTES for session in self.sessions.values()):
            await self._drained.park()

    async def wait_empty(self) -> None:
        """Wait until no connection has anything unsent."""
        await trio.lowlevel.checkpoint()
        while any(session.queued_bytes for session in self.sessions.values()):
            await self._drained.park()

    async def wait_heard(self, name: str) -> None:
        """Wait until somebody hears a stream."""
        await trio.lowlevel.checkpoint()
        channel = self.channel_named(name)
        while not channel.forms:
            await self._subscribed_again.park()

    def _deliver(self, channel: Channel, event: Event) -> None:
        raw: dict[int, bytes] = {}
        for form, sessions in channel.forms.items():
            data = raw.get(form.unit_us)
            if data is None:
                data = raw[form.unit_us] = payload(self.market, event.body, form.unit_us)
            framed = frame(_enveloped(form, event, data))
            for session in sessions:
                session.put(framed, channel.record, event.first_id, event.last_id)
                self._changed[session] = None
        if raw and self.ledger.is_logging:
            self.ledger.log.append((self.market, event.stream, next(iter(raw.values()))))

    def _deliver_faulty(self, channel: Channel, event: Event, fault: StreamFault) -> None:
        withhold = self.ledger.add_withheld
        if fault.is_muted:
            withhold(channel.record, "mute", event.first_id, event.last_id)
        elif fault.drop:
            fault.drop -= 1
            withhold(channel.record, "drop", event.first_id, event.last_id)
        elif fault.corrupt:
            fault.corrupt -= 1
            self._deliver_altered(channel, event, fault.corruption)
            withhold(channel.record, "corrupt", event.first_id, event.last_id)
        elif fault.fragment:
            fault.fragment -= 1
            self._deliver_fragmented(channel, event)
        elif fault.duplicate:
            fault.duplicate -= 1
            self._deliver(channel, event)
            self._deliver(channel, event)
        else:
            fault.reorder -= 1
            fault.held.append(event)
            if not fault.reorder:
                for held in reversed(fault.held):
                    self._deliver(channel, held)
                fault.held.clear()
        if fault.is_over:
            channel.fault = None

    def _deliver_altered(self, channel: Channel, event: Event, corruption: Corruption) -> None:
        data = corrupted(payload(self.market, event.body, MILLISECOND), corruption)
        for form, sessions in channel.forms.items():
            for session in sessions:
                session.put_frame(frame(_enveloped(form, event, data)))

    def _deliver_fragmented(self, channel: Channel, event: Event) -> None:
        for form, sessions in channel.forms.items():
            text = _enveloped(form, event, payload(self.market, event.body, form.unit_us))
            middle = len(text) // 2
            framed = frame(text[:middle], TEXT, is_final=False) + frame(text[middle:], 0)
            for session in sessions:
                session.put(framed, channel.record, event.first_id, event.last_id)
                self._changed[session] = None


def _enveloped(form: Form, event: Event, data: bytes) -> bytes:
    if not form.is_combined:
        return data
    body = event.body
    recorded_name = getattr(body, "name", None)
    if recorded_name == form.name and data is body.data:  # type: ignore[union-attr]  # only recordings have a name
        return body.combined  # type: ignore[union-attr]
    return combined(form.name, data)
