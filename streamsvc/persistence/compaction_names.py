"""Names of compacted files (pure): `<symbol>.<digest>.parquet`.

The symbol is encoded, so that no symbol whatever becomes a path, a hidden file or a name that is too long, and every
name is ASCII. The digest is made from what was merged: another content never has the same name, so that whoever still
holds an old listing of a folder finds a name that is gone, and never other rows under the name he knows.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"([A-Za-z0-9_%~-]+)\.[0-9a-f]{16}\.parquet")
_SYMBOL_MAX = 120
_DIGEST_LENGTH = 16


def compacted_name(symbol: str, parts: Iterable[str]) -> str:
    """The name of the file that holds a symbol's rows of the given parts, each named by whatever identifies it."""
    digest = sha256("\0".join([symbol, *sorted(parts)]).encode()).hexdigest()
    return f"{encoded_symbol(symbol)}.{digest[:_DIGEST_LENGTH]}.parquet"


def is_compacted(file_name: str) -> bool:
    """Whether a file name is one that `compacted_name` makes."""
    return _NAME.fullmatch(file_name) is not None


def may_hold(file_name: str, symbol: str) -> bool:
    """Whether a file of the data set can hold rows of a symbol, by its name: a compacted file holds those of one."""
    match = _NAME.fullmatch(file_name)
    return match is None or match[1] == encoded_symbol(symbol)


def encoded_symbol(symbol: str) -> str:
    """Letters, digits, `_` and `-` as they are, all else as percent and hexadecimal; what is too long is shortened."""
    encoded = quote(symbol, safe="").replace(".", "%2E").replace("~", "%7E") or "%"
    if len(encoded) <= _SYMBOL_MAX:
        return encoded
    return f"{encoded[:_SYMBOL_MAX]}~{sha256(symbol.encode()).hexdigest()[:_DIGEST_LENGTH]}"
