"""Records what the exchange says of each recorded symbol: tick size, step size, status, contract type, as sent.

One `exchangeInfo` a look serves the rows, the check of the symbols, and the choice of those that are recorded. A row is
written of every symbol at the start and at the first look of every UTC day, so that each day's folder has it, and of a
symbol whose text is not the one that was recorded last. Days are those of the exchange's clock, which also decides the
folder. What was recorded is known for one run: a restart records every symbol again.

Without an answer recording goes on (the rows of earlier days are there), and it is asked again, more and more rarely.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import attrs
import trio

from streamsvc.errors import DecodeError
from streamsvc.log import logger
from streamsvc.rest import RestError, RestLimitedError
from streamsvc.rest_governor import Urgency
from streamsvc.venues.binance_heads import DECODE_ERRORS
from streamsvc.venues.binance_rest import exchange_info_request, parse_exchange_info
from streamsvc.venues.binance_rest_payloads import InstrumentMessage, read_instrument
from streamsvc.watchdog.symbols import SYMBOLS_TOLD_MAX, SymbolCheck

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence

    from streamsvc.integrity.backfill import Governor
    from streamsvc.schema import Market
    from streamsvc.venues.binance_rest import ExchangeInfo

RETRY_MIN_SEC: Final = 5.0
RETRY_MAX_SEC: Final = 3600.0
MIDNIGHT_SPREAD_SEC: Final = 60.0
"""The first look of a day comes within this, not in the second in which everybody asks."""
PAUSE_SEC: Final = 10.0
"""Between two looks, whoever asks: an answer of spot has 20 MB."""
ROWS_A_BLOCK: Final = 100
"""A spot symbol has up to 6 KB: a block stays below a megabyte, and room is waited for between two."""

COLUMNS_TOLD: Final = ("status", "contract_type", "tick_size", "step_size", "min_notional")
"""The columns whose change is told with its values; another change in the text of a symbol is told without."""

_DAY_MS: Final = 86_400_000
_DOUBLINGS_MAX: Final = 20


class Recorder(Protocol):
    """Where rows go; see `intake.Intake`."""

    async def wait_room(self) -> None:
        """Wait until the writer's channel has room."""

    def record_instruments(self, market: Market, time_ms: int, symbols: Sequence[tuple[str, bytes]]) -> None:
        """Record symbols of an answer, right after `wait_room`."""


class Symbols(Protocol):
    """The symbols of a market, which may be others at any time; see `roster.market_symbols`."""

    @property
    def market(self) -> Market:
        """The market."""

    @property
    def meant(self) -> Container[str]:
        """Every symbol that is meant, by its name or by a pattern; it never changes once given."""

    @property
    def names(self) -> Sequence[str]:
        """Those that are meant by their name."""

    @property
    def recorded(self) -> Container[str]:
        """Those that are recorded, or about to be."""

    def hear(self, statuses: Mapping[str, str]) -> None:
        """The exchange has told the status of every symbol."""

    async def wait_asked(self) -> None:
        """Wait until the exchange should be asked again before its time."""


@attrs.frozen
class Due:
    """A symbol whose row is to be written.

    Attributes:
        symbol: The symbol.
        raw: The exchange's own JSON.
        before: What was recorded last; None: nothing in this run.
    """

    symbol: str
    raw: bytes
    before: bytes | None

    @property
    def is_changed(self) -> bool:
        """Whether the exchange says something else than before."""
        return self.before is not None and self.before != self.raw


class Recorded:
    """What was recorded last of each symbol, and on which UTC day. Pure."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, bytes]] = {}

    def due(self, server_time_ms: int, symbols: Mapping[str, bytes]) -> list[Due]:
        """What an answer brings that is not recorded yet on its day."""
        day = server_time_ms // _DAY_MS
        return [
            Due(symbol, raw, last[1] if last else None)
            for symbol, raw in symbols.items()
            if (last := self._last.get(symbol)) != (day, raw)
        ]

    def take(self, server_time_ms: int, recorded: Iterable[Due]) -> None:
        """Rows were written."""
        self._last.update((one.symbol, (server_time_ms // _DAY_MS, one.raw)) for one in recorded)


def changed_columns(before: bytes, now: bytes) -> dict[str, list[str]]:
    """The told columns in which two texts of a symbol differ, each with both values.

    Empty where only something else differs, or one of the texts cannot be read: the sealer puts that into quarantine.
    """
    try:
        old, new = read_instrument(before), read_instrument(now)
    except DECODE_ERRORS:
        return {}
    return {
        name: [_text(old, name), _text(new, name)] for name in COLUMNS_TOLD if getattr(old, name) != getattr(new, name)
    }


def next_look_sec(server_time_ms: int, interval_sec: float, rng: random.Random) -> float:
    """How long to wait after an answer: an interval, but not far beyond the end of the exchange's day."""
    midnight_sec = (_DAY_MS - server_time_ms % _DAY_MS) / 1000
    return min(interval_sec * rng.uniform(0.9, 1.0), midnight_sec + rng.uniform(1.0, MIDNIGHT_SPREAD_SEC))


