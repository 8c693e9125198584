"""Closed segments on their way into the data set: sealed by several workers, oldest first, and published in order.

A worker takes a segment, seals it, waits until the one before is published, and publishes: so at most as many segments
as there are workers lie prepared. A segment whose sealing fails `SEAL_ATTEMPTS` times is set aside, and recording goes
on; a full disk is waited for and is no failure.
"""

from __future__ import annotations

import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.errors import DiskFullError, SegmentGoneError
from streamsvc.histogram import Histogram
from streamsvc.log import logger
from streamsvc.schema import BOOK_KINDS, TRADE_KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamsvc.persistence.losses import Losses
    from streamsvc.persistence.manifest import Manifest
    from streamsvc.persistence.publish import Published, Publisher
    from streamsvc.persistence.segment import ClosedSegment
    from streamsvc.persistence.tools import Seal

_FAILED_PAUSE_SEC = 1.0
SEAL_BOUNDS_SEC = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
FILE_BOUNDS_BYTES = tuple(1000 * 4**power for power in range(11))
"""From 1 kB to 1 GB."""


@attrs.define
class _Job:
    segment: ClosedSegment
    before: trio.Event
    done: trio.Event = attrs.field(factory=trio.Event)


class Backlog:
    """Closed segments that are not in the data set yet, oldest first, and their size on the disk.

    Attributes:
        segments: How many they are.
        size_bytes: Their size.
        sealed: Segments that became files since the start.
        failed: Segments that were set aside.
        seal_sec: How long sealing one took, seconds.
        file_bytes: The sizes of the files that were published.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Job] = deque()
        self._last_done = trio.Event()
        self._last_done.set()
        self._changed = trio.lowlevel.ParkingLot()
        self._is_ended = False
        self.segments = 0
        self.size_bytes = 0
        self.sealed = 0
        self.failed = 0
        self.seal_sec = Histogram(SEAL_BOUNDS_SEC)
        self.file_bytes = Histogram(FILE_BOUNDS_BYTES)

    def add(self, segment: ClosedSegment) -> None:
        """Hand a segment on to the sealers."""
        job = _Job(segment, self._last_done)
        self._last_done = job.done
        self._waiting.append(job)
        self.segments += 1
        self.size_bytes += segment.size_bytes
        self._changed.unpark_all()

    @property
    def last_left(self) -> trio.Event:
        """Set when every segment that was added so far has left."""
        return self._last_done

    def end(self) -> None:
        """Nothing will be added any more."""
        self._is_ended = True
        self._changed.unpark_all()

    def wake(self) -> None:
        """Have everybody who waits for a change look again."""
        self._changed.unpark_all()

    async def wait_change(self) -> None:
        """Wait until a segment was added or has left, or until `wake`."""
        await self._changed.park()

    async def take(self) -> _Job | None:
        """The oldest segment that nobody has taken; None when there will be none."""
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._is_ended:
                return None
            await self._changed.park()
        return self._waiting.popleft()

    def leave(self, job: _Job) -> None:
        """A segment is in the data set, or set aside."""
        self.segments -= 1
        self.size_bytes -= job.segment.size_bytes
        job.done.set()
        self._changed.unpark_all()


@attrs.frozen
class Sealing:
    """What turns the backlog into the data set.

    Attributes:
        backlog: The segments.
        publisher: Who publishes them.
        seal: How one is sealed.
        run_blocking: Runs a blocking function in a thread.
        reconnects: How often connections had to be made again since the start, for the log.
        attempts: How often a segment may fail.
        disk_retry_sec: How long to wait for a full disk.
        tell_losses: Told of ids that were seen and are lost, once the catalogue has noted it.
    """

    backlog: Backlog
    publisher: Publisher
    seal: Seal
    run_blocking: Callable[..., Awaitable[Any]]
    reconnects: Callable[[], int]
    attempts: int
    disk_retry_sec: float
    tell_losses: Callable[[Losses], None] = lambda _losses: None

    async def run(self) -> None:
        """One sealer's work until the backlog has ended; run as many as may work at a time."""
        while (job := await self.backlog.take()) is not None:
            await self._process(job)

    async def _process(self, job: _Job) -> None:
        started = trio.current_time()
        manifest = await self._seal(job.segment)
        seal_ms = int((trio.current_time() - started) * 1000)
        await job.before.wait()
        try:
            if manifest is not None:
                await self._publish(job.segment, manifest, seal_ms)
        except SegmentGoneError as fault:
            logger.error("segment_set_aside", **_name_of(job.segment), detail=str(fault))
            manifest = None
        if manifest is None:
            self.backlog.failed += 1
            self._tell(await self._with_room(job.segment, self.publisher.set_aside, job.segment.name))
        self.backlog.leave(job)

    def _tell(self, losses: Losses) -> None:
        if losses:
            self.tell_losses(losses)

    async def _seal(self, segment: ClosedSegment) -> Manifest | None:
        """What a segment became; None after `attempts` failures."""
        name, failures = segment.name, 0
        while True:
            try:
                return await self.seal(self.publisher.folder.segment(name), self.publisher.folder.tmp)
            except DiskFullError as fault:
                logger.warning("seal_paused", segment=str(name), detail=str(fault))
                await trio.sleep(self.disk_retry_sec)
            except Exception as fault:  # noqa: BLE001 - one segment that cannot be sealed must not stop the recording
                failures += 1
                logger.warning("seal_failed", segment=str(name), attempt=failures, detail=repr(fault))
                if failures == self.attempts:
                    detail = "".join(traceback.format_exception(fault))
                    logger.error("segment_set_aside", **_name_of(segment), detail=detail)
                    return None
                await trio.sleep(_FAILED_PAUSE_SEC)

    async def _publish(self, segment: ClosedSegment, manifest: Manifest, seal_ms: int) -> None:
        published: Published = await self._with_room(segment, self.publisher.publish, segment.name, manifest)
        self._tell(published.losses)
        self.backlog.sealed += 1
        self.backlog.seal_sec.add(seal_ms / 1000)
        for file in manifest.files:
            self.backlog.file_bytes.add(file.size_bytes)
        self._report(segment, manifest, seal_ms, published.cut_lines)

    async def _with_room(self, segment: ClosedSegment, function: Callable[..., Any], *args: Any) -> Any:
        """What a blocking function of the publisher returns, tried again while there is no room."""
        while True:
            try:
                return await self.run_blocking(function, *args)
            except DiskFullError as fault:
                logger.warning("publish_paused", segment=str(segment.name), detail=str(fault))
                await trio.sleep(self.disk_retry_sec)

    def _report(self, segment: ClosedSegment, manifest: Manifest, seal_ms: int, cut_lines: int) -> None:
        if manifest.damage:
            logger.error("journal_damaged", segment=manifest.segment, bytes_by_reason=manifest.damage)
        if manifest.quarantined:
            logger.warning(
                "messages_quarantined", segment=manifest.segment, reasons=manifest.quarantined, dropped=cut_lines
            )
        logger.info(
            "rotated",
            segment=manifest.segment,
            mode=segment.mode,
            seconds=round(segment.seconds, 3) if segment.seconds is not None else None,
            messages=manifest.messages,
            rows=manifest.rows,
            journal_bytes=segment.size_bytes,
            bytes=sum(file.size_bytes for file in manifest.files),
            files=len(manifest.files),
            seal_ms=seal_ms,
            oldest_trade_age_ms=manifest.oldest_age_ms(TRADE_KINDS),
            oldest_book_age_ms=manifest.oldest_age_ms(BOOK_KINDS),
            reconnects=self.reconnects(),
            inexact_decimals=manifest.inexact_decimals,
            backlog_segments=self.backlog.segments - 1,
        )


def _name_of(segment: ClosedSegment) -> dict[str, str | int]:
    return {"segment": str(segment.name), "size_bytes": segment.size_bytes}
