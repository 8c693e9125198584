"""Which symbols and kinds of a market are meant: plain names, patterns, and what the symbols file says. Pure.

A pattern is a symbol in which `*` stands for any text, `?` for one character, as in `fnmatch`; case does not count. It
means those symbols of the exchange's list that are traded: which they are is known when the exchange has told its list.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, Any

import attrs

from streamsvc.schema import Kind, Market
from streamsvc.settings.values import is_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamsvc.settings.variables import Settings

_NOTHING = re.compile(r"(?!)")


@attrs.frozen
class Selection:
    """What is meant of one market.

    Attributes:
        names: Symbols in upper case.
        patterns: Patterns of symbols in upper case.
        kinds: The kinds recorded of each symbol.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    _pattern: re.Pattern[str] = attrs.field(init=False, eq=False, repr=False)

    _names: frozenset[str] = attrs.field(init=False, eq=False, repr=False)

    @_names.default
    def _make_names(self) -> frozenset[str]:
        return frozenset(self.names)

    @_pattern.default
    def _make_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(translate, self.patterns))) if self.patterns else _NOTHING

    def __contains__(self, symbol: object) -> bool:
        """Whether a symbol is named or fits a pattern."""
        return symbol in self._names or (isinstance(symbol, str) and self.fits_pattern(symbol))

    def fits_pattern(self, symbol: str) -> bool:
        """Whether a symbol fits a pattern."""
        return self._pattern.match(symbol) is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be meant."""
        return not (self.names or self.patterns)


Selections = dict[Market, Selection]


def selections_of(settings: Settings) -> Selections:
    """What the settings mean."""
    return {
        Market.SPOT: _selection(settings.spot_symbols, settings.spot_kinds),
        Market.FUTURES: _selection(settings.futures_symbols, settings.futures_kinds),
    }


def changed_by_file(settings: Settings, found: Mapping[str, Any]) -> Selections:
    """What they mean together with a symbols file, which wins where it says something.

    Args:
        settings: The settings without the file.
        found: What `files.read_symbols_file` gave.
    """
    return selections_of(attrs.evolve(settings, **found))


def _selection(symbols: Iterable[str], kinds: tuple[Kind, ...]) -> Selection:
    symbols = tuple(symbols)
    names = tuple(symbol for symbol in symbols if not is_pattern(symbol))
    return Selection(names, tuple(filter(is_pattern, symbols)), kinds)
