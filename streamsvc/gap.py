"""What is missing, as it is told to the ledger: notes that go through the journal like messages.

A note is written where the loop learns of a change, and takes effect in the transaction that commits its segment: so
the ledger and the rows agree at any moment, whatever is cut.
"""

from __future__ import annotations

import msgspec

NOTE_KIND = 0
"""The kind byte of a note in the journal; no kind of message has it."""

REMOVED = "removed"
"""The cause of what was not recorded because nobody asked for it: the stream was removed, and added again later."""
REMOVED_REASON = "it was not asked for: the stream had been removed, or its symbol was not traded"
"""What people are told of it."""


class GapOpened(msgspec.Struct, frozen=True, tag="opened", tag_field="note"):
    """Ids of a stream did not come.

    Attributes:
        market: The market's label.
        symbol: The symbol.
        kind: The kind's label.
        epoch: How many times the exchange had started its ids over.
        first_id: The first missing id.
        last_id: The last one.
        first_time_ns: Event time of the last message before it, None if there was none.
        last_time_ns: Event time of the first message behind it, None if it is not known.
        cause: `disconnect`, `stall`, `restart`, `exchange`, `shed`, `disk`, `quarantined`, `damage`, `removed`.
        connection: The number of the connection that brought the message behind it.
        opened_ns: When it was told, wall clock.
    """

    market: str
    symbol: str
    kind: str
    epoch: int
    first_id: int
    last_id: int
    first_time_ns: int | None
    last_time_ns: int | None
    cause: str
    connection: int
    opened_ns: int


class GapGivenUp(msgspec.Struct, frozen=True, tag="unrepairable", tag_field="note"):
    """Nobody can bring these ids any more.

    Attributes:
        market: The market's label.
        symbol: The symbol.
        kind: The kind's label.
        epoch: How many times the exchange had started its ids over.
        first_id: The first id.
        last_id: The last one.
        reason: Why, for people.
        closed_ns: When that was known, wall clock.
    """

    market: str
    symbol: str
    kind: str
    epoch: int
    first_id: int
    last_id: int
    reason: str
    closed_ns: int


class GapFilled(msgspec.Struct, frozen=True, tag="repaired", tag_field="note"):
    """Ids that the ledger called missing came after all. Written in one frame with the rows that brought them.

    Attributes:
        market: The market's label.
        symbol: The symbol.
        kind: The kind's label.
        epoch: How many times the exchange had started its ids over.
        first_id: The first id.
        last_id: The last one.
        closed_ns: When they came, wall clock.
        was_announced: Whether they had been missing for longer than the grace time; else it was no gap.
    """

    market: str
    symbol: str
    kind: str
    epoch: int
    first_id: int
    last_id: int
    closed_ns: int
    was_announced: bool = True


class StreamCounted(msgspec.Struct, frozen=True, tag="counted", tag_field="note"):
    """How far a stream has come: the answer to the catalogue's question, which is whether anything was lost.

    Every message of the stream that was taken in until then lies before this note.

    Attributes:
        market: The market's label.
        symbol: The symbol.
        kind: The kind's label.
        epoch: How many times the exchange had started its ids over.
        next_id: The id that continues the stream: those below it came, or are missing.
        event_ns: The newest event time, None if it is not known.
        missing: What is known to be missing: first and last id of each range.
    """

    market: str
    symbol: str
    kind: str
    epoch: int
    next_id: int
    event_ns: int | None
    missing: list[tuple[int, int]]


Note = GapOpened | GapFilled | GapGivenUp | StreamCounted
_DECODER = msgspec.json.Decoder(Note)


def encode_note(note: Note) -> bytes:
    """A note as the text of a journal message."""
    return msgspec.json.encode(note)


def decode_note(text: bytes) -> Note:
    """The note of a text that `encode_note` made; raises msgspec.DecodeError for any other."""
    note: Note = _DECODER.decode(text)
    return note
