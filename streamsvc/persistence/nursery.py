"""The persistence nursery: the writer, the sealers' loop, the publisher and the quarantine, behind one function."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from streamsvc.errors import DiskFullError
from streamsvc.log import logger
from streamsvc.persistence.adoption import Adoption
from streamsvc.persistence.archive import require_archive
from streamsvc.persistence.catalogue_ledger import LedgerCatalogue
from streamsvc.persistence.catalogue_looking import LookingCatalogue
from streamsvc.persistence.compaction import make_compactor
from streamsvc.persistence.compaction_task import Housekeeping
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.lock import locked
from streamsvc.persistence.losses import Losses
from streamsvc.persistence.publish import Publisher
from streamsvc.persistence.quarantine import Quarantine, QuarantineFolder
from streamsvc.persistence.recovery import Recovered, recover
from streamsvc.persistence.sealing import Backlog, Sealing
from streamsvc.persistence.writer import Writer, WriterState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from streamsvc.batch import BlockReceiver
    from streamsvc.persistence.layout import SegmentName
    from streamsvc.persistence.tools import Tools
    from streamsvc.settings import Settings

_LEAVE_SEC = 5.0


class Persistence:
    """The running nursery as others see it.

    Attributes:
        state: How the writer is doing.
        backlog: The segments that are not in the data set yet, with their number and size.
        drain_scope: What ends the sealing when the drain's time is over.
        adoption_scope: What ends the adoption when the drain begins.
        housekeeping_scope: The same for compaction and retention.
        is_draining: Whether the end is near.
        run: What the names of this run's segments and files begin with.
        adopted: Set when the files that the catalogue did not know are taken in.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it shows
        self, writer: Writer, backlog: Backlog, publisher: Publisher, tools: Tools, drain_sec: float, run: SegmentName
    ) -> None:
        self.run = str(run).rpartition("-")[0]
        self.adopted = trio.Event()
        self._earlier_left = backlog.last_left
        self.state: WriterState = writer.state
        self.backlog = backlog
        self._writer = writer
        self._publisher = publisher
        self._run_blocking = tools.run_blocking
        self._drain_sec = drain_sec
        self.drain_scope = trio.CancelScope()
        self.adoption_scope = trio.CancelScope()
        self.housekeeping_scope = trio.CancelScope()
        self.is_draining = False

    async def load_bans(self) -> Mapping[str, int]:
        """Until when REST hosts have banned us, ns since 1970; raises what `Catalogue` does."""
        bans: Mapping[str, int] = await self._run_blocking(self._publisher.catalogue.bans, self._publisher.wall_ns())
        return bans

    async def save_ban(self, host: str, until_ns: int, status: int, reason: str) -> None:
        """Keep a ban across restarts; raises what `Catalogue` does."""
        note = self._publisher.catalogue.note_ban
        await self._run_blocking(note, host, until_ns, status, reason, self._publisher.wall_ns())

    def look(self, gaps_max: int) -> tuple[dict[tuple[str, str, str], int], list[dict[str, Any]], tuple[int, int], int]:
        """Blocking: counts of gaps, the newest of them, number and bytes of files, free bytes on their disk.

        Raises what `Catalogue` does.
        """
        folder = self._publisher.folder
        catalogue = LookingCatalogue(folder.catalogue)
        free_bytes = self._publisher.files.free_bytes(folder.root)
        return catalogue.gap_counts(), catalogue.latest_gaps(gaps_max), catalogue.file_totals(), free_bytes

    async def wait_recovered(self) -> None:
        """Wait until the segments of earlier runs have left the journal, and the catalogue knows all files."""
        await self._earlier_left.wait()
        await self.adopted.wait()

    async def wait_published(self) -> None:
        """Wait until everything that was written up to now is in the data set, or set aside."""
        closed = self.state.segments_closed
        while self.state.segments_closed == closed:
            await self.backlog.wait_change()
        await self.backlog.last_left.wait()

    def drain(self) -> None:
        """The end is near: from now on, writing and sealing have `DRAIN_SEC`. Calling it again changes nothing."""
        self.is_draining = True
        self.adoption_scope.cancel()
        self.housekeeping_scope.cancel()
        deadline = trio.current_time() + self._drain_sec
        self._writer.give_up_at(deadline)
        self.drain_scope.deadline = min(self.drain_scope.deadline, deadline)


