"""`streamsvc compact DIR`: compact the finished days of a data folder that no service is using."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from streamsvc.errors import DamagedError, UsageError
from streamsvc.persistence.compaction import Compactor
from streamsvc.persistence.compaction_build import build_day
from streamsvc.persistence.compaction_catalogue import CompactionCatalogue
from streamsvc.persistence.compaction_exchange import require_exchange
from streamsvc.persistence.files import Files
from streamsvc.persistence.layout import DataFolder, date_of
from streamsvc.persistence.lock import locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamsvc.persistence.compaction_day import BuiltDay, Day


def compact_folder(
    root: Path, date: str | None, now_ns: int, *, tell: Callable[[str], None], pause: Callable[[], None]
) -> bool:
    """Compact finished UTC days, oldest first. Takes the folder's lock, and blocks.

    Args:
        root: `DATA_DIR`.
        date: One day, e.g. `2026-11-20`; None: all.
        now_ns: The wall clock.
        tell: Takes a line for people for each day of a kind and market.
        pause: Waits for readers that have just opened the last folder to list it.

    Returns:
        Whether all of them are compacted now. A day that is damaged is told and left as it is.

    Raises:
        UsageError: it is no data folder, an instance uses it, the day is not over, or the file system cannot do it.
        DamagedError: the catalogue is damaged.
        DiskFullError: there is no room.
        OSError: the disk failed.
    """
    folder, today = DataFolder(root), date_of(now_ns)
    if not folder.catalogue.is_file():
        raise UsageError(f"{root} is not a data folder of streamsvc: it has no {folder.catalogue.name}")
    if date is not None and date >= today:
        raise UsageError(f"{date} is not over: days end at midnight UTC")
    with locked(folder):
        catalogue = CompactionCatalogue(folder.catalogue)
        catalogue.prepare()
        folder.tmp.mkdir(exist_ok=True)
        compactor = Compactor(
            folder=folder, files=Files(), catalogue=catalogue, changing=threading.Lock(), reserve_bytes=0
        )
        compactor.recover()
        require_exchange(folder.tmp)
        days = [day for day in catalogue.days_with_rotations(today) if date in (None, day.date)]
        is_complete, last = True, None
        for day in days:
            built = _compact(compactor, day, tell)
            is_complete = is_complete and built is not None
            if last is not None:
                compactor.discard(last)
            last = built
        if last is not None:
            pause()
            compactor.discard(last)
    return is_complete


def _compact(compactor: Compactor, day: Day, tell: Callable[[str], None]) -> BuiltDay | None:
    """Compact a day; returns what is to be discarded, and None where the day is left as it is."""
    place = f"{day.date} {day.market} {day.kind}"
    work = compactor.plan(day)
    if work is None:
        tell(f"{place}: left as it is, its folder holds what the catalogue does not know")
        return None
    try:
        built = build_day(str(compactor.folder.root), work)
        compactor.replace(built)
    except DamagedError as fault:
        compactor.recover()
        tell(f"{place}: left as it is, {fault}")
        return None
    tell(f"{place}: {len(built.merged):,} files became {len(built.made):,}, {built.rows:,} rows")
    return built
