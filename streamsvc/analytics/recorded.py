"""What is recorded of trades and their minutes, read from the published files: where a run goes on, and old minutes.

For processes of their own: it loads pandas, and reads files that hold many symbols once for all of them.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsvc.analytics.minute import MINUTE_MS, Begin, Ended, KnownHole, Minute, Rebuilt, TradeStream, WrittenBin
from streamsvc.analytics.trades import DAY_MS, KEPT_MINUTES
from streamsvc.integrity.revisions import latest, sum_deltas
from streamsvc.persistence.catalogue_reading import ReadingCatalogue
from streamsvc.persistence.compaction_names import may_hold
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.parquet import read_coded
from streamsvc.persistence.tables import ID_COLUMNS
from streamsvc.schema import COLUMNS, TRADE_KINDS, Kind, Market
from streamsvc.venues.binance_live import LiveTrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from streamsvc.persistence.losses import LastId

    Columns = dict[str, NDArray[Any]]

_NS_PER_MS = 1_000_000
_SUM_MS = 2 * DAY_MS
"""So far back the deltas are summed; before that a stored sum is believed."""
_END_NS = 2**63 - 1
_MINUTE_COLUMNS = ("open_time", "receive_time", "revision", "delta", "cvd", "trade_count", "is_complete")


Begins = tuple[dict[TradeStream, Begin], dict[tuple[Market, str], list[WrittenBin]]]


def read_begins(root: str, run: str, ended: Sequence[Ended]) -> Begins:
    """Where minutes of trades and bins of quotes end that were recorded before this run.

    Args:
        root: `DATA_DIR`; the segments of earlier runs are sealed.
        run: What the names of this run's files begin with, which are left out.
        ended: The streams.

    Raises:
        DamagedError: a file cannot be read, or the catalogue.
        OSError: the disk failed.
    """
    folder = DataFolder(Path(root))
    begins: dict[TradeStream, Begin] = {}
    with ReadingCatalogue.open_to_read(folder.catalogue) as catalogue:
        lasts = catalogue.last_ids()
        written = {
            (last.market, last.symbol): last.last_exchange_ns // _NS_PER_MS
            for last in lasts
            if last.kind is Kind.CVD_1M
        }
        reader = _Reader(folder, catalogue, run)
        for (market, kind), group in groupby(sorted(_with_forgotten(ended, lasts), key=_place), key=_place):
            of_symbol = {one.stream.symbol: one for one in group}
            newest = {symbol: written[market, symbol] for symbol in of_symbol if (market, symbol) in written}
            sums = reader.sums(market, {symbol: (last - _SUM_MS, last) for symbol, last in newest.items()})
            minutes = reader.minutes(market, kind, {symbol: (found.newest_ms, None) for symbol, found in sums.items()})
            for symbol, one in of_symbol.items():
                if one.last_id < 0 and symbol not in sums:
                    continue
                begins[one.stream] = _begin(reader, one, sums.get(symbol), minutes.get(symbol, []))
        return begins, _written_bins(reader, lasts)


def _written_bins(reader: _Reader, lasts: Iterable[LastId]) -> dict[tuple[Market, str], list[WrittenBin]]:
    """The last bins of quotes of each symbol."""
    bins: dict[tuple[Market, str], list[WrittenBin]] = {}
    for market in Market:
        for kind in (Kind.OFI_1S, Kind.OFI_1M, Kind.PRICES_1S):
            spans: dict[str, tuple[int, int | None]] = {
                last.symbol: (last.last_exchange_ns // _NS_PER_MS, None)
                for last in lasts
                if (last.market, last.kind) == (market, kind)
            }
            for symbol, columns in reader.bins(market, kind, spans).items():
                place = int(np.argmax(columns["revision"]))
                ofi = _decimal(columns["ofi"][place]) if "ofi" in columns else Decimal(0)
                count = int(columns["update_count"][place]) if "update_count" in columns else 0
                found = WrittenBin(kind, spans[symbol][0], int(columns["revision"][place]), ofi, count)
                bins.setdefault((market, symbol), []).append(found)
    return bins


def _with_forgotten(ended: Sequence[Ended], lasts: Iterable[LastId]) -> list[Ended]:
    """Also streams of which the catalogue has learnt only now, from files: nobody knows which ids they ended with."""
    known = {one.stream for one in ended}
    streams = (TradeStream(last.market, last.kind, last.symbol) for last in lasts if last.kind in TRADE_KINDS)
    return [*ended, *(Ended(stream, -1, -1, 0) for stream in dict.fromkeys(streams) if stream not in known)]


def _place(one: Ended) -> tuple[Market, Kind]:
    return one.stream.market, one.stream.kind


def _begin(reader: _Reader, one: Ended, sums: _Sums | None, minutes: list[Minute]) -> Begin:
    if sums is None:
        # Trades were recorded, minutes were not: they begin with the next one.
        cvd_ms = one.last_ms - one.last_ms % MINUTE_MS
        return Begin(one.epoch, one.last_id, one.last_ms, Decimal(0), cvd_ms, ())
    newest_ms, before = sums.newest_ms, sums.before_newest()
    if not minutes or minutes[0].open_ms != newest_ms:
        minutes = [Minute(newest_ms), *minutes]
    for minute in minutes:
        sums.know(minute)
        if minute.open_ms == newest_ms and sums.is_alone and not minute.written[2]:
            minute.is_cut = True  # The first minute that was ever recorded began without us.
    holes = reader.holes(one.stream, newest_ms)
    return Begin(
        epoch=one.epoch,
        last_id=one.last_id,
        last_ms=one.last_ms,
        cvd=before,
        cvd_ms=newest_ms - MINUTE_MS,
        minutes=tuple(minutes),
        holes=tuple(hole for hole in holes if hole.last_id <= one.last_id),
        doubtful=sums.doubtful(),
    )


def rebuild_minutes(root: str, wanted: Sequence[tuple[TradeStream, tuple[int, ...]]]) -> list[Rebuilt]:
    """Make minutes again from what is recorded, oldest first of each stream.

    Args:
        root: `DATA_DIR`; what the minutes are made of is published.
        wanted: Streams, and the open times of their minutes, ms.

    Raises:
        DamagedError: a file cannot be read, or the catalogue.
        OSError: the disk failed.
    """
    folder = DataFolder(Path(root))
    rebuilt: list[Rebuilt] = []
    with ReadingCatalogue.open_to_read(folder.catalogue) as catalogue:
        reader = _Reader(folder, catalogue)
        by_place = sorted(wanted, key=lambda one: (one[0].market, one[0].kind))
        for (market, kind), group in groupby(by_place, key=lambda one: (one[0].market, one[0].kind)):
            asked = {stream.symbol: sorted(opens) for stream, opens in group}
            spans = {symbol: (opens[0], opens[-1] + MINUTE_MS) for symbol, opens in asked.items()}
            sums = reader.sums(market, {symbol: (first - _SUM_MS, last) for symbol, (first, last) in spans.items()})
            minutes = reader.minutes(market, kind, spans)
            for symbol, opens in asked.items():
                stream = TradeStream(market, kind, symbol)
                traded = {minute.open_ms: minute for minute in minutes.get(symbol, [])}
                made = [traded.get(open_ms) or Minute(open_ms) for open_ms in opens]
                rebuilt += _corrected(reader, stream, made, sums.get(symbol))
    return rebuilt


def _corrected(reader: _Reader, stream: TradeStream, minutes: list[Minute], sums: _Sums | None) -> list[Rebuilt]:
    rebuilt = []
    for minute in minutes:
        if sums is not None:
            sums.know(minute)
        minute.holes = len(reader.holes(stream, minute.open_ms, minute.open_ms + MINUTE_MS))
        # What was not complete and touches no gap is the minute in which recording began.
        minute.is_cut = bool(minute.revision) and not minute.written[2] and not reader.has_had_hole(stream, minute)
        cvd = minute.delta if sums is None else sums.through(minute)
        rebuilt.append(Rebuilt(stream, minute, cvd))
    return rebuilt


class _Sums:
    """The written minutes of one symbol, latest revisions, with the running sum over them."""

    def __init__(self, columns: Columns) -> None:
        chosen = latest(columns)
        self._rows = {
            int(open_ns) // _NS_PER_MS: (_decimal(delta), _decimal(cvd), int(count), bool(complete), int(revision))
            for open_ns, delta, cvd, count, complete, revision in zip(
                columns["open_time"][chosen],
                columns["delta"][chosen],
                sum_deltas(columns),
                columns["trade_count"][chosen],
                columns["is_complete"][chosen],
                columns["revision"][chosen],
                strict=True,
            )
        }
        self._changed: dict[int, Decimal] = {}

    @property
    def newest_ms(self) -> int:
        return max(self._rows)

    @property
    def is_alone(self) -> bool:
        return len(self._rows) == 1

    def before_newest(self) -> Decimal:
        """The running sum before the newest minute."""
        delta, cvd, *_ = self._rows[self.newest_ms]
        return cvd - delta

    def doubtful(self) -> tuple[int, ...]:
        """Minutes that were not complete, and those that could still be corrected when the run ended."""
        oldest_ms = self.newest_ms - KEPT_MINUTES * MINUTE_MS
        return tuple(
            open_ms
            for open_ms, (*_, is_complete, _revision) in self._rows.items()
            if open_ms < self.newest_ms and (open_ms >= oldest_ms or not is_complete)
        )

    def know(self, minute: Minute) -> None:
        """Tell a minute what was written of it."""
        row = self._rows.get(minute.open_ms)
        if row is not None:
            delta, cvd, count, complete, revision = row
            minute.written, minute.revision, minute.cvd = (delta, count, complete), revision + 1, cvd

    def through(self, minute: Minute) -> Decimal:
        """The running sum through a minute as it is now, and those before it that were asked for."""
        day = minute.open_ms // DAY_MS
        row = self._rows.get(minute.open_ms)
        before = [open_ms for open_ms in self._rows if open_ms < minute.open_ms]
        cvd = row[1] if row is not None else self._rows[max(before)][1] if before else Decimal(0)
        self._changed[minute.open_ms] = minute.delta - minute.written[0]
        is_daily = any(self._starts_over(open_ms) for open_ms in self._rows)
        return cvd + sum(
            (
                change
                for open_ms, change in self._changed.items()
                if open_ms <= minute.open_ms and (not is_daily or open_ms // DAY_MS == day)
            ),
            Decimal(0),
        )

    def _starts_over(self, open_ms: int) -> bool:
        before = self._rows.get(open_ms - MINUTE_MS)
        delta, cvd, *_ = self._rows[open_ms]
        return open_ms % DAY_MS == 0 and before is not None and before[1] != 0 and cvd == delta


class _Reader:
    """Reads columns of many symbols from the files of a folder, each file once."""

    def __init__(self, folder: DataFolder, catalogue: ReadingCatalogue, run: str = "") -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._run = run

    def sums(self, market: Market, spans: Mapping[str, tuple[int, int]]) -> dict[str, _Sums]:
        """The written minutes of symbols that open in a span, both ends included."""
        ends = {symbol: (first, last + 1) for symbol, (first, last) in spans.items()}
        columns = self._columns(market, Kind.CVD_1M, ends, _MINUTE_COLUMNS)
        return {symbol: _Sums(found) for symbol, found in columns.items()}

    def bins(self, market: Market, kind: Kind, spans: Mapping[str, tuple[int, int | None]]) -> dict[str, Columns]:
        """The rows of symbols from a time on."""
        names = ["revision", *(name for name in ("ofi", "update_count") if name in COLUMNS[kind])]
        return self._columns(market, kind, spans, names)

    def minutes(
        self, market: Market, kind: Kind, spans: Mapping[str, tuple[int, int | None]]
    ) -> dict[str, list[Minute]]:
        """The minutes of trades of symbols from the first time to before the second, oldest first."""
        names = ["exchange_time", ID_COLUMNS[kind], "price", "quantity", "is_buyer_maker"]
        names += ["trade_type"] if kind is Kind.TRADE else []
        return {
            symbol: _minutes_of(columns, ID_COLUMNS[kind])
            for symbol, columns in self._columns(market, kind, spans, names).items()
        }

    def holes(self, stream: TradeStream, first_ms: int, end_ms: int | None = None) -> tuple[KnownHole, ...]:
        """What the ledger misses of a stream from a time on."""
        end_ns = _END_NS if end_ms is None else end_ms * _NS_PER_MS
        rows = self._catalogue.missing(stream.kind, stream.market, stream.symbol, first_ms * _NS_PER_MS, end_ns)
        return tuple(
            KnownHole(
                int(row[5] or 0),
                int(row[6] or 0),
                first_ms if row[7] is None else int(row[7]) // _NS_PER_MS,
                (end_ms or first_ms) if row[8] is None else int(row[8]) // _NS_PER_MS,
            )
            for row in rows
        )

    def has_had_hole(self, stream: TradeStream, minute: Minute) -> bool:
        """Whether something of a minute was ever missing."""
        first_ns, end_ns = minute.open_ms * _NS_PER_MS, (minute.open_ms + MINUTE_MS) * _NS_PER_MS
        return self._catalogue.has_had_gap(stream.kind, stream.market, stream.symbol, first_ns, end_ns)

    def _columns(
        self, market: Market, kind: Kind, spans: Mapping[str, tuple[int, int | None]], names: Iterable[str]
    ) -> dict[str, Columns]:
        if not spans:
            return {}
        wanted = list(dict.fromkeys(["symbol", "exchange_time", *names]))
        parts: dict[str, list[Columns]] = {}
        first_ns = min(first for first, _ in spans.values()) * _NS_PER_MS
        end_ns = max(_END_NS if end is None else end * _NS_PER_MS for _, end in spans.values())
        for path in self._catalogue.files_between(kind, market, first_ns, end_ns):
            file = self._folder.root / path
            if self._is_left_out(file) or not any(may_hold(file.name, symbol) for symbol in spans):
                continue
            for group in read_coded(file, wanted, ("exchange_time", first_ns, end_ns)):
                labels = group.labels["symbol"]
                for symbol in set(labels) & set(spans):
                    chosen = _chosen(group.columns, labels.index(symbol), *spans[symbol])
                    if chosen.any():
                        parts.setdefault(symbol, []).append(
                            {
                                name: _texts(group.columns[name][chosen], group.labels.get(name))
                                for name in wanted
                                if name != "symbol"
                            }
                        )
        return {
            symbol: {name: np.concatenate([part[name] for part in own]) for name in own[0]}
            for symbol, own in parts.items()
        }

    def _is_left_out(self, file: Path) -> bool:
        return bool(self._run) and file.name.startswith(f"{self._run}-")


def _texts(values: NDArray[Any], labels: list[str] | None) -> NDArray[Any]:
    return values if labels is None else np.array(labels, object)[values]


def _chosen(columns: Mapping[str, NDArray[Any]], code: int, first_ms: int, end_ms: int | None) -> NDArray[np.bool_]:
    times = columns["exchange_time"]
    chosen: NDArray[np.bool_] = (columns["symbol"] == code) & (times >= first_ms * _NS_PER_MS)
    return chosen if end_ms is None else chosen & (times < end_ms * _NS_PER_MS)


def _minutes_of(columns: Columns, id_column: str) -> list[Minute]:
    minutes: dict[int, Minute] = {}
    types = columns.get("trade_type")
    _, unique = np.unique(columns[id_column], return_index=True)
    for place in unique.tolist():
        if types is not None and types[place] not in ("", "MARKET"):
            continue
        time_ms = int(columns["exchange_time"][place]) // _NS_PER_MS
        open_ms = time_ms - time_ms % MINUTE_MS
        trade = LiveTrade(
            symbol="",
            id=int(columns[id_column][place]),
            price=_decimal(columns["price"][place]),
            quantity=_decimal(columns["quantity"][place]),
            time_ms=time_ms,
            is_buyer_maker=bool(columns["is_buyer_maker"][place]),
            is_market=True,
        )
        if trade.quantity:
            minutes.setdefault(open_ms, Minute(open_ms)).add(trade)
    return [minutes[open_ms] for open_ms in sorted(minutes)]


def _decimal(value: Any) -> Decimal:
    """The shortest decimal that float64 takes for this value, which is the one that was written."""
    return Decimal(repr(float(value)))
