"""Where continuity goes on from after a start: the catalogue, and the ids in the segments that are not sealed yet.

So the hole between a stop and a start is a gap like any other, and nothing is taken for missing that lies there.
Streams whose ids do not chain go on behind their last message; liquidations, which may be silent for days, behind the
last sign of life of their market, if any was ever recorded of the symbol.

Made before the first connection, and before the segments are sealed. Blocks.
"""

from __future__ import annotations

import mmap
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import msgspec

from streamsvc.gap import NOTE_KIND, REMOVED, GapGivenUp, GapOpened, decode_note
from streamsvc.integrity.ledger import missing_of
from streamsvc.integrity.listening import WINDOW_KINDS, Break, Heard
from streamsvc.integrity.sequence import covered
from streamsvc.integrity.track import heard_of
from streamsvc.persistence.catalogue import ADOPT
from streamsvc.persistence.journal import Damage, read_segment
from streamsvc.persistence.layout import JOURNAL_SUFFIX, SegmentName
from streamsvc.schema import CHAINED_KINDS, DERIVED_KINDS, MARKETS_BY_LABEL, Kind, Market, Source
from streamsvc.venues.binance_heads import DECODE_ERRORS, decode_heads, head_decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from streamsvc.batch import Block
    from streamsvc.integrity.chains import Chains
    from streamsvc.integrity.track import Track
    from streamsvc.persistence.catalogue import Catalogue, LastId

    ReplayedOf = Callable[[Market, Kind, str], "Replayed | None"]
    """Who is told of a stream's ids; None: nobody."""

_NS_PER_MS = 1_000_000
_KINDS = {int(kind): kind for kind in CHAINED_KINDS}
_NAME_BEGIN = len(b'{"stream":"')


class _FetchedRow(msgspec.Struct):
    id: int | None = None
    a: int | None = None


class _Fetched(msgspec.Struct):
    """A backfilled trade as it lies in the journal."""

    symbol: str
    data: _FetchedRow


_FETCHED = msgspec.json.Decoder(_Fetched)


@attrs.define
class _LastHeard:
    """What came last of streams whose ids do not chain, and of each market, as far as segments were read.

    Attributes:
        messages: By market, kind and the stream's name: the last message, and when it was received.
        received_ns: By market, when anything was received last.
    """

    messages: dict[tuple[Market, int, bytes], tuple[bytes, int]] = attrs.field(factory=dict)
    received_ns: dict[Market, int] = attrs.field(factory=dict)

    def read(self, block: Block) -> None:
        if block.source is not Source.STREAM:
            return
        self.received_ns[block.market] = max(block.received_ns, self.received_ns.get(block.market, 0))
        for number, text in zip(block.kinds, block.messages, strict=True):
            if number in WINDOW_KINDS:
                name = text[_NAME_BEGIN : text.find(b'"', _NAME_BEGIN)]
                self.messages[block.market, number, name] = text, block.received_ns


class Replayed(Protocol):
    """What is told of the ids in a segment: a chain, or who only wants to know them."""

    def replay(self, epoch: int, first: int, last: int, event_ms: int) -> None:
        """A message of a stream covers these ids."""

    def replay_fetched(self, epoch: int, first: int, last: int) -> None:
        """REST brought these; the note about that stands in the same frame."""


def resume(chains: Chains, catalogue: Catalogue, segments: Iterable[Path]) -> None:
    """Bring chains to where earlier runs left their streams, also those that are not recorded now.

    Args:
        chains: The chains.
        catalogue: Of the data folder.
        segments: The segments that are not in the catalogue, oldest first; nobody removes them meanwhile.

    Raises:
        OSError: a segment cannot be read.
    """
    heard = _LastHeard()
    # How far a lost catalogue's streams had come is known when all of its files are taken in.
    for last in () if catalogue.is_pending(ADOPT) else catalogue.last_ids():
        if last.kind in DERIVED_KINDS:
            continue  # Nobody heard it: the exchange may have been silent for long when it was written.
        track = chains.known(last.market, last.kind, last.symbol)
        heard.received_ns[last.market] = max(last.last_received_ns, heard.received_ns.get(last.market, 0))
        if track is not None:
            _go_on(track, chains, last)
    for row in catalogue.gaps():
        track = chains.known(MARKETS_BY_LABEL[row.market], Kind.from_label(row.kind), row.symbol)
        if track is None:
            continue
        # What was given up or fetched may lie behind the last message that came.
        track.chain.reach(row.epoch, row.last_id)
        if row.status == "open":
            track.chain.miss(missing_of(row))
    for path in segments:
        _read_segment(chains, heard, path)
    _break_off(chains, heard)


