"""What was produced, what was sent, what was withheld: per stream, exact. Pure.

A recorder that lacks exactly `missing` has lost nothing by its own fault.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamsvc.schema import Market

WITHHELD_LINES_MAX = 100_000
LOG_LINES_MAX = 5_000_000
Cause = Literal["mute", "drop", "corrupt", "freeze", "cut"]


class IdRanges:
    """A set of integers as sorted ranges, both ends included; cheap where they come in order."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int) -> None:
        """Take in the integers from `first` to `last`."""
        firsts, lasts = self._firsts, self._lasts
        if not lasts or first > lasts[-1] + 1:
            firsts.append(first)
            lasts.append(last)
            return
        if first == lasts[-1] + 1:
            lasts[-1] = last
            return
        begin = bisect_right(lasts, first - 2)
        end = begin
        while end < len(firsts) and firsts[end] <= last + 1:
            first, last = min(first, firsts[end]), max(last, lasts[end])
            end += 1
        firsts[begin:end] = [first]
        lasts[begin:end] = [last]

    def without(self, others: IdRanges) -> IdRanges:
        """What lies in this set and not in the other."""
        left = IdRanges()
        for first, last in self:
            at = first
            index = bisect_right(others._lasts, first - 1)
            while index < len(others._firsts) and others._firsts[index] <= last:
                if at < others._firsts[index]:
                    left.add(at, others._firsts[index] - 1)
                at = others._lasts[index] + 1
                index += 1
            if at <= last:
                left.add(at, last)
        return left

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __len__(self) -> int:
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdRanges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"IdRanges({list(self)})"


@attrs.define
class Withheld:
    """Messages in a row that somebody should have had: ids where the kind has a chain, else 0, and how many."""

    market: Market
    stream: str
    symbol: str
    kind: str
    cause: Cause
    connection: int
    first_id: int
    last_id: int
    count: int


@attrs.define(eq=False)
class StreamRecord:
    """The account of one stream since it was first watched.

    Attributes:
        market: Where.
        stream: Canonical name.
        symbol: In upper case.
        kind: The recorder's word for it (`trade`, `depth`, `kline_1m`, ...).
        is_chained: Whether ids are accounted for; else only counts.
        produced: Ids that the market made.
        sent: Ids handed to at least one connection's transport.
        produced_count: Messages made.
        sent_count: Messages handed to transports, each connection's counted.
        last_id: The last id sent.
    """

    market: Market
    stream: str
    symbol: str
    kind: str
    is_chained: bool
    produced: IdRanges = attrs.Factory(IdRanges)
    sent: IdRanges = attrs.Factory(IdRanges)
    produced_count: int = 0
    sent_count: int = 0
    last_id: int = 0

    def add_sent(self, first_id: int, last_id: int, count: int) -> None:
        """A connection's transport took these."""
        self.sent_count += count
        if self.is_chained:
            self.sent.add(first_id, last_id)
        self.last_id = max(self.last_id, last_id)

    @property
    def missing(self) -> IdRanges:
        """Ids that the market made and no connection was sent."""
        return self.produced.without(self.sent)


@attrs.define
class Ledger:
    """The account of a whole exchange.

    Attributes:
        records: By market and canonical name.
        withheld: What faults and cuts kept back from a connection, oldest first. Another connection may have had it,
            and a cut also counts what the transport took in part: what nobody was sent is `StreamRecord.missing`.
        log: Every payload given to at least one connection, as (market, canonical name, raw payload), if kept.
    """

    is_logging: bool = False
    records: dict[tuple[Market, str], StreamRecord] = attrs.Factory(dict)
    withheld: deque[Withheld] = attrs.field(factory=lambda: deque(maxlen=WITHHELD_LINES_MAX))
    log: deque[tuple[Market, str, bytes]] = attrs.field(factory=lambda: deque(maxlen=LOG_LINES_MAX))
    _last_lines: dict[tuple[Market, str, int], Withheld] = attrs.Factory(dict)

    def add_withheld(  # noqa: PLR0913 - one line of the account
        self,
        record: StreamRecord,
        cause: Cause,
        first_id: int,
        last_id: int,
        *,
        count: int = 1,
        connection: int = 0,
    ) -> None:
        """Write down what was kept back; a run of the same kind stays one line."""
        line = self._last_lines.get((record.market, record.stream, connection))
        if line is not None and line.cause == cause and first_id in (0, line.last_id + 1):
            line.last_id = last_id
            line.count += count
            return
        line = Withheld(
            record.market, record.stream, record.symbol, record.kind, cause, connection, first_id, last_id, count
        )
        self._last_lines[record.market, record.stream, connection] = line
        self.withheld.append(line)

    def as_json(self) -> dict[str, Any]:
        """The account for `GET /control/ledger`."""
        return {
            "streams": [
                {
                    "market": record.market.label,
                    "stream": record.stream,
                    "symbol": record.symbol,
                    "kind": record.kind,
                    "produced_count": record.produced_count,
                    "sent_count": record.sent_count,
                    "last_id": record.last_id,
                    "produced": list(record.produced),
                    "sent": list(record.sent),
                    "missing": list(record.missing),
                }
                for record in self.records.values()
            ],
            "withheld": [
                attrs.asdict(line, value_serializer=lambda _line, _field, value: getattr(value, "label", value))
                for line in self.withheld
            ],
        }
