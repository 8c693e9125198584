"""Order-book updates that wait while several connections bring their stream; whose are recorded, `Takeover` decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import trio

from streamsvc.batch import Block
from streamsvc.gap import NOTE_KIND
from streamsvc.integrity.sequence import covered
from streamsvc.integrity.takeover import Held
from streamsvc.schema import Kind, Source

if TYPE_CHECKING:
    from streamsvc.batch import BlockSender
    from streamsvc.intake.lanes import Lane
    from streamsvc.intake.reading import IntakeCounts
    from streamsvc.integrity.chains import Chains
    from streamsvc.integrity.track import Track

LOOK_SEC = 1.0


class HeldUpdates:
    """Keeps updates until they are needed, or are not. Made by the intake.

    Args:
        chains: The streams.
        sender: The channel to the writer; the caller closes it.
        counts: What becomes of messages.
    """

    def __init__(self, chains: Chains, sender: BlockSender, counts: IntakeCounts) -> None:
        self._chains = chains
        self._sender = sender
        self._counts = counts
        self._lanes: dict[Track, Lane] = {}  # Where something is held, or was when we looked last.

    def waits(  # noqa: PLR0913, PLR0917 - what is known of a message
        self, lane: Lane, head: Any, text: bytes, received_ns: int, now: float, connection: int
    ) -> bool:
        """Whether an update of a stream that several connections bring is held; right after `wait_room`."""
        takeover, chain = lane.track.takeover, lane.chain
        assert takeover is not None, "only order books have windows"
        first, last = covered(lane.track.stream.market, Kind.DEPTH, head)
        expected = chain.expected_id
        if takeover.held and expected is not None:
            is_hole = connection == takeover.primary and first > expected
            follower = takeover.filling(expected) if is_hole else takeover.due(lane.track.open, now)
            if follower is not None:
                self._join(lane, follower, now)
        if not takeover.must_hold(connection, first, last, chain.expected_id):
            return False
        takeover.hold(connection, Held(first, last, now, received_ns, head, text))
        self._lanes[lane.track] = lane
        return True

    async def run(self) -> NoReturn:
        """Follow primaries that say nothing any more, until cancelled."""
        while True:
            await trio.sleep(LOOK_SEC)
            if self._lanes:
                await self._sender.wait_room()
                self._look(trio.current_time())

    def release(self) -> None:
        """The service ends: record what is needed of all that is held, however full the channel is; it is bounded."""
        for track in list(self._lanes):
            self.end(track)

    def end(self, track: Track) -> None:
        """A stream ends: record what is needed of what is held of it, however full the channel is."""
        lane, now = self._lanes.pop(track, None), trio.current_time()
        while lane is not None and track.takeover is not None and track.takeover.held:
            self._join(lane, next(iter(track.takeover.held)), now)

    def _look(self, now: float) -> None:
        for track, lane in list(self._lanes.items()):
            assert track.takeover is not None
            follower = track.takeover.due(track.open, now)
            if follower is not None:
                self._join(lane, follower, now)
            if not track.takeover.held:
                del self._lanes[track]

    def _join(self, lane: Lane, connection: int, now: float) -> None:
        """A connection takes over: record what is held of it and goes beyond the chain."""
        track = lane.track
        assert track.takeover is not None
        for one in track.takeover.take(connection):
            if self._chains.takes(track, one.head, now, connection):
                self._record(lane, connection, one)
        self._counts.duplicates = self._chains.duplicates

    def _record(self, lane: Lane, connection: int, one: Held) -> None:
        # What the batch under way has changed is noted in its own frame, with the rows that it brings.
        notes = self._chains.notes_of(lane.track, one.received_ns)
        messages = [one.text, *notes]
        epoch = lane.chain.epoch
        lane.count(one.text)
        self._counts.accepted += 1
        self._sender.put_nowait(
            Block(
                market=lane.track.stream.market,
                source=Source.STREAM,
                connection=connection,
                received_ns=one.received_ns,
                kinds=bytes([lane.kind_number]) + bytes([NOTE_KIND]) * len(notes),
                messages=messages,
                size_bytes=sum(map(len, messages)),
                epochs=[epoch] + [0] * len(notes) if epoch else None,
            )
        )
