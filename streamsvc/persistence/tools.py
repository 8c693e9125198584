"""What the persistence nursery is given from outside, so that tests can give it something else."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from streamsvc.persistence.files import Files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from streamsvc.persistence.catalogue import Catalogue
    from streamsvc.persistence.compaction_day import BuiltDay, DayWork
    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.losses import Losses, SeenRange
    from streamsvc.persistence.manifest import Manifest
    from streamsvc.schema import Market


class Seal(Protocol):
    """Makes Parquet files of a segment, or reads one back; see `seal.seal_segment`."""

    def __call__(self, segment: Path, tmp: Path, /) -> Awaitable[Manifest]:
        """Seal the segment at the first path in a folder below the second."""


async def _unguarded(part: Callable[[], Awaitable[object]]) -> None:
    await part()


async def _find_nothing(_root: str) -> Sequence[GapRow]:
    return ()


@attrs.frozen(kw_only=True)
class Tools:
    """What the persistence nursery is given from outside.

    Attributes:
        run_blocking: Runs a blocking function and its arguments: in a thread, or in line under a mock clock.
        seal: Makes Parquet files of a segment: in a worker process (`workers.Sealers.seal`), or in line.
        build_day: Builds a compacted day: in a process (`workers.Sealers.build_day`), or in line.
        wall_ns: The wall clock, ns since 1970.
        rows_by_symbol: Rows accepted since the start, by market and symbol.
        reconnects: How often connections had to be made again since the start, for the log.
        files: The disk.
        token: 32 random bits that no other run has.
        resume: Reads where continuity goes on from, in the catalogue and in the segments that are not sealed, oldest
            first. Blocks; called before anything is sealed.
        read_ids: Reads the ids in a segment. Blocks.
        audit: Looks for what the files below `DATA_DIR` lack and the ledger does not know: in a process, or in line.
        tell_losses: Told what the loop must know of what was lost; called in the loop.
        tell_waiting: Told, for people, why the start waits, and after how many seconds it is told again.
        guard: Runs a part of the nursery beside the writer. When the part fails it keeps the failure and has the
            service stop, so that the writer still writes what it holds.
    """

    run_blocking: Callable[..., Awaitable[Any]]
    seal: Seal
    build_day: Callable[[str, DayWork], Awaitable[BuiltDay]]
    wall_ns: Callable[[], int]
    rows_by_symbol: Callable[[], Mapping[tuple[Market, str], int]]
    reconnects: Callable[[], int] = lambda: 0
    files: Files = attrs.field(factory=Files)
    token: int = attrs.field(factory=lambda: secrets.randbits(32))
    resume: Callable[[Catalogue, Sequence[Path]], None] = lambda _catalogue, _segments: None
    read_ids: Callable[[Path], Sequence[SeenRange]] = lambda _segment: ()
    audit: Callable[[str], Awaitable[Sequence[GapRow]]] = _find_nothing
    tell_losses: Callable[[Losses], None] = lambda _losses: None
    tell_waiting: Callable[[str, float], None] = lambda _text, _again_sec: None
    guard: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]] = _unguarded
