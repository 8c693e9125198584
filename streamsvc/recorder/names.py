"""The files of a recorder: the live one, those that were rotated, and their order.

- `trades.jsonl`: written to
- `trades_20251104_152030.jsonl`: rotated, at that time in UTC
- `trades_20251104_152030_2.jsonl`: rotated in the same second
- `trades_20251104_152029.jsonl.gz`: rotated and compressed
- `trades_20251104_152030.jsonl.gz.part`: being compressed
- `trades.jsonl.torn`: what was cut off from an end
- `trades.jsonl.lock`: held by the recorder
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

_STAMP = "%Y%m%d_%H%M%S"
PART, GZ = ".part", ".gz"


@attrs.frozen(order=True)
class RotatedName:
    """When a file was rotated: names order files as their records were written.

    Attributes:
        stamp: The time in UTC, `20251104_152030`.
        number: 1 for the first in a second.
    """

    stamp: str
    number: int = 1

    def after(self, now: datetime) -> Self:
        """The name that follows this one: that of the time, unless it is not later, as when clocks are set back."""
        stamp = now.strftime(_STAMP)
        return type(self)(stamp) if stamp > self.stamp else attrs.evolve(self, number=self.number + 1)


FIRST = RotatedName("", 0)
"""Before all others."""


@attrs.frozen
class RotatedFile:
    """A file that was rotated.

    Attributes:
        name: When.
        path: Where: its plain form as long as that is there.
    """

    name: RotatedName
    path: Path

    @property
    def is_compressed(self) -> bool:
        """Whether only its compressed form is there."""
        return self.path.suffix == GZ


def rotated_path(live: Path, name: RotatedName) -> Path:
    """Where a rotated file lies before it is compressed."""
    number = f"_{name.number}" if name.number > 1 else ""
    return live.with_name(f"{live.stem}_{name.stamp}{number}{live.suffix}")


def beside(live: Path, suffix: str) -> Path:
    """A file that goes with another."""
    return live.with_name(live.name + suffix)


def rotated_files(live: Path) -> list[RotatedFile]:
    """The rotated files of a live one, oldest first, each once. A folder that is not there has none."""
    found: dict[RotatedName, Path] = {}
    for name, path in _named(live, rf"{re.escape(live.suffix)}(?:{re.escape(GZ)})?"):
        if name not in found or path.suffix != GZ:
            found[name] = path
    return [RotatedFile(name, found[name]) for name in sorted(found)]


def unfinished_files(live: Path) -> list[Path]:
    """Compressed forms that were never finished."""
    return [path for _, path in _named(live, re.escape(live.suffix + GZ + PART))]


def _named(live: Path, suffix: str) -> Iterator[tuple[RotatedName, Path]]:
    wanted = re.compile(rf"{re.escape(live.stem)}_(\d{{8}}_\d{{6}})(?:_(\d+))?{suffix}")
    if not live.parent.is_dir():
        return
    for path in live.parent.iterdir():
        if match := wanted.fullmatch(path.name):
            yield RotatedName(match[1], int(match[2] or 1)), path
