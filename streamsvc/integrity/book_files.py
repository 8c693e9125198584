"""What the files of a data set hold of one symbol's order book: updates in the order of their ids, and snapshots.

Memory holds one row group, the symbol's rows of the group before it that may still be followed by late ones, and one
snapshot; of the files only those are read that may hold rows of the time asked for.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from streamsvc.persistence.compaction_names import is_compacted, may_hold
from streamsvc.persistence.parquet import read_coded
from streamsvc.schema import Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from streamsvc.integrity.books import Level
    from streamsvc.persistence.catalogue_reading import ReadingCatalogue
    from streamsvc.persistence.parquet import RowGroup

    Rows = dict[str, NDArray[Any]]
    """Columns of equal length by name."""

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
TIME_NS_MAX = 2**63 - 1

_LATE_NS = 30 * SECOND_NS
"""By how much an update may be written after later ones: a second connection can bring what the first one missed."""

_UPDATE_COLUMNS = (
    "symbol",
    "epoch",
    "exchange_time",
    "event_time",
    "first_update_id",
    "final_update_id",
    "previous_final_update_id",
    "side",
    "price",
    "quantity",
)
_SNAPSHOT_COLUMNS = ("symbol", "epoch", "last_update_id", "side", "price", "quantity")
_ORDER = ("place", "previous_final_update_id", "first_update_id", "final_update_id")
"""What updates are sorted by, as `lexsort` wants it: the last one counts most."""


@attrs.frozen
class BookPosition:
    """The last update at or before some time: its epoch, id and exchange time in ns."""

    epoch: int
    update_id: int
    exchange_ns: int


@attrs.frozen
class BookUpdate:
    """An update with its times in ns and its levels; `previous` is 0 in spot."""

    exchange_ns: int
    event_ns: int
    first: int
    final: int
    previous: int
    bids: list[Level]
    asks: list[Level]


@attrs.frozen
class BookSnapshot:
    """A snapshot with its exchange time in ns (of spot, which sends none, the receive time)."""

    update_id: int
    exchange_ns: int
    bids: list[Level]
    asks: list[Level]


class BookFiles:
    """Reads one symbol's order book of a data set.

    Args:
        root: `DATA_DIR`.
        catalogue: Its catalogue.
        market: The market.
        symbol: The symbol.

    Every method raises:
        DamagedError: a file or the catalogue is damaged.
        FileNotFoundError: a file was replaced since it was listed: begin again.
        OSError: a file cannot be read.
    """

    def __init__(self, root: Path, catalogue: ReadingCatalogue, market: Market, symbol: str) -> None:
        self._root = root
        self._catalogue = catalogue
        self._market = market
        self._symbol = symbol

    def last_position(self, first_ns: int, end_ns: int) -> BookPosition | None:
        """The update with the greatest id among those with first <= exchange time < end."""
        columns = ("symbol", "epoch", "exchange_time", "final_update_id")
        last = None
        for group in self._groups(Kind.DEPTH, columns, first_ns, end_ns):
            rows = self._own_rows(group, first_ns, end_ns)
            if len(rows["epoch"]):
                place = np.lexsort((rows["final_update_id"], rows["epoch"]))[-1]
                found = int(rows["epoch"][place]), int(rows["final_update_id"][place])
                if last is None or found > (last.epoch, last.update_id):
                    last = BookPosition(*found, int(rows["exchange_time"][place]))
        return last

    def newest_snapshot(self, until: BookPosition, first_ns: int, end_ns: int) -> BookSnapshot | None:
        """The newest snapshot at or before a position, by its id, among those with first <= exchange time < end."""
        columns = ("symbol", "epoch", "last_update_id", "exchange_time")
        newest = None
        for path in self._paths(Kind.DEPTH_SNAPSHOT, first_ns, end_ns):
            for group in read_coded(path, columns, ("exchange_time", first_ns, end_ns)):
                rows = self._own_rows(group, first_ns, end_ns, until.epoch)
                ids = np.where(rows["last_update_id"] <= until.update_id, rows["last_update_id"], -1)
                place = int(ids.argmax()) if len(ids) else 0
                if len(ids) and ids[place] >= 0 and (newest is None or ids[place] > newest[0]):
                    newest = int(ids[place]), int(rows["exchange_time"][place]), path
        return None if newest is None else self._snapshot(until.epoch, *newest)

    def _snapshot(self, epoch: int, update_id: int, exchange_ns: int, path: Path) -> BookSnapshot:
        sides: tuple[list[Level], list[Level]] = [], []
        for group in read_coded(path, (*_SNAPSHOT_COLUMNS, "exchange_time")):
            rows = self._own_rows(group, exchange_ns, exchange_ns + 1, epoch)
            of_snapshot = rows["last_update_id"] == update_id
            for place, levels in enumerate(sides):
                chosen = of_snapshot & (rows["place"] == place)
                levels.extend(zip(rows["price"][chosen].tolist(), rows["quantity"][chosen].tolist(), strict=True))
        return BookSnapshot(update_id, exchange_ns, *sides)

    def updates(self, epoch: int, first_ns: int, end_ns: int) -> Iterator[BookUpdate]:
        """The updates with first <= exchange time < end in the order of their ids; a file is read when it is needed."""
        held: Rows = {}
        for group in self._groups(Kind.DEPTH, _UPDATE_COLUMNS, first_ns, end_ns):
            rows = self._own_rows(group, first_ns, end_ns, epoch)
            if not len(rows["epoch"]):
                continue
            if held:
                rows = {name: np.concatenate([held[name], column]) for name, column in rows.items()}
            order = np.lexsort([rows[name] for name in _ORDER])
            rows = {name: column[order] for name, column in rows.items()}
            times = rows["exchange_time"]
            # An update's rows have one time, so that none is torn.
            ready = int(np.argmax(times > times.max() - _LATE_NS))
            held = {name: column[ready:] for name, column in rows.items()}
            yield from _split({name: column[:ready] for name, column in rows.items()})
        if held:
            yield from _split(held)

    def _groups(self, kind: Kind, columns: Sequence[str], first_ns: int, end_ns: int) -> Iterator[RowGroup]:
        for path in self._paths(kind, first_ns, end_ns):
            yield from read_coded(path, columns, ("exchange_time", first_ns, end_ns))

    def _paths(self, kind: Kind, first_ns: int, end_ns: int) -> list[Path]:
        listed = map(PurePosixPath, self._catalogue.files_between(kind, self._market, first_ns, end_ns))
        own = [path for path in listed if may_hold(path.name, self._symbol)]
        # Of a day, what was merged was recorded before the segments that were sealed since.
        own.sort(key=lambda path: (path.parent, not is_compacted(path.name), path.name))
        return [self._root / path for path in own]

    def _own_rows(self, group: RowGroup, first_ns: int, end_ns: int, epoch: int | None = None) -> Rows:
        """The symbol's rows of a time. Instead of `side` there is `place`: 0 bids, 1 asks, 2 neither."""
        columns = dict(group.columns)
        symbols = group.labels["symbol"]
        own = columns.pop("symbol") == (symbols.index(self._symbol) if self._symbol in symbols else -1)
        own &= (columns["exchange_time"] >= first_ns) & (columns["exchange_time"] < end_ns)
        if epoch is not None:
            own &= columns["epoch"] == epoch
        rows = {name: column[own] for name, column in columns.items()}
        if "side" in rows:
            places = np.array([{"bid": 0, "ask": 1}.get(label, 2) for label in group.labels["side"]], np.int8)
            rows["place"] = places[rows.pop("side")]
        return rows


