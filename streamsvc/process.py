"""`streamsvc run` as a process: logging, signals, exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

import trio

from streamsvc import __version__, log, service
from streamsvc.errors import DamagedError, DiskFullError, StreamsvcError, UsageError
from streamsvc.log import logger
from streamsvc.shutdown import Reload, Shutdown, reload_on_signals, stop_on_signals
from streamsvc.surroundings import real_surroundings
from streamsvc.task_tree import tell_on_signals

if TYPE_CHECKING:
    from streamsvc.settings.source import LoadedSettings

DONE, FAILED = 0, 1
_TOLD_IN_A_SENTENCE = (UsageError, DamagedError, DiskFullError)
"""What the user can mend, and what therefore needs no traceback."""


def run_process(loaded: LoadedSettings) -> int:
    """Record until told to stop; returns the exit code.

    Raises:
        UsageError: the data folder is in use or cannot be used.
        DamagedError: the catalogue is damaged.
        DiskFullError: there was no room to begin, or none to the end for what had been received.
    """
    settings = loaded.settings
    if settings.binance_api_key is not None:
        log.hide_secret(settings.binance_api_key.reveal())
    close_log = log.configure(settings.log_level, settings.log_format)

    def stop_at_once() -> NoReturn:
        close_log()
        os._exit(FAILED)

    async def main() -> None:
        shutdown, reload = Shutdown(), Reload(loaded.without_file)
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signals, shutdown, stop_at_once)
            await nursery.start(reload_on_signals, reload)
            await nursery.start(tell_on_signals)
            await service.run(settings, real_surroundings(settings), shutdown=shutdown, reload=reload)
            nursery.cancel_scope.cancel()

    try:
        logger.info("starting", version=__version__, pid=os.getpid(), data_dir=str(settings.data_dir))
        loaded.log_warnings()
        trio.run(main)
    except BaseExceptionGroup as group:
        told, rest = group.split(_TOLD_IN_A_SENTENCE)
        if rest is None and told is not None:
            fault = _first(told)
            logger.error("cannot_record", detail=str(fault))
            raise fault from None
        logger.exception("crashed")
        sys.stderr.write(log.without_secrets(traceback.format_exc()))
        return FAILED
    finally:
        close_log()
    return DONE


def _first(group: BaseExceptionGroup[StreamsvcError]) -> StreamsvcError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
