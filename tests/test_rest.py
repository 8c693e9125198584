"""The REST client against a server on loopback that answers what it is told to, byte for byte."""

from __future__ import annotations

import functools
import gzip
import ssl
import subprocess
import sys
import traceback
from contextlib import asynccontextmanager

import pytest
import trio
import trustme

from streamsvc import rest
from streamsvc.errors import UsageError
from streamsvc.rest import RestClient, RestError, RestLimitedError, RestRefusedError, RestUnavailableError


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    """Answers every request with the same bytes, then closes or waits."""

    def __init__(self, reply: bytes, *, hangs: bool = False) -> None:
        self.reply = reply
        self.hangs = hangs
        self.requests: list[bytes] = []
        self.url = ""

    async def handle(self, stream: trio.abc.Stream) -> None:
        async with stream:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    if not (chunk := await stream.receive_some(4096)):
                        return
                    request += chunk
                self.requests.append(request)
                await stream.send_all(self.reply)
                if self.hangs:
                    await trio.sleep_forever()
            except trio.BrokenResourceError:
                pass


@asynccontextmanager
async def serving(server: Server, context: ssl.SSLContext | None = None):
    async def handle(stream: trio.abc.Stream) -> None:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await server.handle(stream)

    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        server.url = f"{'https' if context else 'http'}://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()


async def fetch(server: Server, context: ssl.SSLContext | None = None, **options) -> bytes | RestError:
    async with serving(server, context), RestClient(server.url, **options) as client:
        try:
            return await client.get("/api/v3/time", {"symbol": "BTC&USDT", "limit": 5})
        except RestError as error:
            return error


async def test_a_request_and_its_answer(monkeypatch):
    """Parameters are encoded, the weight used is noted, no proxy or cookie comes in between."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server = Server(answer(200, b"{}", "X-MBX-USED-WEIGHT-1M: 37"))
    async with serving(server), RestClient(server.url) as client:
        assert b"{}" == await client.get("/api/v3/time", {"symbol": "BTC&USDT", "limit": 5})
        assert 37 == client.used_weight
        assert 0 < client.weight_read_at <= trio.current_time()
    (request,) = server.requests
    assert request.startswith(b"GET /api/v3/time?symbol=BTC%26USDT&limit=5 HTTP/1.1\r\n")


async def test_an_answer_that_is_packed():
    body = b'{"a":1}' * 10_000
    assert body == await fetch(Server(answer(200, gzip.compress(body), "Content-Encoding: gzip")))


@pytest.mark.parametrize("text", ["", "x", "-1", "9" * 100])
async def test_a_weight_that_is_no_number(text):
    server = Server(answer(200, b"{}", f"X-MBX-USED-WEIGHT-1M: {text}"))
    async with serving(server), RestClient(server.url) as client:
        await client.get("/", {})
        assert None is client.used_weight
        assert client.weight_read_at < trio.current_time()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"code":-1121,"msg":"Invalid symbol."}', (400, -1121)),
        (404, b"<html>", (404, 0)),
        (401, b'{"code":"x"}', (401, 0)),
        (400, b"[" * 10_000, (400, 0)),
        (451, b"", (451, 0)),
    ],
)
async def test_refused(status, body, expected):
    """The same request would be refused again: the exchange's code says why."""
    error = await fetch(Server(answer(status, body)))
    assert isinstance(error, RestRefusedError)
    assert expected == (error.status, error.code)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("status", "body", "header", "expected"),
    [
        (429, b"", "Retry-After: 30", (False, 30)),
        (418, b"{}", "Retry-After: 120", (True, 120)),
        (418, b"", "X: y", (True, None)),
        (429, b"", "Retry-After: soon", (False, None)),
        (429, b"", "Retry-After: 99999999", (False, rest.RETRY_AFTER_SEC_MAX)),
        (400, b'{"code":-1003,"msg":"Too many requests"}', "X: y", (False, None)),
        (429, b'{"code":-1003,"msg":"... banned until 17"}', "Retry-After: 3", (False, 3)),
    ],
)
async def test_limited(status, body, header, expected):
    """We are told how long to stay away, within what can be meant."""
    error = await fetch(Server(answer(status, body, header)))
    assert isinstance(error, RestLimitedError)
    assert expected == (error.is_ban, error.retry_after_sec)


