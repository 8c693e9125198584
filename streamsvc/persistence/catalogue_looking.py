"""What the live page and the metrics ask the catalogue: counts of gaps and files."""

from __future__ import annotations

from typing import Any

from streamsvc.persistence.catalogue import Catalogue

_GAP_FIELDS = ("market", "symbol", "kind", "first_id", "last_id", "cause", "status", "opened_ns")


class LookingCatalogue(Catalogue):
    """The catalogue as those who look at a running service need it."""

    def gap_counts(self) -> dict[tuple[str, str, str], int]:
        """Rows of the ledger by market, kind and status."""
        with self._connection() as connection:
            rows = connection.execute("select market, kind, status, count(*) from gaps group by 1, 2, 3")
            return {(str(market), str(kind), str(status)): int(count) for market, kind, status, count in rows}

    def latest_gaps(self, limit: int) -> list[dict[str, Any]]:
        """The newest rows of the ledger, newest first: market, symbol, kind, ids, cause, status, `opened_ms`."""
        query = f"select {', '.join(_GAP_FIELDS)} from gaps order by gap desc limit ?"  # noqa: S608 - our own names
        with self._connection() as connection:
            rows = [dict(zip(_GAP_FIELDS, row, strict=True)) for row in connection.execute(query, (limit,))]
        return [{**row, "opened_ms": row.pop("opened_ns") // 1_000_000} for row in rows]

    def file_totals(self) -> tuple[int, int]:
        """Files of the data set, and their bytes."""
        with self._connection() as connection:
            ((files, size_bytes),) = connection.execute("select count(*), coalesce(sum(size_bytes), 0) from files")
            return int(files), int(size_bytes)
