"""HTTP/1.1 of a server over one connection, up to the point where it becomes a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import h11
import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamsvc.simulator.transport import Transport

IDLE_TIMEOUT_SEC = 75.0
BODY_MAX_BYTES = 1 << 20
HEAD_MAX_BYTES = 256 << 10
"""h11's own limit is smaller than what the exchange takes as a URL."""


@attrs.frozen
class Request:
    """What a client asked.

    Attributes:
        method: In upper case.
        path: Without the query, percent-decoded.
        target: Path and query as sent.
        query: The last value of each parameter.
        headers: Names in lower case.
        body: Whole.
        peer: The client's address, to which budgets belong.
    """

    method: str
    path: str
    target: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    peer: str


@attrs.frozen
class Answer:
    """What it gets."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json;charset=UTF-8"


@attrs.frozen
class Upgrade:
    """The connection becomes something else.

    Attributes:
        headers: Of the 101 answer.
        run: Owns the connection until it returns. It gets what sends the 101 answer, to be called first, and the bytes
            that have already come: so it can be known to others before the client knows of it.
        drip_sec: A pause before each byte of the answer.
    """

    headers: tuple[tuple[str, str], ...]
    run: Callable[[Callable[[], Awaitable[None]], bytes], Awaitable[None]]
    drip_sec: float = 0.0


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer in JSON."""
    return Answer(status, msgspec.json.encode(value), headers)


async def serve_http(
    transport: Transport,
    peer: str,
    handle: Callable[[Request], Awaitable[Answer | Upgrade | None]],
) -> None:
    """Answer requests until the client leaves, is idle too long, or the connection becomes something else.

    Args:
        transport: The connection; the caller closes it.
        peer: The client's address.
        handle: Answers a request; None leaves it without an answer and ends the connection.

    Raises:
        PeerGoneError: the connection broke while an answer was sent.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX_BYTES)
    while True:
        with trio.move_on_after(IDLE_TIMEOUT_SEC) as scope:
            request = await _receive_request(connection, transport, peer)
        if scope.cancelled_caught or request is None:
            return
        answer = await handle(request)
        if answer is None:
            return
        if isinstance(answer, Upgrade):
            await _upgrade(connection, transport, answer)
            return
        await transport.send([_answer_bytes(connection, answer)])
        if connection.our_state is h11.MUST_CLOSE:
            return
        connection.start_next_cycle()


async def _receive_request(connection: h11.Connection, transport: Transport, peer: str) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            answer = Answer(error.error_status_hint, b"", (("Connection", "close"),))
            await transport.send([_answer_bytes(connection, answer)])
            return None
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await transport.send([connection.send(h11.InformationalResponse(status_code=100, headers=[]))])
            connection.receive_data(await transport.receive())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_MAX_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _request(head, bytes(body), peer)
        else:
            return None


def _request(head: h11.Request, body: bytes, peer: str) -> Request:
    target = head.target.decode("ascii", "replace")
    parts = urlsplit(target)
    return Request(
        method=head.method.decode("ascii"),
        path=unquote(parts.path),
        target=target,
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
        body=body,
        peer=peer,
    )


def _answer_bytes(connection: h11.Connection, answer: Answer) -> bytes:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        *answer.headers,
    ]
    head = connection.send(h11.Response(status_code=answer.status, headers=headers))
    assert head is not None
    body = connection.send(h11.Data(data=answer.body)) or b""
    return head + body + (connection.send(h11.EndOfMessage()) or b"")


async def _upgrade(connection: h11.Connection, transport: Transport, upgrade: Upgrade) -> None:
    head = connection.send(h11.InformationalResponse(status_code=101, headers=list(upgrade.headers)))
    early, _is_closed = connection.trailing_data
    assert head is not None
    pieces = [bytes([byte]) for byte in head] if upgrade.drip_sec else [head]

    async def send_head() -> None:
        for piece in pieces:
            await trio.sleep(upgrade.drip_sec)
            await transport.send([piece])

    await upgrade.run(send_head, early)
