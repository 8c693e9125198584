"""The orders of the control endpoint: the body of each, and what it does. Pure.

`POST /control/<name>` with the fields of the structure as a JSON object; `market` is `spot` or `futures`. Where
`stream` or `connection` is given, only connections that hear the stream, or that one, are meant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from streamsvc.schema import MARKETS_BY_LABEL, Market
from streamsvc.simulator.faults import OVERSIZE_BYTES, Corruption, Garbage
from streamsvc.simulator.hub import ReplyFault  # noqa: TC001 - msgspec reads the annotations
from streamsvc.simulator.session import CutMode  # noqa: TC001 - the same

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.simulator.exchange import Exchange


class Order(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every order says: which market."""

    market: Literal["spot", "futures"]

    @property
    def where(self) -> Market:
        """The market."""
        return MARKETS_BY_LABEL[self.market]


class ConnectionOrder(Order, kw_only=True):
    """`freeze`, `thaw`: connections of a market."""

    stream: str | None = None
    connection: int | None = None


class Cut(ConnectionOrder, kw_only=True):
    """`cut`: end connections without a close frame."""

    mode: CutMode = "rst"


class Close(ConnectionOrder, kw_only=True):
    """`close`: end connections with a close frame."""

    code: int = 1001
    reason: str = ""


class Lag(ConnectionOrder, kw_only=True):
    """`lag`: send everything later."""

    seconds: float


class ShutDown(ConnectionOrder, kw_only=True):
    """`shut_down`: `serverShutdown` now, the end later."""

    after_sec: float = 10.0


class PingFlood(ConnectionOrder, kw_only=True):
    """`ping_flood`: pings, all at once."""

    count: int


class SendGarbage(ConnectionOrder, kw_only=True):
    """`garbage`: frames that break a rule."""

    kind: Garbage
    size_bytes: int = OVERSIZE_BYTES


class SendText(ConnectionOrder, kw_only=True):
    """`send_text`: any text as a message."""

    text: str


class StreamOrder(Order, kw_only=True):
    """`unmute`: one stream."""

    stream: str


class Mute(StreamOrder, kw_only=True):
    """`mute`: one stream, on all connections or on one."""

    connection: int | None = None


class CountOrder(StreamOrder, kw_only=True):
    """`drop`, `duplicate`, `fragment`: the next messages of a stream."""

    count: int = 1


class Reorder(StreamOrder, kw_only=True):
    """`reorder`: the next messages of a stream, backwards."""

    count: int = 2


class Corrupt(CountOrder, kw_only=True):
    """`corrupt`: damage to the next messages of a stream."""

    how: Corruption = "truncated"


class FailReplies(Order, kw_only=True):
    """`fail_replies`: what goes wrong with the next answers to SUBSCRIBE and the like."""

    how: ReplyFault
    count: int = 1


class DelayRest(Order, kw_only=True):
    """`delay_rest`: answers come late; without `count` until lifted."""

    seconds: float
    path: str = ""
    count: int | None = None


class FailRest(Order, kw_only=True):
    """`fail_rest`: this answer instead; without `count` until lifted."""

    status: int
    body: str = ""
    headers: dict[str, str] = {}
    path: str = ""
    count: int | None = None


class Ban(Order, kw_only=True):
    """`ban`: an address is banned from REST."""

    seconds: float
    address: str = "127.0.0.1"


class ChangeSymbol(Order, kw_only=True):
    """`change_symbol`: `exchangeInfo` says from now on that a symbol has another status or tick size."""

    symbol: str
    status: str | None = None
    tick_size: str | None = None


class ListSymbol(Order, kw_only=True):
    """`list_symbol`: a symbol's market opens; one that was delisted goes on."""

    symbol: str
    trades_per_sec: float = 5.0
    quotes_per_sec: float = 20.0


class DelistSymbol(Order, kw_only=True):
    """`delist_symbol`: a symbol's market closes; with `is_absent` REST does not know it any more."""

    symbol: str
    is_absent: bool = False


class RefuseUpgrades(Order, kw_only=True):
    """`refuse_upgrades`: upgrades are answered with this status; without `count` until lifted."""

    status: int
    headers: dict[str, str] = {}
    body: str = ""
    count: int | None = None


class StallHandshakes(Order, kw_only=True):
    """`stall_handshakes`: nothing is said on new connections; with `drip_sec` a byte at a time."""

    drip_sec: float | None = None


def _count(count: int | None) -> float:
    return math.inf if count is None else count


def _headers(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items())


