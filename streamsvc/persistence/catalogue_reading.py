"""What a reader of the data set asks the catalogue: which files a time lies in, and what is missing there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamsvc.persistence.catalogue import Catalogue

if TYPE_CHECKING:
    from streamsvc.schema import Kind, Market


class ReadingCatalogue(Catalogue):
    """The catalogue as a reader needs it; see `Catalogue.open_to_read`. Times are half-open: first <= time < end."""

    def markets_of(self, kind: Kind, symbol: str) -> list[str]:
        """The markets, by label, in which a symbol's kind was recorded or should have been."""
        query = (
            "select market from streams where kind = ?1 and symbol = ?2 "
            "union select market from gaps where kind = ?1 and symbol = ?2 order by market"
        )
        with self._connection() as connection:
            return [str(market) for (market,) in connection.execute(query, (kind.label, symbol))]

    def files_between(self, kind: Kind, market: Market, first_ns: int, end_ns: int) -> list[str]:
        """The files, below `DATA_DIR`, that may hold rows of a time, oldest day first."""
        query = (
            "select path from files where kind = ? and market = ? and last_exchange_ns >= ? and first_exchange_ns < ? "
            "order by date, path"
        )
        with self._connection() as connection:
            rows = connection.execute(query, (kind.label, market.label, first_ns, end_ns))
            return [str(path) for (path,) in rows]

    def segments_received(self, first_ns: int, end_ns: int) -> list[str]:
        """The names of the sealed segments that hold messages and were received in a time, or partly."""
        query = "select segment from segments where messages > 0 and last_received_ns >= ? and first_received_ns < ?"
        with self._connection() as connection:
            return [str(segment) for (segment,) in connection.execute(query, (first_ns, end_ns))]

    def has_had_gap(self, kind: Kind, market: Market, symbol: str, first_ns: int, end_ns: int) -> bool:
        """Whether a gap of a stream, repaired or not, touches a time; see `missing`."""
        query = (
            "select exists (select 1 from gaps where kind = ? and market = ? and symbol = ? "
            "and coalesce(last_time_ns, ?) >= ? and coalesce(first_time_ns, ?) < ?)"
        )
        values = (kind.label, market.label, symbol, first_ns, first_ns, first_ns, end_ns)
        with self._connection() as connection:
            ((found,),) = connection.execute(query, values)
            return bool(found)

    def missing(
        self, kind: Kind, market: Market, symbol: str, first_ns: int, end_ns: int
    ) -> list[tuple[int | str | None, ...]]:
        """The gaps of a stream that touch a time and are not repaired, in id order: all columns of the ledger.

        They are number, market, symbol, kind, epoch, first and last id, first and last time, cause, connection,
        status, reason, and when it was opened and closed; times in ns. A gap whose beginning or end is not known in
        time reaches as far as it can.
        """
        query = (
            "select gap, market, symbol, kind, epoch, first_id, last_id, first_time_ns, last_time_ns, cause, "
            "connection, status, reason, opened_ns, closed_ns from gaps "
            "where kind = ? and market = ? and symbol = ? and status <> 'repaired' "
            "and coalesce(last_time_ns, ?) >= ? and coalesce(first_time_ns, ?) < ? order by epoch, first_id, gap"
        )
        values = (kind.label, market.label, symbol, first_ns, first_ns, first_ns, end_ns)
        with self._connection() as connection:
            return list(connection.execute(query, values))
