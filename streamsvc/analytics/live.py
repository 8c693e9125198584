"""Live analytics of all symbols: fed with every block that goes to the writer, and writing its rows behind it.

Synchronous and on the loop, and what is recorded never waits for it. It goes by what the intake has read of a block,
and does nothing with it until there is enough to be worth it, or somebody asks: what belongs to a symbol lies far from
what belongs to the next, and going there for each message costs several times what is done there. Trades are only put
in order, and summed many at once. Rows go through the writer's channel like messages, gathered for a moment.

A text that cannot be read here is left out: the sealer quarantines it, and the ledger knows its id.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import trio

from streamsvc.analytics.minute import TradeStream
from streamsvc.analytics.rows import encode_row
from streamsvc.analytics.symbol import SymbolAnalytics
from streamsvc.batch import Block
from streamsvc.log import logger
from streamsvc.schema import TRADE_KINDS, Kind, Market, Source
from streamsvc.venues.binance_heads import DECODE_ERRORS, head_decoder
from streamsvc.venues.binance_live import LIVE_DECODERS, LiveCandle, time_of_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from streamsvc.analytics.minute import Begin, Rebuilt, WrittenBin
    from streamsvc.analytics.symbol import Row
    from streamsvc.analytics.trades import CvdReset
    from streamsvc.analytics.window import Window
    from streamsvc.batch import BlockSender

WAITING_MAX = 1024
"""So many messages wait at most until they are taken in together."""

FLUSH_SEC = 1.0
FLUSH_ROWS = 256
_NS_PER_MS = 1_000_000
_NAME_BEGIN = len(b'{"stream":"')

_Touched = dict[SymbolAnalytics, Market]
_Trades = defaultdict[tuple[Market, int, int], defaultdict[str, list[Any]]]
"""What was read of trades, by market, kind and epoch, and of these by symbol."""


class Analytics:
    """What is derived of every symbol that is recorded.

    Args:
        sender: The channel to the writer; the caller closes it.
        wall_ns: The wall clock.
        reset: When the running sums of CVD start over.
        grace_sec: How long bins stay open for what comes late.
        is_recorded: Whether a kind of a symbol is recorded: minutes are made of `trade`, or else of `aggTrade`.

    Attributes:
        mismatches: Minutes of each market whose CVD was not that of the exchange's candle.
    """

    def __init__(
        self,
        sender: BlockSender,
        *,
        wall_ns: Callable[[], int],
        reset: CvdReset,
        grace_sec: float,
        is_recorded: Callable[[Market, Kind, str], bool],
    ) -> None:
        self._sender = sender
        self._wall_ns = wall_ns
        self._reset: CvdReset = reset
        self._grace_ms = round(grace_sec * 1000)
        self._is_recorded = is_recorded
        self._symbols: dict[tuple[Market, str], SymbolAnalytics] = {}
        self._removed: dict[tuple[Market, str], SymbolAnalytics] = {}
        self._of_depth: dict[tuple[Market, bytes], SymbolAnalytics] = {}
        self._begins: Mapping[tuple[Market, str], Begin] | None = None
        self._written: Mapping[tuple[Market, str], Sequence[WrittenBin]] = {}
        self._pending: dict[Market, list[Row]] = {market: [] for market in Market}
        self._pending_rows = 0
        self._waiting: list[Block] = []
        self._waiting_messages = 0
        self.mismatches = dict.fromkeys(Market, 0)

    def symbols(self) -> list[tuple[Market, str]]:
        """The symbols of which something has come."""
        self.catch_up()
        return list(self._symbols)

    def symbol(self, market: Market, symbol: str) -> SymbolAnalytics | None:
        """What is derived of a symbol, up to its last message; None: nothing has come."""
        self.catch_up()
        found = self._symbols.get((market, symbol))
        if found is not None:
            found.settle()
        return found

    def windows(self, market: Market, symbol: str) -> Mapping[Kind, Window] | None:
        """The last rows of a symbol by kind; None: nothing has come."""
        self.catch_up()
        found = self._symbols.get((market, symbol))
        return None if found is None else found.windows

    def take(self, block: Block) -> None:
        """A block was put into the channel; our own are none to us."""
        if block.source is Source.DERIVED:
            return
        self._waiting.append(block)
        self._waiting_messages += len(block.messages)
        if self._waiting_messages >= WAITING_MAX:
            self.catch_up()

    def catch_up(self) -> None:
        """Take in what waits."""
        if not self._waiting:
            return
        blocks, self._waiting, self._waiting_messages = self._waiting, [], 0
        touched: _Touched = {}
        trades: _Trades = defaultdict(lambda: defaultdict(list))
        for block in blocks:
            for number in dict.fromkeys(block.kinds):
                self._take_kind(block, number, touched, trades)
        received_ms = blocks[-1].received_ns // _NS_PER_MS
        for (market, number, epoch), by_symbol in trades.items():
            for symbol, heads in by_symbol.items():
                of_symbol = self._symbols.get((market, symbol)) or self._made(market, symbol)
                if number == of_symbol.trade_kind and of_symbol.take_trades(heads, epoch, received_ms):
                    touched[of_symbol] = market
        for block in blocks:
            if block.heads is not None:
                block.heads.clear()
        self._close(touched)

    def _close(self, touched: _Touched) -> None:
        """Have the rows written of symbols whose bins may have ended."""
        for of_symbol, market in touched.items():
            if rows := of_symbol.close():
                self._add(market, of_symbol, rows)
            elif of_symbol.mismatches:
                self._tell_mismatches(market, of_symbol)
        if self._pending_rows >= FLUSH_ROWS:
            self.flush()

    def _take_kind(self, block: Block, number: int, touched: _Touched, trades: _Trades) -> None:
        """Take the messages of a kind, and tell whose bins may have ended; trades are gathered over blocks."""
        if number in TRADE_KINDS and block.source is Source.STREAM:
            market, epochs = block.market, block.epochs
            places, heads = _heads(block, number)
            if epochs is None:
                by_symbol = trades[market, number, 0]
                for head in heads:
                    by_symbol[head.s].append(head)
                return
            for place, head in zip(places, heads, strict=True):
                trades[market, number, epochs[place]][head.s].append(head)
        elif number == Kind.BOOK_TICKER:
            self._take_quotes(block, touched)
        elif number == Kind.DEPTH:
            self._take_depth(block, touched)
        elif (decode := LIVE_DECODERS.get((block.source, number))) is not None:
            for place in _places(block, number):
                if (of_symbol := self._take_one(block, place, decode)) is not None:
                    touched[of_symbol] = block.market

    def _take_quotes(self, block: Block, touched: _Touched) -> None:
        """Give best bids and asks to their symbols."""
        market, received_ms = block.market, block.received_ns // _NS_PER_MS
        for place, head in zip(*_heads(block, Kind.BOOK_TICKER), strict=True):
            of_symbol = self._symbols.get((market, head.s)) or self._made(market, head.s)
            of_symbol.take_quote_head(head, block.epochs[place] if block.epochs is not None else 0, received_ms)
            touched[of_symbol] = market

    def _take_depth(self, block: Block, touched: _Touched) -> None:
        """Of order books only the time of the newest update counts."""
        texts = {}
        for place in _places(block, Kind.DEPTH):
            text = block.messages[place]
            texts[text[_NAME_BEGIN : text.find(b"@")]] = text
        for name, text in texts.items():
            of_symbol = self._saw_depth(block.market, name, text, block.received_ns // _NS_PER_MS)
            if of_symbol is not None:
                touched[of_symbol] = block.market

    def _take_one(self, block: Block, place: int, decode: Callable[[bytes], Any]) -> SymbolAnalytics | None:
        """Give a candle, or a trade that was fetched again, to its symbol."""
        try:
            message = decode(block.messages[place])
        except DECODE_ERRORS:
            return None
        of_symbol = self._symbols.get((block.market, message.symbol)) or self._made(block.market, message.symbol)
        if isinstance(message, LiveCandle):
            of_symbol.take_candle(message)
        elif block.kinds[place] == of_symbol.trade_kind:
            epoch = block.epochs[place] if block.epochs is not None else 0
            of_symbol.take_trade(message, epoch)
        return of_symbol

    def _made(self, market: Market, symbol: str) -> SymbolAnalytics:
        if (removed := self._removed.pop((market, symbol), None)) is not None:
            self._symbols[market, symbol] = removed
            return removed
        kind = Kind.TRADE if self._is_recorded(market, Kind.TRADE, symbol) else Kind.AGG_TRADE
        made = self._symbols[market, symbol] = SymbolAnalytics(market, symbol, kind, self._reset, self._grace_ms)
        if self._begins is not None:
            made.begin(self._begins.get((market, symbol)), self._written.get((market, symbol), ()))
        return made

    def _saw_depth(self, market: Market, name: bytes, text: bytes, received_ms: int) -> SymbolAnalytics | None:
        """An order-book update tells the time, where something else of its symbol has come."""
        of_symbol = self._of_depth.get((market, name))
        if of_symbol is None:
            of_symbol = self._symbols.get((market, name.decode("utf-8", "replace").upper()))
            if of_symbol is None:
                return None
            self._of_depth[market, name] = of_symbol
        time_ms = time_of_depth(text)
        if time_ms is not None:
            of_symbol.saw_time(time_ms, received_ms)
        return of_symbol

    def begin(
        self,
        begins: Mapping[tuple[Market, str], Begin],
        written: Mapping[tuple[Market, str], Sequence[WrittenBin]],
    ) -> None:
        """Go on where an earlier run ended, by market and symbol; from now on bins are closed."""
        self.catch_up()
        self._begins, self._written = begins, written
        for key, of_symbol in (self._symbols | self._removed).items():
            of_symbol.begin(begins.get(key), written.get(key, ()))

    def begin_anew(self) -> None:
        """It cannot be known where an earlier run ended: go on with the next bins, sums with 0."""
        self.catch_up()
        self._begins = {}
        for of_symbol in (self._symbols | self._removed).values():
            of_symbol.begin_anew()

    @property
    def has_stale(self) -> bool:
        """Whether a minute that is too old to be corrected from memory has got trades."""
        self.catch_up()
        return any(of_symbol.trades.stale for of_symbol in self._symbols.values())

    def take_stale(self, minutes_max: int) -> list[tuple[TradeStream, tuple[int, ...]]]:
        """Such minutes by stream, at most so many; they are not told again."""
        self.catch_up()
        taken = []
        for (market, symbol), of_symbol in self._symbols.items():
            chosen = tuple(sorted(of_symbol.trades.stale)[:minutes_max])
            if chosen:
                of_symbol.trades.stale.difference_update(chosen)
                minutes_max -= len(chosen)
                taken.append((TradeStream(market, of_symbol.trade_kind, symbol), chosen))
        return taken

    def put_back_stale(self, taken: Sequence[tuple[TradeStream, tuple[int, ...]]]) -> None:
        """They could not be made again now."""
        for stream, opens in taken:
            of_symbol = self._symbols.get((stream.market, stream.symbol))
            if of_symbol is not None:
                of_symbol.trades.stale.update(opens)

    def correct(self, rebuilt: Rebuilt) -> bool:
        """Write a minute that was made again from what is recorded, if it has changed; whether it has."""
        self.catch_up()
        stream, minute = rebuilt.stream, rebuilt.minute
        of_symbol = self._symbols.get((stream.market, stream.symbol))
        if of_symbol is None or minute.written[1:] == (minute.trade_count, minute.is_complete):
            return False
        minute.cvd = rebuilt.cvd
        self._add(stream.market, of_symbol, of_symbol.correct(minute))
        return True

    def remove(self, market: Market, symbol: str) -> None:
        """A symbol is recorded no more: its open bins are closed and written. It goes on if it comes back."""
        self.catch_up()
        of_symbol = self._symbols.pop((market, symbol), None)
        if of_symbol is not None:
            self._removed[market, symbol] = of_symbol
            self._of_depth = {key: other for key, other in self._of_depth.items() if other is not of_symbol}
            self._add(market, of_symbol, of_symbol.finish())

    def finish(self) -> None:
        """Close everything, and put what is due into the channel, however full it is."""
        self.catch_up()
        for (market, _), of_symbol in self._symbols.items():
            self._add(market, of_symbol, of_symbol.finish())
        self.flush()

    def _add(self, market: Market, of_symbol: SymbolAnalytics, rows: list[Row]) -> None:
        self.add_rows(market, rows)
        if of_symbol.mismatches:
            self._tell_mismatches(market, of_symbol)

    def add_rows(self, market: Market, rows: Sequence[Row]) -> None:
        """Have rows written with the next gathering."""
        self._pending[market] += rows
        self._pending_rows += len(rows)

    def _tell_mismatches(self, market: Market, of_symbol: SymbolAnalytics) -> None:
        for mismatch in of_symbol.mismatches:
            self.mismatches[market] += 1
            logger.warning(
                "cvd_mismatch",
                market=market.label,
                symbol=of_symbol.name,
                open_ms=mismatch.open_ms,
                delta=str(mismatch.delta),
                expected=str(mismatch.expected),
            )
        of_symbol.mismatches.clear()

    def flush(self) -> None:
        """Put the rows that wait into the channel, however full it is: they are few beside what they are made of."""
        for market, rows in self._pending.items():
            if not rows:
                continue
            messages = [encode_row(kind, row) for kind, row in rows]
            self._sender.put_nowait(
                Block(
                    market=market,
                    source=Source.DERIVED,
                    connection=0,
                    received_ns=self._wall_ns(),
                    kinds=bytes(kind for kind, _ in rows),
                    messages=messages,
                    size_bytes=sum(map(len, messages)),
                )
            )
            rows.clear()
        self._pending_rows = 0

    async def run(self) -> NoReturn:
        """Put waiting rows into the channel once a second, until cancelled."""
        while True:
            await trio.sleep(FLUSH_SEC)
            await self._sender.wait_room()
            self.catch_up()
            self.flush()


def _places(block: Block, number: int) -> Sequence[int]:
    """Where the messages of a kind are."""
    kinds = block.kinds
    if kinds.count(number) == len(kinds):
        return range(len(kinds))
    return [place for place, other in enumerate(kinds) if other == number]


def _heads(block: Block, number: int) -> tuple[Sequence[int], Sequence[Any]]:
    """Where the messages of a kind of a stream are, and what was read of each; without those that cannot be read."""
    places = _places(block, number)
    if block.heads is not None:
        return places, block.heads if len(places) == len(block.kinds) else [block.heads[place] for place in places]
    decode = head_decoder(block.market, Kind(number))
    read: list[tuple[int, Any]] = []
    for place in places:
        with contextlib.suppress(*DECODE_ERRORS):
            read.append((place, decode(block.messages[place]).data))
    return [place for place, _ in read], [head for _, head in read]
