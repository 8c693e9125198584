"""What a start finds in the data folder and makes of it, before the first message is recorded. Quick: it reads names.

Recovery is the normal path: the segments that lie there are handed to the sealers like any other, oldest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.errors import DamagedError, UsageError
from streamsvc.log import logger
from streamsvc.persistence.catalogue import RESTORE
from streamsvc.persistence.compaction import make_compactor
from streamsvc.persistence.files import no_room_mapped
from streamsvc.persistence.journal import HEADER_BYTES, read_header
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.segment import ClosedSegment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamsvc.persistence.publish import Publisher


@attrs.frozen
class Recovered:
    """What a start found.

    Attributes:
        run: Number and token of the new run, with the sequence of its first segment.
        segments: Segments of earlier runs that are not in the data set yet, oldest first.
    """

    run: SegmentName
    segments: list[ClosedSegment]


def recover(publisher: Publisher, token: int) -> Recovered:
    """Prepare a data folder whose lock we hold. Blocks; doing it twice is fine.

    Args:
        publisher: Of the folder.
        token: 32 random bits.

    Raises:
        NewerVersionError: a newer version wrote the catalogue or a segment; nothing was changed.
        DamagedError: a catalogue that was just made is damaged.
        DiskFullError: there is no room even for the catalogue. Call it again later.
        OSError: the disk failed.
        UsageError: the folder cannot be written.
    """
    folder = publisher.folder
    try:
        with no_room_mapped():
            for path in (folder.journal, folder.failed, folder.parquet, folder.tmp, folder.quarantine):
                path.mkdir(exist_ok=True)
    except OSError as fault:
        raise UsageError(f"DATA_DIR {folder.root} cannot be used: {fault.strerror}") from fault
    publisher.files.sync_folder(folder.root)
    names = folder.segments()
    for name in names:
        with folder.segment(name).open("rb") as file:
            read_header(file.read(HEADER_BYTES))
    _prepare_catalogue(publisher, names)
    make_compactor(publisher).recover()
    for path in folder.tmp.iterdir():
        if path.is_dir() and not path.is_symlink():
            publisher.files.remove_tree(path)
    known = max((name.run for name in [*names, *folder.failed_segments()]), default=0)
    run = publisher.catalogue.begin_run(known + 1, token, publisher.wall_ns())
    segments = []
    for name in names:
        if publisher.catalogue.is_committed(str(name)):
            publisher.discard(name)
        else:
            segments.append(ClosedSegment(name, folder.segment(name).stat().st_size))
    if segments:
        logger.info(
            "journal_recovered", segments=len(segments), size_bytes=sum(segment.size_bytes for segment in segments)
        )
    return Recovered(SegmentName(run, token, 0), segments)


def _prepare_catalogue(publisher: Publisher, names: Iterable[SegmentName]) -> None:
    """Have a catalogue and the ledger's file; each is made again from the other where it is lost or damaged.

    A recorder must not stay down for a damaged catalogue: it is kept aside, and all that a new one must know lies in
    files. What is committed with segments that are still there will be committed again.
    """
    catalogue, ledger = publisher.catalogue, publisher.ledger
    try:
        catalogue.prepare()
    except DamagedError as fault:
        aside = catalogue.set_aside(publisher.files.replace)
        publisher.files.sync_folder(publisher.folder.root)
        logger.error("catalogue_rebuilt", detail=str(fault), moved_to=aside.name)
        catalogue.prepare()
    has_file = ledger.prepare()
    if catalogue.is_pending(RESTORE):
        catalogue.restore(ledger.changes(without={str(name) for name in names}))
    elif not has_file and (rows := catalogue.gaps()):
        ledger.rewrite(rows)
