"""The HTTP server: hypercorn's Trio worker behind a door of our own, which bounds what a client may cost.

hypercorn bounds a request's head and how long a connection may be idle. It does not bound how many connections there
are, nor how long it waits for a client that does not read; so each connection gets a stream that does. HTTP/1.1 only.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from streamsvc.log import logger
from streamsvc.web.app import make_app
from streamsvc.web.looking import GAPS_SHOWN, DiskLook, DiskLooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamsvc.web.status import Watched

CONNECTIONS_MAX = 64
CONNECTION_SEC_MAX = 3600.0
"""A page's events come over one connection; a browser opens another."""
IDLE_SEC = 15.0
"""So long a connection may be open without a whole request."""
SEND_SEC_MAX = 10.0
"""So long a client may take to make room for a piece of an answer."""
HEAD_BYTES_MAX = 16 * 1024
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_ANY_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - what a user may choose


async def serve(
    watched: Watched,
    listeners: Sequence[trio.SocketListener],
    host: str,
    *,
    is_per_symbol: bool,
    run_blocking: Callable[..., Awaitable[Any]],
) -> None:
    """Answer until cancelled.

    Args:
        watched: The recorder.
        listeners: Where; they are closed here.
        host: The host of `HTTP_LISTEN`.
        is_per_symbol: `METRICS_PER_SYMBOL`.
        run_blocking: Runs blocking work off the loop.
    """
    hosts = ["*"] if host in _ANY_HOSTS else [host, f"[{host}]", *_LOCAL_HOSTS, "[::1]"]
    looks = DiskLooks(partial(_look, watched), run_blocking)
    config = Config()
    config.h11_max_incomplete_size = HEAD_BYTES_MAX
    config.keep_alive_timeout = IDLE_SEC
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    app = wrap_app(make_app(watched, looks, hosts, is_per_symbol=is_per_symbol), 0, "asgi")  # type: ignore[arg-type]
    door = _Door(partial(TCPServer, app, config, WorkerContext(None), {}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.close_when_cancelled)
        await trio.serve_listeners(door.enter, list(listeners))


def _look(watched: Watched) -> DiskLook:
    gaps, latest, (files, size_bytes), free_bytes = watched.live.persistence.look(GAPS_SHOWN)
    return DiskLook(gaps, latest, files, size_bytes, free_bytes)


class _Door:
    """Lets a bounded number of clients in, each for a bounded time."""

    def __init__(self, answer: Callable[[Any], Awaitable[object]]) -> None:
        self._answer = answer
        self._inside: set[trio.SocketStream] = set()

    async def close_when_cancelled(self) -> None:
        """Hypercorn shields what it sends: without this, a client that does not read would hold up the end."""
        try:
            await trio.sleep_forever()
        finally:
            for stream in self._inside:
                stream.socket.close()

    async def enter(self, stream: trio.SocketStream) -> None:
        """One connection, to its end."""
        if len(self._inside) >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self._inside.add(stream)
        try:
            with trio.move_on_after(CONNECTION_SEC_MAX):
                await self._answer(_PatientlyBounded(stream))
        except Exception:  # noqa: BLE001 - whatever a client makes of hypercorn costs its own connection
            logger.exception("http_failed", path="")
        finally:
            self._inside.discard(stream)
            await trio.aclose_forcefully(stream)


class _PatientlyBounded:
    """A client's stream as hypercorn uses it: it does not wait for ever, and speaks HTTP/1.1 only."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._has_spoken = False

    @property
    def socket(self) -> trio.socket.SocketType:
        """For its addresses."""
        return self._stream.socket

    async def send_all(self, data: bytes) -> None:
        """Send; a client that makes no room in time is gone."""
        with trio.move_on_after(SEND_SEC_MAX) as scope:
            try:
                await self._stream.send_all(data)
            except trio.BusyResourceError as fault:  # hypercorn closes what it still answers.
                raise trio.BrokenResourceError("it is being closed") from fault
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive; what begins HTTP/2 ends the connection."""
        data = bytes(await self._stream.receive_some(max_bytes))
        is_first, self._has_spoken = not self._has_spoken, True
        if (is_first and data.startswith(b"PRI ")) or b"h2c" in data[:HEAD_BYTES_MAX].lower():
            return b""
        return data

    async def send_eof(self) -> None:
        """Say that nothing more comes."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()
