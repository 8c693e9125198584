"""What tells the gap ledger what is missing: notes go through the journal, and the publisher commits them.

A note lies in the frame that brings what it is about, so that no kill can come between; what no frame brings is noted
here. People and the backfill hear of a hole when its grace time is over, since another connection may still bring it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import attrs
import trio

from streamsvc.batch import Block
from streamsvc.gap import NOTE_KIND, GapGivenUp, encode_note
from streamsvc.integrity.continuity import Missing
from streamsvc.log import logger
from streamsvc.schema import MARKETS_BY_LABEL, Kind, Market, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.batch import BlockSender
    from streamsvc.gap import GapOpened
    from streamsvc.integrity.chains import Chains
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.losses import Losses
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
        chains: What is missing.
        sender: Where notes go; the caller closes it.
        wall_ns: The wall clock.
        grace_sec: How long a hole is held before it is announced.
    """

    def __init__(
        self,
        chains: Chains,
        sender: BlockSender,
        wall_ns: Callable[[], int],
        grace_sec: float,
    ) -> None:
        self._chains = chains
        self._sender = sender
        self._wall_ns = wall_ns
        self._grace_sec = grace_sec
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self) -> NoReturn:
        """Tell what is overdue, until cancelled."""
        while True:
            await trio.sleep(LOOK_SEC)
            # No await from the look to the put: what counts as told is in the channel.
            self._chains.forget_seen(trio.current_time())
            await self._sender.wait_room()
            self.tell(trio.current_time() - self._grace_sec)

    def tell(self, before: float = math.inf) -> None:
        """Note what no frame has noted yet, and announce what has been missing since `before` or longer.

        However full the channel is: notes are small.
        """
        if texts := self._chains.notes(self._wall_ns()):
            self._put(texts)
        due = self._chains.overdue(before)
        for one in due:
            _announce(one)
        if due:
            self._changed.unpark_all()

    def lost(self, losses: Losses) -> None:
        """The publisher has found ids that were seen and are not there, or asks how far streams have come.

        However full the channel is: notes are small.
        """
        for row in losses.gaps:
            stream = MARKETS_BY_LABEL[row.market], Kind.from_label(row.kind), row.symbol
            one = self._chains.lose(stream, missing_of(row))
            if one is not None:
                _announce(one)
        # What is known to be missing must be in the ledger before it is counted.
        texts = self._chains.notes(self._wall_ns())
        for last in losses.suspects:
            assert last.last_id is not None, "only ids are suspect"
            come_to = last.epoch, last.last_id, last.last_exchange_ns // _NS_PER_MS or None
            note = self._chains.count((last.market, last.kind, last.symbol), come_to)
            texts += [note] if note is not None else []
        if texts:
            self._put(texts)
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
        self._put([encode_note(note)])

    def _put(self, texts: list[bytes]) -> None:
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


def _announce(one: Overdue) -> None:
    stream, missing = one.stream, one.missing
    logger.warning(
        "gap_opened",
        market=stream.market.label,
        symbol=stream.symbol,
        kind=stream.kind.label,
        epoch=missing.epoch,
        first_id=missing.first,
        last_id=missing.last,
        cause=missing.cause,
        connection=one.connection,
    )


def missing_of(gap: GapRow | GapOpened) -> Missing:
    """What a chain misses, of which the ledger knows."""
    return Missing(
        epoch=gap.epoch,
        first=gap.first_id,
        last=gap.last_id,
        since=-math.inf,
        before_ms=None if gap.first_time_ns is None else gap.first_time_ns // _NS_PER_MS,
        after_ms=None if gap.last_time_ns is None else gap.last_time_ns // _NS_PER_MS,
        cause=gap.cause,
        is_told=True,
        is_announced=True,
    )
