"""Where things lie in `DATA_DIR`, and the names of segments.

A segment's name is unique and never made from a clock: the run's number (one more than any that the folder knows), a
random token, and a sequence. Names sort in the order in which segments were written, over restarts as well.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"(\d{6,10})-([0-9a-f]{8})-(\d{6,10})")
JOURNAL_SUFFIX = ".journal"


def date_of(time_ns: int) -> str:
    """The UTC day of a time (pure)."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).date().isoformat()


@attrs.frozen(order=True)
class SegmentName:
    """The identity of a segment and of everything made from it.

    Attributes:
        run: The number of the run that wrote it, from 1.
        token: 32 random bits of that run.
        sequence: From 0 within the run.
    """

    run: int
    token: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.run:06d}-{self.token:08x}-{self.sequence:06d}"

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """The name that `str` wrote, None for any other text."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        name = cls(int(match[1]), int(match[2], 16), int(match[3]))
        return name if str(name) == text else None


@attrs.frozen
class DataFolder:
    """The paths below `DATA_DIR`."""

    root: Path

    @property
    def journal(self) -> Path:
        """Segments that are open or wait for their sealing."""
        return self.root / "journal"

    @property
    def failed(self) -> Path:
        """Segments that could not be sealed."""
        return self.journal / "failed"

    @property
    def parquet(self) -> Path:
        """The data set: nothing but published files."""
        return self.root / "parquet"

    @property
    def archive(self) -> Path:
        """Sealed segments, compressed; see `archive`."""
        return self.root / "archive"

    @property
    def tmp(self) -> Path:
        """What sealers prepare."""
        return self.root / "tmp"

    @property
    def quarantine(self) -> Path:
        """Text that could not be recorded, with its reason."""
        return self.root / "quarantine"

    @property
    def catalogue(self) -> Path:
        """The SQLite file."""
        return self.root / "catalogue.sqlite"

    @property
    def ledger(self) -> Path:
        """The changes of the gap ledger, for a catalogue that is made again."""
        return self.root / "ledger.jsonl"

    @property
    def lock(self) -> Path:
        """The file that one instance holds locked."""
        return self.root / "streamsvc.lock"

    def segment(self, name: SegmentName) -> Path:
        """The journal file of a segment."""
        return self.journal / f"{name}{JOURNAL_SUFFIX}"

    def segments(self) -> list[SegmentName]:
        """The segments in the journal, oldest first. Links and foreign files are not followed."""
        return _segments_in(self.journal)

    def failed_segments(self) -> list[SegmentName]:
        """The segments that were set aside, oldest first."""
        return _segments_in(self.failed)


def _segments_in(folder: Path) -> list[SegmentName]:
    found = []
    for path in folder.iterdir():
        name = SegmentName.parse(path.name.removesuffix(JOURNAL_SUFFIX))
        if name is not None and path.name.endswith(JOURNAL_SUFFIX) and path.is_file() and not path.is_symlink():
            found.append(name)
    return sorted(found)
