"""How the text of a setting becomes a value, and back.

A parser raises ValueError with the reason, in words that fit a message to the user.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from streamsvc.schema import STREAM_KINDS, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterable

SYMBOLS_MAX: Final = 5000
SYMBOL_CHARACTERS_MAX: Final = 64
SECRET_CHARACTERS_MIN: Final = 8
"""The log hides a secret wherever its text stands: a shorter one would hide half of every line."""
SECRET_CHARACTERS_MAX: Final = 4096
FILE_BYTES_MAX: Final = 1 << 20
_SYMBOL_PUNCTUATION = "-_."
_WILDCARDS = "*?"


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


def split_list(text: str) -> list[str]:
    """The items of a list separated by commas; empty ones do not count."""
    return [item for part in text.split(",") if (item := part.strip())]


def parse_symbols(items: Iterable[str]) -> tuple[str, ...]:
    """Symbols and patterns of symbols in upper case, each once; ValueError names the first that cannot be one."""
    found: dict[str, None] = {}
    for item in items:
        symbol = item.upper()
        if not 0 < len(symbol) <= SYMBOL_CHARACTERS_MAX:
            raise ValueError(f"{symbol[:SYMBOL_CHARACTERS_MAX]!r} is too long" if symbol else "an empty symbol")
        wrong = next((character for character in symbol if not _fits_symbol(character)), None)
        if wrong is not None:
            raise ValueError(f"{symbol!r} has a {wrong!r}")
        found[symbol] = None
    if len(found) > SYMBOLS_MAX:
        raise ValueError(f"{len(found)} symbols")
    return tuple(found)


def is_pattern(symbol: str) -> bool:
    """Whether a text means all symbols that fit it; see `selection`."""
    return any(character in symbol for character in _WILDCARDS)


def _fits_symbol(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in _SYMBOL_PUNCTUATION or character in _WILDCARDS
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
    if not SECRET_CHARACTERS_MIN <= len(text) <= SECRET_CHARACTERS_MAX:
        raise ValueError("too short or too long")
    return SecretStr(text)


def read_small_file(path: Path) -> bytes:
    """What a file of at most 1 MB holds; ValueError or OSError says why it cannot be used."""
    if not path.is_file():
        raise ValueError("not a file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError("larger than 1 MB")
    return content


def parse_url(text: str, schemes: tuple[str, str]) -> str:
    """A base URL without a slash at its end."""
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


def parse_listen(text: str) -> str:
    """Host and port of an address to listen on; an IPv6 address stands in brackets."""
    if not text.isprintable() or set(text) & set(" /?#@"):
        raise ValueError("more than host and port")
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    if not parts.port:  # The property itself raises ValueError for what is no port at all.
        raise ValueError("no port")
    return text


def parse_path(text: str) -> Path:
    """A path, with `~` as the home folder."""
    if not text.isprintable():
        raise ValueError("a control character")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("no home folder") from error


def parse_folder(text: str) -> Path:
    """A path that is a folder or does not exist yet."""
    path = parse_path(text)
    if path.exists() and not path.is_dir():
        raise ValueError("not a folder")
    return path


def text_of(value: object) -> str:
    """A value as its variable would hold it: empty for what is not set, `***` for a secret."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(item.label if isinstance(item, Kind) else str(item) for item in value)
    if isinstance(value, Path) and not value.is_absolute():
        return f"./{value}"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
