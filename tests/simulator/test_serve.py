"""Real sockets: other people's clients, TLS, refused connections, the control endpoint."""

from __future__ import annotations

import socket
import ssl
import time
from functools import partial

import httpx2
import pytest
import trio
import trio_websocket

from streamsvc.schema import Market
from streamsvc.simulator.exchange import Exchange
from streamsvc.simulator.market import Activity
from streamsvc.simulator.serve import make_tls, serve
from streamsvc.simulator.sources import SyntheticSource

SPOT, FUTURES = Market
LIVELY = {"BTCUSDT": Activity(100, 200)}


@pytest.fixture
async def opened(nursery, tmp_path):
    """Starts an exchange of both markets on any ports; gives it, its addresses, and a context that trusts it."""

    async def start(*, is_tls=False):
        start_us = time.time_ns() // 1000
        exchange = Exchange([SyntheticSource(market, LIVELY, start_us=start_us) for market in Market])
        ca_file = tmp_path / "ca.pem"
        tls = make_tls(ca_file) if is_tls else None
        addresses = await nursery.start(partial(serve, exchange, tls=tls))
        trust = ssl.create_default_context(cafile=str(ca_file)) if is_tls else None
        return exchange, addresses, trust

    return start


@pytest.mark.parametrize("is_tls", [False, True])
async def test_another_websocket_client_and_another_http_client(opened, is_tls):
    """WebSocket and REST on one port, plain and over TLS with the authority's file."""
    exchange, addresses, trust = await opened(is_tls=is_tls)
    urls = addresses.settings
    target = "/stream?streams=btcusdt@trade/btcusdt@depth@100ms"
    url = urls["BINANCE_SPOT_WS_URL"] + target
    async with trio_websocket.open_websocket_url(url, ssl_context=trust) as websocket:
        with trio.fail_after(10):
            texts = [await websocket.get_message() for _ in range(50)]
    assert all(text.startswith('{"stream":"btcusdt@') for text in texts)
    async with httpx2.AsyncClient(verify=trust or True) as client:
        for what, path in (("SPOT", "/api/v3/time"), ("FUTURES", "/fapi/v1/time")):
            answer = await client.get(urls[f"BINANCE_{what}_REST_URL"] + path)
            assert (200, {"serverTime"}) == (answer.status_code, set(answer.json()))
    assert exchange.ledger.records[SPOT, "btcusdt@trade"].sent_count > 0


