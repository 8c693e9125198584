"""The HTTP part of a real recorder: what it answers, and what clients that mean ill or are slow can do to it."""

from __future__ import annotations

import json
import random
import socket

import pytest
import trio
from recorded import verified
from recorder_process import until


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def ask(port, text, *, patience_sec=20):
    """What comes back for these bytes until the server closes, or says nothing more for a while."""
    answer = b""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        with trio.move_on_after(patience_sec):
            try:
                await stream.send_all(text)
                async for piece in stream:
                    answer += piece
            except trio.BrokenResourceError:
                pass
    return answer


def request(path="/healthz", *, method="GET", host="127.0.0.1", more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n".encode()


async def status_of(port, **how):
    answer = await ask(port, request(**how))
    return int(answer.split(b" ", 2)[1])


@pytest.fixture
async def served(stage, start):
    """A recorder that serves, and its port."""
    port = free_port()
    recorder = start(stage, HTTP_LISTEN=f"127.0.0.1:{port}")
    await recorder.saw("http_serving")
    await recorder.saw("rotated")
    return recorder, port


async def test_what_it_answers(served):
    recorder, port = served
    for path in ("/healthz", "/readyz", "/status", "/metrics", "/", "/page.js", "/page.css", "/icon.svg"):
        assert 200 == await status_of(port, path=path), path
    assert 404 == await status_of(port, path="/nothing")
    assert 404 == await status_of(port, path="/../../etc/passwd")
    assert 404 == await status_of(port, path="/%2e%2e/%2e%2e/streamsvc/web/app.py")
    assert 405 == await status_of(port, method="POST", path="/status")
    assert 400 == await status_of(port, host="evil.example")
    assert 400 == await status_of(port, path="/events")
    assert 404 == await status_of(port, path="/events?market=spot&symbol=NOPE")
    head, _, body = (await ask(port, request(path="/status"))).partition(b"\r\n\r\n")
    for header in (b"content-security-policy: default-src 'self'", b"x-content-type-options: nosniff"):
        assert header in head.lower()
    assert json.loads(body)["is_ready"]
    head, _, body = (await ask(port, request(method="HEAD", path="/status"))).partition(b"\r\n\r\n")
    assert (b"200", b"") == (head.split(b" ")[1], body)
    events = await ask(port, request(path="/events?market=spot&symbol=BTCUSDT"), patience_sec=2.5)
    assert events.index(b"event: window") < events.index(b"event: points")
    assert 0 == await recorder.stop()


async def test_clients_that_mean_ill(served):
    """None of them is worth a crash or a word in the log; healthz answers meanwhile, and nothing is lost."""
    recorder, port = served
    rng = random.Random(7)
    attacks = [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        (
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        ),
        (
            b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
        b"POST /status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000000\r\n\r\nabc",
        request() * 500,
        b"\x00\xff" * 1000,
        b"",
        *(bytes(rng.randrange(256) for _ in range(200)) for _ in range(20)),
        *(request(path="/" + "".join(chr(rng.randrange(33, 127)) for _ in range(60))) for _ in range(20)),
    ]
    async with trio.open_nursery() as nursery:
        for attack in attacks:
            nursery.start_soon(lambda attack=attack: ask(port, attack, patience_sec=1))
    assert 200 == await status_of(port)
    assert [] == recorder.events("http_failed")
    assert 0 == await recorder.stop()
    verified(recorder.data)


async def test_more_clients_than_are_let_in(served):
    """Those beyond the limit are closed at once; when some have gone, others are let in. A stop waits for none."""
    recorder, port = served
    silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(64)]
    async with await trio.open_tcp_stream("127.0.0.1", port) as one_more:
        with trio.fail_after(5):
            assert b"" == await one_more.receive_some()
    for stream in silent[:32]:
        await stream.aclose()
    with trio.fail_after(20):
        while not (await ask(port, request())).startswith(b"HTTP/1.1 200"):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.1)
    reader = await trio.open_tcp_stream("127.0.0.1", port)
    await reader.send_all(request(path="/metrics").replace(b"Connection: close\r\n", b"") * 200)  # And reads nothing.
    with trio.fail_after(15):
        assert 0 == await recorder.stop()
    for stream in [*silent, reader]:
        await trio.aclose_forcefully(stream)


async def test_an_address_that_is_taken(stage, start):
    """An alarm, not a stop."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        recorder = start(stage, HTTP_LISTEN=f"127.0.0.1:{taken.getsockname()[1]}")
        told = await recorder.saw("http_unavailable")
        assert "in use" in told["detail"]
        await recorder.saw("rotated")
        await until(lambda: recorder.events("rotated"), "it records")
        assert 0 == await recorder.stop()
    verified(recorder.data)
