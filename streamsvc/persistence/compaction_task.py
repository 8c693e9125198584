"""The task of the service that compacts finished days and removes old ones, an hour after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.errors import DiskFullError, StreamsvcError, UsageError
from streamsvc.log import logger
from streamsvc.persistence.archive import archived_dates
from streamsvc.persistence.compaction_exchange import require_exchange
from streamsvc.persistence.layout import date_of
from streamsvc.persistence.retention import first_kept_date, remove_archived, remove_day

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamsvc.persistence.compaction import Compactor
    from streamsvc.persistence.compaction_day import BuiltDay, Day, DayWork

ROUND_SEC = 3600.0
LISTING_SEC = 10.0
"""How long a reader may take to list a folder that it has opened."""
FINISHED_SEC = 3600
"""How long after its end a day counts as finished: what was received last is sealed, short holes are fetched again."""


@attrs.frozen(kw_only=True)
class Housekeeping:
    """Keeps the data set in few files and, where that is wanted, within so many days.

    Attributes:
        compactor: Of the data folder.
        build: Builds a day in a worker process, or in line: `compaction_build.build_day`. A cancellation may kill it.
        run_blocking: Runs a blocking function in a thread.
        wall_ns: The wall clock.
        retention_days: How many full days are kept; None: all.
        disk_retry_sec: How long to wait for a full disk.
    """

    compactor: Compactor
    build: Callable[[str, DayWork], Awaitable[BuiltDay]]
    run_blocking: Callable[..., Awaitable[Any]]
    wall_ns: Callable[[], int]
    retention_days: int | None
    disk_retry_sec: float

    async def run(self) -> None:
        """Look every hour what is to be done, until cancelled: which loses nothing, wherever it happens.

        Raises:
            DamagedError: the catalogue is damaged.
            OSError: the disk failed.
        """
        await self._recover()
        while True:
            try:
                await self._do_round()
            except DiskFullError as fault:
                logger.warning("compaction_postponed", detail=str(fault))
                await self._recover()
            await trio.sleep(ROUND_SEC)

    async def _do_round(self) -> None:
        catalogue = self.compactor.catalogue
        if self.retention_days is not None:
            # A clock that was set years ahead must not empty the data set: days are old by the exchange's time as well.
            newest_ns = await self.run_blocking(catalogue.newest_exchange_ns)
            now_ns = min(self.wall_ns(), newest_ns) if newest_ns is not None else self.wall_ns()
            first_kept = first_kept_date(now_ns, self.retention_days)
            for day in await self.run_blocking(catalogue.days_before, first_kept):
                await self._remove(day)
            for date in await self.run_blocking(archived_dates, self.compactor.folder):
                if date < first_kept:
                    await self._remove_archived(date)
        try:
            await self.run_blocking(require_exchange, self.compactor.folder.tmp)
        except UsageError as fault:
            logger.warning("compaction_impossible", detail=str(fault))
            return
        unfinished = date_of(self.wall_ns() - FINISHED_SEC * 10**9)
        for day in await self.run_blocking(catalogue.days_with_rotations, unfinished):
            try:
                await self._compact(day)
            except DiskFullError as fault:
                logger.warning("compaction_postponed", **attrs.asdict(day), detail=str(fault))
                await self._recover()

    async def _remove(self, day: Day) -> None:
        names = attrs.asdict(day)
        if await self.run_blocking(remove_day, self.compactor, day):
            logger.info("day_removed", **names)
        else:
            logger.warning("day_not_removed", **names, detail="its folder holds files that are not ours")

    async def _remove_archived(self, date: str) -> None:
        if await self.run_blocking(remove_archived, self.compactor, date):
            logger.info("day_removed", kind="archive", date=date)
        else:
            logger.warning("day_not_removed", kind="archive", date=date, detail="its folder holds foreign files")

    async def _compact(self, day: Day) -> None:
        names = attrs.asdict(day)
        started = trio.current_time()
        work = await self.run_blocking(self.compactor.plan, day)
        if work is None:
            logger.info("compaction_postponed", **names, detail="its folder holds what is not in the catalogue")
            return
        try:
            built = await self.build(str(self.compactor.folder.root), work)
        except DiskFullError:
            raise
        except Exception as fault:  # noqa: BLE001 - one day that cannot be compacted must not stop the recording
            logger.error("compaction_failed", **names, detail=repr(fault))
            # A builder that was killed has left what it had made.
            await self._recover()
            return
        seconds = round(trio.current_time() - started, 3)
        try:
            is_done = await self.run_blocking(self.compactor.replace, built)
        except DiskFullError:
            raise
        except StreamsvcError as fault:
            logger.error("compaction_failed", **names, detail=str(fault))
            await self._recover()
            return
        if is_done:
            await trio.sleep(LISTING_SEC)
        await self.run_blocking(self.compactor.discard, built)
        if is_done:
            logger.info(
                "day_compacted",
                **names,
                files=len(built.merged),
                became=len(built.made),
                rows=built.rows,
                bytes=sum(file.size_bytes for file in built.made),
                seconds=seconds,
            )

    async def _recover(self) -> None:
        while True:
            try:
                await self.run_blocking(self.compactor.recover)
            except DiskFullError as fault:
                logger.warning("compaction_postponed", detail=str(fault))
                await trio.sleep(self.disk_retry_sec)
            else:
                return
