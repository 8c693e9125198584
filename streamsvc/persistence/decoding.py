"""From the texts of messages to columns of numbers, a few thousand messages at a time. Sealers only.

A message that cannot be recorded costs itself and nothing else: it is refused with a reason, and its neighbours go on.
Reasons: those of `binance_heads.describe`, `not_finite`, `negative`, `too_many_days`, `unknown_kind`.
"""

from __future__ import annotations

import re
from itertools import chain, compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from msgspec.structs import astuple

from streamsvc.schema import COLUMNS, Kind
from streamsvc.venues.binance_heads import DECODE_ERRORS, describe
from streamsvc.venues.binance_payloads import SIGNED_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamsvc.venues.binance_payloads import Payload

DAY_NS = 86_400 * 10**9
_NS_PER_MS = 1_000_000
DIGITS_MAX = 15
"""float64 gives a decimal string of up to this many significant digits back exactly."""
PIECE_TEXTS = 400
"""How many texts are read, or searched for long numbers, at a time: so many stay in the processor's cache."""

_DIGITS = bytes(ord("0") if chr(code) in "0123456789." else ord(" ") for code in range(256))
_LONG_RUN = b"0" * (DIGITS_MAX + 1)
_LONG_NUMBER = re.compile(rb'"([0-9]*\.?[0-9]*)"|([0-9]*\.[0-9]*)')


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
) -> tuple[Chunk, NDArray[np.int64], list[Refusal]]:
    """Decode messages of one payload.

    Args:
        payload: How to read them.
        kind: Their kind.
        texts: Their texts.
        received_ns: When each was received.
        days: The days that the segment has opened.

    Returns:
        The columns, the indices of the messages in them, and the messages that were refused.
    """
    pieces, indices, refusals = [], [], []
    for first in range(0, len(texts) or 1, PIECE_TEXTS):
        rows, kept, refused = _read(payload, texts[first : first + PIECE_TEXTS], first)
        pieces.append(_extract(payload, kind, rows))
        indices.append(kept)
        refusals += refused
    chunk, kept = _joined(pieces), np.concatenate(indices)
    reasons = _faults(chunk, received_ns[kept], days)
    if reasons:
        refusals += [Refusal(int(kept[index]), reason) for index, reason in reasons.items()]
        is_good = np.ones(len(kept), np.bool_)
        is_good[list(reasons)] = False
        chunk, kept = _chosen(chunk, is_good), kept[is_good]
    return chunk, kept, refusals


def inexact(texts: Sequence[bytes]) -> list[int]:
    """Which of these texts have a number that float64 does not give back exactly."""
    # Few have one, so they are first looked at together.
    if not any(_has_long_run(texts[first : first + PIECE_TEXTS]) for first in range(0, len(texts), PIECE_TEXTS)):
        return []
    return [
        index
        for index, text in enumerate(texts)
        if _LONG_RUN in text.translate(_DIGITS) and any(map(_is_inexact, _LONG_NUMBER.findall(text)))
    ]


def _has_long_run(texts: Sequence[bytes]) -> bool:
    """Whether sixteen characters of numbers follow one another somewhere (from "." to "9"; "/" does no harm)."""
    characters = np.frombuffer(b" ".join(texts), np.uint8)
    runs = (characters - ord(".")) < 12
    for length in (1, 2, 4, 8):
        runs = runs[:-length] & runs[length:]
    return bool(runs.any())


def _is_inexact(groups: tuple[bytes, bytes]) -> bool:
    return len((groups[0] or groups[1]).replace(b".", b"").strip(b"0")) > DIGITS_MAX


def _read(payload: Payload, texts: Sequence[bytes], first: int) -> tuple[list[Any], NDArray[np.int64], list[Refusal]]:
    """What can be read of texts whose first one is the batch's `first`."""
    try:
        return payload.decode_many(texts), np.arange(first, first + len(texts)), []
    except DECODE_ERRORS:
        pass
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
    for name, path in payload.paths.items():
        values = fields[path] if path in fields else map(attrgetter(path), rows)
        match COLUMNS[kind][name]:
            case "string":
                columns[name] = list(values)
            case "timestamp":
                columns[name] = np.fromiter(values, np.int64, len(rows)) * _NS_PER_MS
            case dtype:
                columns[name] = np.fromiter(values, dtype, len(rows))
    if not payload.has_levels:
        return Chunk(columns)
    sides = list(chain.from_iterable(zip(fields["bids"], fields["asks"], strict=True))) if rows else []
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
