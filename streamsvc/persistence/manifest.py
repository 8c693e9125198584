"""What a sealer says about the files it has prepared: plain data that crosses from its process to the publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from streamsvc.schema import Kind, Market

QUARANTINE_FILE = "quarantine.jsonl"
"""The file, beside the Parquet files a sealer prepares, with the texts it could not record."""

INEXACT_FILE = "inexact.jsonl"
"""The same for texts that were recorded, but whose numbers float64 does not give back exactly."""


@attrs.frozen
class SealedFile:
    """One Parquet file.

    Attributes:
        path: Where it belongs, below `DATA_DIR`; in the sealer's folder it has the same path.
        kind: What it holds, the label of its kind.
        market: Of which market, the label.
        date: The UTC day of its rows' `exchange_time`, e.g. `2024-08-08`.
        rows: How many.
        size_bytes: Its size.
        sha256: Its checksum, hexadecimal.
        first_exchange_ns: The least `exchange_time`.
        last_exchange_ns: The greatest.
    """

    path: str
    kind: str
    market: str
    date: str
    rows: int
    size_bytes: int
    sha256: str
    first_exchange_ns: int
    last_exchange_ns: int


@attrs.frozen
class StreamRange:
    """What a segment holds of one stream.

    Attributes:
        market: The market.
        kind: The kind.
        symbol: The symbol.
        epoch: How many times the exchange had started its ids over.
        messages: How many were recorded.
        first_id: The least id (of depth: the least `final_update_id`; of candles: the first closed one's minute since
            1970); None for kinds without ids.
        last_id: The greatest.
        last_exchange_ns: The greatest `exchange_time`.
        last_received_ns: When the last one was received.
    """

    market: Market
    kind: Kind
    symbol: str
    epoch: int
    messages: int
    first_id: int | None
    last_id: int | None
    last_exchange_ns: int
    last_received_ns: int


@attrs.frozen
class QuarantinedId:
    """A message that the loop counted as seen and that is not in the data set, or several whose ids follow each other.

    Attributes:
        market: The market.
        kind: The kind.
        symbol: The symbol.
        epoch: How many times the exchange had started its ids over.
        first_id: Its id, of depth the first that it covers; of a closed candle its minute since 1970, of an open one 0.
        last_id: The same of the last one.
        reason: Why it could not be recorded.
    """

    market: Market
    kind: Kind
    symbol: str
    epoch: int
    first_id: int
    last_id: int
    reason: str


@attrs.frozen
class Manifest:
    """What one segment became.

    Attributes:
        segment: The segment's name.
        folder: The sealer's own folder below `DATA_DIR/tmp`, with every file and its folders synced.
        files: The Parquet files in it.
        streams: What they hold, by stream.
        messages: Messages in the segment's whole frames: recorded and quarantined ones.
        quarantined: How many of them were not recorded, by reason.
        quarantined_ids: Their ids as far as they could be read, limited in number.
        inexact_decimals: Recorded messages with a number of more than 15 significant digits; their text is kept beside.
        damage: Stretches of the segment without a whole frame: how many bytes, by reason.
        quarantine_bytes: The size of `QUARANTINE_FILE`; 0: there is none.
        inexact_bytes: The size of `INEXACT_FILE`; 0: there is none.
        first_received_ns: When the first message was received; None where there is none.
        last_received_ns: When the last one was.
        notes: Notes for the gap ledger, in order; see `gap.decode_note`.
        archived: Where the compressed segment belongs, below `DATA_DIR`; in the sealer's folder it has the same path.
            None: it is not kept.
    """

    segment: str
    folder: str
    files: tuple[SealedFile, ...] = ()
    streams: tuple[StreamRange, ...] = ()
    messages: int = 0
    quarantined: dict[str, int] = attrs.field(factory=dict)
    quarantined_ids: tuple[QuarantinedId, ...] = ()
    inexact_decimals: int = 0
    damage: dict[str, int] = attrs.field(factory=dict)
    quarantine_bytes: int = 0
    inexact_bytes: int = 0
    first_received_ns: int | None = None
    last_received_ns: int | None = None
    notes: tuple[bytes, ...] = ()
    archived: str | None = None

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)

    def oldest_age_ms(self, kinds: frozenset[Kind]) -> int | None:
        """How long the stream of these kinds that was silent longest had been silent when the segment ended.

        Streams without a message in the segment are not counted; None where no stream of these kinds has one.
        """
        last = [stream.last_received_ns for stream in self.streams if stream.kind in kinds]
        if not last or self.last_received_ns is None:
            return None
        return (self.last_received_ns - min(last)) // 1_000_000
