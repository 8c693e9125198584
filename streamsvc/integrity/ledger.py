"""What tells the gap ledger what is missing: notes go through the journal, and the publisher commits them.

A hole is told when its grace time is over, since another connection may still bring it; at the end everything is told
that is missing then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import attrs
import trio

from streamsvc.batch import Block
from streamsvc.gap import NOTE_KIND, GapGivenUp, GapOpened, Note, encode_note
from streamsvc.log import logger
from streamsvc.schema import Market, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamsvc.batch import BlockSender
    from streamsvc.integrity.continuity import Missing
    from streamsvc.venues.venue import Stream

LOOK_SEC = 1.0
_NS_PER_MS = 1_000_000


@attrs.frozen
class Overdue:
    """Ids of a stream that did not come, and the number of the connection that brought what lies behind them."""

    stream: Stream
    connection: int
    missing: Missing


class Ledger:
    """The loop's end of the gap ledger.

    Args:
        overdue: Gives what has been missing since a moment (monotonic) or longer and was not told; it then counts as
            told.
        sender: Where notes go; the caller closes it.
        wall_ns: The wall clock.
        grace_sec: How long a hole is held before it is told.
        on_look: Called once a second with the monotonic time.
    """

    def __init__(
        self,
        overdue: Callable[[float], Sequence[Overdue]],
        sender: BlockSender,
        wall_ns: Callable[[], int],
        grace_sec: float,
        on_look: Callable[[float], None] = lambda _now: None,
    ) -> None:
        self._overdue = overdue
        self._sender = sender
        self._wall_ns = wall_ns
        self._grace_sec = grace_sec
        self._on_look = on_look
        self.opened = 0
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self) -> NoReturn:
        """Tell what is overdue, until cancelled."""
        while True:
            await trio.sleep(LOOK_SEC)
            # No await from the look to the put: what counts as told is in the channel.
            self._on_look(trio.current_time())
            await self._sender.wait_room()
            self.tell(trio.current_time() - self._grace_sec)

    def tell(self, before: float = math.inf) -> None:
        """Tell what has been missing since `before` or longer, however full the channel is: notes are small."""
        due = self._overdue(before)
        if not due:
            return
        self.put([self._opened(one) for one in due])
        self.opened += len(due)
        self._changed.unpark_all()

    async def wait_opened(self) -> None:
        """Wait until the next gap is told."""
        await self._changed.park()

    def give_up(self, stream: Stream, missing: Missing, reason: str) -> None:
        """Nobody can bring these ids any more."""
        note = GapGivenUp(
            market=stream.market.label,
            symbol=stream.symbol,
            kind=stream.kind.label,
            epoch=missing.epoch,
            first_id=missing.first,
            last_id=missing.last,
            reason=reason,
            closed_ns=self._wall_ns(),
        )
        logger.warning(
            "gap_unrepairable",
            market=note.market,
            symbol=note.symbol,
            kind=note.kind,
            first_id=note.first_id,
            last_id=note.last_id,
            reason=reason,
        )
        self.put([note])

    def put(self, notes: Sequence[Note]) -> None:
        """Put notes into the channel to the writer."""
        texts = [encode_note(note) for note in notes]
        self._sender.put_nowait(
            Block(
                market=Market.SPOT,
                source=Source.DERIVED,
                connection=0,
                received_ns=self._wall_ns(),
                kinds=bytes([NOTE_KIND]) * len(texts),
                messages=texts,
                size_bytes=sum(map(len, texts)),
            )
        )

    def _opened(self, one: Overdue) -> GapOpened:
        stream, missing = one.stream, one.missing
        note = GapOpened(
            market=stream.market.label,
            symbol=stream.symbol,
            kind=stream.kind.label,
            epoch=missing.epoch,
            first_id=missing.first,
            last_id=missing.last,
            first_time_ns=None if missing.before_ms is None else missing.before_ms * _NS_PER_MS,
            last_time_ns=None if missing.after_ms is None else missing.after_ms * _NS_PER_MS,
            cause=missing.cause,
            connection=one.connection,
            opened_ns=self._wall_ns(),
        )
        logger.warning(
            "gap_opened",
            market=note.market,
            symbol=note.symbol,
            kind=note.kind,
            epoch=note.epoch,
            first_id=note.first_id,
            last_id=note.last_id,
            cause=note.cause,
            connection=note.connection,
        )
        return note
