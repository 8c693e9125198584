"""Which symbols of a market are recorded, and what an answer of the exchange means for that. Pure.

A plain name is recorded until the exchange says that it is not traded; a pattern means what the exchange says is
traded. Both come back when it is traded again. An answer that would end most of what is recorded at once is not
believed: exchanges have said that nothing is traded while they were being maintained, and cut answers have been seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from streamsvc.settings.selection import Selection

TRADING: Final = "TRADING"
ABSENT: Final = "absent"
"""What we call the status of a symbol that the list does not have."""
ENDING_SHARE_MAX: Final = 0.5
"""An answer that ends more than this of the recorded symbols, or of those that were traded before, is not believed."""


@attrs.frozen
class Listing:
    """What the exchange said of its symbols.

    Attributes:
        statuses: Of every symbol.
        trading: Those that are traded.
    """

    statuses: Mapping[str, str]
    trading: frozenset[str]

    @classmethod
    def of(cls, statuses: Mapping[str, str]) -> Listing:
        """The listing of an answer."""
        return cls(statuses, frozenset(symbol for symbol, status in statuses.items() if status == TRADING))

    def status(self, symbol: str) -> str:
        """The status of a symbol, `absent` where the list does not have it."""
        return self.statuses.get(symbol, ABSENT)


def doubt(listing: Listing, before: Listing | None, recorded: Collection[str]) -> str:
    """Why an answer is not believed; an empty text: it is.

    Args:
        listing: The answer.
        before: The last one that was believed.
        recorded: The symbols that are recorded.
    """
    if not listing.trading:
        return "it says that no symbol is traded"
    if before is not None and len(listing.trading) < ENDING_SHARE_MAX * len(before.trading):
        return f"it says that {len(listing.trading)} symbols are traded, and before it were {len(before.trading)}"
    ending = [symbol for symbol in recorded if symbol not in listing.trading]
    if len(ending) > 1 and len(ending) > ENDING_SHARE_MAX * len(recorded):
        return f"it says that {len(ending)} of {len(recorded)} recorded symbols are not traded"
    return ""


@attrs.frozen
class Wanted:
    """The symbols of a market to record.

    Attributes:
        symbols: In order: names as given, then what patterns mean, by alphabet.
        left_out: Those beyond the limit.
    """

    symbols: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def wanted_symbols(
    selection: Selection,
    *,
    gone: Collection[str],
    traded: Iterable[str],
    limit: int,
) -> Wanted:
    """What a selection means.

    Args:
        selection: The selection.
        gone: Names that are not traded, as the exchange last said.
        traded: Symbols that are, or, before it said anything, that patterns meant in an earlier run.
        limit: How many are recorded at most; names go first.
    """
    names = [name for name in selection.names if name not in gone]
    known = set(selection.names)
    matched = sorted(symbol for symbol in traded if symbol not in known and selection.fits_pattern(symbol))
    found = [*names, *matched]
    return Wanted(tuple(found[:limit]), tuple(found[limit:]))
