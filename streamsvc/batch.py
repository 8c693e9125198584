"""What crosses channels: batches of messages from a connection, blocks of accepted messages to the writer.

Batches, not messages, cross tasks, because a wake-up costs more than a message. The channel to the writer is bounded in
bytes: a producer first waits for room, then puts without an await between, so that a cancellation can never lose
messages that already count as seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from streamsvc.schema import Market, Source


@attrs.frozen
class Batch:
    """Whole data messages that one read brought, in order.

    Attributes:
        messages: The payload of each message, without its frame.
        received_ns: Wall clock when the read returned, ns since 1970.
        size_bytes: The sum of the payloads' lengths.
    """

    messages: list[bytes]
    received_ns: int
    size_bytes: int


@attrs.frozen
class Block:
    """Accepted messages of one connection with one receive time: a frame of the journal.

    Attributes:
        market: The market all of them belong to.
        source: Whether they came over a stream, over REST, or were derived.
        connection: The number of the connection, unique within the run (0: none).
        received_ns: Wall clock of receipt, ns since 1970.
        kinds: The number of each message's `Kind`, one byte a message.
        messages: The text of each message exactly as received.
        size_bytes: The sum of the messages' lengths.
        epochs: Of each message, how many times its ids have started over; None: all 0.
        heads: What the loop has read of each message (notes at the end have none); None: nothing. It is emptied when
            nobody needs it any more: what waits in the channel is bounded by the size of its messages.
    """

    market: Market
    source: Source
    connection: int
    received_ns: int
    kinds: bytes
    messages: list[bytes]
    size_bytes: int
    epochs: list[int] | None = None
    heads: list[Any] | None = attrs.field(default=None, eq=False, repr=False)


class _Room:
    """Bytes in flight between senders and the receiver, and who waits for them to become fewer."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.waiting = trio.lowlevel.ParkingLot()
        self.is_broken = False
        self.tap: Callable[[Block], None] | None = None


@attrs.frozen
class BlockChannelStatistics:
    """A look at a channel: what lies in it, how many senders wait."""

    used_bytes: int
    limit_bytes: int
    blocks: int
    senders_waiting: int


class BlockSender:
    """One task's end of the channel to the writer. Each task closes its own clone."""

    def __init__(self, channel: trio.MemorySendChannel[Block], room: _Room) -> None:
        self._channel = channel
        self._room = room

    async def wait_room(self) -> None:
        """Wait until the channel holds less than its limit; what is then put may go over it by one block.

        Raises:
            trio.BrokenResourceError: the receiver is gone.
        """
        await trio.lowlevel.checkpoint()
        room = self._room
        while room.used_bytes >= room.limit_bytes and not room.is_broken:
            await room.waiting.park()
        if room.is_broken:
            raise trio.BrokenResourceError

    @property
    def has_room(self) -> bool:
        """Whether `wait_room` would return at once."""
        room = self._room
        return room.used_bytes < room.limit_bytes and not room.is_broken

    def put_nowait(self, block: Block) -> None:
        """Put a block, whatever the limit: call it only after `wait_room`, without an await between.

        Raises:
            trio.BrokenResourceError: the receiver is gone.
        """
        room = self._room
        self._channel.send_nowait(block)
        room.used_bytes += block.size_bytes
        if room.tap is not None:
            room.tap(block)
        elif block.heads is not None:
            block.heads.clear()

    def have_tapped(self, tap: Callable[[Block], None]) -> None:
        """Have every block that is put by any sender shown to `tap` right afterwards, in order; it empties `heads`."""
        self._room.tap = tap

    def statistics(self) -> BlockChannelStatistics:
        """What lies in the channel now."""
        room = self._room
        return BlockChannelStatistics(
            used_bytes=room.used_bytes,
            limit_bytes=room.limit_bytes,
            blocks=self._channel.statistics().current_buffer_used,
            senders_waiting=room.waiting.statistics().tasks_waiting,
        )

    def clone(self) -> BlockSender:
        """Another end for another task; the channel ends when all of them are closed."""
        return BlockSender(self._channel.clone(), self._room)

    def close(self) -> None:
        """Close this end. Closing twice is fine."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class BlockReceiver:
    """The writer's end of the channel."""

    def __init__(self, channel: trio.MemoryReceiveChannel[Block], room: _Room) -> None:
        self._channel = channel
        self._room = room

    async def receive(self) -> Block:
        """Wait for the next block.

        Raises:
            trio.EndOfChannel: every sender is closed and nothing is left.
        """
        return self._taken(await self._channel.receive())

    def receive_nowait(self) -> Block:
        """The next block, if one lies there.

        Raises:
            trio.WouldBlock: the channel is empty.
            trio.EndOfChannel: every sender is closed and nothing is left.
        """
        return self._taken(self._channel.receive_nowait())

    def close(self) -> None:
        """Close this end: senders that wait or put get a `trio.BrokenResourceError`."""
        self._room.is_broken = True
        self._room.waiting.unpark_all()
        self._channel.close()

    def _taken(self, block: Block) -> Block:
        room = self._room
        room.used_bytes -= block.size_bytes
        if room.used_bytes < room.limit_bytes:
            room.waiting.unpark_all()
        return block

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def open_block_channel(limit_bytes: int) -> tuple[BlockSender, BlockReceiver]:
    """A channel of blocks that holds at most about `limit_bytes` of messages.

    The count of blocks has no limit of its own: a block is never empty, and an intake batch is what one read brought.
    """
    send, receive = trio.open_memory_channel[Block](math.inf)
    room = _Room(limit_bytes)
    return BlockSender(send, room), BlockReceiver(receive, room)
