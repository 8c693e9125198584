"""The exchange on real sockets: one port a market and one for the control endpoint, plain or over TLS."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio
import trustme

from streamsvc.simulator.control import serve_control

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from streamsvc.schema import Market
    from streamsvc.simulator.exchange import Exchange

BACKLOG = 256


@attrs.frozen
class Addresses:
    """Where the exchange listens.

    Attributes:
        host: Of all ports.
        ports: Of each market.
        control_port: Of the control endpoint.
        is_tls: Whether the markets' ports speak TLS; the control endpoint never does.
    """

    host: str
    ports: Mapping[Market, int]
    control_port: int
    is_tls: bool

    @property
    def settings(self) -> dict[str, str]:
        """The recorder's settings that lead it here."""
        suffix = "s" if self.is_tls else ""
        return {
            f"BINANCE_{market.name}_{what}_URL": f"{scheme}{suffix}://{self.host}:{port}"
            for market, port in self.ports.items()
            for what, scheme in (("WS", "ws"), ("REST", "http"))
        }


def make_tls(ca_file: Path | None = None, host: str = "127.0.0.1") -> ssl.SSLContext:
    """A server's context with a certificate of an authority made up for it.

    Args:
        ca_file: Where to write the authority's certificate, for `TLS_CA_FILE`.
        host: For which name or address, beside `localhost`.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, "localhost").configure_cert(context)
    if ca_file is not None:
        authority.cert_pem.write_to_path(ca_file)
    return context


async def serve(  # noqa: PLR0913 - where to listen
    exchange: Exchange,
    *,
    host: str = "127.0.0.1",
    ports: Mapping[Market, int] | None = None,
    control_port: int = 0,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, serve and move the markets on until cancelled. Start it with `nursery.start`, which gives `Addresses`.

    Args:
        exchange: What to serve.
        host: A loopback address, unless you know why not.
        ports: Of each market; 0 or none: any.
        control_port: 0: any.
        tls: For the markets' ports; None: plain.
        task_status: Trio's.

    Raises:
        OSError: a port is taken.
    """
    wanted = ports or {}
    async with trio.open_nursery() as nursery:
        bound = {
            market: await nursery.start(partial(_serve_market, exchange, market, host, wanted.get(market, 0), tls))
            for market in exchange.venues
        }
        control = await nursery.start(
            partial(trio.serve_tcp, partial(serve_control, exchange), control_port, host=host)
        )
        await nursery.start(exchange.run)
        number = control[0].socket.getsockname()[1]
        task_status.started(Addresses(host, bound, number, tls is not None))


async def _serve_market(  # noqa: PLR0913, PLR0917 - called through a partial
    exchange: Exchange,
    market: Market,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    task_status: trio.TaskStatus[int],
) -> None:
    """Listen, except while the market refuses connections: then the port is bound and does not listen."""
    venue = exchange.venues[market]
    sock = await _bind(host, port)
    port = sock.getsockname()[1]
    async with trio.open_nursery() as clients:
        task_status.started(port)
        while True:
            while venue.door.is_closed:
                await venue.door_changed.wait()
            sock.listen(BACKLOG)
            async with trio.open_nursery() as doors:
                doors.start_soon(_accept, exchange, market, trio.SocketListener(sock), tls, clients)
                while not venue.door.is_closed:
                    await venue.door_changed.wait()
                doors.cancel_scope.cancel()
            sock.close()
            sock = await _bind(host, port)


async def _bind(host: str, port: int) -> trio.socket.SocketType:
    sock = trio.socket.socket(trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET)
    try:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        await sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


async def _accept(
    exchange: Exchange,
    market: Market,
    listener: trio.SocketListener,
    tls: ssl.SSLContext | None,
    clients: trio.Nursery,
) -> None:
    async def serve_one(stream: trio.SocketStream) -> None:
        peer = stream.socket.getpeername()[0]
        await exchange.serve_stream(market, stream, peer=peer, tls=tls)

    await trio.serve_listeners(serve_one, [listener], handler_nursery=clients)
