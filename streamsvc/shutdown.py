"""How the service comes to an end: on a signal, after its hours, or because a part of it failed. SIGHUP is no end.

Whatever the reason, the way out is the same: the stream nursery is cancelled, the channel's ends close, the writer sees
the end and writes what it holds. Failures are kept and raised when that is done.
"""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NoReturn

import trio

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from streamsvc.settings import Settings


class Shutdown:
    """The one place that ends the service.

    Attributes:
        failures: Unexpected errors of parts, to be raised once everything is written.
    """

    def __init__(self) -> None:
        self._requested = trio.Event()
        self._scopes: list[trio.CancelScope] = []
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
        for scope in self._scopes:
            scope.cancel()

    async def wait_requested(self) -> None:
        """Wait until the service is on its way out."""
        await self._requested.wait()

    def ends(self, scope: trio.CancelScope) -> None:
        """Have a request cancel `scope`, as the stream nursery's."""
        self._scopes.append(scope)
        if self._requested.is_set():
            scope.cancel()

    @contextmanager
    def until_begun(self) -> Iterator[Callable[[], None]]:
        """Give up the body when a stop is requested before it says, by calling what it is given, that it has begun."""
        with trio.CancelScope() as scope:
            self.ends(scope)
            yield lambda: self._scopes.remove(scope)

    async def guard(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run a part; if it fails, keep the failure and stop the service in good order."""
        try:
            await task()
        except Exception as failure:  # noqa: BLE001 - raised by `service.run` after the writer has written
            self.failures.append(failure)
            self.request("failure")

    @asynccontextmanager
    async def raising_failures(self) -> AsyncIterator[None]:
        """Raise what was kept once the body is done, together with what the body itself fails with."""
        try:
            yield
        except Exception as last:
            if self.failures:
                raise ExceptionGroup("parts of the service failed", [*self.failures, last]) from None
            raise
        if self.failures:
            raise ExceptionGroup("parts of the service failed", self.failures)

    async def guard_until_requested(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run a part that makes no sense any more once the service is on its way out."""
        with trio.CancelScope() as scope:
            self.ends(scope)
            await self.guard(task)


class Reload:
    """The one place where somebody asks that the symbols be read again.

    Attributes:
        without_file: The settings that hold where `SYMBOLS_FILE` says nothing.
        ask: Told who asks; returns why nothing is done, an empty text if it is.
    """

    def __init__(self, without_file: Settings) -> None:
        self.without_file = without_file
        self.ask: Callable[[str], str] = lambda _source: "the service is not ready yet, and read them when it started"

    def request(self, source: str) -> None:
        """Read them again, or say why not."""
        if reason := self.ask(source):
            logger.warning("reload_refused", source=source, reason=reason)


async def reload_on_signals(reload: Reload, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """SIGHUP reads the symbols again, until cancelled."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        task_status.started()
        async for _ in signals:
            reload.request("SIGHUP")


async def stop_on_signals(
    shutdown: Shutdown,
    stop_at_once: Callable[[], NoReturn],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM and SIGINT stop in good order; a second one does not wait for anything.

    What was written is in the journal, and the next start seals it: leaving at once costs what a kill costs.
    `task_status` is told when signals are heard, also those that the process has held back while it loaded.
    """
    numbers = signal.SIGTERM, signal.SIGINT
    with trio.open_signal_receiver(*numbers) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        task_status.started()
        was_signalled = False  # A drain that the service began itself is not cut short by the first signal.
        async for number in signals:
            name = signal.Signals(number).name
            if was_signalled:
                logger.warning("stopping_at_once", reason=name)
                stop_at_once()
            was_signalled = True
            shutdown.request(name)


async def stop_after(shutdown: Shutdown, hours: float) -> None:
    """Stop by itself after `RUN_HOURS`."""
    await trio.sleep(hours * 3600)
    shutdown.request("RUN_HOURS")
