"""The ids around a day, from the files of the days beside it: only those near midnight, and of few columns.

Of the nearest day that has files of the kind, the last minutes are read (the first ones, of the day after), and all of
it for a stream that was silent then; for one that was silent all day the day before, and so on for `DAYS_MAX` recorded
days. What was silent for longer is for a check without a day to tell.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from streamsvc.errors import DamagedError
from streamsvc.integrity.day_gaps import Day, DayIds
from streamsvc.integrity.keys import COUNTED_KINDS, columns_needed, split_streams
from streamsvc.integrity.sealed_bytes import require_sealed
from streamsvc.integrity.sequence import Coverage
from streamsvc.persistence.compaction_names import is_compacted, may_hold
from streamsvc.persistence.parquet import read_coded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from streamsvc.persistence.catalogue import LastId
    from streamsvc.persistence.manifest import SealedFile
    from streamsvc.schema import Kind, Market

    Stream = tuple[str, int]
    """A stream of one market and kind: symbol and epoch."""

DAYS_MAX = 7
_SPANS_NS = (600 * 10**9, 86_400 * 10**9)


def ids_around(
    kind: Kind, own: Mapping[Stream, Coverage], neighbours: Neighbours, last_ids: Iterable[LastId]
) -> dict[Stream, DayIds]:
    """The ids of every stream that is there on a day or goes on behind it, and what lies around them.

    Args:
        kind: The kind; of one whose ids do not chain nothing is read.
        own: What the day's files hold of each stream.
        neighbours: Reads around the day.
        last_ids: How far the streams of the kind and market have come.

    Raises:
        DamagedError: a file is damaged.
        OSError: a file cannot be read.
    """
    if kind not in COUNTED_KINDS:
        return {stream: DayIds(coverage) for stream, coverage in own.items()}
    going_on = {(last.symbol, last.epoch) for last in last_ids if last.last_exchange_ns >= neighbours.day.end_ns}
    after = neighbours.after(going_on)
    before = neighbours.before(own.keys() | after.keys())
    none = Coverage()
    return {
        stream: DayIds(own.get(stream, none), before.get(stream, none), after.get(stream, none))
        for stream in own.keys() | after.keys()
    }


class Neighbours:
    """Reads around a day.

    Args:
        root: `DATA_DIR`.
        kind: The kind, one whose ids chain.
        market: The market.
        files: The files of the kind and market, of all days.
        day: The day.

    Both methods raise:
        DamagedError: a file is damaged.
        OSError: a file cannot be read.
    """

    def __init__(self, root: Path, kind: Kind, market: Market, files: Sequence[SealedFile], day: Day) -> None:
        self._root = root
        self._kind = kind
        self._market = market
        self._files = files
        self.day = day
        self._columns = columns_needed(kind)

    def before(self, streams: set[Stream]) -> dict[Stream, Coverage]:
        """The newest ids before the day of those of the streams that have any."""
        dates = sorted({file.date for file in self._files if file.date < self.day.date}, reverse=True)
        windows = [
            [(Day.of(date).end_ns - span_ns, Day.of(date).end_ns) for span_ns in _SPANS_NS] for date in dates[:DAYS_MAX]
        ]
        return self._nearest(dates, windows, streams)

    def after(self, streams: set[Stream]) -> dict[Stream, Coverage]:
        """The oldest ids after the day of those of the streams that have any."""
        dates = sorted({file.date for file in self._files if file.date > self.day.date})
        windows = [
            [(Day.of(date).first_ns, Day.of(date).first_ns + span_ns) for span_ns in _SPANS_NS]
            for date in dates[:DAYS_MAX]
        ]
        return self._nearest(dates, windows, streams)

    def _nearest(
        self, dates: list[str], windows: list[list[tuple[int, int]]], streams: set[Stream]
    ) -> dict[Stream, Coverage]:
        found: dict[Stream, Coverage] = {}
        for date, of_date in zip(dates, windows, strict=False):
            for window in of_date:
                if lacking := streams - found.keys():
                    found |= self._ids(date, lacking, *window)
        return found

    def _ids(self, date: str, streams: set[Stream], first_ns: int, end_ns: int) -> dict[Stream, Coverage]:
        found: dict[Stream, Coverage] = {}
        for file in self._chosen(date, {symbol for symbol, _ in streams}, first_ns, end_ns):
            self._require_sealed(file)
            for group in read_coded(
                self._root / file.path, [*self._columns, "exchange_time"], ("exchange_time", first_ns, end_ns)
            ):
                times = group.columns["exchange_time"]
                chosen = (times >= first_ns) & (times < end_ns)
                if not chosen.any():
                    continue
                columns = {name: column[chosen] for name, column in group.columns.items()}
                for name, labels in group.labels.items():
                    columns[name] = np.array(labels, object)[columns[name]]
                for stream, part in split_streams(self._kind, self._market, columns).items():
                    if stream in streams and part.ranges:
                        found.setdefault(stream, Coverage()).add(part.ranges)
        return found

    def _require_sealed(self, file: SealedFile) -> None:
        try:
            require_sealed(self._root, file)
        except DamagedError as fault:
            raise DamagedError(f"{file.path}, whose ids tell what is missing at midnight: {fault}") from fault

    def _chosen(self, date: str, symbols: set[str], first_ns: int, end_ns: int) -> Iterator[SealedFile]:
        for file in self._files:
            if file.date == date and file.last_exchange_ns >= first_ns and file.first_exchange_ns < end_ns:
                name = PurePosixPath(file.path).name
                if not is_compacted(name) or any(may_hold(name, symbol) for symbol in symbols):
                    yield file
