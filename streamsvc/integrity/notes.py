"""What has changed in a stream's chain, as notes for the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.gap import GapFilled, GapOpened
from streamsvc.integrity.sequence import Coverage, IdRange

if TYPE_CHECKING:
    from streamsvc.integrity.continuity import Missing
    from streamsvc.integrity.track import Track

_NS_PER_MS = 1_000_000


def opened_note(track: Track, one: Missing, now_ns: int) -> GapOpened:
    """Ids of a stream are missing."""
    return GapOpened(
        **track.labels,
        epoch=one.epoch,
        first_id=one.first,
        last_id=one.last,
        first_time_ns=None if one.before_ms is None else one.before_ms * _NS_PER_MS,
        last_time_ns=None if one.after_ms is None else one.after_ms * _NS_PER_MS,
        cause=one.cause,
        connection=track.connection,
        opened_ns=now_ns,
    )


def filled_notes(track: Track, now_ns: int) -> list[GapFilled]:
    """What the ledger calls missing and has come since."""
    notes = []
    for epoch, was_announced in dict.fromkeys((one.epoch, one.is_announced) for one in track.chain.filled):
        coverage = Coverage()
        coverage.add(
            IdRange(one.first, one.last)
            for one in track.chain.filled
            if (one.epoch, one.is_announced) == (epoch, was_announced)
        )
        notes += [
            GapFilled(
                **track.labels,
                epoch=epoch,
                first_id=part.first,
                last_id=part.last,
                closed_ns=now_ns,
                was_announced=was_announced,
            )
            for part in coverage.ranges
        ]
    return notes
