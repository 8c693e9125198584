"""What the files lack and the ledger does not know: the gaps that `verify` calls unknown, for the ledger to learn them.

Asked once after a catalogue was made again from files, in a process of its own; memory is bounded as `verify`'s is.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from streamsvc.errors import DamagedError
from streamsvc.integrity.contents import KindCheck
from streamsvc.integrity.keys import COUNTED_KINDS
from streamsvc.integrity.report import Gap, Report
from streamsvc.persistence.catalogue import Catalogue
from streamsvc.persistence.gap_table import OPEN, REPAIRED, GapRow
from streamsvc.persistence.layout import DataFolder
from streamsvc.persistence.losses import RESTART
from streamsvc.schema import MARKETS_BY_LABEL

if TYPE_CHECKING:
    from streamsvc.persistence.manifest import SealedFile

_KINDS_BY_LABEL = {kind.label: kind for kind in COUNTED_KINDS}
_ATTEMPTS = 5
"""How often it begins again where days are compacted or removed beside it."""


def unknown_gaps(root: str) -> list[GapRow]:
    """The gaps between the ids in the files of a data folder that its ledger does not know.

    Args:
        root: `DATA_DIR`; it may be recorded into meanwhile.

    Raises:
        DamagedError: a file cannot be read, so that nobody knows what is in it.
        OSError: the disk failed.
    """
    folder = DataFolder(Path(root))
    errors: list[str] = []
    for _ in range(_ATTEMPTS):
        with Catalogue.open_to_read(folder.catalogue) as catalogue:
            files, ledger = catalogue.files_and_gaps()
            report = Report()
            checks = [
                _read(folder, kind, market, list(of_kind), ledger, report)
                for (kind, market), of_kind in groupby(sorted(files, key=_place), key=_place)
                if kind in _KINDS_BY_LABEL and market in MARKETS_BY_LABEL
            ]
            if not report.errors:
                for check in checks:
                    check.compare_ledger()
                return [_row_of(gap) for gap in report.gaps]
            errors = report.errors
            if {file.path for file in files} <= {file.path for file in catalogue.sealed_files()}:
                break
    raise DamagedError("; ".join(errors[:3]))


def _read(  # noqa: PLR0913, PLR0917 - one market and kind
    folder: DataFolder, kind: str, market: str, files: list[SealedFile], ledger: list[GapRow], report: Report
) -> KindCheck:
    """Read the ids in all files of a market and kind."""
    own = [row for row in ledger if (row.kind, row.market) == (kind, market) and row.status != REPAIRED]
    check = KindCheck(folder.root, _KINDS_BY_LABEL[kind], MARKETS_BY_LABEL[market], own, report, is_hashed=False)
    for file in files:
        check.add_file(file)
    return check


def _place(file: SealedFile) -> tuple[str, str]:
    return file.kind, file.market


def _row_of(gap: Gap) -> GapRow:
    return GapRow(
        market=gap.market,
        symbol=gap.symbol,
        kind=gap.kind,
        epoch=gap.epoch,
        first_id=gap.first_missing_id,
        last_id=gap.last_missing_id,
        first_time_ns=None,
        last_time_ns=None,
        cause=RESTART,
        connection=None,
        status=OPEN,
        reason=None,
        opened_ns=0,
        closed_ns=None,
    )
