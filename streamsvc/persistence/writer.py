"""The writer: the one task that takes blocks from the channel and has them on the disk.

Rules:
1. It wakes when something is there, gathers for a moment, and makes one blocking call a gathering. While nothing comes
   it sleeps until the open segment must be synced or closed.
2. What was written ends with a whole frame, always. Where there is no room it keeps what it holds, closes the segment
   (sealing makes room) and tries again; meanwhile the channel fills, and readers slow down.
3. A sync or a write that fails for another reason ends the process: nothing is repeated on a disk that cannot be
   trusted.
4. When the channel ends, everything is written, synced and handed on. Once a stop has begun, `UNSEALED_MAX_MB` and
   `DISK_RESERVE_MB` hold no longer: they are there to slow down intake, and what is left is bounded by `QUEUE_MAX_MB`.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Literal

import attrs
import trio

from streamsvc.errors import DiskFullError
from streamsvc.histogram import Histogram
from streamsvc.log import logger
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.rotation import Mode, Rotation, RotationLimits
from streamsvc.persistence.segment import ClosedSegment, OpenSegment

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.batch import Block, BlockReceiver
    from streamsvc.persistence.layout import SegmentName
    from streamsvc.persistence.sealing import Backlog
    from streamsvc.persistence.tools import Tools
    from streamsvc.settings import Settings

GATHER_BYTES = 256 * 1024
GATHER_BYTES_MAX = 4 * 1024 * 1024
GATHER_SHARE = 0.7
JUDGE_SEC = 1.0
LAG_BOUNDS_SEC = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)

State = Literal["recording", "paused_disk", "paused_unsealed", "draining", "closed"]


@attrs.define
class WriterState:
    """How the writer is doing. The writer alone changes it, anyone may read it.

    Attributes:
        state: `recording`; `paused_disk` and `paused_unsealed` are declared pauses, in which nothing is written;
            `draining` after the end of the channel; `closed`.
        mode: The rotation in force, `normal` or `extreme`.
        busy_since: When the blocking call under way began (monotonic seconds); None: there is none.
        progress_at: When the last blocking call ended (monotonic seconds); None before the first.
        blocks: Blocks written since the start.
        messages: Messages written since the start.
        written_bytes: Bytes written since the start.
        synced_bytes: How many of them are synced.
        held_messages: Messages that the writer holds and has not written.
        segment_messages: Messages in the open segment.
        segment_bytes: Its size.
        segments_closed: Segments handed on to the sealers since the start.
        unsynced_since: Since when something that is written is not synced (monotonic seconds); None: nothing is.
        lag: From receipt to written, of each block, in seconds.
    """

    state: State = "recording"
    mode: Mode = "normal"
    busy_since: float | None = None
    progress_at: float | None = None
    blocks: int = 0
    messages: int = 0
    written_bytes: int = 0
    synced_bytes: int = 0
    held_messages: int = 0
    segment_messages: int = 0
    segment_bytes: int = 0
    segments_closed: int = 0
    unsynced_since: float | None = None
    lag: Histogram = attrs.field(factory=lambda: Histogram(LAG_BOUNDS_SEC))


class Writer:
    """Writes one run's journal.

    Args:
        settings: Rotation, sync, limits, and the folder.
        tools: The disk, the runner of blocking work, the counts of rows.
        run: Number and token of this run, as a `SegmentName` with the sequence to begin with.
        receiver: Where blocks come from; the caller closes it.
        backlog: Where closed segments go.

    Attributes:
        state: How it is doing, for others to read.
    """

    def __init__(
        self, settings: Settings, tools: Tools, run: SegmentName, receiver: BlockReceiver, backlog: Backlog
    ) -> None:
        self.state = WriterState()
        self._settings = settings
        self._folder = DataFolder(settings.data_dir)
        self._files = tools.files
        self._next_name = run
        self._receiver = receiver
        self._backlog = backlog
        self._run_blocking = tools.run_blocking
        self._wall_ns = tools.wall_ns
        self._rows_by_symbol = tools.rows_by_symbol
        self._rotation = Rotation(
            RotationLimits(
                rotate_sec=settings.parquet_rotate_sec,
                extreme_sec=settings.extreme_rotate_sec,
                extreme_rows=settings.extreme_traffic_threshold,
                segment_bytes=settings.segment_max_bytes,
            )
        )
        self._segment: OpenSegment | None = None
        self._sync_at = math.inf
        self._judge_at = -math.inf
        self._is_ended = False
        self._is_stopping = False
        self._give_up_at = math.inf

    def give_up_at(self, deadline: float) -> None:
        """A stop has begun: the limits of intake hold no longer, and a full disk is waited for until the deadline only.

        Args:
            deadline: Monotonic seconds; what is held then is lost, and it is said.
        """
        self._is_stopping = True
        self._give_up_at = min(self._give_up_at, deadline)
        self._backlog.wake()

    async def run(self) -> None:
        """Write until the channel ends.

        Raises:
            DiskFullError: there was no room until `give_up_at`.
            OSError: the disk failed.
        """
        try:
            while not self._is_ended:
                blocks = await self._gather()
                if self._is_ended:
                    self.state.state = "draining"
                if blocks:
                    await self._write(blocks)
                await self._keep_up()
            await self._close_segment()
        finally:
            if self._segment is not None:
                self._segment.abandon()
            self.state.state = "closed"

    async def _gather(self) -> list[Block]:
        """What has come, at most `GATHER_BYTES_MAX` and one block; nothing when the open segment needs care first."""
        with trio.move_on_at(min(self._sync_at, self._rotation.due_at())) as scope:
            try:
                blocks = [await self._receiver.receive()]
            except trio.EndOfChannel:
                self._is_ended = True
                return []
        if scope.cancelled_caught:
            return []
        size_bytes = self._take_more(blocks)
        if size_bytes < GATHER_BYTES and not self._is_ended and self._settings.journal_write_ms:
            # Not all of what is promised: the rest is for the write itself and for what came during it.
            await trio.sleep(self._settings.journal_write_ms / 1000 * GATHER_SHARE)
            self._take_more(blocks)
        return blocks

    def _take_more(self, blocks: list[Block]) -> int:
        size_bytes = sum(block.size_bytes for block in blocks)
        try:
            while size_bytes < GATHER_BYTES_MAX:
                block = self._receiver.receive_nowait()
                blocks.append(block)
                size_bytes += block.size_bytes
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            self._is_ended = True
        return size_bytes

    async def _write(self, blocks: list[Block]) -> None:
        """Have blocks written, however long there is no room."""
        self.state.held_messages = sum(len(block.messages) for block in blocks)
        size_bytes = sum(block.size_bytes for block in blocks)
        await self._wait_sealed(size_bytes)
        is_paused = False
        while True:
            is_stopping = self._is_stopping
            reserve_bytes = 0 if is_stopping else self._settings.disk_reserve_bytes
            try:
                written = await self._blocking(self._append, blocks, reserve_bytes)
                break
            except DiskFullError as fault:
                if not is_paused:
                    is_paused = True
                    logger.error("paused_disk", detail=str(fault), held_messages=self.state.held_messages)
                    await self._close_segment()
                # A stop that began meanwhile has lifted the reserve, and has woken nobody: nobody was waiting yet.
                if is_stopping == self._is_stopping:
                    self._give_up_in_time(fault)
                    await self._pause("paused_disk")
        if is_paused:
            self._resume("disk_resumed")
        self._count(blocks, written)

    async def _wait_sealed(self, size_bytes: int) -> None:
        """Wait while the unsealed journal is as large as it may be, and segments are on their way out of it."""
        limit = math.inf if self._is_stopping else self._settings.unsealed_max_bytes
        if self._backlog.size_bytes + self.state.segment_bytes + size_bytes <= limit:
            return
        await self._close_segment()
        is_paused = False
        while not self._is_stopping and self._backlog.segments and self._backlog.size_bytes + size_bytes > limit:
            if not is_paused:
                is_paused = True
                logger.warning("paused_unsealed", unsealed_bytes=self._backlog.size_bytes, limit_bytes=limit)
            await self._pause("paused_unsealed")
        if is_paused:
            self._resume("unsealed_resumed")

    async def _pause(self, state: State) -> None:
        """Wait a while, or until a segment has left the journal or a stop begins."""
        self.state.state = state
        with trio.move_on_at(min(trio.current_time() + self._settings.disk_retry_sec, self._give_up_at)):
            await self._backlog.wait_change()

    def _give_up_in_time(self, fault: DiskFullError) -> None:
        """Raise the fault when it is time to give up, and say how much is lost."""
        if trio.current_time() >= self._give_up_at:
            lost = self.state.held_messages + self._drop_rest()
            logger.error("journal_incomplete", messages_lost=lost, detail=str(fault))
            raise fault

    def _drop_rest(self) -> int:
        """Empty the channel; returns the messages that lay in it."""
        lost = 0
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                lost += len(self._receiver.receive_nowait().messages)
        return lost

    def _resume(self, event: str) -> None:
        self.state.state = "draining" if self._is_ended else "recording"
        logger.info(event)

    def _append(self, blocks: list[Block], reserve_bytes: int) -> int:
        """Blocking: write blocks into the open segment, which is made where there is none."""
        if self._files.free_bytes(self._folder.journal) < reserve_bytes:
            raise DiskFullError("free space is below DISK_RESERVE_MB")
        if self._segment is None:
            name = self._next_name
            self._segment = OpenSegment(self._files, self._folder.segment(name), name)
            self._next_name = attrs.evolve(name, sequence=name.sequence + 1)
        return self._segment.append(blocks)

    def _count(self, blocks: list[Block], written: int) -> None:
        assert self._segment is not None
        state, now = self.state, trio.current_time()
        if self._rotation.opened_at is None:
            self._rotation.opened(now)
        if self._sync_at == math.inf:
            self._sync_at = now + self._settings.journal_sync_sec
        if state.unsynced_since is None:
            state.unsynced_since = now
        wall_ns = self._wall_ns()
        for block in blocks:
            state.lag.add((wall_ns - block.received_ns) / 1e9)
        state.blocks += len(blocks)
        state.messages += state.held_messages
        state.held_messages = 0
        state.written_bytes += written
        state.segment_messages = self._segment.messages
        state.segment_bytes = self._segment.size_bytes

    async def _keep_up(self) -> None:
        """Close or sync the open segment where it is time; judge the traffic."""
        now = trio.current_time()
        if self._rotation.is_due(now, self.state.segment_bytes):
            await self._close_segment()
        elif now >= self._sync_at and self._segment is not None:
            await self._blocking(self._segment.sync)
            self._synced()
        if now >= self._judge_at:
            self._judge_at = now + JUDGE_SEC
            self._judge(now)

    def _judge(self, now: float) -> None:
        change = self._rotation.judge(now, self._rows_by_symbol())
        self.state.mode = self._rotation.mode
        if change is not None:
            logger.info(change.event, market=change.market.label, symbol=change.symbol, rows=change.rows)

    async def _close_segment(self) -> None:
        """Sync and close the open segment, if there is one, and hand it on."""
        segment, opened_at = self._segment, self._rotation.opened_at
        if segment is None:
            return
        await self._blocking(segment.close)
        self._segment = None
        self._synced()
        self._rotation.closed(self._rows_by_symbol())
        self.state.segment_messages = self.state.segment_bytes = 0
        if segment.size_bytes:
            seconds = trio.current_time() - opened_at if opened_at is not None else 0.0
            self.state.segments_closed += 1
            self._backlog.add(ClosedSegment(segment.name, segment.size_bytes, seconds, self._rotation.mode))

    def _synced(self) -> None:
        self._sync_at = math.inf
        self.state.synced_bytes = self.state.written_bytes
        self.state.unsynced_since = None

    async def _blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        self.state.busy_since = trio.current_time()
        try:
            return await self._run_blocking(function, *args)
        finally:
            self.state.busy_since = None
            self.state.progress_at = trio.current_time()
