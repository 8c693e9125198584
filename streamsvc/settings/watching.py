"""Tells when something in a folder changes, by the kernel's notifications. The only importer of watchfiles."""

from __future__ import annotations

import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import trio

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

DEBOUNCE_MS: Final = 1000
"""An editor's write, sync and rename are one change; who never stops to write is read once in so long."""
STEP_MS: Final = 200
"""A change is over when nothing has happened for so long."""
QUIET_MS: Final = 2000
"""The library tells of so long a quiet; the first one shows that the watch has begun."""
RETRY_SEC: Final = 60.0
"""A folder that cannot be watched, as one that is not there, is tried again after this."""


async def watch_folder(
    run_blocking: Callable[..., Awaitable[Any]], folder: Path, on_change: Callable[[], None]
) -> None:
    """Tell of changes of the files in a folder, until cancelled.

    The folder and not the file, because many editors, and those who deploy, rename a new file over the old one.

    Args:
        run_blocking: Runs a function off the loop: the library takes a while to load.
        folder: The folder.
        on_change: Called after every change, in Trio's thread.
    """
    while True:
        awatch = await run_blocking(_load)
        try:
            await _watch(awatch, folder, on_change)
        except* (OSError, RuntimeError) as group:  # Of the library's errors the second is the public base.
            logger.warning("symbols_watch_failed", detail=str(_first(group)), retry_sec=RETRY_SEC)
        await trio.sleep(RETRY_SEC)
        on_change()  # It may have changed meanwhile.


def _load() -> Any:
    from watchfiles import awatch  # noqa: PLC0415 - costs 30 ms, and not everybody has a symbols file

    return awatch


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _watch(awatch: Any, folder: Path, on_change: Callable[[], None]) -> None:
    """Watch until that fails; the library's thread ends with us."""
    stop = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_with, stop)
        is_begun = False
        changes = awatch(
            folder,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=stop,
            rust_timeout=QUIET_MS,
            yield_on_timeout=True,
            force_polling=False,
            recursive=False,
            ignore_permission_denied=False,
        )
        async with aclosing(changes):
            async for changed in changes:
                if changed or not is_begun:
                    on_change()  # What changed before the watch had begun, nobody would tell.
                is_begun = True
        nursery.cancel_scope.cancel()


async def _stop_with(stop: threading.Event) -> None:
    """Let the library's thread end as soon as we are cancelled: it cannot be interrupted, but it looks at this."""
    try:
        await trio.sleep_forever()
    finally:
        stop.set()