class Instruments:
    """Keeps one market's instruments recorded.

    Args:
        symbols: The symbols of the market.
        governor: The way of its requests.
        recorder: Where rows go.
        run_blocking: Runs a synchronous function and its arguments off the loop.
        interval_sec: The time between two looks.
        rng: Spreads the looks and retries of many instances.
    """

    def __init__(  # noqa: PLR0913 - what it joins
        self,
        symbols: Symbols,
        *,
        governor: Governor,
        recorder: Recorder,
        run_blocking: Callable[..., Awaitable[ExchangeInfo]],
        interval_sec: float,
        rng: random.Random,
    ) -> None:
        self._market = symbols.market
        self._symbols = symbols
        self._governor = governor
        self._recorder = recorder
        self._run_blocking = run_blocking
        self._interval_sec = interval_sec
        self._rng = rng
        self._recorded = Recorded()
        self._check = SymbolCheck(symbols.market)
        self._failures = 0

    async def run(self) -> NoReturn:
        """Look again and again, until cancelled."""
        while True:
            try:
                info = await self._fetch()
            except (RestError, DecodeError) as fault:
                await trio.sleep(self._tell_failed(fault))
                continue
            self._failures = 0
            self._check.look(info.statuses, self._symbols.names)
            self._symbols.hear(info.statuses)
            await self._record(info)
            await trio.sleep(PAUSE_SEC)
            with trio.move_on_after(next_look_sec(info.server_time_ms, self._interval_sec, self._rng) - PAUSE_SEC):
                await self._symbols.wait_asked()

    async def _fetch(self) -> ExchangeInfo:
        body = await self._governor.get(exchange_info_request(self._market), Urgency.NORMAL)
        # 20 MB of spot take 20 to 30 ms to read; in a thread the loop waits for the longest call of the decoder only.
        return await self._run_blocking(parse_exchange_info, body, self._symbols.meant)

    async def _record(self, info: ExchangeInfo) -> None:
        # Of what a pattern means, what is traded; of a name also that it is not traded.
        names, recorded = self._symbols.names, self._symbols.recorded
        symbols = {one: raw for one, raw in info.symbols.items() if one in recorded or one in names}
        due = self._recorded.due(info.server_time_ms, symbols)
        for begin in range(0, len(due), ROWS_A_BLOCK):
            part = due[begin : begin + ROWS_A_BLOCK]
            await self._recorder.wait_room()
            self._recorder.record_instruments(
                self._market, info.server_time_ms, [(one.symbol, one.raw) for one in part]
            )
            self._recorded.take(info.server_time_ms, part)
        changed = [one for one in due if one.is_changed]
        for one in changed[:SYMBOLS_TOLD_MAX]:
            assert one.before is not None
            changes = changed_columns(one.before, one.raw)
            (logger.warning if changes else logger.info)(
                "instrument_changed", market=self._market.label, symbol=one.symbol, changes=changes
            )
        if due:
            logger.info("instruments_recorded", market=self._market.label, symbols=len(due), changed=len(changed))

    def _tell_failed(self, fault: Exception) -> float:
        """Log that there was no answer that can be used; how long to wait."""
        retry_sec: float = min(RETRY_MIN_SEC * 2**self._failures, RETRY_MAX_SEC) * self._rng.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, _DOUBLINGS_MAX)
        if isinstance(fault, RestLimitedError) and fault.retry_after_sec is not None:
            retry_sec = max(retry_sec, fault.retry_after_sec)
        reason = f"an answer that is not as documented: {fault}" if isinstance(fault, DecodeError) else str(fault)
        logger.error("rest_unavailable", market=self._market.label, reason=reason, retry_sec=round(retry_sec))
        return retry_sec


def _text(instrument: InstrumentMessage, column: str) -> str:
    """A value for the log, where prices are never floats."""
    value = getattr(instrument, column)
    return value if isinstance(value, str) else format(Decimal(repr(value)), "f")
