"""What was recorded last, kept in `DATA_DIR/symbols.json` for the next start.

It tells two things that nothing else does: what patterns meant while the exchange's list could not be had, and which
streams were not recorded on purpose when the last run ended, so that what they lack since is nobody's loss. So before
streams are added it names them already, and after streams have ended it names them no more: a kill in between makes a
hole look like a loss, never a loss like a hole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import msgspec

from streamsvc.persistence.files import written_whole
from streamsvc.schema import Kind, Market

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from streamsvc.venues.venue import Stream

NAME = "symbols.json"
_BYTES_MAX = 16 << 20

Recorded = dict[Market, dict[str, frozenset[Kind]]]
"""The kinds of each symbol of each market."""


class _Document(msgspec.Struct):
    version: int
    spot: dict[str, list[str]]
    futures: dict[str, list[str]]


_DECODER = msgspec.json.Decoder(_Document)
_VERSION = 1


@attrs.define
class Store:
    """The file. Its methods block.

    Attributes:
        path: Where it lies.
    """

    path: Path
    _content: bytes = b""

    def read(self) -> Recorded | None:
        """What was recorded last; None: nobody knows, because the file is not there, or is not ours.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(_BYTES_MAX)
        except FileNotFoundError:
            return None
        try:
            document = _DECODER.decode(content)
            recorded = {market: _kinds_of(getattr(document, market.label)) for market in Market}
        except (msgspec.DecodeError, ValueError, KeyError, RecursionError, UnicodeDecodeError):
            return None
        if document.version != _VERSION:
            return None
        self._content = content
        return recorded

    def write(self, recorded: Mapping[Market, Mapping[str, frozenset[Kind]]]) -> None:
        """Keep what is recorded, on the disk when this returns.

        Raises:
            OSError: it could not be kept; what was kept before still is.
            DiskFullError: the same, for want of room.
        """
        tables = {
            market.label: {symbol: sorted(kind.label for kind in kinds) for symbol, kinds in sorted(table.items())}
            for market, table in recorded.items()
        }
        content = msgspec.json.encode({"version": _VERSION, **tables})
        if content == self._content:
            return
        with written_whole(self.path) as file:
            file.write(content)
        self._content = content


def recorded_of(streams: Iterable[Stream]) -> Recorded:
    """Streams as the file names them (pure)."""
    kinds: dict[Market, dict[str, set[Kind]]] = {market: {} for market in Market}
    for stream in streams:
        kinds[stream.market].setdefault(stream.symbol, set()).add(stream.kind)
    return {market: {one: frozenset(found) for one, found in table.items()} for market, table in kinds.items()}


def left_alone(before: Recorded, streams: Iterable[Stream]) -> list[Stream]:
    """The streams that were not recorded when the last run ended (pure)."""
    return [one for one in streams if one.kind not in before[one.market].get(one.symbol, frozenset())]


def _kinds_of(table: Mapping[str, list[str]]) -> dict[str, frozenset[Kind]]:
    return {symbol: frozenset(map(Kind.from_label, kinds)) for symbol, kinds in table.items()}