def _split(rows: Rows) -> Iterator[BookUpdate]:
    """Sorted rows as updates."""
    count = len(rows["epoch"])
    if not count:
        return
    is_new = np.zeros(count, np.bool_)
    is_new[0] = True
    for name in _ORDER[1:]:
        is_new[1:] |= np.diff(rows[name]) != 0
    starts = np.flatnonzero(is_new)
    bid_ends = starts + np.add.reduceat(rows["place"] == 0, starts, dtype=np.int64)
    ask_ends = bid_ends + np.add.reduceat(rows["place"] == 1, starts, dtype=np.int64)
    levels = list(zip(rows["price"].tolist(), rows["quantity"].tolist(), strict=True))
    names = ("exchange_time", "event_time", "first_update_id", "final_update_id", "previous_final_update_id")
    heads = zip(*(rows[name][starts].tolist() for name in names), strict=True)
    ends = zip(starts.tolist(), bid_ends.tolist(), ask_ends.tolist(), strict=True)
    for head, (start, bid_end, ask_end) in zip(heads, ends, strict=True):
        exchange_ns, event_ns, first, final, previous = head
        bids, asks = levels[start:bid_end], levels[bid_end:ask_end]
        yield BookUpdate(exchange_ns, event_ns, first, final, previous, bids, asks)
