"""What the service is given from outside: network, clock, chance, threads, processes, its manager.

`real_surroundings` is the machine. Tests pass doubles, so that the whole service runs on memory streams under a clock
that jumps: no thread and no process may run there.
"""

from __future__ import annotations

import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from streamsvc.persistence.files import Files
from streamsvc.persistence.workers import open_sealers
from streamsvc.rest import RestClient
from streamsvc.schema import Market
from streamsvc.settings.watching import watch_folder
from streamsvc.streams.attempts import AttemptBudget, shared_budget
from streamsvc.streams.tls import make_client_context
from streamsvc.watchdog.notify import Notifier

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from streamsvc.persistence.compaction_day import BuiltDay, DayWork
    from streamsvc.persistence.manifest import Manifest
    from streamsvc.rest_governor import Client
    from streamsvc.settings import Settings
    from streamsvc.venues.venue import Venue


class Sealers(Protocol):
    """Who makes Parquet files of journal segments."""

    async def warm(self) -> None:
        """Get ready, so that the first segment need not wait."""

    def build_day(self, root: str, work: DayWork, /) -> Awaitable[BuiltDay]:
        """Build a compacted day below `root`."""

    def run_apart(self, module: str, function: str, /, *args: Any) -> Awaitable[Any]:
        """Run a function, by its module and name, beside everything else."""

    def seal(self, segment: Path, tmp: Path, /, *, keeps_raw: bool = False) -> Awaitable[Manifest]:
        """Seal the segment at the first path in a folder below the second, and perhaps keep it."""


@attrs.frozen(kw_only=True)
class Surroundings:
    """The seams of the service.

    Attributes:
        dial: Connects to a host and a port.
        ssl_context: For `wss` URLs.
        open_budget: The budget of connection attempts of a market.
        run_blocking: Runs a blocking function and its arguments off the loop.
        open_sealers: Makes at most so many sealers; leaving the context ends them.
        wall_ns: The wall clock, ns since 1970.
        rng: Chance, for waits that must not be the same everywhere.
        notifier: Towards systemd.
        open_client: A client of a market's REST; leaving the context closes it.
        files: The disk.
        open_listeners: Listens for HTTP on a port of a host; None: nothing is served.
        watch_folder: Calls a function whenever something in a folder changes, until cancelled.
    """

    dial: Callable[[str, int], Awaitable[trio.abc.Stream]]
    ssl_context: ssl.SSLContext
    open_budget: Callable[[Venue], AttemptBudget]
    run_blocking: Callable[..., Awaitable[Any]]
    open_sealers: Callable[[int], AbstractAsyncContextManager[Sealers]]
    wall_ns: Callable[[], int]
    rng: random.Random
    notifier: Notifier
    open_client: Callable[[Market], AbstractAsyncContextManager[Client]]
    watch_folder: Callable[[Path, Callable[[], None]], Awaitable[None]]
    files: Files = attrs.field(factory=Files)
    open_listeners: Callable[[int, str], Awaitable[list[trio.SocketListener]]] | None = None


def real_surroundings(settings: Settings) -> Surroundings:
    """This machine."""
    base_urls = {Market.SPOT: settings.binance_spot_rest_url, Market.FUTURES: settings.binance_futures_rest_url}
    api_key = settings.binance_api_key

    def open_client(market: Market) -> RestClient:
        return RestClient(
            base_urls[market],
            tls_ca_file=settings.tls_ca_file,
            api_key=None if api_key is None else api_key.reveal(),
        )

    return Surroundings(
        dial=trio.open_tcp_stream,
        ssl_context=make_client_context(settings.tls_ca_file),
        open_budget=lambda venue: shared_budget(venue, trio.to_thread.run_sync),
        run_blocking=trio.to_thread.run_sync,
        open_sealers=open_sealers,
        wall_ns=time.time_ns,
        rng=random.SystemRandom(),
        notifier=Notifier(os.environ, os.getpid()),
        open_client=open_client,
        open_listeners=_open_listeners,
        watch_folder=partial(watch_folder, trio.to_thread.run_sync),
    )


async def _open_listeners(port: int, host: str) -> list[trio.SocketListener]:
    return await trio.open_tcp_listeners(port, host=host)
