"""What few texts have, looked for in many at once, byte by byte. Sealers only.

Decoding does not see all that is wrong with a text, and reading each text for it would cost as much again. So hundreds
of them are looked at together, which costs a tenth of decoding them; only where something may be does it take longer.
"""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamsvc.venues.payload import Payload

DIGITS_MAX = 15
"""float64 gives a decimal string of up to this many significant digits back exactly."""

_DIGITS = bytes(ord("0") if chr(code) in "0123456789." else ord(" ") for code in range(256))
_LONG_RUN = b"0" * (DIGITS_MAX + 1)
_LONG_NUMBER = re.compile(rb'"-?([0-9]*\.?[0-9]*)"|([0-9]*\.[0-9]*)')
_BARE_LEVEL = re.compile(rb"[\[,][-0-9]")


def is_inexact(text: bytes) -> bool:
    """Whether a text has a number that float64 does not give back exactly."""
    return _LONG_RUN in text.translate(_DIGITS) and any(map(_has_more_digits, _LONG_NUMBER.findall(text)))


def _has_more_digits(groups: tuple[bytes, bytes]) -> bool:
    return len((groups[0] or groups[1]).replace(b".", b"").strip(b"0")) > DIGITS_MAX


def look(payload: Payload, lines: bytes, count: int) -> tuple[bool, bool]:
    """Look at texts that are about to be decoded.

    Args:
        payload: How they are read.
        lines: The texts, each a line.
        count: Their number.

    Returns:
        Whether there is nothing that `Payload.decode_lines` would not see; and whether sixteen characters of numbers
        follow one another somewhere.
    """
    characters = np.frombuffer(lines, np.uint8)
    is_number = (characters - ord("-")) <= ord("9") - ord("-")
    runs = is_number
    for length in (1, 2, 4, 8):
        runs = runs[:-length] & runs[length:]
    has_long_run = bool(runs.any())
    # Else two broken texts could pass for a whole one.
    if np.count_nonzero(characters == ord("\n")) != count - 1:
        return False, has_long_run
    # The exchange writes no white space, which could stand between a key and its number.
    if b" " in lines or b"\t" in lines or b"\r" in lines or not _is_utf8(lines):
        return False, has_long_run
    return not _has_bare_number(payload, lines, characters, is_number), has_long_run


def _has_bare_number(
    payload: Payload, lines: bytes, characters: NDArray[np.uint8], is_number: NDArray[np.bool_]
) -> bool:
    """Whether a number stands where a string is documented."""
    if payload.bids is not None:
        is_bare = (characters[:-1] == ord("[")) | (characters[:-1] == ord(","))
        is_bare &= is_number[1:]
        return bool(is_bare.any()) and _BARE_LEVEL.search(lines) is not None
    if not payload.quoted_keys:
        return False
    # A colon and a number behind the last letter of such a key and its quote; then the same for the whole key.
    is_bare = characters[2:-1] == ord(":")
    is_bare &= is_number[3:]
    is_bare &= reduce(or_, [characters[:-3] == letter for letter in payload.quoted_letters])
    return bool(is_bare.any()) and payload.bare_number.search(lines) is not None


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