@pytest.mark.parametrize(
    "reply",
    [
        answer(500, b""),
        answer(503, b'{"code":-1,"msg":"Unknown error"}'),
        answer(403, b"<html>firewall"),
        answer(400, b'{"code":-1007,"msg":"Timeout"}'),
        answer(302, b"", "Location: /elsewhere"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
        answer(200, gzip.compress(b"x" * 1000)[:-4], "Content-Encoding: gzip"),
        b"no http at all\r\n\r\n",
        b"",
    ],
)
async def test_unavailable(reply):
    """Faults of the server and of the way to it; a redirect is not followed."""
    server = Server(reply)
    assert isinstance(await fetch(server), RestUnavailableError)
    assert 1 == len(server.requests)


async def test_nobody_listens():
    async with RestClient("http://127.0.0.1:1") as client:
        with pytest.raises(RestUnavailableError, match="ConnectError"):
            await client.get("/", {})


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"])
async def test_an_answer_that_never_ends(reply):
    """One limit from dialling to the last byte."""
    error = await fetch(Server(reply, hangs=True), timeout_sec=0.2)
    assert isinstance(error, RestUnavailableError)
    assert "no answer within 0.2 s" == str(error)


@pytest.mark.parametrize("is_packed", [False, True])
async def test_an_answer_that_is_too_large(monkeypatch, is_packed):
    """The limit counts what comes out of the compression."""
    monkeypatch.setattr(rest, "ANSWER_BYTES_MAX", 100_000)
    body = b"x" * 1_000_000
    reply = answer(200, gzip.compress(body), "Content-Encoding: gzip") if is_packed else answer(200, body)
    error = await fetch(Server(reply))
    assert isinstance(error, RestUnavailableError)
    assert "an answer of more than 100000 bytes" == str(error)


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(monkeypatch):
    """Reading stops at the limit, though the server has more."""
    monkeypatch.setattr(rest, "ANSWER_BYTES_MAX", 100_000)
    reply = answer(200, b"x" * 1_000_000).replace(b"1000000", b"9000000")
    error = await fetch(Server(reply, hangs=True), timeout_sec=5)
    assert "an answer of more than 100000 bytes" == str(error)


async def test_a_ban_whose_end_is_in_the_message_only():
    """Futures may leave `Retry-After` out."""
    body = b'{"code":-1003,"msg":"Way too much request weight used; IP(1.2.3.4) banned until 1786171884624. Please"}'
    error = await fetch(Server(answer(429, body)))
    assert isinstance(error, RestLimitedError)
    assert (True, None, 1_786_171_884_624) == (error.is_ban, error.retry_after_sec, error.until_ms)


CANARY = "Canary0123456789"


async def test_the_api_key():
    """It goes with the requests that need it, and is in no other and in no text about them."""
    server = Server(answer(200, b"{}"))
    async with serving(server), RestClient(server.url, api_key=CANARY) as client:
        await client.get("/api/v3/time", {})
        await client.get("/fapi/v1/historicalTrades", {}, needs_key=True)
        assert CANARY not in repr(client)
    assert CANARY.encode() not in server.requests[0]
    assert f"x-mbx-apikey: {CANARY}\r\n".encode() in server.requests[1].replace(b"X-MBX-APIKEY", b"x-mbx-apikey")


@pytest.mark.parametrize(
    "reply", [answer(401, b'{"code":-2015,"msg":"Invalid API-key"}'), answer(500, b""), b"nonsense"]
)
async def test_faults_do_not_show_the_api_key(reply):
    """Not they, not their causes."""
    server = Server(reply)
    async with serving(server), RestClient(server.url, api_key=CANARY) as client:
        with pytest.raises(RestError) as caught:
            await client.get("/fapi/v1/historicalTrades", {}, needs_key=True)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_a_request_that_needs_a_key_without_one():
    """It is refused for good, without being sent."""
    server = Server(answer(200, b"{}"))
    async with serving(server), RestClient(server.url) as client:
        with pytest.raises(RestRefusedError, match="needs an API key"):
            await client.get("/fapi/v1/historicalTrades", {}, needs_key=True)
    assert [] == server.requests


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "a\r\nX: y", "ключ"])
def test_a_key_that_cannot_be_one(key):
    with pytest.raises(UsageError, match="letters and digits"):
        RestClient("http://127.0.0.1", api_key=key)


def test_the_host():
    """It names bans, in the log and in the catalogue, so it says nothing that is secret."""
    assert "127.0.0.1:81" == RestClient("http://user:secret@127.0.0.1:81").host
    assert "api.binance.com" == RestClient("https://api.binance.com").host


@pytest.mark.parametrize("is_trusted", [False, True])
async def test_tls(tmp_path, is_trusted):
    """Only the authorities of the system and the one in the settings are trusted."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    result = await fetch(Server(answer(200, b"{}")), context, tls_ca_file=tmp_path / "ca.pem" if is_trusted else None)
    if is_trusted:
        assert b"{}" == result
    else:
        assert isinstance(result, RestUnavailableError)
        assert "CERTIFICATE_VERIFY_FAILED" in str(result)


async def test_cancellation_passes():
    """A request that is cancelled leaves nothing behind and hides nothing."""
    server = Server(b"", hangs=True)
    with trio.move_on_after(0.1) as scope:
        await fetch(server)
    assert scope.cancelled_caught


def test_importing_the_client_is_cheap():
    """httpx2 is imported when it is needed, off the loop."""
    code = "import sys, streamsvc.rest; print('httpx2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False" == done.stdout.strip()
