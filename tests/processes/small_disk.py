"""A file system that is full when a test wants it to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MB = 1 << 20


def fill(disk: Path) -> None:
    """Have somebody else take all that is left of a disk."""
    with (disk / "filler").open("ab", buffering=0) as filler:
        for piece in (MB, 4096, 1):
            try:
                while filler.write(b"x" * piece) == piece:
                    pass
            except OSError:
                continue
