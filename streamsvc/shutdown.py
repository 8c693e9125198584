"""How the service comes to an end: on a signal, after its hours, or because a part of it failed.

Whatever the reason, the way out is the same: the stream nursery is cancelled, the channel's ends close, the writer sees
the end and writes what it holds. Failures are kept and raised when that is done.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import trio

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Shutdown:
    """The one place that ends the service.

    Attributes:
        failures: Unexpected errors of parts, to be raised once everything is written.
    """

    def __init__(self) -> None:
        self._requested = trio.Event()
        self._streams: trio.CancelScope | None = None
        self.failures: list[Exception] = []

    @property
    def is_requested(self) -> bool:
        """Whether the service is on its way out."""
        return self._requested.is_set()

    def request(self, reason: str) -> None:
        """Begin to stop; asking again changes nothing."""
        if not self._requested.is_set():
            logger.info("stopping", reason=reason)
            self._requested.set()
        if self._streams is not None:
            self._streams.cancel()

    def ends(self, scope: trio.CancelScope) -> None:
        """Make `scope` what a request cancels: the stream nursery's."""
        self._streams = scope
        if self._requested.is_set():
            scope.cancel()

    async def guard(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run a part; if it fails, keep the failure and stop the service in good order."""
        try:
            await task()
        except Exception as failure:  # noqa: BLE001 - raised by `service.run` after the writer has written
            self.failures.append(failure)
            self.request("failure")


async def stop_on_signals(shutdown: Shutdown, everything: trio.CancelScope) -> None:
    """SIGTERM and SIGINT stop in good order; a second one cancels `everything` at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            name = signal.Signals(number).name
            if shutdown.is_requested:
                logger.warning("stopping_at_once", reason=name)
                everything.cancel()
                return
            shutdown.request(name)


async def stop_after(shutdown: Shutdown, hours: float) -> None:
    """Stop by itself after `RUN_HOURS`."""
    await trio.sleep(hours * 3600)
    shutdown.request("RUN_HOURS")
