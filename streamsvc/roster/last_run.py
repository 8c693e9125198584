"""Where the streams go on from after a start, and which of them the last run had left alone on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.integrity.resume import resume
from streamsvc.log import logger
from streamsvc.persistence.files import DISK_FAULTS
from streamsvc.roster.store import left_alone, recorded_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamsvc.intake import Intake
    from streamsvc.persistence.catalogue import Catalogue
    from streamsvc.roster.store import Recorded, Store
    from streamsvc.schema import Kind, Market
    from streamsvc.venues.venue import Stream, Venue


class LastRun:
    """What the last run recorded when it ended. Its methods block.

    Args:
        store: Where it is kept.
        venues: The markets.
    """

    def __init__(self, store: Store, venues: Mapping[Market, Venue]) -> None:
        self._store = store
        self._venues = venues
        self._recorded: Recorded | None = None

    def read(self) -> Recorded:
        """What it recorded; nothing, where nobody knows."""
        try:
            self._recorded = self._store.read()
        except OSError as error:
            logger.error("symbols_not_kept", detail=str(error))
        return self._recorded or {}

    def go_on(self, intake: Intake, catalogue: Catalogue, segments: Sequence[Path]) -> None:
        """Bring all streams to where earlier runs left them, before the first connection; from now on ours is the last.

        Args:
            intake: Who takes the streams in.
            catalogue: Of the data folder.
            segments: The segments that are not in the catalogue, oldest first.
        """
        streams = intake.health.streams()
        intake.chains.stream_of = self._stream
        resume(intake.chains, catalogue, segments)
        intake.chains.resumed(except_for=left_alone(self._recorded, streams) if self._recorded is not None else ())
        try:
            self.keep(recorded_of(streams))
        except DISK_FAULTS as error:
            logger.error("symbols_not_kept", detail=str(error))

    def keep(self, recorded: Recorded) -> None:
        """Keep what is recorded now for the next start; raises what a disk raises."""
        self._store.write(recorded)

    def _stream(self, market: Market, kind: Kind, symbol: str) -> Stream:
        return self._venues[market].stream(symbol, kind)