async def test_over_tls_each_message_is_a_record_of_its_own(opened):
    """One `read` of an SSL object gives at most one record: a WebSocket frame each, though many arrive at once."""
    _, addresses, trust = await opened(is_tls=True)
    stream = await trio.open_tcp_stream("127.0.0.1", addresses.ports[SPOT])
    tls = trio.SSLStream(stream, trust, server_hostname="127.0.0.1")
    request = (
        "GET /stream?streams=btcusdt@trade/btcusdt@aggTrade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await tls.send_all(request.encode())
    head = await tls.receive_some(65536)
    assert head.startswith(b"HTTP/1.1 101")
    assert head.endswith(b"\r\n\r\n")
    for _ in range(20):
        record = await tls.receive_some(65536)
        assert b"\x81~" == record[:2]
        assert len(record) == 4 + int.from_bytes(record[2:4])
    await trio.aclose_forcefully(stream)


async def test_a_client_that_does_not_trust_the_authority_gets_nothing(opened):
    _, addresses, _ = await opened(is_tls=True)
    async with httpx2.AsyncClient(verify=True) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(addresses.settings["BINANCE_SPOT_REST_URL"] + "/api/v3/time")


async def test_a_cut_with_a_reset_and_one_with_a_fin(opened):
    exchange, addresses, _ = await opened()
    for mode in ("rst", "fin"):
        stream = await trio.open_tcp_stream("127.0.0.1", addresses.ports[SPOT])
        request = (
            "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await stream.send_all(request.encode())
        assert await stream.receive_some(4096)
        exchange.cut(SPOT, mode)
        with trio.fail_after(5):
            if mode == "rst":
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some(4096)
            else:
                assert b"" == await stream.receive_some(4096)
        await stream.aclose()


async def test_refused_connections_until_it_is_lifted(opened):
    """The kernel refuses, on the same port; open connections stay, and the other market does not notice."""
    exchange, addresses, _ = await opened()
    port = addresses.ports[SPOT]
    url = addresses.settings["BINANCE_SPOT_WS_URL"] + "/ws/btcusdt@trade"
    async with trio_websocket.open_websocket_url(url) as websocket:
        for _ in range(2):
            exchange.refuse_connections(SPOT)
            await trio.testing.wait_all_tasks_blocked()
            with socket.socket() as probe:
                assert 0 != probe.connect_ex(("127.0.0.1", port))
            with socket.socket() as probe:
                assert 0 == probe.connect_ex(("127.0.0.1", addresses.ports[FUTURES]))
            assert await websocket.get_message()
            exchange.lift(SPOT)
            await trio.testing.wait_all_tasks_blocked()
            async with trio_websocket.open_websocket_url(url) as again:
                assert await again.get_message()


async def test_rest_can_be_slow_and_can_fail(opened):
    """The first few requests, or until lifted; only paths that hold the text."""
    exchange, addresses, _ = await opened()
    async with httpx2.AsyncClient(base_url=addresses.settings["BINANCE_SPOT_REST_URL"]) as client:
        exchange.fail_rest(SPOT, 503, b"Unknown error", path="/depth", count=1)
        assert 503 == (await client.get("/api/v3/depth?symbol=BTCUSDT")).status_code
        assert 200 == (await client.get("/api/v3/depth?symbol=BTCUSDT")).status_code
        exchange.delay_rest(SPOT, 60, path="/time")
        with pytest.raises(httpx2.ReadTimeout):
            await client.get("/api/v3/time", timeout=0.2)
        assert 200 == (await client.get("/api/v3/ping")).status_code
        exchange.ban(SPOT, 100)
        answer = await client.get("/api/v3/ping")
        assert (418, True) == (answer.status_code, 90 < int(answer.headers["Retry-After"]) <= 101)


async def test_the_control_endpoint_commits_faults_and_tells_the_ledger(opened):
    _, addresses, _ = await opened()
    url = addresses.settings["BINANCE_SPOT_WS_URL"] + "/ws/btcusdt@trade"
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{addresses.control_port}/control/") as control,
        trio_websocket.open_websocket_url(url) as websocket,
    ):
        await websocket.get_message()
        (connection,) = (await control.get("connections")).json()
        assert ("spot", ["btcusdt@trade"]) == (connection["market"], connection["streams"])
        body = {"market": "spot", "stream": "btcusdt@trade", "count": 4}
        assert {"ok": True} == (await control.post("drop", json=body)).json()
        for _ in range(20):
            await websocket.get_message()
        ledger = (await control.get("ledger")).json()
        (line,) = ledger["withheld"]
        assert ("spot", "BTCUSDT", "trade", "drop", 4) == tuple(
            line[key] for key in ("market", "symbol", "kind", "cause", "count")
        )
        assert [[line["first_id"], line["last_id"]]] == ledger["streams"][0]["missing"][:1]
        answer = await control.post("freeze", json={"market": "spot"})
        assert {"ok": True, "connections": 1} == answer.json()
        await control.post("lift", json={"market": "spot"})
        assert {"is_done", "queued_bytes", "symbols"} == set((await control.get("state")).json()["spot"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sing", b"{}"),
        ("cut", b"{"),
        ("cut", b'{"market":"stocks"}'),
        ("cut", b'{"market":"spot","how":"rst"}'),
        ("mute", b'{"market":"spot","stream":"nobody@trade"}'),
        ("garbage", b'{"market":"spot","kind":"nice"}'),
    ],
)
async def test_an_order_that_makes_no_sense_is_answered_with_what_is_wrong(opened, path, body):
    _, addresses, _ = await opened()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{addresses.control_port}/control/") as control:
        answer = await control.post(path, content=body)
        assert (400, False) == (answer.status_code, answer.json()["ok"])
        assert path in answer.json()["error"]
