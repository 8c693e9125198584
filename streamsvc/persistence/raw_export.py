"""`streamsvc export-raw DIR`: of the archive, one `.gz` per symbol and UTC day of receipt, as hftbacktest records it.

Day by day: the segments that may hold messages of the day are read one after the other, their lines sorted
(`raw_sort`), and every file is written beside its name and renamed. What is there already is never overwritten unasked.
"""

from __future__ import annotations

import gzip
import io
import tempfile
from collections import Counter
from contextlib import contextmanager
from datetime import date as calendar_date
from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DamagedError, UsageError
from streamsvc.persistence.catalogue_reading import ReadingCatalogue
from streamsvc.persistence.compaction_names import encoded_symbol
from streamsvc.persistence.files import no_room_mapped, written_whole
from streamsvc.persistence.journal import Damage
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.raw_lines import LineReader
from streamsvc.persistence.raw_sort import LineSort
from streamsvc.persistence.raw_sources import dates_of, opened, raw_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from streamsvc.batch import Block
    from streamsvc.persistence.raw_sort import Feed
    from streamsvc.persistence.raw_sources import RawSegment
    from streamsvc.schema import Market

_GZIP_LEVEL = 6
_BUFFER_BYTES = 256 * 1024
_DAY_NS = 86_400 * 10**9


@attrs.frozen(kw_only=True)
class Wanted:
    """What is to be exported.

    Attributes:
        market: One market; None: both.
        symbol: One symbol, in upper case; None: all.
        date: One UTC day of receipt; None: all.
    """

    market: Market | None = None
    symbol: str | None = None
    date: str | None = None


@attrs.frozen(kw_only=True)
class Telling:
    """How a command talks to people.

    Attributes:
        tell: Takes a line about what was done.
        warn: Takes a line about what is missing.
        progress: Called with the segments done and their total.
    """

    tell: Callable[[str], None]
    warn: Callable[[str], None]
    progress: Callable[[int, int], None] = lambda _done, _total: None


