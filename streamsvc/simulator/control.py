"""The control endpoint: faults over HTTP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from streamsvc.simulator.http import Answer, Request, json_answer, serve_http
from streamsvc.simulator.transport import CLOSE_TIMEOUT_SEC, PeerGoneError, PlainTransport

if TYPE_CHECKING:
    from streamsvc.simulator.exchange import Exchange


async def serve_control(exchange: Exchange, stream: trio.SocketStream) -> None:
    """Serve one client of the control endpoint, and close its connection."""
    transport = PlainTransport(stream)
    try:
        await serve_http(transport, "control", partial(_handle, exchange))
    except PeerGoneError:
        pass
    finally:
        with trio.move_on_after(CLOSE_TIMEOUT_SEC):
            await transport.aclose()


async def _handle(exchange: Exchange, request: Request) -> Answer:
    await trio.lowlevel.checkpoint()
    return answer_control(exchange, request)


def answer_control(exchange: Exchange, request: Request) -> Answer:
    return json_answer(exchange.ledger.as_json())
