"""What a setting can be: numbers, choices, lists, files, and what is said of each to people.

A parser takes the text of a variable, never empty and without space around it, and returns the value or raises
ValueError with the reason. The text of what is allowed is made from the same limits that the parser checks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from streamsvc.schema import STREAM_KINDS, Kind, Market
from streamsvc.settings.values import (
    SECRET_CHARACTERS_MAX,
    SECRET_CHARACTERS_MIN,
    SYMBOL_CHARACTERS_MAX,
    SYMBOLS_MAX,
    parse_folder,
    parse_kinds,
    parse_listen,
    parse_path,
    parse_secret,
    parse_symbols,
    parse_url,
    split_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_METADATA_KEY = "setting"


@attrs.frozen
class Setting:
    """What is known of a variable beside its name, type and default.

    Attributes:
        parse: Makes the value of a text, or raises ValueError with the reason.
        allowed: What is allowed, for the message about a wrong value.
        unit: The unit of the value, or an empty text.
        sentence: What it is for.
        is_secret: Whether its value must not be shown.
        empty: The value of a variable that is set to nothing; None: the same as one that is not set.
    """

    parse: Callable[[str], Any]
    allowed: str
    unit: str
    sentence: str
    is_secret: bool = False
    empty: Any = None


def setting_of(attribute: attrs.Attribute[Any]) -> Setting:
    """What is known of the variable behind an attribute of `Settings`."""
    setting: Setting = attribute.metadata[_METADATA_KEY]
    return setting


def _field(default: Any, setting: Setting) -> Any:
    return attrs.field(default=default, metadata={_METADATA_KEY: setting})


def number(default: float, unit: str, limits: tuple[float, float], sentence: str, *, or_zero: bool = False) -> Any:
    """A number between limits, both included; a whole one if the default is an int, in plain decimal notation.

    Args:
        default: The value when the variable is not set.
        unit: The unit.
        limits: The lowest and the highest value allowed.
        sentence: What it is for.
        or_zero: Whether 0 is allowed beside the range.
    """
    low, high = limits
    is_whole = isinstance(default, int)
    what = "a whole number" if is_whole else "a number"
    allowed = f"{what} from {low:g} to {high:.15g} {unit}".rstrip() + (", or 0" if or_zero else "")

    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text):
            raise ValueError(f"not {what}")
        if is_whole and "." in text:
            raise ValueError("not a whole number")
        value = int(text) if is_whole else float(text)
        if not (low <= value <= high or (or_zero and value == 0)):
            raise ValueError("out of range")
        return value

    return _field(default, Setting(parse, allowed, unit, sentence))


def optional_number(unit: str, limits: tuple[float, float], sentence: str) -> Any:
    """A number between limits that need not be set."""
    bounded: Setting = number(limits[0], unit, limits, sentence).metadata[_METADATA_KEY]
    return _field(None, bounded)


def choice(default: str | int, unit: str, choices: tuple[str | int, ...], sentence: str) -> Any:
    """One of a few words or numbers; words in any case."""
    by_text = {str(value): value for value in choices}

    def parse(text: str) -> str | int:
        if text.lower() not in by_text:
            raise ValueError("not one of them")
        return by_text[text.lower()]

    return _field(default, Setting(parse, " or ".join(by_text), unit, sentence))


def switch(default: bool, sentence: str) -> Any:
    """`true` or `false`, in any case, and nothing else."""
    by_text = {"true": True, "false": False}

    def parse(text: str) -> bool:
        if text.lower() not in by_text:
            raise ValueError("neither of them")
        return by_text[text.lower()]

    return _field(default, Setting(parse, " or ".join(by_text), "", sentence))


def symbols(sentence: str) -> Any:
    """A comma-separated list of symbols and patterns: upper case, each once, in the order given."""
    allowed = (
        f"symbols and patterns separated by commas, e.g. BTCUSDT,*USDC: letters, digits, '-', '_', '.', '*' for any "
        f"text and '?' for one character, at most {SYMBOL_CHARACTERS_MAX} characters each and {SYMBOLS_MAX} symbols"
    )
    return _field((), Setting(lambda text: parse_symbols(split_list(text)), allowed, "", sentence))


def kinds(market: Market, sentence: str) -> Any:
    """A comma-separated list of the kinds that a market can stream, each once, in the order given."""
    allowed = "kinds separated by commas, of " + ",".join(kind.label for kind in STREAM_KINDS[market])
    default = (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
    return _field(default, Setting(lambda text: parse_kinds(market, split_list(text)), allowed, "", sentence))


def url(default: str, schemes: tuple[str, str], sentence: str) -> Any:
    """A base URL of one of the schemes, without path; kept without a slash at its end."""
    allowed = f"{schemes[0]}:// or {schemes[1]}:// with host and perhaps port, without path, query or user"
    return _field(default, Setting(lambda text: parse_url(text, schemes), allowed, "", sentence))


def listen(default: str, sentence: str) -> Any:
    """An address to listen on, host and port; set to nothing it is an empty text."""
    allowed = "host:port, e.g. 127.0.0.1:9464 or [::1]:9464, or nothing"
    return _field(default, Setting(parse_listen, allowed, "", sentence, empty=""))


def folder(default: str, sentence: str) -> Any:
    """A folder that need not exist yet."""
    return _field(Path(default), Setting(parse_folder, "a folder, or a path where one can be made", "", sentence))


def optional_file(check: Callable[[Path], object], allowed: str, sentence: str) -> Any:
    """A file that must exist and pass a check, which raises ValueError or OSError."""

    def parse(text: str) -> Path:
        path = parse_path(text)
        try:
            check(path)
        except OSError as error:
            raise ValueError(error.strerror or type(error).__name__) from error
        return path

    return _field(None, Setting(parse, allowed, "", sentence))


def optional_secret(sentence: str) -> Any:
    """A secret that fits an HTTP header."""
    allowed = f"{SECRET_CHARACTERS_MIN} to {SECRET_CHARACTERS_MAX} printable ASCII characters without spaces"
    return _field(None, Setting(parse_secret, allowed, "", sentence, is_secret=True))
