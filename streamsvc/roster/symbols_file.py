"""Reads `SYMBOLS_FILE` again when its folder changes, and when SIGHUP asks for it.

A file that is wrong changes nothing: the log says why, once for each content, and whenever somebody has asked. So does
a file that is not there, and one that is empty or names nothing: who writes a file in place empties it first.

Event: `symbols_refused` (file, reason, source).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import trio

from streamsvc.errors import UsageError
from streamsvc.log import logger
from streamsvc.settings.files import parse_symbols_file
from streamsvc.settings.selection import Selections, changed_by_file
from streamsvc.settings.values import read_small_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from streamsvc.roster.roster import Roster
    from streamsvc.settings import Settings


class SymbolsFile:
    """The file, while the service runs.

    Args:
        path: The file.
        without_file: The settings that hold where it says nothing.
        roster: Told what it means.
        run_blocking: Runs a function off the loop.
    """

    def __init__(
        self, path: Path, without_file: Settings, roster: Roster, run_blocking: Callable[..., Awaitable[Any]]
    ) -> None:
        self._path = path
        self._without_file = without_file
        self._roster = roster
        self._run_blocking = run_blocking
        self._sources: dict[str, bool] = {}  # Who wants it to be read, and whether they want an answer.
        self._wanted = trio.Event()
        self._read: bytes | None = None
        self._refused: bytes | str | None = None

    def changed(self) -> None:
        """Something in its folder is another."""
        self._want("file", is_asked=False)

    def ask(self, source: str) -> None:
        """Somebody wants it to be read again, and an answer."""
        self._want(source, is_asked=True)

    def _want(self, source: str, *, is_asked: bool) -> None:
        self._sources[source] = is_asked
        self._wanted.set()

    async def run(self) -> NoReturn:
        """Read it again whenever that is wanted, until cancelled."""
        self.changed()  # Between the start and the first look at the folder it may have changed.
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            sources, is_asked = " and ".join(self._sources), any(self._sources.values())
            self._sources.clear()
            await self._take(sources, is_asked=is_asked)

    async def _take(self, source: str, *, is_asked: bool) -> None:
        try:
            content: bytes = await self._run_blocking(read_small_file, self._path)
        except (OSError, ValueError) as error:
            reason = str(error)
            self._refuse(reason, reason, source, is_asked=is_asked)
            return
        if content == self._read and not is_asked and self._refused is None:
            return
        try:
            selections = self._parse(content)
        except UsageError as error:
            self._refuse(content, str(error), source, is_asked=is_asked)
            return
        is_mended, self._read, self._refused = self._refused is not None, content, None
        self._roster.select(selections, source, is_asked=is_asked or is_mended)

    def _parse(self, content: bytes) -> Selections:
        if not content.strip():
            raise UsageError("the file is empty")
        selections = changed_by_file(self._without_file, parse_symbols_file(content))
        if all(selection.is_empty for selection in selections.values()):
            raise UsageError("there would be nothing to record")
        return selections

    def _refuse(self, key: bytes | str, reason: str, source: str, *, is_asked: bool) -> None:
        if key != self._refused or is_asked:
            logger.error("symbols_refused", file=str(self._path), reason=reason.splitlines(), source=source)
        self._refused = key
