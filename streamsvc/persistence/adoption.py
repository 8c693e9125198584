"""Files of the data set that no catalogue knows: after a catalogue was lost, they are taken into the new one.

That is the only way they come about: a file is renamed into the data set while its segment still lies in the journal,
and a start seals that segment again, over the same names.

What the lost catalogue's streams had come to is known when all its files are taken in; only then the loop is told, and
the audit looks for what the files lack and nobody knows of: above all the ids between the lost run and this one.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.errors import DamagedError, DiskFullError
from streamsvc.log import logger
from streamsvc.persistence.catalogue import ADOPT, AUDIT
from streamsvc.persistence.compaction_names import is_compacted
from streamsvc.persistence.layout import SegmentName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamsvc.persistence.gap_table import GapRow
    from streamsvc.persistence.losses import Losses
    from streamsvc.persistence.publish import Publisher
    from streamsvc.persistence.recovery import Recovered
    from streamsvc.persistence.tools import Seal


@attrs.frozen
class Adoption:
    """Takes in what a lost catalogue knew.

    Attributes:
        publisher: Of the data folder.
        seal: Reads a file, in a process of its own or in line; see `seal.seal_segment`.
        run_blocking: Runs a blocking function in a thread.
        recovered: What the start found: files of this run and of unsealed segments are none of ours.
        disk_retry_sec: How long to wait for a full disk.
        audit: Looks for what the files lack; see `tools.Tools`.
        tell_losses: Told what the loop must know.
    """

    publisher: Publisher
    seal: Seal
    run_blocking: Callable[..., Awaitable[Any]]
    recovered: Recovered
    disk_retry_sec: float
    audit: Callable[[str], Awaitable[Sequence[GapRow]]]
    tell_losses: Callable[[Losses], None]

    async def run(self) -> None:
        """Take in every file of earlier runs that the catalogue does not know, if it is a new one; then audit them.

        A file that is damaged is given up; what failed otherwise is tried again by the next start.
        """
        catalogue = self.publisher.catalogue
        if await self._with_room(self.run_blocking, catalogue.is_pending, ADOPT):
            await self._adopt()
        if await self._with_room(self.run_blocking, catalogue.is_pending, AUDIT):
            await self._audit()

    async def _adopt(self) -> None:
        catalogue = self.publisher.catalogue
        files, is_new = await self._with_room(self.run_blocking, self._lost_files)
        adopted, is_complete = 0, True
        for path in files:
            try:
                manifest = await self._with_room(self.seal, path, self.publisher.folder.tmp)
                await self._with_room(self.run_blocking, catalogue.adopt, manifest)
                adopted += 1
            except Exception as fault:  # noqa: BLE001 - one old file that cannot be read must not stop the recording
                logger.error("file_not_adopted", path=str(path), detail=repr(fault))
                is_complete = is_complete and isinstance(fault, DamagedError | FileNotFoundError)
        if is_complete:
            adopt = partial(catalogue.adopted, is_new=is_new)
            self.tell_losses(await self._with_room(self.run_blocking, adopt))
        if files:
            logger.warning("files_adopted", files=adopted, failed=len(files) - adopted)

    async def _audit(self) -> None:
        """Have the ledger know what the files lack. What cannot be read now is looked at by the next start."""
        try:
            missing = await self._with_room(self.audit, str(self.publisher.folder.root))
        except Exception as fault:  # noqa: BLE001 - old files that cannot be read must not stop the recording
            logger.error("audit_failed", detail=repr(fault))
            return
        name = f"audit-{self.recovered.run}"
        losses = await self._with_room(self.run_blocking, self.publisher.note_missing, name, missing)
        if losses:
            logger.warning("files_audited", gaps=len(losses.gaps))
            self.tell_losses(losses)

    async def _with_room(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """What an async function returns, tried again while there is no room."""
        while True:
            try:
                return await function(*args)
            except DiskFullError as fault:
                logger.warning("publish_paused", segment=None, detail=str(fault))
                await trio.sleep(self.disk_retry_sec)

    def _lost_files(self) -> tuple[list[Path], bool]:
        """Blocking: the files that the catalogue does not know, and whether there is none at all of an earlier run.

        Links and foreign files are left alone.
        """
        catalogue, folder = self.publisher.catalogue, self.publisher.folder
        known = {file.path for file in catalogue.sealed_files()}
        unsealed = {segment.name for segment in self.recovered.segments}
        lost = []
        for parent, _, names in os.walk(folder.parquet):
            for file_name in names:
                path = Path(parent) / file_name
                name = SegmentName.parse(file_name.removesuffix(".parquet"))
                if str(path.relative_to(folder.root)) in known or name in unsealed:
                    continue
                is_ours = name is not None or is_compacted(file_name)
                if not is_ours or path.is_symlink() or not file_name.endswith(".parquet"):
                    logger.warning("foreign_file", path=str(path))
                elif not self._is_of_this_run(name):
                    lost.append(path)
        earlier = [path for path in known if not self._is_of_this_run(SegmentName.parse(PurePosixPath(path).stem))]
        return sorted(lost), not lost and not earlier

    def _is_of_this_run(self, name: SegmentName | None) -> bool:
        run = self.recovered.run
        return name is not None and (name.run, name.token) == (run.run, run.token)
