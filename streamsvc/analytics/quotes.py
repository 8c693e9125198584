"""Order flow imbalance and prices of one symbol's best bid and ask, exact, in seconds and minutes. Pure.

The contribution of a change of the best bid or ask to the imbalance (R. Cont, A. Kukanov, S. Stoikov, "The Price Impact
of Order Book Events", Journal of Financial Econometrics 12 (2014), section 2.1):

    e = [bid >= bid before] bid quantity - [bid <= bid before] bid quantity before
      - [ask <= ask before] ask quantity + [ask >= ask before] ask quantity before

The first change that anybody sees has none before it and contributes nothing. A change belongs to the second and minute
of its own time: the exchange's for futures, that of receipt for spot, which sends none. What comes when its bin is
closed counts in the oldest bin that is open. A change whose update id is not higher than the last is no change.

mid = (bid + ask) / 2, spread = ask - bid, and the microprice weighs each side with the other's quantity (S. Stoikov,
"The micro-price", Quantitative Finance 18 (2018), its starting point): (bid x ask quantity + ask x bid quantity) / sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.analytics.rows import ZERO, OfiRow, PriceRow
from streamsvc.schema import Kind
from streamsvc.venues.binance_heads import TradeHead
from streamsvc.venues.binance_live import MARKET_TRADES, read_number

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from streamsvc.analytics.minute import WrittenBin
    from streamsvc.venues.binance_heads import AggTradeHead
    from streamsvc.venues.binance_live import LiveQuote

SECOND_MS, MINUTE_MS = 1_000, 60_000
OPEN_BINS_MAX = 120
"""Bins that wait for a clock to pass; then the oldest is closed nevertheless."""


@attrs.define
class _OfiBin:
    ofi: Decimal = ZERO
    update_count: int = 0
    quote: LiveQuote | None = None


class _OfiBins:
    """Bins of one width that are open."""

    def __init__(self, width_ms: int) -> None:
        self._width_ms = width_ms
        self._open: dict[int, _OfiBin] = {}
        self._closed_to = 0
        self._written: dict[int, WrittenBin] = {}

    def begin(self, written: Iterable[WrittenBin]) -> None:
        self._written = {bin_.open_ms: bin_ for bin_ in written}

    def skip_open(self) -> None:
        self._closed_to = max(self._open, default=-self._width_ms) + self._width_ms
        self._open.clear()

    def add(self, time_ms: int, change: Decimal, quote: LiveQuote) -> None:
        open_ms = max(time_ms - time_ms % self._width_ms, self._closed_to)
        bin_ = self._open.get(open_ms)
        if bin_ is None:
            bin_ = self._open[open_ms] = _OfiBin()
        bin_.ofi += change
        bin_.update_count += 1
        bin_.quote = quote

    def finish(self, symbol: str) -> list[OfiRow]:
        return self.close(symbol, max(self._open, default=-self._width_ms) + self._width_ms)

    def close(self, symbol: str, before_ms: int) -> list[OfiRow]:
        if len(self._open) > OPEN_BINS_MAX:
            before_ms = max(before_ms, min(self._open) + self._width_ms)
        self._closed_to = max(self._closed_to, before_ms - before_ms % self._width_ms)
        due = sorted(open_ms for open_ms in self._open if open_ms < self._closed_to) if self._open else ()
        return [_ofi_row(symbol, open_ms, self._open.pop(open_ms), self._written.pop(open_ms, None)) for open_ms in due]


def _ofi_row(symbol: str, open_ms: int, bin_: _OfiBin, written: WrittenBin | None) -> OfiRow:
    quote = bin_.quote
    assert quote is not None
    return OfiRow(
        symbol=symbol,
        open_ms=open_ms,
        revision=0 if written is None else written.revision + 1,
        ofi=bin_.ofi if written is None else bin_.ofi + written.ofi,
        update_count=bin_.update_count + (0 if written is None else written.update_count),
        bid_price=quote.bid_price,
        bid_quantity=quote.bid_quantity,
        ask_price=quote.ask_price,
        ask_quantity=quote.ask_quantity,
    )


def contribution(before: LiveQuote, quote: LiveQuote) -> Decimal:
    """What a change of the best bid or ask adds to the order flow imbalance."""
    change = ZERO
    if quote.bid_price >= before.bid_price:
        change += quote.bid_quantity
    if quote.bid_price <= before.bid_price:
        change -= before.bid_quantity
    if quote.ask_price <= before.ask_price:
        change -= quote.ask_quantity
    if quote.ask_price >= before.ask_price:
        change += before.ask_quantity
    return change


class Quotes:
    """The best bid and ask of one symbol.

    Args:
        symbol: The symbol.

    Attributes:
        last: The newest quote.
    """

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._seconds, self._minutes = _OfiBins(SECOND_MS), _OfiBins(MINUTE_MS)
        self._epoch = 0
        self.last: LiveQuote | None = None

    def begin(self, written: Iterable[WrittenBin]) -> None:
        """Go on in the bins in which an earlier run ended."""
        by_kind: dict[Kind, list[WrittenBin]] = {Kind.OFI_1S: [], Kind.OFI_1M: []}
        for bin_ in written:
            by_kind.setdefault(bin_.kind, []).append(bin_)
        self._seconds.begin(by_kind[Kind.OFI_1S])
        self._minutes.begin(by_kind[Kind.OFI_1M])

    def skip_open(self) -> None:
        """Leave out the bins that are open."""
        self._seconds.skip_open()
        self._minutes.skip_open()

    def add(self, quote: LiveQuote, time_ms: int, epoch: int) -> bool:
        """Take a quote of a time; whether it is a new one."""
        before = self.last
        if before is not None and epoch == self._epoch and quote.update_id <= before.update_id:
            return False
        self._epoch = epoch
        change = ZERO if before is None else contribution(before, quote)
        self.last = quote
        self._seconds.add(time_ms, change, quote)
        self._minutes.add(time_ms, change, quote)
        return True

    def close(self, before_ms: int) -> tuple[list[OfiRow], list[OfiRow]]:
        """Close what ends at `before_ms` or earlier: rows of seconds, rows of minutes."""
        return self._seconds.close(self._symbol, before_ms), self._minutes.close(self._symbol, before_ms)

    def finish(self) -> tuple[list[OfiRow], list[OfiRow]]:
        """Close all that is open."""
        return self._seconds.finish(self._symbol), self._minutes.finish(self._symbol)


@attrs.define
class _PriceBin:
    price: Decimal | str | None = None  # A text is read when the second ends.
    trade_id: int = -1
    quote: LiveQuote | None = None


class PriceSeconds:
    """Prices at the end of each second in which a trade or a quote came.

    Args:
        symbol: The symbol.
    """

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._open: dict[int, _PriceBin] = {}
        self._closed_to = 0
        self._price = ZERO
        self._quote: LiveQuote | None = None
        self._revisions: dict[int, int] = {}

    def begin(self, written: Iterable[WrittenBin]) -> None:
        """Go on in the second in which an earlier run ended."""
        self._revisions = {bin_.open_ms: bin_.revision + 1 for bin_ in written if bin_.kind is Kind.PRICES_1S}

    def skip_open(self) -> None:
        """Leave out the seconds that are open."""
        self._closed_to = max(self._open, default=-SECOND_MS) + SECOND_MS
        self._open.clear()

    def _bin(self, time_ms: int) -> _PriceBin:
        open_ms = max(time_ms - time_ms % SECOND_MS, self._closed_to)
        bin_ = self._open.get(open_ms)
        if bin_ is None:
            bin_ = self._open[open_ms] = _PriceBin()
        return bin_

    def trade(self, price: Decimal, trade_id: int, time_ms: int) -> None:
        """A trade that counts."""
        bin_ = self._bin(time_ms)
        if trade_id > bin_.trade_id:
            bin_.price, bin_.trade_id = price, trade_id

    def see(self, head: TradeHead | AggTradeHead) -> None:
        """A trade as the intake read it, the last of those that came."""
        bin_ = self._bin(head.T)
        if head.id > bin_.trade_id and (not isinstance(head, TradeHead) or head.X in MARKET_TRADES):
            bin_.price, bin_.trade_id = head.p, head.id

    def quote(self, quote: LiveQuote, time_ms: int) -> None:
        """A new best bid or ask."""
        self._bin(time_ms).quote = quote

    def finish(self) -> list[PriceRow]:
        """Close all that is open."""
        return self.close(max(self._open, default=-SECOND_MS) + SECOND_MS)

    def close(self, before_ms: int) -> list[PriceRow]:
        """Close the seconds that end at `before_ms` or earlier."""
        if len(self._open) > OPEN_BINS_MAX:
            before_ms = max(before_ms, min(self._open) + SECOND_MS)
        self._closed_to = max(self._closed_to, before_ms - before_ms % SECOND_MS)
        due = sorted(open_ms for open_ms in self._open if open_ms < self._closed_to)
        return [self._row(open_ms, self._open.pop(open_ms)) for open_ms in due]

    def _row(self, open_ms: int, bin_: _PriceBin) -> PriceRow:
        price = read_number(bin_.price) if isinstance(bin_.price, str) else bin_.price
        if price is not None:
            self._price = price
        self._quote = quote = bin_.quote or self._quote
        revision = self._revisions.pop(open_ms, 0)
        if quote is None:
            return PriceRow(
                symbol=self._symbol,
                open_ms=open_ms,
                revision=revision,
                last_price=self._price,
                bid_price=ZERO,
                ask_price=ZERO,
                mid_price=ZERO,
                microprice=ZERO,
                spread=ZERO,
            )
        bid, ask = quote.bid_price, quote.ask_price
        return PriceRow(
            symbol=self._symbol,
            open_ms=open_ms,
            revision=revision,
            last_price=self._price,
            bid_price=bid,
            ask_price=ask,
            mid_price=(bid + ask) / 2,
            microprice=microprice(quote),
            spread=ask - bid,
        )


def microprice(quote: LiveQuote) -> Decimal:
    """The mid price weighted with the quantities of the other side; the mid price where both are empty."""
    total = quote.bid_quantity + quote.ask_quantity
    if not total:
        return (quote.bid_price + quote.ask_price) / 2
    return (quote.bid_price * quote.ask_quantity + quote.ask_price * quote.bid_quantity) / total
