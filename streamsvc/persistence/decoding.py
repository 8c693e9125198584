"""From the texts of messages to columns of numbers, a few thousand messages at a time. Sealers only.

A message that cannot be recorded costs itself and nothing else: it is refused with a reason, and its neighbours go on.
Reasons: those of `binance_heads.describe`, `not_finite`, `negative`, `too_many_days`, `unknown_kind`.
"""

from __future__ import annotations

from itertools import chain, compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from msgspec.structs import astuple

from streamsvc.persistence.suspects import is_inexact, look
from streamsvc.schema import COLUMNS, SIGNED_COLUMNS, Kind
from streamsvc.venues.binance_heads import DECODE_ERRORS, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streamsvc.venues.payload import Payload

DAY_NS = 86_400 * 10**9
_NS_PER_MS = 1_000_000
PIECE_TEXTS = 400
"""How many texts are read, or searched for suspects, at a time: so many stay in the processor's cache."""


@attrs.frozen
class Refusal:
    """A message that is not recorded: its place in the batch, and why."""

    index: int
    reason: str


@attrs.frozen
class Chunk:
    """Messages of one market and kind as columns.

    Attributes:
        columns: One value a message: timestamps as int64 ns, numbers and booleans as such, strings as lists.
        levels: Of order books: price and quantity of all levels of all messages one after the other, bids first;
            shape (levels, 2). Else None.
        bid_counts: Levels of each message on the bid's side.
        ask_counts: The same on the ask's.
    """

    columns: dict[str, NDArray[Any] | list[str]]
    levels: NDArray[np.float64] | None = None
    bid_counts: NDArray[np.int64] | None = None
    ask_counts: NDArray[np.int64] | None = None


@attrs.frozen
class Decoded:
    """What became of a batch of messages.

    Attributes:
        chunk: The columns.
        kept: The indices of the messages in them.
        refusals: The messages that were refused.
        inexact: The indices of the kept messages with a number that float64 does not give back exactly.
    """

    chunk: Chunk
    kept: NDArray[np.int64]
    refusals: list[Refusal]
    inexact: list[int]


