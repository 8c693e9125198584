"""Keeps the roster to what the settings, the symbols file and the exchange say, and answers SIGHUP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from streamsvc.roster.symbols_file import SymbolsFile

if TYPE_CHECKING:
    from streamsvc.roster.roster import Roster
    from streamsvc.settings import Settings
    from streamsvc.shutdown import Reload, Shutdown
    from streamsvc.surroundings import Surroundings


async def follow_changes(
    roster: Roster, settings: Settings, around: Surroundings, reload: Reload, shutdown: Shutdown
) -> None:
    """Carry out changes until cancelled.

    Args:
        roster: What is recorded.
        settings: The settings.
        around: The machine, or doubles of it.
        reload: Who asks that the symbols file be read again; answered from now on.
        shutdown: Whether the end has begun.
    """
    path = settings.symbols_file
    file = None if path is None else SymbolsFile(path, reload.without_file, roster, around.run_blocking)
    reload.ask = partial(_ask, file, shutdown)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roster.run)
        if path is not None and file is not None:
            nursery.start_soon(file.run)
            nursery.start_soon(around.watch_folder, path.parent, file.changed)


def _ask(file: SymbolsFile | None, shutdown: Shutdown, source: str) -> str:
    if shutdown.is_requested:
        return "the service is stopping"
    if file is None:
        return "there is no SYMBOLS_FILE: other settings are read at the start alone"
    file.ask(source)
    return ""
