"""Real sockets, real TLS, and a server that we did not write: trio-websocket's."""

from __future__ import annotations

import functools
import socket

import pytest
import trio
from trio_websocket import ConnectionClosed, serve_websocket

from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.transport import open_transport

COUNT = 2000
LONG = "x" * 200_000


async def talk(request):
    """Messages of all sizes, an answer to what the client says, a close frame."""
    websocket = await request.accept()
    try:
        for number in range(COUNT):
            await websocket.send_message(f'{{"n":{number}}}')
        await websocket.ping(b"are you there")
        await websocket.send_message(LONG)
        await websocket.send_message("heard " + await websocket.get_message())
        await websocket.aclose(1001, "going away")
    except ConnectionClosed:
        pass


@pytest.fixture
async def serve(nursery):
    """Starts a server; gives its port."""

    async def start(ssl_context=None):
        run = functools.partial(serve_websocket, talk, "127.0.0.1", 0, ssl_context)
        return (await nursery.start(run)).port

    return start


async def converse(url, wiring):
    """The whole conversation: messages, a ping of ours, the answer to what we say, the close frame."""
    messages = []
    try:
        async with open_transport(url, wiring, []) as transport:
            while len(messages) <= COUNT:
                messages += (await transport.receive()).messages
            await transport.ping()
            await transport.send("hello")
            while True:
                messages += (await transport.receive()).messages
    except ConnectionFaultError as fault:
        return messages, fault


EXPECTED = [b'{"n":%d}' % number for number in range(COUNT)] + [LONG.encode(), b"heard hello"]


async def test_plain(serve, wiring):
    """Every message in order, then the peer's code."""
    messages, fault = await converse(f"ws://127.0.0.1:{await serve()}/stream?streams=x", wiring)
    assert (EXPECTED, "closed", 1001) == (messages, fault.cause, fault.status)
    assert "going away" in fault.detail


async def test_tls(serve, wiring, contexts):
    """The same over TLS, with a certificate for the address."""
    messages, fault = await converse(f"wss://127.0.0.1:{await serve(contexts[0])}/stream?streams=x", wiring)
    assert (EXPECTED, "closed", 1001) == (messages, fault.cause, fault.status)


async def test_leaving_early(serve, wiring, contexts):
    """Leaving in the middle of a conversation is quick and leaves nothing open (the test's warnings are errors)."""
    async with open_transport(f"wss://127.0.0.1:{await serve(contexts[0])}/stream?streams=x", wiring, []) as transport:
        await transport.receive()


async def test_name_with_several_addresses(serve, wiring):
    """`localhost` may mean ::1 first, where nobody listens: the next address is tried."""
    async with open_transport(f"ws://localhost:{await serve()}/stream?streams=x", wiring, []) as transport:
        assert (await transport.receive()).messages[0] == EXPECTED[0]


class Names(trio.abc.HostnameResolver):
    """A name server: gives the next of its answers, an address or a fault, and the last one again and again."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def getaddrinfo(self, host, port, *_more):
        await trio.lowlevel.checkpoint()
        assert b"exchange.test" == host
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (answer, port))]

    async def getnameinfo(self, *_args):
        raise NotImplementedError


async def test_name_that_changes_its_address(serve, wiring):
    """Every attempt asks again: neither an address that was right nor a failure is believed any longer than that."""
    port = await serve()
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names = Names("127.0.0.1", unknown, "127.0.0.2", "127.0.0.1")
    trio.socket.set_custom_hostname_resolver(names)  # Of this run alone.
    url = f"ws://exchange.test:{port}/stream?streams=x"
    assert "closed" == (await converse(url, wiring))[1].cause
    assert "dns" == (await fault_of(url, wiring)).cause
    assert "refused" == (await fault_of(url, wiring)).cause
    assert "closed" == (await converse(url, wiring))[1].cause
    assert 4 == names.asked


async def fault_of(url, wiring):
    with pytest.raises(ConnectionFaultError) as caught:
        async with open_transport(url, wiring, []):
            pass
    return caught.value


async def test_certificate_of_another_host(serve, wiring, contexts):
    """No data is accepted."""
    fault = await fault_of(f"wss://localhost:{await serve(contexts[0])}/", wiring)
    assert ("tls", True) == (fault.cause, "localhost" in fault.detail)


async def test_plain_where_tls_should_be(serve, wiring):
    """We never fall back to plain text."""
    assert (await fault_of(f"wss://127.0.0.1:{await serve()}/", wiring)).cause in {"tls", "eof", "reset"}


async def test_port_that_nobody_listens_on(wiring):
    """The system's refusal becomes ours."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    assert "refused" == (await fault_of(f"ws://127.0.0.1:{port}/", wiring)).cause
