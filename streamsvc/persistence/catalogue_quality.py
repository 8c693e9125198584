"""What checks and reports ask the catalogue beside its files and gaps: about some time, and about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.persistence.catalogue_reading import ReadingCatalogue

if TYPE_CHECKING:
    from collections.abc import Iterable

    Span = tuple[int, int]
    """From a time in ns to before another."""

_FAULTS_MAX = 20

# A segment without a whole frame was received when nobody knows, and committed soon after.
_RECEIVED = (
    "coalesce(segments.last_received_ns, segments.committed_ns) >= ? "
    "and coalesce(segments.first_received_ns, segments.committed_ns) < ?"
)


class QualityCatalogue(ReadingCatalogue):
    """The catalogue as checks and reports need it; see `Catalogue.open_to_read`.

    A time is that of receipt: what a segment holds is told where any of it was received then.
    """

    def damage_between(self, span: Span) -> dict[str, int]:
        """Bytes of journal that held no whole frame, by reason."""
        return self._sums("reason, sum(size_bytes)", "damage", "reason", span)

    def quarantined_between(self, span: Span) -> dict[str, int]:
        """Messages that sealers could not record, by reason."""
        return self._sums("reason, sum(quarantined.messages)", "quarantined", "reason", span)

    def quarantined_of_streams(self, span: Span) -> dict[tuple[str, str, str], int]:
        """The same by market, symbol and kind, as far as it could be read of which stream a message was."""
        columns = "market, symbol, kind"
        query = f"select {columns}, count(*) from quarantined_ids join segments using (segment) where {_RECEIVED} "  # noqa: S608 - our own text
        with self._connection() as connection:
            rows = connection.execute(f"{query} group by {columns}", span)
            return {(market, symbol, kind): count for market, symbol, kind, count in rows}

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file itself, read from its first page to its last; no more than a few."""
        with self._connection() as connection:
            rows: Iterable[tuple[str]] = connection.execute(f"pragma integrity_check({_FAULTS_MAX})")
            return [str(text) for (text,) in rows if text != "ok"]

    def _sums(self, columns: str, table: str, by: str, span: Span) -> dict[str, int]:
        query = f"select {columns} from {table} join segments using (segment) where {_RECEIVED} group by {by}"  # noqa: S608 - our own text
        with self._connection() as connection:
            return {str(key): int(total) for key, total in connection.execute(query, span)}
