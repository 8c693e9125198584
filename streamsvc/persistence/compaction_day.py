"""What is said of a day that is compacted: plain data that crosses between the publishing process and the builder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from streamsvc.persistence.manifest import SealedFile

BUILD_PREFIX = "compact-"
"""How the names of builders' folders below `DATA_DIR/tmp` begin."""


@attrs.frozen(order=True)
class Day:
    """One UTC day of one market and kind: a folder of the data set.

    Attributes:
        kind: The label of the kind.
        market: The label of the market.
        date: E.g. `2026-11-20`.
    """

    kind: str
    market: str
    date: str

    @property
    def path(self) -> str:
        """The folder below `DATA_DIR`."""
        return f"parquet/{self.kind}/market={self.market}/date={self.date}"


@attrs.frozen
class DayWork:
    """A day to be compacted.

    Attributes:
        day: Which one.
        files: All of its files, as the catalogue lists them.
    """

    day: Day
    files: tuple[SealedFile, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)


@attrs.frozen
class BuiltDay:
    """A day's folder as it is to be, built beside the data set with everything in it synced.

    Attributes:
        work: What it was made of.
        folder: The builder's own folder below `DATA_DIR/tmp`; the day's folder lies in it under its last name.
        made: The files that were made.
        merged: The paths, below `DATA_DIR`, of the files whose rows they hold. The day's other files lie in the new
            folder as well, the same files under the same names.
    """

    work: DayWork
    folder: str
    made: tuple[SealedFile, ...]
    merged: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows in the files that were made."""
        return sum(file.rows for file in self.made)