def export_raw(root: Path, out: Path, wanted: Wanted, telling: Telling, *, is_overwriting: bool = False) -> bool:
    """Export raw messages. Blocks; a service may be recording into the folder meanwhile.

    Args:
        root: `DATA_DIR`.
        out: The folder for the files; it is made. It needs room for them, and for as much again for a while.
        wanted: What.
        telling: Who is told.
        is_overwriting: Whether files that are there already are replaced.

    Returns:
        Whether all that was recorded of it is in the files, as far as the data folder tells.

    Raises:
        UsageError: there is no archive, nothing in it is wanted, or a file is there already.
        NewerVersionError: a newer version wrote a segment.
        DiskFullError: there is no room.
        OSError: the disk failed.
    """
    folder = DataFolder(root)
    if not folder.archive.is_dir():
        raise UsageError(
            f"{root} has no archive: only what is recorded with RAW_ARCHIVE=true can be exported as it was received"
        )
    _require_outside(folder, out)
    with no_room_mapped():
        try:
            out.mkdir(parents=True, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as fault:
            raise UsageError(f"{out} cannot be used: {fault.strerror}") from fault
        return _Export(folder, out, wanted, telling, is_overwriting=is_overwriting).run()


def _require_outside(folder: DataFolder, out: Path) -> None:
    for ours in (folder.archive, folder.journal, folder.parquet, folder.quarantine, folder.tmp):
        if out.resolve().is_relative_to(ours.resolve()):
            raise UsageError(f"{out} lies in {ours}, which is streamsvc's own; export to another folder")


class _Export:
    def __init__(
        self, folder: DataFolder, out: Path, wanted: Wanted, telling: Telling, *, is_overwriting: bool
    ) -> None:
        self._folder = folder
        self._out = out
        self._wanted = wanted
        self._telling = telling
        self._is_overwriting = is_overwriting
        self._reader = LineReader()
        self._done = 0
        self._unread: set[RawSegment] = set()
        self._damaged: dict[RawSegment, int] = {}
        self._fetched = 0

    def run(self) -> bool:
        plan = self._plan()
        total = sum(map(len, plan.values()))
        files = sum(self._export_day(date, plan[date], total) for date in sorted(plan))
        if not files and not self._unread:
            raise UsageError("nothing of that is in the archive")
        return self._sum_up(plan)

    def _plan(self) -> dict[str, list[RawSegment]]:
        """The segments with messages of each wanted day, in the order of writing."""
        plan: dict[str, list[RawSegment]] = {}
        date = self._wanted.date
        for segment in raw_segments(self._folder):
            if date is not None and not segment.may_hold(date):
                continue
            with self._readable(segment):
                for each in dates_of(self._folder, segment, self._out):
                    if date in {None, each}:
                        plan.setdefault(each, []).append(segment)
        return plan

    def _export_day(self, date: str, segments: list[RawSegment], total: int) -> int:
        """Write the files of a day; returns how many."""
        with tempfile.TemporaryFile(dir=self._out) as spill:
            sort = LineSort(spill)
            counts: Counter[Feed] = Counter()
            for segment in segments:
                with self._readable(segment), opened(self._folder, segment, self._out) as items:
                    for feed, received_ns, text in self._lines(items, segment, date):
                        if feed not in counts:
                            self._target(feed, date)
                        counts[feed] += 1
                        sort.add(feed, received_ns, text)
                self._done += 1
                self._telling.progress(self._done, total)
            sort.flush()
            for feed in sort.feeds():
                target = self._target(feed, date)
                _write(target, sort.lines(feed))
                self._telling.tell(f"{target.relative_to(self._out)}: {counts[feed]:,} lines")
        return len(counts)

    def _lines(
        self, items: Iterable[Block | Damage], segment: RawSegment, date: str
    ) -> Iterator[tuple[Feed, int, bytes]]:
        """The wanted lines of a segment: whose, when received, and their text."""
        market, symbol, day = self._wanted.market, self._wanted.symbol, _day_of(date)
        damaged_bytes = 0
        for item in items:
            if isinstance(item, Damage):
                damaged_bytes += item.size_bytes
            elif item.received_ns // _DAY_NS == day and market in {None, item.market}:
                for each, text in self._reader.read(item):
                    if symbol not in {None, each}:
                        continue
                    if text is None:
                        self._fetched += 1
                    else:
                        yield (item.market, each), item.received_ns, text
        self._damaged[segment] = damaged_bytes

    @contextmanager
    def _readable(self, segment: RawSegment) -> Iterator[None]:
        """Tell of a segment that cannot be read, and go on without it."""
        try:
            yield
        except (DamagedError, FileNotFoundError) as fault:
            if segment not in self._unread:
                self._unread.add(segment)
                self._telling.warn(f"left out: {fault}")

    def _sum_up(self, plan: dict[str, list[RawSegment]]) -> bool:
        """Tell what is not in the files; returns whether that is nothing that was received from a stream."""
        warn, is_complete = self._telling.warn, not self._unread and not self._reader.unreadable
        if self._reader.unreadable:
            warn(f"left out: {self._reader.unreadable:,} messages that cannot be read")
        if self._fetched:
            warn(f"left out: {self._fetched:,} trades that were fetched later, since they have no text of a stream")
        for segment, size_bytes in self._damaged.items():
            # The end of a segment that is being written, or was when its process died, may be torn.
            if size_bytes and segment.first_date is not None:
                warn(f"{segment.path}: {size_bytes:,} bytes hold no whole frame, as `streamsvc verify` says")
        for date in sorted(plan):
            missing = self._missing(date)
            if missing:
                is_complete = False
                warn(f"{date}: {missing:,} segments are not in the archive: they were sealed without RAW_ARCHIVE")
        return is_complete

    def _missing(self, date: str) -> int:
        """How many segments of a day are in the data set and not in the archive."""
        begin_ns = _day_of(date) * _DAY_NS
        with ReadingCatalogue.open_to_read(self._folder.catalogue) as catalogue:
            sealed = set(catalogue.segments_received(begin_ns, begin_ns + _DAY_NS))
        # Listed after it: what was sealed meanwhile is in the archive.
        return len(sealed - {str(segment.name) for segment in raw_segments(self._folder)}) if sealed else 0

    def _target(self, feed: Feed, date: str) -> Path:
        """The file of a feed.

        Raises:
            UsageError: it is there already and may not be replaced.
        """
        market, symbol = feed
        target = self._out / market.label / f"{encoded_symbol(symbol)}-{date.replace('-', '')}.gz"
        if target.exists() and not self._is_overwriting:
            raise UsageError(f"{target} is there already; it is replaced with --overwrite")
        return target


def _day_of(date: str) -> int:
    """The number of a UTC day since 1970."""
    return (calendar_date.fromisoformat(date) - calendar_date(1970, 1, 1)).days


def _write(target: Path, lines: Iterable[bytes]) -> None:
    """Write a file beside its name, and rename it when it is whole."""
    target.parent.mkdir(exist_ok=True)
    with (
        written_whole(target, part=target.with_name(f".{target.name}.part")) as raw,
        # Without a name and a time, so that the same lines are the same file.
        gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed,
        # A line a call would cost more than its compression.
        io.BufferedWriter(packed, _BUFFER_BYTES) as file,
    ):
        file.writelines(lines)
