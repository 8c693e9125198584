"""The command `streamsvc book`: a rebuilt order book as JSON and for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from streamsvc.errors import UsageError
from streamsvc.integrity.book_files import TIME_NS_MAX
from streamsvc.integrity.rebuild import RebuiltBook, rebuild_book, time_text
from streamsvc.schema import MARKETS_BY_LABEL

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.integrity.books import Side

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:(?<=:\d\d:\d\d)[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?)?",
    re.IGNORECASE | re.ASCII,
)
_NS_PER_SECOND, _NS_PER_MS = 10**9, 10**6
_MS_DIGITS, _NS_DIGITS = (12, 13), (18, 19)
"""Integers of these lengths are times since 2001 in that unit."""


def find_book(root: Path, symbol: str, moment: str, market: str | None) -> RebuiltBook:
    """The book that the command's arguments name; see `rebuild_book` for what is raised."""
    chosen = None if market is None else MARKETS_BY_LABEL[market]
    return rebuild_book(root, symbol.upper(), parse_moment(moment), chosen)


def parse_moment(text: str) -> int:
    """A time in ns since 1970: ISO 8601, UTC where it names no zone; or an integer, milliseconds or nanoseconds.

    Raises:
        UsageError: it is none of these.
    """
    if text.isascii() and text.isdigit() and int(text) < TIME_NS_MAX:
        if len(text) in _NS_DIGITS:
            return int(text)
        if len(text) in _MS_DIGITS:
            return int(text) * _NS_PER_MS
    match = _TIME.fullmatch(text)
    moment_ns = None if match is None else _moment_of(*match.groups())
    if moment_ns is None or not 0 <= moment_ns < TIME_NS_MAX:
        raise UsageError(
            f"{text!r} is no time: give ISO 8601 in UTC, e.g. 2026-11-20T08:00:00.250Z, or an integer of milliseconds "
            "or nanoseconds since 1970"
        )
    return moment_ns


def _moment_of(date: str, clock: str | None, fraction: str | None, zone: str | None) -> int | None:
    try:
        time = datetime.fromisoformat(f"{date}T{clock or '00:00'}{(zone or 'Z').upper()}")
    except ValueError:
        return None
    # Python's own fractions end at microseconds.
    return (time - _EPOCH) // timedelta(seconds=1) * _NS_PER_SECOND + int((fraction or "").ljust(9, "0"))


def book_as_json(found: RebuiltBook, level_count: int) -> dict[str, Any]:
    """The book as `book --json` prints it: prices and quantities as decimal strings, times in ns since 1970."""
    book = found.book
    return {
        "market": found.market.label,
        "symbol": found.symbol,
        "time_ns": found.moment_ns,
        "exchange_time_ns": found.exchange_ns,
        "update_id": found.update_id,
        "snapshot_update_id": found.snapshot_update_id,
        "snapshot_time_ns": found.snapshot_exchange_ns,
        "updates": found.updates,
        "is_crossed": book.is_crossed,
        "bid_levels": book.level_count("bid"),
        "ask_levels": book.level_count("ask"),
        "bids": _level_texts(found, "bid", level_count),
        "asks": _level_texts(found, "ask", level_count),
    }


def print_book(found: RebuiltBook, level_count: int) -> None:
    """Print it for people, a level of both sides a line."""
    from streamsvc.terminal import console, table  # noqa: PLC0415 - only people need rich

    out, book = console(), found.book
    sides = (_level_texts(found, side, level_count) for side in ("bid", "ask"))
    none = ("", "")
    rows = [(bid[1], bid[0], ask[0], ask[1]) for bid, ask in zip_longest(*sides, fillvalue=none)]
    headings = ("bid quantity", "bid", "ask", "ask quantity")
    title = f"{found.symbol} {found.market.label} at {time_text(found.moment_ns)}"
    out.print(table(title, headings, rows, numbers=headings))
    out.print(f"{book.level_count('bid'):,} bids, {book.level_count('ask'):,} asks")
    out.print(f"last update {found.update_id} of {time_text(found.exchange_ns)}")
    out.print(
        f"from the snapshot {found.snapshot_update_id} of {time_text(found.snapshot_exchange_ns)} "
        f"and {found.updates:,} updates"
    )
    if book.is_crossed:
        out.print("CROSSED: the best bid is not below the best ask", style="bold")


def _level_texts(found: RebuiltBook, side: Side, level_count: int) -> list[tuple[str, str]]:
    return [(_plain(price), _plain(quantity)) for price, quantity in found.book.levels(side, level_count)]


def _plain(number: float) -> str:
    """The shortest decimal that is this number, without an exponent or trailing zeros."""
    return format(Decimal(repr(number)).normalize(), "f")
