"""What a day's rows tell of each stream: how many, when, how late, and which ids (pure numpy).

Rows come row group by row group. Of a stream a bit for each second of the day is kept, a histogram of its latencies,
and its ids as ranges: memory grows with the streams of one market and kind, a hundred kilobytes each, and not with
rows. Silences are therefore known to the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamsvc.integrity.keys import COUNTED_KINDS, columns_needed, covered_by_rows, runs
from streamsvc.integrity.latency_histogram import LatencyHistogram
from streamsvc.integrity.sequence import Coverage
from streamsvc.persistence.tables import ID_COLUMNS, LEVEL_KINDS
from streamsvc.schema import COLUMNS, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from streamsvc.integrity.day_gaps import Day
    from streamsvc.persistence.parquet import RowGroup

SECOND_NS = 10**9
DAY_SECONDS = 86_400


def sent_column(market: Market, kind: Kind) -> str | None:
    """The column with the exchange's time of sending, or what comes nearest; None where it sends none.

    Snapshots and instruments are asked for: their times say nothing of a stream.
    """
    if kind in (Kind.DEPTH_SNAPSHOT, Kind.INSTRUMENT) or (market, kind) == (Market.SPOT, Kind.BOOK_TICKER):
        return None
    return "event_time" if "event_time" in COLUMNS[kind] else "exchange_time"


class StreamNumbers:
    """What was seen of one stream, all epochs together.

    Attributes:
        rows: Rows; an order-book level is one.
        messages: Messages.
        backfilled: Those of them that were fetched over REST.
        first_ns: The least exchange time.
        last_ns: The greatest.
        seconds: For each second of the day, whether a message is of it, by exchange time.
        latency: Receive time minus time of sending, of messages that a stream brought.
        coverage: The ids of each epoch, of kinds whose ids chain.
        snapshots: When order books were received, of `depthSnapshot`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.messages = 0
        self.backfilled = 0
        self.first_ns = np.iinfo(np.int64).max
        self.last_ns = np.iinfo(np.int64).min
        self.seconds = np.zeros(DAY_SECONDS, np.bool_)
        self.latency = LatencyHistogram()
        self.coverage: dict[int, Coverage] = {}
        self.snapshots: set[int] = set()

    def add_times(self, times: NDArray[np.int64], day: Day) -> None:
        """Add messages with these exchange times; there is at least one."""
        self.messages += len(times)
        self.first_ns = min(self.first_ns, int(times.min()))
        self.last_ns = max(self.last_ns, int(times.max()))
        seconds = (times - day.first_ns) // SECOND_NS
        self.seconds[seconds[(seconds >= 0) & (seconds < DAY_SECONDS)]] = True


class KindNumbers:
    """Gathers the numbers of one market and kind.

    Args:
        market: The market.
        kind: The kind.
        day: The day.

    Attributes:
        streams: By symbol, those that have a row.
        columns: What is read of each file.
    """

    def __init__(self, market: Market, kind: Kind, day: Day) -> None:
        self.streams: dict[str, StreamNumbers] = {}
        self._market = market
        self._kind = kind
        self._day = day
        self._sent = sent_column(market, kind)
        ids = columns_needed(kind) if kind in COUNTED_KINDS else [ID_COLUMNS[kind]] if kind in ID_COLUMNS else []
        drop = {"side", "price"} if kind in LEVEL_KINDS else set()
        more = ["symbol", "exchange_time", "receive_time", *([self._sent] if self._sent else [])]
        more += [name for name in ("is_backfilled", "epoch") if name in COLUMNS[kind]]
        self.columns = [name for name in dict.fromkeys([*more, *ids]) if name not in drop]

    def add(self, group: RowGroup) -> None:
        """Add the rows of a group."""
        columns, labels = group.columns, group.labels["symbol"]
        for code, rows in enumerate(np.bincount(columns["symbol"], minlength=len(labels)).tolist()):
            if rows:
                self.streams.setdefault(labels[code], StreamNumbers()).rows += rows
        columns = self._messages(columns)
        order = np.argsort(columns["symbol"], kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        for begin, end in _slices(columns["symbol"]):
            own = {name: column[begin:end] for name, column in columns.items()}
            self._add_stream(self.streams[labels[own["symbol"][0]]], own)

    def _messages(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """A row for each message: of an order book its first one. The levels of one follow each other, in one group."""
        if self._kind not in LEVEL_KINDS:
            return columns
        is_first = np.zeros(len(columns["symbol"]), np.bool_)
        is_first[:1] = True
        names = ["symbol", "epoch", ID_COLUMNS[self._kind]]
        for name in [*names, "receive_time"] if self._kind is Kind.DEPTH_SNAPSHOT else names:
            is_first[1:] |= columns[name][1:] != columns[name][:-1]
        return {name: column[is_first] for name, column in columns.items()}

    def _add_stream(self, stream: StreamNumbers, columns: dict[str, NDArray[Any]]) -> None:
        stream.add_times(columns["exchange_time"], self._day)
        received_ns = columns["receive_time"]
        is_live = ~columns.get("is_backfilled", np.zeros(len(received_ns), np.bool_)).astype(np.bool_)
        stream.backfilled += int(len(is_live) - is_live.sum())
        if self._sent is not None:
            stream.latency.add((received_ns - columns[self._sent])[is_live])
        if self._kind is Kind.DEPTH_SNAPSHOT:
            stream.snapshots.update(received_ns.tolist())
        if self._kind in COUNTED_KINDS:
            self._add_ids(stream, columns)

    def _add_ids(self, stream: StreamNumbers, columns: dict[str, NDArray[Any]]) -> None:
        starts, ends, counted = covered_by_rows(self._kind, self._market, columns)
        epochs = columns.get("epoch", np.zeros(len(starts), np.int32))
        for epoch in np.unique(epochs).tolist():
            own = counted & (epochs == epoch)
            stream.coverage.setdefault(epoch, Coverage()).add(runs(starts[own], ends[own]))


def _slices(sorted_codes: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal codes."""
    places = np.flatnonzero(np.diff(sorted_codes)) + 1
    return zip([0, *places.tolist()], [*places.tolist(), len(sorted_codes)], strict=True)


def longest_silence(seconds: NDArray[np.bool_], begin: int, end: int) -> tuple[int, int]:
    """The longest time without a message between two seconds of the day: its first second and its length."""
    places = np.flatnonzero(seconds[begin:end]) + begin
    edges = np.concatenate([[begin - 1], places, [end]])
    lengths = np.diff(edges) - 1
    place = int(lengths.argmax())
    return int(edges[place]) + 1, int(lengths[place])