def _go_on(track: Track, chains: Chains, last: LastId) -> None:
    """A stream goes on from what the catalogue has of it."""
    last_ms = last.last_exchange_ns // _NS_PER_MS
    if track.stream.kind in WINDOW_KINDS:
        last_id = last_ms if last.last_id is None else last.last_id
        chains.break_off(track, Break("restart", Heard(last_id, last_ms)))
    elif last.last_id is not None:
        track.chain.resume(last.epoch, last.last_id, last_ms)


def _break_off(chains: Chains, heard: _LastHeard) -> None:
    """Of streams whose ids do not chain, go on from what the segments have."""
    for (market, number, _), (text, received_ns) in heard.messages.items():
        try:
            head: Any = head_decoder(market, Kind(number))(text).data
        except DECODE_ERRORS:
            continue
        track = chains.known(market, Kind(number), head.s)
        if track is not None:
            chains.break_off(track, Break("restart", heard_of(track.stream, head, received_ns)))
    for track in chains.tracks(Kind.FORCE_ORDER):
        if track.broken is not None:
            last_ms = heard.received_ns[track.stream.market] // _NS_PER_MS
            chains.break_off(track, Break("restart", Heard(last_ms, last_ms)))


def _read_segment(chains: Chains, heard: _LastHeard, path: Path) -> None:
    name = SegmentName.parse(path.name.removesuffix(JOURNAL_SUFFIX))
    assert name is not None, f"{path} is no segment"
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for item in read_segment(data, name):
            if not isinstance(item, Damage):
                heard.read(item)
                replay_block(partial(_chain, chains), item, partial(_read_note, chains))


def _chain(chains: Chains, market: Market, kind: Kind, symbol: str) -> Replayed | None:
    track = chains.known(market, kind, symbol)
    return None if track is None else track.chain


def replay_block(chain_of: ReplayedOf, block: Block, read_note: Callable[[bytes], None]) -> None:
    """Go over what an earlier run recorded, or another task of this one.

    Args:
        chain_of: Who is told of the ids of a stream; None: nobody.
        block: A block of a segment.
        read_note: Told of the notes in it.
    """
    epochs = block.epochs or [0] * len(block.messages)
    chained = [one for one in zip(block.kinds, epochs, block.messages, strict=True) if one[0] in CHAINED_KINDS]
    if block.source is Source.REST:
        for number, epoch, text in chained:
            _read_fetched(chain_of, block.market, Kind(number), epoch, text)
    else:
        for (number, epoch, _), head in zip(chained, _heads(block.market, chained), strict=True):
            # What cannot be read is None: the sealer quarantines it, and tells the ledger its id.
            if head is not None and (number != Kind.KLINE_1M or head.k.x):
                kind = _KINDS[number]
                chain = chain_of(block.market, kind, head.s)
                if chain is not None:
                    chain.replay(epoch, *covered(block.market, kind, head), head.E)
    # Notes stand behind the messages that they are about.
    for number, text in zip(block.kinds, block.messages, strict=True):
        if number == NOTE_KIND:
            read_note(text)


def _heads(market: Market, chained: Sequence[tuple[int, int, bytes]]) -> list[Any]:
    """What the loop has read of each message, None where it cannot be read; all at once, which costs half."""
    try:
        return [envelope.data for envelope in decode_heads([text for *_, text in chained])]
    except DECODE_ERRORS:
        return [_head(market, Kind(number), text) for number, _, text in chained]


def _head(market: Market, kind: Kind, text: bytes) -> Any:
    try:
        return head_decoder(market, kind)(text).data
    except DECODE_ERRORS:
        return None


def _read_fetched(chain_of: ReplayedOf, market: Market, kind: Kind, epoch: int, text: bytes) -> None:
    try:
        fetched = _FETCHED.decode(text)
    except DECODE_ERRORS:
        return
    found = fetched.data.a if kind is Kind.AGG_TRADE else fetched.data.id
    chain = chain_of(market, kind, fetched.symbol)
    if chain is not None and found is not None:
        chain.replay_fetched(epoch, found, found)


def _read_note(chains: Chains, text: bytes) -> None:
    note = decode_note(text)
    track = chains.known(MARKETS_BY_LABEL[note.market], Kind.from_label(note.kind), note.symbol)
    if track is None:
        return
    match note:
        case GapOpened(cause=cause) if cause == REMOVED:
            track.chain.reach(note.epoch, note.last_id)
        case GapOpened():
            track.chain.miss(missing_of(note))
        case GapGivenUp():
            track.chain.forget(note.epoch, note.first_id, note.last_id)
