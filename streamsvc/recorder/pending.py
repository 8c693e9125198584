"""Trades that are open: their entries, in a file that is replaced as a whole. Pure but for the two calls that say so.

An entry stays in the file until the record that joins it with its exit is on the disk. After a crash between the two
both are there, and the opening strikes those out whose record is found.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from streamsvc.errors import UsageError
from streamsvc.persistence.files import written_whole
from streamsvc.recorder.faults import PairError

if TYPE_CHECKING:
    from pathlib import Path

    from streamsvc.persistence.files import Files

VERSION = 1


class Entry(msgspec.Struct, frozen=True):
    """An open trade: when it was opened, and what the caller said, as JSON."""

    opened_at: str
    entry: msgspec.Raw


class _Document(msgspec.Struct):
    version: int
    open: dict[str, Entry]


class _Joined(msgspec.Struct):
    """What a line must have to be a record of a pair."""

    trade_id: str
    opened_at: str
    closed_at: str
    entry: msgspec.Raw
    exit: msgspec.Raw


_DECODER = msgspec.json.Decoder(_Document)
_JOINED = msgspec.json.Decoder(_Joined)


@attrs.define
class PendingTrades:
    """The open trades.

    Attributes:
        open: By id.
        closing: Those whose record is not known to be on the disk; they stay in the file.
        version: Grows with every change of what the file should hold.
    """

    open: dict[str, Entry] = attrs.field(factory=dict)
    closing: dict[str, Entry] = attrs.field(factory=dict)
    version: int = 0

    def add(self, trade_id: str, entry: bytes, now: datetime) -> Entry:
        """Open a trade.

        Raises:
            PairError: it is open.
        """
        if trade_id in self.open:
            opened_at = self.open[trade_id].opened_at
            raise PairError(trade_id, f"trade {trade_id} is open already, since {opened_at}; close it first")
        added = self.open[trade_id] = Entry(_time_text(now), msgspec.Raw(entry))
        self.version += 1
        return added

    def take_back(self, trade_id: str, entry: Entry) -> None:
        """It could not be kept."""
        if self.open.get(trade_id) is entry:
            del self.open[trade_id]
            self.version += 1

    def close(self, trade_id: str, exit_: bytes, now: datetime) -> bytes:
        """Close a trade; returns the record that joins entry and exit, as a line.

        Raises:
            PairError: it is not open.
        """
        entry = self.require(trade_id)
        del self.open[trade_id]
        self.closing[trade_id] = entry
        joined = _Joined(trade_id, entry.opened_at, _time_text(now), entry.entry, msgspec.Raw(exit_))
        return msgspec.json.encode(joined) + b"\n"

    def require(self, trade_id: str) -> Entry:
        """An open trade.

        Raises:
            PairError: it is not open.
        """
        try:
            return self.open[trade_id]
        except KeyError:
            raise PairError(trade_id, f"trade {trade_id} is not open; {len(self.open)} others are") from None

    def settle(self, trade_ids: frozenset[str]) -> None:
        """The records of these are on the disk."""
        for trade_id in trade_ids & self.closing.keys():
            del self.closing[trade_id]
            self.version += 1

    def encode(self) -> bytes:
        """What the file should hold."""
        return msgspec.json.encode(_Document(VERSION, self.closing | self.open)) + b"\n"


def read_pending(path: Path, trades_file: Path) -> PendingTrades:
    """The open trades of a file, without those whose record is in the live file. Blocks.

    Raises:
        UsageError: the file is damaged; nothing is touched.
        OSError: it cannot be read.
    """
    try:
        document = _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return PendingTrades()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise UsageError(
            f"{path} is damaged ({fault}); it holds the trades that are open: mend it, or move it away to begin without"
        ) from fault
    if document.version != VERSION:
        raise UsageError(f"{path} was written by another version ({document.version}) than this one ({VERSION})")
    pending = PendingTrades(open=document.open)
    for trade_id in _recorded(trades_file, document.open):
        del pending.open[trade_id]
        pending.version += 1
    return pending


def _recorded(trades_file: Path, entries: dict[str, Entry]) -> set[str]:
    """Those of which the file holds the record. Rotation waits for the replacing, so the live file is enough."""
    found: set[str] = set()
    if not entries or not trades_file.exists():
        return found
    with trades_file.open("rb") as file:
        for line in file:
            if b'"closed_at"' not in line:
                continue
            try:
                joined = _JOINED.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            entry = entries.get(joined.trade_id)
            if entry is not None and entry.opened_at == joined.opened_at:
                found.add(joined.trade_id)
    return found


def write_pending(path: Path, content: bytes, files: Files) -> None:
    """Replace the file as a whole, and have it on the disk. Blocks.

    Raises:
        OSError: the old one is there as it was.
        DiskFullError: the same.
    """
    with written_whole(path, files) as file:
        file.write(content)


def _time_text(now: datetime) -> str:
    return now.astimezone(UTC).isoformat().replace("+00:00", "Z")


def decoded(entries: dict[str, Entry]) -> dict[str, Any]:
    """The entries as the caller gave them."""
    return {trade_id: msgspec.json.decode(entry.entry) for trade_id, entry in entries.items()}