_ORDERS: dict[str, tuple[type[Order], Callable[..., int | None]]] = {
    "cut": (Cut, lambda x, o: x.cut(o.where, o.mode, stream=o.stream, connection=o.connection)),
    "close": (Close, lambda x, o: x.close(o.where, o.code, o.reason, stream=o.stream, connection=o.connection)),
    "freeze": (ConnectionOrder, lambda x, o: x.freeze(o.where, stream=o.stream, connection=o.connection)),
    "thaw": (ConnectionOrder, lambda x, o: x.thaw(o.where, stream=o.stream, connection=o.connection)),
    "lag": (Lag, lambda x, o: x.lag(o.where, o.seconds, stream=o.stream, connection=o.connection)),
    "shut_down": (
        ShutDown,
        lambda x, o: x.shut_down(o.where, o.after_sec, stream=o.stream, connection=o.connection),
    ),
    "ping_flood": (
        PingFlood,
        lambda x, o: x.ping_flood(o.where, o.count, stream=o.stream, connection=o.connection),
    ),
    "garbage": (
        SendGarbage,
        lambda x, o: x.garbage(o.where, o.kind, size_bytes=o.size_bytes, stream=o.stream, connection=o.connection),
    ),
    "send_text": (
        SendText,
        lambda x, o: x.send_text(o.where, o.text.encode(), stream=o.stream, connection=o.connection),
    ),
    "mute": (Mute, lambda x, o: x.mute(o.where, o.stream, connection=o.connection)),
    "unmute": (StreamOrder, lambda x, o: x.unmute(o.where, o.stream)),
    "drop": (CountOrder, lambda x, o: x.drop(o.where, o.stream, o.count)),
    "duplicate": (CountOrder, lambda x, o: x.duplicate(o.where, o.stream, o.count)),
    "fragment": (CountOrder, lambda x, o: x.fragment(o.where, o.stream, o.count)),
    "reorder": (Reorder, lambda x, o: x.reorder(o.where, o.stream, o.count)),
    "corrupt": (Corrupt, lambda x, o: x.corrupt(o.where, o.stream, o.count, o.how)),
    "fail_replies": (FailReplies, lambda x, o: x.fail_replies(o.where, o.how, o.count)),
    "delay_rest": (
        DelayRest,
        lambda x, o: x.delay_rest(o.where, o.seconds, path=o.path, count=_count(o.count)),
    ),
    "fail_rest": (
        FailRest,
        lambda x, o: x.fail_rest(
            o.where, o.status, o.body.encode(), _headers(o.headers), path=o.path, count=_count(o.count)
        ),
    ),
    "ban": (Ban, lambda x, o: x.ban(o.where, o.seconds, o.address)),
    "change_symbol": (
        ChangeSymbol,
        lambda x, o: x.change_symbol(o.where, o.symbol, status=o.status, tick_size=o.tick_size),
    ),
    "list_symbol": (
        ListSymbol,
        lambda x, o: x.list_symbol(o.where, o.symbol, trades_per_sec=o.trades_per_sec, quotes_per_sec=o.quotes_per_sec),
    ),
    "delist_symbol": (DelistSymbol, lambda x, o: x.delist_symbol(o.where, o.symbol, is_absent=o.is_absent)),
    "refuse_connections": (Order, lambda x, o: x.refuse_connections(o.where)),
    "refuse_upgrades": (
        RefuseUpgrades,
        lambda x, o: x.refuse_upgrades(o.where, o.status, _headers(o.headers), o.body.encode(), count=_count(o.count)),
    ),
    "stall_handshakes": (StallHandshakes, lambda x, o: x.stall_handshakes(o.where, o.drip_sec)),
    "begin": (Order, lambda x, o: x.begin(o.where)),
    "lift": (Order, lambda x, o: x.lift(o.where)),
}

ORDER_NAMES = tuple(_ORDERS)


class OrderError(Exception):
    """An order that cannot be carried out; the text says why."""


def carry_out(exchange: Exchange, name: str, body: bytes) -> int | None:
    """Carry out an order.

    Returns:
        How many connections it met, where it is about connections.

    Raises:
        OrderError: there is no such order, or its body does not fit.
    """
    if name not in _ORDERS:
        raise OrderError(f"there is no order {name!r}; there are {', '.join(ORDER_NAMES)}")
    kind, act = _ORDERS[name]
    try:
        order = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OrderError(f"{name}: {error}") from error
    if order.where not in exchange.venues:
        raise OrderError(f"{name}: the exchange has no market {order.market!r}")
    try:
        return act(exchange, order)
    except KeyError as error:
        raise OrderError(f"{name}: there is no {error}") from error
