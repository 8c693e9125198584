"""When nobody listened to a stream whose ids do not chain (pure).

That a bookTicker, a markPrice or a forceOrder is missing cannot be seen. What may be missing is what was sent while no
connection brought the stream, or while it had stalled. Told as a closed range of ids and of times:

| kind | the ids | the window ends |
|---|---|---|
| bookTicker | update ids between the last quote before and the first one behind | with that quote |
| markPrice | event times in ms, likewise; nothing where the next price came on time | with that price |
| forceOrder | times in ms | when a connection carries the stream again: its next message may be days away |

A window begins with what was recorded last: of a stream that has never brought anything there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.integrity.sequence import IdRange
from streamsvc.schema import Kind

if TYPE_CHECKING:
    from streamsvc.venues.venue import Stream

WINDOW_KINDS = frozenset({Kind.BOOK_TICKER, Kind.MARK_PRICE, Kind.FORCE_ORDER})
"""Kinds whose gaps are known by when nobody listened."""

_ON_TIME = 1.5
"""A message that comes within so many periods of the one before has no other between them."""


@attrs.frozen
class Heard:
    """What a stream brought last.

    Attributes:
        last_id: Its id as in the table above.
        last_ms: When that was: the exchange's time, where it sends none the time of receipt.
    """

    last_id: int
    last_ms: int


@attrs.frozen
class Break:
    """Nobody listens to a stream.

    Attributes:
        cause: Why.
        before: What it brought last.
    """

    cause: str
    before: Heard


def may_be_missing(stream: Stream, before: Heard, behind: Heard) -> IdRange | None:
    """The ids that may have been sent between two messages while nobody listened; None: there were none."""
    first, last = before.last_id + 1, behind.last_id - 1
    if stream.kind is Kind.BOOK_TICKER and behind.last_id < before.last_id:
        # The exchange has started its ids over: something may lie between, and nobody knows its ids.
        return IdRange(first, first)
    if stream.kind is Kind.MARK_PRICE and behind.last_ms - before.last_ms < _ON_TIME * stream.period_ms:
        return None
    return IdRange(first, last) if first <= last else None
