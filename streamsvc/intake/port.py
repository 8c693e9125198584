"""The way of one attempt of one connection into the intake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamsvc.batch import Batch, BlockSender
    from streamsvc.intake.reading import Intake
    from streamsvc.streams.plan import ConnectionPlan
    from streamsvc.venues.venue import Stream


class IntakePort:
    """One attempt of one connection: its way into the intake. The connection closes it."""

    def __init__(self, intake: Intake, plan: ConnectionPlan, number: int, sender: BlockSender) -> None:
        self._intake = intake
        self._plan = plan
        self._number = number
        self._sender = sender
        self._heard_ns = 0
        self._is_open = False
        self._carried: dict[str, Stream] = {}  # Asked for, and not parted with.
        self._joined: dict[str, Stream] = {}  # Those of them that count as subscribed.

    def joining(self, streams: Sequence[Stream]) -> None:
        """These are about to be asked for: their messages may come from now on."""
        self._carried.update((stream.name, stream) for stream in streams)
        self._intake.chains.dialled(streams, self._number, trio.current_time())

    def opened(self) -> None:
        """The connection stands, and what it carries was asked for."""
        self._is_open = True
        self._heard_ns = self._intake.wall_ns()
        self.joined(tuple(self._carried.values()))

    def joined(self, streams: Sequence[Stream]) -> None:
        """These were asked for on an open connection."""
        plan, now = self._plan, trio.current_time()
        self._joined.update((stream.name, stream) for stream in streams)
        self._intake.health.subscribed(streams, now, connection=plan.name, copy=plan.copy)
        self._intake.chains.connected(streams, self._number, now, self._intake.wall_ns())

    def parted(self, streams: Sequence[Stream]) -> None:
        """Of these nothing comes any more, while the connection goes on."""
        self._part(streams, "removed")

    def _part(self, streams: Sequence[Stream], cause: str) -> None:
        for stream in streams:
            self._carried.pop(stream.name, None)
        joined = [one for stream in streams if (one := self._joined.pop(stream.name, None)) is not None]
        self._intake.chains.disconnected(streams, self._number, cause, trio.current_time(), self._heard_ns)
        self._intake.health.unsubscribed(joined, self._plan.copy)
        self._intake.settle(streams)

    @property
    def has_room(self) -> bool:
        """Whether the writer's channel has room."""
        return self._sender.has_room

    async def wait_room(self) -> None:
        """Wait until the writer's channel has room."""
        await self._sender.wait_room()

    def take(self, batch: Batch) -> list[bytes]:
        """Take in a batch, right after `wait_room`, and put it; returns the notices in it."""
        self._heard_ns = batch.received_ns
        now = trio.current_time()
        block, notices = self._intake.read(self._plan.market, self._number, batch, now, self._plan.copy)
        if block is not None:
            self._sender.put_nowait(block)
        return notices

    def is_behind(self) -> bool:
        """Whether something of its streams is missing that it may still bring."""
        return self._intake.chains.lack(self._carried.values(), trio.current_time())

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
        self._sender.close()
        if cause == "shed" and self._intake.is_disk_full():
            cause = "disk"
        self._part(tuple(self._carried.values()), cause)
