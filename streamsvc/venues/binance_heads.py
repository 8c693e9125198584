"""What the loop reads of a Binance message: symbol, event time and ids, each checked for type and range.

Of trades and best bids and asks it reads the numbers as well, as text, for live analytics; where these are not as
documented the rest counts, and the sealer finds out. Everything else stays text until a sealer decodes it, so a message
costs the loop a third of a microsecond. Fields that are not named here are skipped by the decoder, which checks their
syntax but not their UTF-8. Fields stand in the order in which the exchange sends them, which is where the decoder looks
first.
"""

from __future__ import annotations

from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union

import msgspec

from streamsvc.schema import Kind, Market

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ID_MAX = 2**63 - 1
Id = Annotated[int, msgspec.Meta(ge=0, le=ID_MAX)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=ID_MAX // 1_000_000)]
"""Times must still fit 64 bits as nanoseconds."""

NO_EVENT_TIME = ID_MAX
"""The event time of a message that has none: never late."""


class TradeHead(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    """`trade`: `t` grows by one a symbol; only futures say with `X` what kind of trade it was.

    `p` is empty where only symbol, event time and id could be read.
    """

    E: Millis
    s: str
    id: Id = msgspec.field(name="t")
    p: str
    q: str
    T: Millis
    m: bool
    X: str = ""


class AggTradeHead(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    """`aggTrade`: `a` grows by one a symbol; `p` as in `TradeHead`."""

    E: Millis
    s: str
    id: Id = msgspec.field(name="a")
    p: str
    q: str
    T: Millis
    m: bool


class DepthHead(msgspec.Struct, tag_field="e", tag="depthUpdate", gc=False):
    """`depth`: update ids `U` to `u`; futures say with `pu` which update came before."""

    E: Millis
    s: str
    U: Id
    u: Id
    pu: Id = 0


class SpotBookTickerHead(msgspec.Struct, gc=False):
    """`bookTicker` of spot, which has neither event type nor time; `b` is empty where only its id could be read."""

    u: Id
    s: str
    b: str
    B: str
    a: str
    A: str
    E: int = NO_EVENT_TIME

    @property
    def T(self) -> None:  # noqa: N802 - the exchange's name in futures
        """It has none."""


class FuturesBookTickerHead(msgspec.Struct, tag_field="e", tag="bookTicker", gc=False):
    """`bookTicker` of futures; `b` as in `SpotBookTickerHead`."""

    u: Id
    s: str
    b: str
    B: str
    a: str
    A: str
    T: Millis
    E: Millis


class _Candle(msgspec.Struct, gc=False):
    t: Millis
    x: bool


class KlineHead(msgspec.Struct, tag_field="e", tag="kline", gc=False):
    """`kline_1m`: when its candle opened, and whether it is closed."""

    E: Millis
    s: str
    k: _Candle


class MarkPriceHead(msgspec.Struct, tag_field="e", tag="markPriceUpdate", gc=False):
    """`markPrice`."""

    E: Millis
    s: str


class _Liquidation(msgspec.Struct, gc=False):
    s: str


class ForceOrderHead(msgspec.Struct, tag_field="e", tag="forceOrder", gc=False):
    """`forceOrder`, whose symbol lies in the order."""

    E: Millis
    o: _Liquidation

    @property
    def s(self) -> str:
        """The symbol."""
        return self.o.s


Head = TypeVar("Head", bound=msgspec.Struct)


class Envelope(msgspec.Struct, Generic[Head], gc=False):
    """The combined form: the stream's name beside the message."""

    stream: str
    data: Head


class Notice(msgspec.Struct, gc=False):
    """What is not market data: an answer to a request, an error, or a message of the server about itself."""

    stream: str = ""
    e: str = ""
    id: int | str | None = None
    code: int | None = None
    error: Any = None


_HEADS: dict[tuple[Market, Kind], type[msgspec.Struct]] = {
    (Market.SPOT, Kind.TRADE): TradeHead,
    (Market.SPOT, Kind.AGG_TRADE): AggTradeHead,
    (Market.SPOT, Kind.DEPTH): DepthHead,
    (Market.SPOT, Kind.BOOK_TICKER): SpotBookTickerHead,
    (Market.SPOT, Kind.KLINE_1M): KlineHead,
    (Market.FUTURES, Kind.TRADE): TradeHead,
    (Market.FUTURES, Kind.AGG_TRADE): AggTradeHead,
    (Market.FUTURES, Kind.DEPTH): DepthHead,
    (Market.FUTURES, Kind.BOOK_TICKER): FuturesBookTickerHead,
    (Market.FUTURES, Kind.KLINE_1M): KlineHead,
    (Market.FUTURES, Kind.MARK_PRICE): MarkPriceHead,
    (Market.FUTURES, Kind.FORCE_ORDER): ForceOrderHead,
}
_ANY_ENVELOPE: Any = Envelope

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for text that is not as documented."""


class _TradeIds(msgspec.Struct, tag_field="e", tag="trade", gc=False):
    E: Millis
    s: str
    id: Id = msgspec.field(name="t")


class _AggTradeIds(msgspec.Struct, tag_field="e", tag="aggTrade", gc=False):
    E: Millis
    s: str
    id: Id = msgspec.field(name="a")


class _SpotBookTickerIds(msgspec.Struct, gc=False):
    u: Id
    s: str
    E: int = NO_EVENT_TIME


class _FuturesBookTickerIds(msgspec.Struct, tag_field="e", tag="bookTicker", gc=False):
    u: Id
    s: str
    E: Millis


_NO_TRADE = {"p": "", "q": "", "T": 0, "m": False}
_NO_QUOTE = {"b": "", "B": "", "a": "", "A": ""}
_LEAN: dict[type[msgspec.Struct], tuple[type[msgspec.Struct], dict[str, Any]]] = {
    TradeHead: (_TradeIds, _NO_TRADE),
    AggTradeHead: (_AggTradeIds, _NO_TRADE),
    SpotBookTickerHead: (_SpotBookTickerIds, _NO_QUOTE),
    FuturesBookTickerHead: (_FuturesBookTickerIds, {**_NO_QUOTE, "T": 0}),
}
"""What is read where numbers are not as documented, and what then stands for these."""


def _make_decoder(head: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    decode_whole: Callable[[bytes], Any] = msgspec.json.Decoder(_ANY_ENVELOPE[head]).decode
    if head not in _LEAN:
        return decode_whole
    lean, numbers = _LEAN[head]
    decode_lean = msgspec.json.Decoder(_ANY_ENVELOPE[lean]).decode

    def decode(text: bytes) -> Any:
        try:
            return decode_whole(text)
        except DECODE_ERRORS:
            envelope: Any = decode_lean(text)
            envelope.data = head(**msgspec.structs.asdict(envelope.data), **numbers)
            return envelope

    return decode


_DECODERS: dict[type[msgspec.Struct], Callable[[bytes], Any]] = {
    head: _make_decoder(head) for head in set(_HEADS.values())
}
_TAGGED: Any = Union[tuple(sorted(set(_HEADS.values()) - {SpotBookTickerHead}, key=repr))]  # noqa: UP007 - made of a list
_TAGGED_DECODER = msgspec.json.Decoder(_ANY_ENVELOPE[_TAGGED])
_TICKER_DECODER = msgspec.json.Decoder(_ANY_ENVELOPE[SpotBookTickerHead])
_NOTICE = msgspec.json.Decoder(Notice)
_TICKER_BEGIN = b'"data":{"u":'
_NAME_BYTES_MAX = 96
"""Within so many bytes, if anywhere, a message's data begins; one with a longer name is read on its own."""


def head_decoder(market: Market, kind: Kind) -> Callable[[bytes], Any]:
    """A function that decodes a message of the combined form into an `Envelope` of the kind's head.

    It raises one of `DECODE_ERRORS`.
    """
    return _DECODERS[_HEADS[market, kind]]


def head_type(market: Market, kind: Kind) -> type[msgspec.Struct]:
    """What `data` of a kind's `Envelope` is."""
    return _HEADS[market, kind]


def decode_heads(texts: Sequence[bytes]) -> list[Envelope[Any]]:
    """Decode messages of the combined form at once, which costs half; `data` is the head that its event type says.

    Raises one of `DECODE_ERRORS` if any of them cannot be read so: then each has to be read by its own decoder.
    """
    lines = b"\n".join(texts)
    if _TICKER_BEGIN not in lines:
        return _decode_lines(_TAGGED_DECODER, lines, len(texts))
    # The bookTicker of spot has no event type that would say what it is.
    is_ticker = [text.find(_TICKER_BEGIN, 0, _NAME_BYTES_MAX) >= 0 for text in texts]
    tickers, others = list(compress(texts, is_ticker)), list(compress(texts, map(not_, is_ticker)))
    of_tickers = iter(_decode_lines(_TICKER_DECODER, b"\n".join(tickers), len(tickers)))
    of_others = iter(_decode_lines(_TAGGED_DECODER, b"\n".join(others), len(others)))
    return [next(of_tickers if is_one else of_others) for is_one in is_ticker]


def _decode_lines(decoder: Any, lines: bytes, count: int) -> list[Envelope[Any]]:
    decoded: list[Envelope[Any]] = decoder.decode_lines(lines)
    # One line a text, so that two broken ones can never pass for a whole one.
    if len(decoded) != count or lines.count(b"\n") != max(count - 1, 0):
        raise msgspec.ValidationError("a text is empty, or not one line")
    return decoded


def decode_notice(text: bytes) -> Notice:
    """Decode what may be an answer or a notice of the server; raises one of `DECODE_ERRORS`."""
    notice: Notice = _NOTICE.decode(text)
    return notice


def is_notice(notice: Notice) -> bool:
    """Whether it is an answer to a request, an error, or the notice that the server will shut down."""
    has_answer = notice.id is not None or notice.code is not None or notice.error is not None
    return (not notice.stream and has_answer) or "serverShutdown" in (notice.e, notice.stream.removeprefix("!"))


def describe(fault: Exception) -> str:
    """A short reason for quarantine: stable, with the place in the message where one is known."""
    if isinstance(fault, msgspec.ValidationError):
        return "wrong_shape"
    if isinstance(fault, UnicodeDecodeError):
        return "bad_utf8"
    if isinstance(fault, RecursionError):
        return "too_deep"
    return "malformed"
