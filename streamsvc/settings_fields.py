"""What a setting can be: how the text of a variable becomes a value, and what is said of it to people.

A parser takes the text of a variable, never empty and without space around it, and returns the value or raises
ValueError with the reason. The text of what is allowed is made from the same limits that the parser checks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from streamsvc.schema import STREAM_KINDS, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SYMBOLS_MAX: Final = 5000
SYMBOL_CHARACTERS_MAX: Final = 64
SECRET_CHARACTERS_MAX: Final = 4096
_SYMBOL_PUNCTUATION = "-_."
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_METADATA_KEY = "setting"


class SecretStr:
    """A text that no log, repr or traceback shows; `reveal` gives it to whoever must send it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "SecretStr('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")


@attrs.frozen
class Setting:
    """What is known of a variable beside its name, type and default.

    Attributes:
        parse: Makes the value of a text, or raises ValueError with the reason.
        allowed: What is allowed, for the message about a wrong value.
        unit: The unit of the value, or an empty text.
        sentence: What it is for.
        is_secret: Whether its value must not be shown.
    """

    parse: Callable[[str], Any]
    allowed: str
    unit: str
    sentence: str
    is_secret: bool = False


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
    allowed = f"{what} from {low:g} to {high:.15g}" + (", or 0" if or_zero else "")

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


def symbols(sentence: str) -> Any:
    """A comma-separated list of symbols: upper case, each once, in the order given."""
    allowed = (
        f"symbols separated by commas, e.g. BTCUSDT,ETHUSDT: letters, digits, '-', '_', '.', at most "
        f"{SYMBOL_CHARACTERS_MAX} characters each and {SYMBOLS_MAX} symbols"
    )
    return _field((), Setting(lambda text: parse_symbols(_items(text)), allowed, "", sentence))


def kinds(market: Market, sentence: str) -> Any:
    """A comma-separated list of the kinds that a market can stream, each once, in the order given."""
    allowed = "kinds separated by commas, of " + ",".join(kind.label for kind in STREAM_KINDS[market])
    default = (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER)
    return _field(default, Setting(lambda text: parse_kinds(market, _items(text)), allowed, "", sentence))


def url(default: str, schemes: tuple[str, str], sentence: str) -> Any:
    """A base URL of one of the schemes, without path; kept without a slash at its end."""
    allowed = f"{schemes[0]}:// or {schemes[1]}:// with host and perhaps port, without path, query or user"
    return _field(default, Setting(lambda text: _parse_url(text, schemes), allowed, "", sentence))


def folder(default: str, sentence: str) -> Any:
    """A folder that need not exist yet."""
    return _field(Path(default), Setting(_parse_folder, "a folder, or a path where one can be made", "", sentence))


def optional_file(check: Callable[[Path], None], allowed: str, sentence: str) -> Any:
    """A file that must exist and pass a check, which raises ValueError or OSError."""

    def parse(text: str) -> Path:
        path = _parse_path(text)
        try:
            check(path)
        except OSError as error:
            raise ValueError(error.strerror or type(error).__name__) from error
        return path

    return _field(None, Setting(parse, allowed, "", sentence))


def optional_secret(sentence: str) -> Any:
    """A secret that fits an HTTP header."""
    allowed = "printable ASCII without spaces"
    return _field(None, Setting(parse_secret, allowed, "", sentence, is_secret=True))


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def parse_symbols(items: Iterable[str]) -> tuple[str, ...]:
    """Symbols in upper case, each once; ValueError names the first that cannot be one."""
    found: dict[str, None] = {}
    for item in items:
        symbol = item.upper()
        if not 0 < len(symbol) <= SYMBOL_CHARACTERS_MAX:
            raise ValueError(f"{symbol[:SYMBOL_CHARACTERS_MAX]!r} is too long" if symbol else "an empty symbol")
        if "*" in symbol:
            raise ValueError(f"{symbol!r} is a pattern, and patterns are not supported yet")
        wrong = next((character for character in symbol if not _fits_symbol(character)), None)
        if wrong is not None:
            raise ValueError(f"{symbol!r} has a {wrong!r}")
        found[symbol] = None
    if len(found) > SYMBOLS_MAX:
        raise ValueError(f"{len(found)} symbols")
    return tuple(found)


def _fits_symbol(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in _SYMBOL_PUNCTUATION
    return character.isprintable()


def parse_kinds(market: Market, items: Iterable[str]) -> tuple[Kind, ...]:
    """Kinds that the market can stream, each once; ValueError names the first that is none."""
    by_label = {kind.label: kind for kind in STREAM_KINDS[market]}
    found: dict[Kind, None] = {}
    for item in items:
        if item not in by_label:
            raise ValueError(f"{item!r} is no kind of {market.label}")
        found[by_label[item]] = None
    if not found:
        raise ValueError("no kind")
    return tuple(found)


def parse_secret(text: str) -> SecretStr:
    """A secret; the reason of a ValueError does not show it."""
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("a character that cannot be part of a key")
    if len(text) > SECRET_CHARACTERS_MAX:
        raise ValueError("too long")
    return SecretStr(text)


def _parse_url(text: str, schemes: tuple[str, str]) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError("a space or a control character")
    parts = urlsplit(text)
    if parts.scheme not in schemes:
        raise ValueError("another scheme")
    if not parts.hostname:
        raise ValueError("no host")
    if "@" in parts.netloc:
        raise ValueError("a user name")
    if parts.path not in {"", "/"} or "?" in text or "#" in text:
        raise ValueError("a path, query or fragment")
    if parts.port == 0:  # The property itself raises ValueError for what is no port at all.
        raise ValueError("port 0")
    return f"{parts.scheme}://{parts.netloc}"


def _parse_path(text: str) -> Path:
    if not text.isprintable():
        raise ValueError("a control character")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("no home folder") from error


def _parse_folder(text: str) -> Path:
    path = _parse_path(text)
    if path.exists() and not path.is_dir():
        raise ValueError("not a folder")
    return path
