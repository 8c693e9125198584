"""Where continuity goes on from after a start: the catalogue, and the ids in the segments that are not sealed yet.

So the hole between a stop and a start is a gap like any other, and nothing is taken for missing that lies there.
Made before the first connection, and before the segments are sealed. Blocks.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any

import msgspec

from streamsvc.gap import NOTE_KIND, GapGivenUp, GapOpened, decode_note
from streamsvc.integrity.continuity import Missing
from streamsvc.integrity.sequence import covered
from streamsvc.persistence.journal import Damage, read_segment
from streamsvc.persistence.layout import JOURNAL_SUFFIX, SegmentName
from streamsvc.schema import CHAINED_KINDS, MARKETS_BY_LABEL, Kind, Market, Source
from streamsvc.venues.binance_heads import DECODE_ERRORS, head_decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamsvc.batch import Block
    from streamsvc.integrity.continuity import Chain
    from streamsvc.persistence.catalogue import Catalogue
    from streamsvc.persistence.gap_table import GapRow

    ChainOf = Callable[[Market, Kind, str], Chain | None]
    """The chain of a stream; None if it is not recorded now, or its ids do not chain."""

_NS_PER_MS = 1_000_000


class _FetchedRow(msgspec.Struct):
    id: int | None = None
    a: int | None = None


class _Fetched(msgspec.Struct):
    """A backfilled trade as it lies in the journal."""

    symbol: str
    data: _FetchedRow


_FETCHED = msgspec.json.Decoder(_Fetched)


def resume(chain_of: ChainOf, catalogue: Catalogue, segments: Iterable[Path]) -> None:
    """Bring chains to where earlier runs left their streams.

    Args:
        chain_of: The chains.
        catalogue: Of the data folder.
        segments: The segments that are not in the catalogue, oldest first; nobody removes them meanwhile.

    Raises:
        OSError: a segment cannot be read.
    """
    for last in catalogue.last_ids():
        chain = chain_of(last.market, last.kind, last.symbol)
        if chain is not None and last.last_id is not None:
            chain.resume(last.epoch, last.last_id, last.last_exchange_ns // _NS_PER_MS)
    for row in catalogue.gaps():
        chain = chain_of(MARKETS_BY_LABEL[row.market], Kind.from_label(row.kind), row.symbol)
        if chain is None:
            continue
        # What was given up or fetched may lie behind the last message that came.
        chain.reach(row.epoch, row.last_id)
        if row.status == "open":
            chain.miss(_missing_of(row))
    for path in segments:
        _read_segment(chain_of, path)


def _read_segment(chain_of: ChainOf, path: Path) -> None:
    name = SegmentName.parse(path.name.removesuffix(JOURNAL_SUFFIX))
    assert name is not None, f"{path} is no segment"
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for item in read_segment(data, name):
            if not isinstance(item, Damage):
                _read_block(chain_of, item)


def _read_block(chain_of: ChainOf, block: Block) -> None:
    epochs = block.epochs or [0] * len(block.messages)
    for number, epoch, text in zip(block.kinds, epochs, block.messages, strict=True):
        if number == NOTE_KIND:
            _read_note(chain_of, text)
        elif number in CHAINED_KINDS:
            try:
                _read_message(chain_of, block, Kind(number), epoch, text)
            except DECODE_ERRORS:
                continue  # The sealer quarantines it, and tells the ledger its id.


def _read_message(chain_of: ChainOf, block: Block, kind: Kind, epoch: int, text: bytes) -> None:
    if block.source is Source.REST:
        fetched = _FETCHED.decode(text)
        found = fetched.data.a if kind is Kind.AGG_TRADE else fetched.data.id
        chain = chain_of(block.market, kind, fetched.symbol)
        if chain is not None and found is not None:
            chain.forget(epoch, found, found)
        return
    head: Any = head_decoder(block.market, kind)(text).data
    chain = chain_of(block.market, kind, head.s)
    if chain is not None and (kind is not Kind.KLINE_1M or head.k.x):
        chain.replay(epoch, *covered(block.market, kind, head), head.E)


def _read_note(chain_of: ChainOf, text: bytes) -> None:
    note = decode_note(text)
    chain = chain_of(MARKETS_BY_LABEL[note.market], Kind.from_label(note.kind), note.symbol)
    if chain is None:
        return
    match note:
        case GapOpened():
            chain.miss(_missing_of(note))
        case GapGivenUp():
            chain.forget(note.epoch, note.first_id, note.last_id)


def _missing_of(gap: GapRow | GapOpened) -> Missing:
    return Missing(
        epoch=gap.epoch,
        first=gap.first_id,
        last=gap.last_id,
        since=-math.inf,
        before_ms=None if gap.first_time_ns is None else gap.first_time_ns // _NS_PER_MS,
        after_ms=None if gap.last_time_ns is None else gap.last_time_ns // _NS_PER_MS,
        cause=gap.cause,
        is_told=True,
        is_announced=True,
    )
