"""How the HTTP part begins: late, off the loop's way, and never as a reason to stop.

Events: `http_serving` (address), `http_unavailable` (address, detail, retry_sec).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio

from streamsvc.log import logger
from streamsvc.web.status import Watched

if TYPE_CHECKING:
    from streamsvc.live import Live
    from streamsvc.settings import Settings
    from streamsvc.shutdown import Shutdown
    from streamsvc.surroundings import Surroundings

RETRY_SEC = 60.0


async def serve_web(live: Live, settings: Settings, around: Surroundings, shutdown: Shutdown) -> None:
    """Serve metrics, health and page at `HTTP_LISTEN` until cancelled; where there is none, do nothing."""
    if not settings.http_listen or around.open_listeners is None:
        return
    # hypercorn, Starlette and prometheus-client take a fifth of a second to load.
    server: Any = await around.run_blocking(import_module, "streamsvc.web.server")
    watched = Watched(
        live=live,
        wall_ns=around.wall_ns,
        is_stopping=lambda: shutdown.is_requested,
        patience_sec=around.notifier.watchdog_sec,
        reserve_bytes=settings.disk_reserve_bytes,
    )
    parts = urlsplit(f"//{settings.http_listen}")
    assert parts.hostname is not None
    assert parts.port is not None
    is_told = False
    while True:
        try:
            listeners = await around.open_listeners(parts.port, parts.hostname)
            break
        except OSError as fault:
            if not is_told:
                detail = fault.strerror or str(fault)
                logger.error("http_unavailable", address=settings.http_listen, detail=detail, retry_sec=RETRY_SEC)
            is_told = True
            await trio.sleep(RETRY_SEC)
    logger.info("http_serving", address=settings.http_listen)
    await server.serve(
        watched,
        listeners,
        parts.hostname,
        is_per_symbol=settings.metrics_per_symbol,
        run_blocking=around.run_blocking,
    )
