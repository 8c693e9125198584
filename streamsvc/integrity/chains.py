"""The chains of all streams: what the intake asks them, what the ledger is told of them, what the backfill mends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from streamsvc.gap import REMOVED, Note, StreamCounted, encode_note
from streamsvc.integrity.continuity import LAG_SEC_MAX, Missing, Verdict
from streamsvc.integrity.ledger import Overdue
from streamsvc.integrity.listening import WINDOW_KINDS, Break, Heard, may_be_missing
from streamsvc.integrity.notes import filled_notes, opened_note
from streamsvc.integrity.sequence import covered
from streamsvc.integrity.track import Track, heard_of
from streamsvc.log import logger
from streamsvc.schema import STREAM_KINDS, Kind, Market

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from streamsvc.venues.venue import Stream

_CAUSES = {"idle": "stall", "ping": "stall", "repair": "stall", "shed": "shed", "disk": "disk", REMOVED: REMOVED}
"""What the ledger calls the end of a connection; any other is a `disconnect`."""


_NS_PER_MS = 1_000_000
SEEN_MAX = 250_000
"""Messages of all streams, whose ids do not chain, that are remembered while two connections bring them, in each of two
generations. Twice 250,000 are 50 MB; they last for `LAG_SEC_MAX` up to 8,000 such messages a second."""


class Chains:
    """The chains of streams: of those that are recorded, and of those that were.

    A stream that was removed is known on: what it lacks is mended as long as that can be, and where it had come to is
    where it goes on when it is added again. What the exchange sent in between was not asked for: it is told to the
    ledger with the cause `removed`, and nobody fetches it.

    Args:
        streams: Every stream that is recorded.

    Attributes:
        has_epochs: Whether any stream's ids have ever started over.
        duplicates: Messages that were seen already.
        doubled: Streams that two connections bring, or have brought until a moment ago.
        broken: Streams without chained ids to which nobody listens, or that have said nothing since.
        stream_of: Makes the stream of a market, kind and symbol that an earlier run recorded and this one does not.
    """

    def __init__(self, streams: Iterable[Stream]) -> None:
        self._tracks = {(stream.market, stream.kind, stream.symbol): Track(stream) for stream in streams}
        self._holed: dict[Track, None] = {}  # Where something was missing when we looked last.
        self._fresh: dict[Track, None] = {}  # Where something has changed that the ledger was not told.
        self.has_epochs = False
        self.duplicates = 0
        self.doubled: set[Track] = set()
        self.broken: set[Track] = set()
        self.stream_of: Callable[[Market, Kind, str], Stream] | None = None
        self._seen_count = 0
        self._seen_since = -math.inf

    def add(self, stream: Stream) -> None:
        """A stream is recorded from now on."""
        key = stream.market, stream.kind, stream.symbol
        track = self._tracks.get(key)
        if track is None:
            self._tracks[key] = Track(stream)
            return
        track.begin(stream)
        if track.broken is not None:
            self.broken.add(track)

    def known(self, market: Market, kind: Kind, symbol: str) -> Track | None:
        """The track of a stream that is recorded, or that earlier runs have recorded; None: the kind is no stream's."""
        track = self.find(market, kind, symbol)
        if track is None and self.stream_of is not None and kind in STREAM_KINDS[market]:
            track = self._tracks[market, kind, symbol] = Track(self.stream_of(market, kind, symbol))
            track.end()
        return track

    def remove(self, stream: Stream) -> None:
        """A stream that no connection carries is not recorded any more."""
        track = self.track(stream)
        track.chain.unshare()
        self.doubled.discard(track)
        self.broken.discard(track)
        track.end()

    def is_carried(self, stream: Stream) -> bool:
        """Whether a connection carries a stream, or is being made to."""
        return bool(self.track(stream).carriers)

    def track(self, stream: Stream) -> Track:
        """A stream's track, on whatever route it is subscribed."""
        return self._tracks[stream.market, stream.kind, stream.symbol]

    def find(self, market: Market, kind: Kind, symbol: str) -> Track | None:
        """A stream's track, None if it was never recorded."""
        return self._tracks.get((market, kind, symbol))

    def tracks(self, kind: Kind) -> list[Track]:
        """The tracks of a kind."""
        return [track for track in self._tracks.values() if track.stream.kind is kind]

    def takes(self, track: Track, head: Any, now: float, connection: int = 0) -> bool:
        """Whether a message of a chained kind is recorded: it is none that was seen already."""
        stream, chain, epoch = track.stream, track.chain, track.chain.epoch
        if stream.kind is Kind.KLINE_1M and not head.k.x:
            return True  # Only closed candles chain.
        first, last = covered(stream.market, stream.kind, head)
        verdict = chain.take(first, last, head.E, now, connection)
        if verdict is Verdict.DUPLICATE:
            self.duplicates += 1
            return False
        if track.takeover is not None and verdict is Verdict.NEW:
            track.takeover.primary = connection
            if track.takeover.held:
                self.duplicates += track.takeover.passed(last + 1) if chain.epoch == epoch else track.takeover.clear()
        if chain.epoch != epoch:
            self.has_epochs = True
            track.lose_book()
            logger.warning("ids_started_over", **track.labels, epoch=chain.epoch, first_id=first)
        if chain.missing or chain.filled:
            self._holed[track] = self._fresh[track] = None
        if track.book is not None:
            track.take_update(head)
        return True

    def take_fetched(self, stream: Stream, epoch: int, number: int) -> bool:
        """Whether an id that REST brought was missing; it is no longer."""
        track = self.track(stream)
        self._fresh[track] = None
        return track.chain.take_fetched(epoch, number, number)

    def notes(self, now_ns: int) -> list[bytes]:
        """Notes for the ledger of what has changed: what is missing, and what has come; they are given once.

        Args:
            now_ns: The wall clock.
        """
        return [text for track in list(self._fresh) for text in self.notes_of(track, now_ns)]

    def notes_of(self, track: Track, now_ns: int) -> list[bytes]:
        """The same of one stream, where a frame brings messages of that alone."""
        if track not in self._fresh:
            return []
        del self._fresh[track]
        chain = track.chain
        notes: list[Note] = []
        for one in chain.untold():
            notes.append(opened_note(track, one, now_ns))
            if one.cause == REMOVED:  # Nobody asked for it, so nobody waits for it.
                chain.forget(one.epoch, one.first, one.last)
        notes += filled_notes(track, now_ns)
        chain.filled.clear()
        if not chain.missing:
            self._holed.pop(track, None)
        return [encode_note(note) for note in notes]

    def overdue(self, before: float) -> list[Overdue]:
        """What has been missing since `before` (monotonic) or longer; each range is given once."""
        return [
            Overdue(track.stream, track.connection, one) for track in self._holed for one in track.chain.overdue(before)
        ]

    def told(self, market: Market) -> list[tuple[Stream, Missing]]:
        """What of a market has been missing for longer than the grace time, the oldest first."""
        found = [
            (track.stream, one)
            for track in self._holed
            for one in track.chain.missing
            if one.is_announced and track.stream.market is market
        ]
        return sorted(found, key=lambda one: one[1].since)

    def forget(self, stream: Stream, missing: Missing) -> None:
        """Nobody will bring these ids any more."""
        self.track(stream).chain.forget(missing.epoch, missing.first, missing.last)

    def has_missed(self, stream: Stream, last_id: int, now: float) -> bool:
        """Whether the exchange, whose last id this is, has sent more than came; that is missing from now on."""
        track = self.track(stream)
        if not track.is_recorded:
            return False  # It was removed while the exchange was asked.
        has_missed = track.chain.pass_over(last_id, now)
        if track.chain.missing:
            self._holed[track] = self._fresh[track] = None
        return has_missed

    def books(self, market: Market) -> list[Track]:
        """The streams of order books of a market that are recorded now."""
        return [track for track in self._tracks.values() if track.book is not None and track.stream.market is market]

    def is_repeated(self, track: Track, key: Hashable, order: int, connection: int, now: float) -> bool:
        """Whether a message of a kind without chained ids is dropped, because another connection brought it."""
        if track.seen.is_repeated(key, order, connection):
            self.duplicates += 1
            return True
        self._seen_count += 1
        if self._seen_count >= SEEN_MAX:
            self._begin_generation(now)
        return False

    def dialled(self, streams: Iterable[Stream], connection: int, now: float) -> None:
        """An attempt begins: where another connection carries its streams, both are to be compared from now on."""
        for stream in streams:
            track = self.track(stream)
            track.carriers.add(connection)
            if len(track.carriers) > 1:
                self.doubled.add(track)
                track.chain.share(now)

    def connected(self, streams: Iterable[Stream], connection: int, now: float, now_ns: int) -> None:
        """The attempt carries its streams from now on."""
        for stream in streams:
            track = self.track(stream)
            track.connection = connection
            if track.broken is not None and stream.kind is Kind.FORCE_ORDER:
                self._listened(track, Heard(now_ns // _NS_PER_MS, now_ns // _NS_PER_MS), now)
            track.open.add(connection)

    def listened(self, track: Track, head: Any, received_ns: int, now: float) -> None:
        """The first message has come of a stream in `broken`."""
        self._listened(track, heard_of(track.stream, head, received_ns), now)

    def _listened(self, track: Track, behind: Heard, now: float) -> None:
        broken, track.broken = track.broken, None
        self.broken.discard(track)
        if broken is None:
            return
        missing = may_be_missing(track.stream, broken.before, behind)
        if missing is not None:
            times = broken.before.last_ms, behind.last_ms
            track.chain.missing.append(Missing(0, missing.first, missing.last, now, *times, broken.cause))
            self._holed[track] = self._fresh[track] = None

    def resubscribed(self, stream: Stream, now_ns: int) -> None:
        """A stream was subscribed anew since it said nothing: what it lacks until its next message is due to that."""
        track = self.track(stream)
        if len(track.open) < 2:
            track.chain.interrupt("stall")
            self._break_off_heard(track, "stall", now_ns)

    def _break_off_heard(self, track: Track, cause: str, heard_ns: int) -> None:
        """Nobody listens to a stream; its connection brought its last message, of whichever stream, at `heard_ns`."""
        if track.stream.kind in WINDOW_KINDS and track.broken is None and (before := track.heard(heard_ns)) is not None:
            self.break_off(track, Break(cause, before))

    def break_off(self, track: Track, broken: Break) -> None:
        """Nobody listens to a stream whose ids do not chain."""
        track.broken = broken
        if track.is_recorded:
            self.broken.add(track)

    def disconnected(self, streams: Sequence[Stream], connection: int, cause: str, now: float, heard_ns: int) -> None:
        """An attempt has ended; a hole before the next message is due to that, unless another one carries its streams.

        What that one brings is compared for a while with what this one brought.
        """
        for stream in streams:
            track = self.track(stream)
            track.carriers.discard(connection)
            track.open.discard(connection)
            track.chain.leave(connection)
            track.seen.leave(connection)
            if track.open:
                track.connection = max(track.open)
                track.seen_until = now + LAG_SEC_MAX
            else:
                why = _CAUSES.get(cause, "disconnect")
                track.chain.stop(why)
                self._break_off_heard(track, why, heard_ns)

    def lack(self, streams: Iterable[Stream], now: float) -> bool:
        """Whether something of these streams is missing that a connection which lags may still bring."""
        return any(one.since > now - LAG_SEC_MAX for stream in streams for one in self.track(stream).chain.missing)

    def forget_seen(self, now: float) -> None:
        """Compare no longer what one connection has brought alone for long enough, or what came too long ago."""
        for track in list(self.doubled):
            if len(track.carriers) < 2 and now >= track.seen_until:
                track.seen.clear()
                track.chain.unshare()
                self.doubled.discard(track)
        if now - self._seen_since >= LAG_SEC_MAX:
            self._begin_generation(now)

    def _begin_generation(self, now: float) -> None:
        for track in self.doubled:
            track.seen.begin_generation()
        self._seen_count, self._seen_since = 0, now

    def lose(self, stream: tuple[Market, Kind, str], missing: Missing) -> Overdue | None:
        """The journal has lost what came: it is missing from now on. None if it is no stream."""
        track = self.known(*stream)
        if track is None:
            return None
        track.chain.miss(missing)
        track.lose_book()  # What is recorded of it has a hole, which only a snapshot ends.
        self._holed[track] = None
        return Overdue(track.stream, track.connection, missing)

    def count(self, stream: tuple[Market, Kind, str], last: tuple[int, int, int | None]) -> bytes | None:
        """A note of how far a stream has come, None if it is no stream; see `gap.StreamCounted`.

        Args:
            stream: The stream.
            last: Epoch, id and event time (ms) where the data set had it: it goes on from there if nothing came yet.
        """
        track = self.known(*stream)
        if track is None:
            return None
        chain = track.chain
        if chain.expected_id is None:
            chain.resume(*last)
        assert chain.expected_id is not None
        return encode_note(
            StreamCounted(
                **track.labels,
                epoch=chain.epoch,
                next_id=chain.expected_id,
                event_ns=None if chain.event_ms is None else chain.event_ms * _NS_PER_MS,
                missing=[(one.first, one.last) for one in chain.missing if one.epoch == chain.epoch],
            )
        )

    def resumed(self, *, except_for: Iterable[Stream] = ()) -> None:
        """The chains go on from an earlier run: what they miss is to be told and mended, and the next hole is its end.

        Replaying what the journal holds has made the chains forget that they were interrupted.

        Args:
            except_for: Streams that were not recorded on purpose when that run ended.
        """
        left_alone = {self.track(stream) for stream in except_for}
        for track in self._tracks.values():
            if track.is_recorded and track not in left_alone:
                track.chain.interrupt("restart")
            else:
                track.leave()
        self._holed.update({track: None for track in self._tracks.values() if track.chain.missing})
        self._fresh.update(self._holed)
        self.has_epochs = any(track.chain.epoch for track in self._tracks.values())
