"""The control endpoint: faults, state and ledger over HTTP.

`POST /control/<order>` carries out an order (`orders.py`) and answers `{"ok":true,"connections":n}`, or 400 with
`{"ok":false,"error":"..."}`. `GET /control/ledger` is the account of what was produced, sent and withheld,
`GET /control/connections` the open connections, `GET /control/state` whether each market's source has come to its end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from streamsvc.simulator.http import Answer, Request, json_answer, serve_http
from streamsvc.simulator.orders import ORDER_NAMES, OrderError, carry_out
from streamsvc.simulator.transport import GOODBYE_TIMEOUT_SEC, PeerGoneError, PlainTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamsvc.simulator.exchange import Exchange

PREFIX = "/control/"


async def serve_control(exchange: Exchange, stream: trio.abc.HalfCloseableStream) -> None:
    """Serve one client of the control endpoint, and close its connection."""
    transport = PlainTransport(stream)
    try:
        await serve_http(transport, "control", partial(_handle, exchange))
    except PeerGoneError:
        pass  # Clients come and go.
    finally:
        with trio.move_on_after(GOODBYE_TIMEOUT_SEC, shield=True):
            await transport.aclose()


async def _handle(exchange: Exchange, request: Request) -> Answer:
    await trio.lowlevel.checkpoint()
    return answer_control(exchange, request)


def answer_control(exchange: Exchange, request: Request) -> Answer:
    """The answer to one request."""
    if not request.path.startswith(PREFIX):
        return json_answer({"ok": False, "error": "orders lie under /control/"}, 404)
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST":
        try:
            met = carry_out(exchange, name, request.body)
        except OrderError as error:
            return json_answer({"ok": False, "error": str(error)}, 400)
        return json_answer({"ok": True} if met is None else {"ok": True, "connections": met})
    views: dict[str, Callable[[], Any]] = {
        "ledger": exchange.ledger.as_json,
        "connections": lambda: [attrs.asdict(info) for info in exchange.connections()],
        "state": partial(_state, exchange),
    }
    if name in views:
        return json_answer(views[name]())
    help_text = f"GET {', '.join(views)}; POST {', '.join(ORDER_NAMES)}"
    return json_answer({"ok": False, "error": help_text}, 404)


def _state(exchange: Exchange) -> dict[str, Any]:
    return {
        market.label: {
            "is_done": venue.done.is_set(),
            "queued_bytes": sum(session.queued_bytes for session in venue.hub.sessions.values()),
            "symbols": list(venue.source.histories()),
        }
        for market, venue in exchange.venues.items()
    }