async def run_persistence(
    settings: Settings,
    receiver: BlockReceiver,
    quarantine: Quarantine,
    tools: Tools,
    *,
    task_status: trio.TaskStatus[Persistence] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Record blocks until every sender of the channel is closed, then seal what fits into `DRAIN_SEC`.

    Recording begins at once; segments of earlier runs are sealed beside it. A cancellation is a stop as well: what the
    channel holds is still written, so whoever cancels also closes the senders; a cancellation during the drain stops at
    once. Takes the folder's lock, and closes the receiver.

    Args:
        settings: The settings.
        receiver: The channel's end; it is closed here.
        quarantine: What the loop could not read; it is written here, and ended.
        tools: What comes from outside.
        task_status: Told when blocks can be taken.

    Raises:
        UsageError: the folder is in use, cannot be written, or belongs to a newer version.
        DamagedError: the catalogue is damaged; the next start makes it again.
        DiskFullError: there was no room, at the end, for what was held.
        OSError: the disk failed.
    """
    folder = DataFolder(settings.data_dir)
    publisher = Publisher(
        folder=folder,
        files=tools.files,
        catalogue=LedgerCatalogue(folder.catalogue),
        quarantine=QuarantineFolder(folder.quarantine, settings.quarantine_max_bytes),
        wall_ns=tools.wall_ns,
        read_ids=tools.read_ids,
    )
    with receiver, locked(folder):
        if settings.raw_archive:
            await tools.run_blocking(require_archive, folder)
        recovered = await _once_there_is_room(partial(recover, publisher, tools.token), tools, settings.disk_retry_sec)
        unsealed = [folder.segment(segment.name) for segment in recovered.segments]
        await tools.run_blocking(tools.resume, publisher.catalogue, unsealed)
        # An earlier run was to count them and could not.
        tools.tell_losses(Losses((), await tools.run_blocking(publisher.catalogue.suspects)))
        backlog = Backlog()
        for segment in recovered.segments:
            backlog.add(segment)
        writer = Writer(settings, tools, recovered.run, receiver, backlog)
        persistence = Persistence(writer, backlog, publisher, tools, settings.drain_sec, recovered.run)
        sealing = Sealing(
            backlog=backlog,
            publisher=publisher,
            seal=tools.seal,
            run_blocking=tools.run_blocking,
            reconnects=tools.reconnects,
            attempts=settings.seal_attempts,
            disk_retry_sec=settings.disk_retry_sec,
            tell_losses=tools.tell_losses,
        )
        housekeeping = Housekeeping(
            compactor=make_compactor(publisher, settings.disk_reserve_bytes),
            build=tools.build_day,
            run_blocking=tools.run_blocking,
            wall_ns=tools.wall_ns,
            retention_days=settings.retention_days,
            disk_retry_sec=settings.disk_retry_sec,
        )
        adoption = Adoption(
            publisher=publisher,
            seal=tools.seal,
            run_blocking=tools.run_blocking,
            recovered=recovered,
            disk_retry_sec=settings.disk_retry_sec,
            audit=tools.audit,
            tell_losses=tools.tell_losses,
        )
        task_status.started(persistence)
        async with trio.open_nursery() as watch:
            shield = trio.CancelScope(shield=True)
            watch.start_soon(_drain_when_cancelled, persistence, shield, settings.drain_sec)
            with shield:
                async with trio.open_nursery() as nursery:
                    lines_name = f"{recovered.run}.loop.jsonl"
                    for part in (
                        partial(quarantine.run, publisher.quarantine, lines_name, tools.run_blocking),
                        partial(_seal_all, persistence, sealing, settings.save_concurrency),
                        partial(_adopt, persistence, adoption),
                        partial(_until_drain, persistence.housekeeping_scope, housekeeping.run),
                    ):
                        nursery.start_soon(tools.guard, part)
                    await writer.run()
                    persistence.drain()
                    backlog.end()
                    quarantine.end()
            watch.cancel_scope.cancel()


async def _once_there_is_room(work: Callable[[], Recovered], tools: Tools, retry_sec: float) -> Recovered:
    """Prepare the folder. A full disk is a pause here too, until there is room or whoever waits is cancelled."""
    is_paused = False
    while True:
        try:
            with trio.CancelScope(shield=True):  # It does not wait: a stop finds a folder that is prepared.
                recovered: Recovered = await tools.run_blocking(work)
        except DiskFullError as fault:
            if not is_paused:
                logger.error("paused_disk", detail=str(fault), held_messages=0)
            is_paused = True
            tools.tell_waiting("paused_disk: the service starts as soon as there is room", retry_sec)
            await trio.sleep(retry_sec)
        else:
            if is_paused:
                logger.info("disk_resumed")
            return recovered


async def _drain_when_cancelled(persistence: Persistence, shield: trio.CancelScope, drain_sec: float) -> None:
    """A cancellation from outside begins the drain and bounds the shield around it; during the drain it ends it."""
    try:
        await trio.sleep_forever()
    finally:
        shield.deadline = trio.current_time() + (0.0 if persistence.is_draining else drain_sec + _LEAVE_SEC)
        persistence.drain()


async def _seal_all(persistence: Persistence, sealing: Sealing, sealers: int) -> None:
    """Seal and publish until the backlog has ended or the drain's time is over; the rest stays in the journal."""
    with persistence.drain_scope as scope:
        async with trio.open_nursery() as nursery:
            for _ in range(sealers):
                nursery.start_soon(sealing.run)
    if scope.cancelled_caught:
        backlog = persistence.backlog
        logger.warning("drain_cut", segments=backlog.segments, size_bytes=backlog.size_bytes)


async def _adopt(persistence: Persistence, adoption: Adoption) -> None:
    await _until_drain(persistence.adoption_scope, adoption.run)
    persistence.adopted.set()


async def _until_drain(scope: trio.CancelScope, part: Callable[[], Awaitable[None]]) -> None:
    """Change the data set beside the recording; what does not fit before the end is left to the next start."""
    with scope:
        await part()