class DayLimit:
    """Which UTC days a segment may open: the days around receipt, and a limited number of others.

    Messages with wild times must neither open a file for every day nor push out those of today.
    """

    def __init__(self, others_max: int = 8) -> None:
        self._others_max = others_max
        self._others: set[int] = set()

    def refused(self, exchange_ns: NDArray[np.int64], received_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each message, whether its day is one too many."""
        days = exchange_ns // DAY_NS
        is_far: NDArray[np.bool_] = np.abs(days - received_ns // DAY_NS) > 1
        if not is_far.any():
            return is_far
        for day in dict.fromkeys(days[is_far].tolist()):
            if len(self._others) < self._others_max:
                self._others.add(day)
        is_far &= ~np.isin(days, list(self._others))
        return is_far


def decode(
    payload: Payload, kind: Kind, texts: Sequence[bytes], received_ns: NDArray[np.int64], days: DayLimit
) -> Decoded:
    """Decode messages of one payload.

    Args:
        payload: How to read them.
        kind: Their kind.
        texts: Their texts.
        received_ns: When each was received.
        days: The days that the segment has opened.
    """
    pieces, indices, refusals, inexact = [], [], [], []
    for first in range(0, len(texts) or 1, PIECE_TEXTS):
        piece = texts[first : first + PIECE_TEXTS]
        lines = b"\n".join(piece)
        is_plain, has_long_run = look(payload, lines, len(piece))
        together = _read_together(payload, lines, first, len(piece)) if is_plain else None
        rows, kept, refused = together or _read_each(payload, piece, first)
        pieces.append(_extract(payload, kind, rows))
        indices.append(kept)
        refusals += refused
        if has_long_run:
            inexact += [index for index in kept.tolist() if is_inexact(texts[index])]
    chunk, kept = _joined(pieces), np.concatenate(indices)
    reasons = _faults(chunk, received_ns[kept], days)
    if reasons:
        refused_at = {int(kept[index]): reason for index, reason in reasons.items()}
        refusals += [Refusal(index, reason) for index, reason in refused_at.items()]
        inexact = [index for index in inexact if index not in refused_at]
        is_good = np.ones(len(kept), np.bool_)
        is_good[list(reasons)] = False
        chunk, kept = _chosen(chunk, is_good), kept[is_good]
    return Decoded(chunk, kept, refusals, inexact)


_Rows = tuple[list[Any], "NDArray[np.int64]", list[Refusal]]
"""Messages, their indices in the batch, and what was refused."""


def _read_together(payload: Payload, lines: bytes, first: int, count: int) -> _Rows | None:
    """What is read of lines whose first one is the batch's `first`; None if that has to be done one by one."""
    try:
        rows = payload.decode_lines(lines)
    except DECODE_ERRORS:
        return None
    return (rows, np.arange(first, first + count), []) if len(rows) == count else None


def _read_each(payload: Payload, texts: Sequence[bytes], first: int) -> _Rows:
    """What can be read of texts whose first one is the batch's `first`."""
    rows, kept, refusals = [], [], []
    for index, text in enumerate(texts, first):
        try:
            rows.append(payload.decode(text))
        except DECODE_ERRORS as fault:
            refusals.append(Refusal(index, describe(fault)))
        else:
            kept.append(index)
    return rows, np.array(kept, np.int64), refusals


def _extract(payload: Payload, kind: Kind, rows: list[Any]) -> Chunk:
    columns: dict[str, NDArray[Any] | list[str]] = {}
    # Turning all rows at once costs half of asking each row for each field; it does not reach into inner ones.
    fields = dict(zip(payload.fields, zip(*map(astuple, rows), strict=True), strict=True)) if rows else {}

    def values_at(path: str) -> Iterable[Any]:
        return fields[path] if path in fields else map(attrgetter(path), rows)

    for name, path in payload.paths.items():
        values = values_at(path)
        if name in payload.maybe_empty:
            values = (value or 0.0 for value in values)
        match COLUMNS[kind][name]:
            case "string":
                columns[name] = list(values)
            case "timestamp":
                columns[name] = np.fromiter(values, np.int64, len(rows)) * _NS_PER_MS
            case dtype:
                columns[name] = np.fromiter(values, dtype, len(rows))
    if payload.is_backfilled:
        columns["is_backfilled"] = np.ones(len(rows), np.bool_)
    if payload.bids is None or payload.asks is None:
        return Chunk(columns)
    sides = list(chain.from_iterable(zip(values_at(payload.bids), values_at(payload.asks), strict=True)))
    counts = np.fromiter(map(len, sides), np.int64, len(sides))
    numbers = np.fromiter(chain.from_iterable(chain.from_iterable(sides)), np.float64, 2 * int(counts.sum()))
    return Chunk(columns, numbers.reshape(-1, 2), counts[0::2], counts[1::2])


def _joined(pieces: list[Chunk]) -> Chunk:
    """Chunks of one kind as one."""
    if len(pieces) == 1:
        return pieces[0]
    columns: dict[str, NDArray[Any] | list[str]] = {}
    for name, column in pieces[0].columns.items():
        parts: list[Any] = [piece.columns[name] for piece in pieces]
        columns[name] = np.concatenate(parts) if isinstance(column, np.ndarray) else list(chain.from_iterable(parts))
    levels, bid_counts, ask_counts = (
        np.concatenate([getattr(piece, name) for piece in pieces]) if getattr(pieces[0], name) is not None else None
        for name in ("levels", "bid_counts", "ask_counts")
    )
    return Chunk(columns, levels, bid_counts, ask_counts)


def _chosen(chunk: Chunk, is_chosen: NDArray[np.bool_]) -> Chunk:
    """Some messages of a chunk."""
    columns: dict[str, NDArray[Any] | list[str]] = {
        name: column[is_chosen] if isinstance(column, np.ndarray) else list(compress(column, is_chosen))
        for name, column in chunk.columns.items()
    }
    if chunk.levels is None or chunk.bid_counts is None or chunk.ask_counts is None:
        return Chunk(columns)
    levels = chunk.levels[np.repeat(is_chosen, chunk.bid_counts + chunk.ask_counts)]
    return Chunk(columns, levels, chunk.bid_counts[is_chosen], chunk.ask_counts[is_chosen])


def _faults(chunk: Chunk, received_ns: NDArray[np.int64], days: DayLimit) -> dict[int, str]:
    """The messages that cannot be recorded, by index, and why."""
    reasons: dict[int, str] = {}
    for name, column in chunk.columns.items():
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            _mark(reasons, np.flatnonzero(~np.isfinite(column)), "not_finite")
            if name not in SIGNED_COLUMNS:
                _mark(reasons, np.flatnonzero(column < 0), "negative")
    if chunk.levels is not None and chunk.bid_counts is not None and chunk.ask_counts is not None:
        counts = chunk.bid_counts + chunk.ask_counts
        if not np.isfinite(chunk.levels).all() or (chunk.levels < 0).any():
            owner = np.repeat(np.arange(len(counts)), counts)
            _mark(reasons, owner[~np.isfinite(chunk.levels).all(axis=1)], "not_finite")
            _mark(reasons, owner[(chunk.levels < 0).any(axis=1)], "negative")
    exchange_ns = chunk.columns.get("exchange_time")
    if isinstance(exchange_ns, np.ndarray):
        _mark(reasons, np.flatnonzero(days.refused(exchange_ns, received_ns)), "too_many_days")
    return reasons


def _mark(reasons: dict[int, str], indices: NDArray[np.int64], reason: str) -> None:
    for index in indices.tolist():
        reasons.setdefault(index, reason)
