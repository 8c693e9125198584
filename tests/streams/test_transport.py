"""One connection under Trio's clock: handshakes that stall, endings of every sort, pings, backpressure."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, TextMessage

from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.tap import BatchSlot
from streamsvc.streams.tick import ReadTick
from streamsvc.streams.transport import open_transport

URL = "ws://exchange.test:9443/stream?streams=btcusdt@trade"


@pytest.fixture
def connect(doubles, exchange):
    """Opens a transport to the exchange; on the way out nothing may be left open."""

    @asynccontextmanager
    async def opener(url=URL, **changes):
        try:
            async with open_transport(url, doubles.wiring(exchange, **changes), []) as transport:
                yield transport
        finally:
            assert [True] * len(exchange.streams) == [stream.is_closed for stream in exchange.streams]

    return opener


async def fault_of(context):
    """The fault with which a connection cannot be made."""
    with pytest.raises(ConnectionFaultError) as caught:
        async with context:
            pass
    return caught.value


async def end_of(transport):
    """All messages, and the fault behind them."""
    messages = []
    while True:
        try:
            messages += (await transport.receive()).messages
        except ConnectionFaultError as fault:
            return messages, fault


async def test_messages_arrive_in_order(autojump_clock, connect, doubles, exchange):
    """With the time of their receipt and their size."""
    async with connect() as transport:
        first, second = await transport.receive(), await transport.receive()
    assert [b'{"n":0}', b'{"n":1}'] == first.messages + second.messages
    assert (7, doubles.start_ns) == (first.size_bytes, first.received_ns)
    assert second.received_ns > first.received_ns + 900_000_000
    assert "/stream?streams=btcusdt@trade" == exchange.peers[0].target


async def test_messages_in_the_segment_of_the_handshake(autojump_clock, connect, exchange):
    """Not a byte behind the head is lost."""

    async def serve(peer):
        await peer.hear()
        head = peer.protocol.send(AcceptConnection())
        await peer.send_raw(head + peer.protocol.send(TextMessage(data="at once")))
        await peer.answer()

    exchange.serve = serve
    async with connect() as transport:
        assert [b"at once"] == (await transport.receive()).messages


async def test_dial_into_a_black_hole(autojump_clock, connect, exchange):
    """The deadline ends it."""

    async def dial(host, port):
        del host, port
        await trio.sleep_forever()

    exchange.dial = dial
    began_at = trio.current_time()
    fault = await fault_of(connect(connect_timeout_sec=20))
    assert ("timeout", 20) == (fault.cause, trio.current_time() - began_at)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (OSError("network is unreachable"), "refused"),
        (socket.gaierror(-2, "Name or service not known"), "dns"),
    ],
)
async def test_dial_that_fails(autojump_clock, connect, exchange, error, cause):
    """The system's errors become ours."""
    exchange.refuse = error
    assert cause == (await fault_of(connect())).cause


async def test_dial_of_several_addresses_that_all_fail(autojump_clock, connect, exchange):
    """What each address said is told."""
    exchange.refuse = OSError("all attempts failed")
    exchange.refuse.__cause__ = ExceptionGroup("", [ConnectionRefusedError("first"), OSError("second")])
    fault = await fault_of(connect())
    assert ("refused", "first; second") == (fault.cause, fault.detail)


@pytest.mark.parametrize("url", [URL, URL.replace("ws:", "wss:")])
async def test_handshake_that_stalls(autojump_clock, connect, exchange, url):
    """One deadline bounds dialling, TLS and upgrade."""

    async def serve(peer):
        await peer.stream.receive_some()
        await trio.sleep_forever()

    exchange.serve = serve
    began_at = trio.current_time()
    fault = await fault_of(connect(url))
    assert ("timeout", 20) == (fault.cause, trio.current_time() - began_at)


async def test_handshake_that_drips(autojump_clock, connect, exchange):
    """A byte a second keeps no connection waiting beyond the deadline."""

    async def serve(peer):
        await peer.stream.receive_some()
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n" * 100:
            await peer.send_raw(bytes([byte]))
            await trio.sleep(1)

    exchange.serve = serve
    began_at = trio.current_time()
    fault = await fault_of(connect())
    assert ("timeout", 20) == (fault.cause, trio.current_time() - began_at)


@pytest.mark.parametrize(
    ("head", "status", "retry_after_sec"),
    [
        (b"HTTP/1.1 301 Moved\r\nLocation: ws://elsewhere.test/\r\n", 301, None),
        (b"HTTP/1.1 403 Forbidden\r\n", 403, None),
        (b"HTTP/1.1 418 I'm a teapot\r\nRetry-After: 120\r\n", 418, 120.0),
        (b"HTTP/1.1 429\r\nretry-after:  7 \r\n", 429, 7.0),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: Tue, 14 Nov 2023 22:14:20 GMT\r\n", 429, 60.0),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: Tue, 14 Nov 2020 22:14:20 GMT\r\n", 429, 0.0),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: soon\r\n", 429, None),
        (b"HTTP/1.1 418 Gone\r\nRetry-After: 99999999999999\r\n", 418, 3 * 86400.0),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1000000000\r\n", 502, None),
        (b"HTTP/1.1 100 Continue\r\n", 100, None),
    ],
)
async def test_refusal(autojump_clock, connect, exchange, *, head, status, retry_after_sec):
    """Status and Retry-After are told at once; no body is awaited, no redirect followed."""

    async def serve(peer):
        await peer.hear()
        await peer.send_raw(head + b"\r\n" + b"body")
        await trio.sleep_forever()

    exchange.serve = serve
    began_at = trio.current_time()
    fault = await fault_of(connect())
    assert ("status", status, retry_after_sec) == (fault.cause, fault.status, fault.retry_after_sec)
    assert began_at == trio.current_time()
    assert 1 == len(exchange.dials)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\xff\xfe: no header\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"x" * 20_000,
    ],
)
async def test_upgrade_that_is_none(autojump_clock, connect, exchange, head):
    """An answer that is not what the RFC asks for is a fault of this connection, told at once."""

    async def serve(peer):
        await peer.hear()
        await peer.send_raw(head)
        await trio.sleep_forever()

    exchange.serve = serve
    began_at = trio.current_time()
    fault = await fault_of(connect())
    assert ("handshake", began_at) == (fault.cause, trio.current_time())


async def test_compression_that_we_did_not_ask_for(autojump_clock, connect, exchange):
    """The upgrade is refused: we could not read the messages."""

    async def serve(peer):
        await peer.hear()
        await peer.send(AcceptConnection(extra_headers=[(b"Sec-WebSocket-Extensions", b"permessage-deflate")]))
        await trio.sleep_forever()

    exchange.serve = serve
    assert "handshake" == (await fault_of(connect())).cause


async def test_end_within_the_handshake(autojump_clock, connect, exchange):
    """A connection that ends is not waited for."""

    async def serve(peer):
        await peer.hear()
        await peer.send_raw(b"HTTP/1.1 101 Switching")
        await peer.stream.aclose()

    exchange.serve = serve
    began_at = trio.current_time()
    fault = await fault_of(connect())
    assert ("eof", began_at) == (fault.cause, trio.current_time())


async def test_end_before_the_request_could_be_sent(autojump_clock, connect, exchange):
    """Neither is one that ends before anything was said."""

    async def serve(peer):
        await peer.stream.aclose()

    exchange.serve = serve
    assert (await fault_of(connect())).cause in {"eof", "reset"}


async def test_data_and_close_in_one_segment(autojump_clock, connect, exchange):
    """What came before the close frame is delivered before the end is told."""

    async def serve(peer):
        await peer.accept()
        data = peer.protocol.send(TextMessage(data="last")) + peer.protocol.send(CloseConnection(1008, "too many"))
        await peer.send_raw(data)
        await peer.answer()

    exchange.serve = serve
    async with connect() as transport:
        await trio.sleep(1)
        messages, fault = await end_of(transport)
    assert ([b"last"], "closed", 1008) == (messages, fault.cause, fault.status)
    assert "too many" in fault.detail
    assert [1008] == [event.code for event in exchange.peers[0].said(CloseConnection)]


async def test_close_frame_and_no_end(autojump_clock, connect, exchange):
    """A peer that says goodbye and keeps the line open is left at once."""

    async def serve(peer):
        await peer.accept()
        await peer.send(CloseConnection(1001))
        await trio.sleep_forever()

    exchange.serve = serve
    began_at = trio.current_time()
    async with connect() as transport:
        _, fault = await end_of(transport)
    assert ("closed", 1001, began_at) == (fault.cause, fault.status, trio.current_time())


async def test_end_without_a_close_frame(autojump_clock, connect, exchange):
    """What came before it is delivered."""

    async def serve(peer):
        await peer.accept()
        await peer.say("one")
        await peer.send_raw(b"\x81\x05hal")
        await peer.stream.aclose()

    exchange.serve = serve
    async with connect() as transport:
        messages, fault = await end_of(transport)
    assert ([b"one"], "eof") == (messages, fault.cause)


async def test_reset(autojump_clock, connect, exchange):
    """A connection that breaks is told as such."""

    async def serve(peer):
        await peer.accept()
        await peer.say("one")
        await trio.sleep(1)

        def broken():
            raise trio.BrokenResourceError

        exchange.streams[0]._stream.receive_stream.receive_some_hook = broken
        await peer.say("two")

    exchange.serve = serve
    async with connect() as transport:
        messages, fault = await end_of(transport)
    assert ("reset", b"one") == (fault.cause, messages[0])


async def test_peer_that_never_answers_our_close_frame(autojump_clock, connect, exchange):
    """Leaving takes as long as CLOSE_TIMEOUT_SEC at most, though data goes on coming."""

    async def serve(peer):
        await peer.accept()
        while True:
            await peer.say("more")
            await peer.send(Ping(payload=b"are you there"))
            await trio.sleep(0.1)

    exchange.serve = serve
    async with connect(close_timeout_sec=2) as transport:
        await transport.receive()
        began_at = trio.current_time()
    assert began_at + 2 == pytest.approx(trio.current_time())


async def test_leaving_says_goodbye(autojump_clock, connect, exchange):
    """The peer gets a close frame, also when we are cancelled."""
    with trio.move_on_after(3) as scope:
        async with connect():
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [1000] == [event.code for event in exchange.peers[0].said(CloseConnection)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1\x02hi", 1002),
        (b"\x83\x02hi", 1002),
        (b"\x89\x7e\x00\x80" + b"x" * 128, 1002),
        (b"\x80\x02hi", 1002),
        (b"\x01\x02hi\x81\x02hi", 1002),
        (b"\x81\x7f" + struct.pack(">Q", 2 << 20) + b"x" * 100_000, 1009),
        (b"\x01\x7f" + struct.pack(">Q", 1 << 20) + b"x" * (1 << 20) + b"\x80\x01x", 1009),
    ],
)
async def test_peer_that_breaks_the_protocol(autojump_clock, connect, exchange, data, code):
    """The peer is told the code; the fault tells what it was; what came before is delivered."""

    async def serve(peer):
        await peer.accept()
        await peer.send_raw(peer.protocol.send(TextMessage(data="good")) + data)
        await peer.answer()

    exchange.serve = serve
    async with connect(message_max_mb=1) as transport:
        messages, fault = await end_of(transport)
    assert ([b"good"], "protocol", code) == (messages, fault.cause, fault.status)
    assert [code] == [event.code for event in exchange.peers[0].said(CloseConnection)]


async def test_violation_behind_a_batch_that_nobody_takes_yet(autojump_clock, connect, exchange):
    """The batch is still delivered, then the end is told."""

    async def serve(peer):
        await peer.accept()
        await peer.send_raw(peer.protocol.send(TextMessage(data="good")) + b"\xc1\x02hi")
        await trio.sleep_forever()

    exchange.serve = serve
    async with connect() as transport:
        await trio.sleep(5)
        messages, fault = await end_of(transport)
    assert ([b"good"], "protocol") == (messages, fault.cause)


async def test_ping_beside_data_while_nobody_takes_the_data(autojump_clock, connect, exchange):
    """Control frames go on before the tap waits for its consumer."""

    async def serve(peer):
        await peer.accept()
        await peer.send_raw(peer.protocol.send(TextMessage(data="data")) + peer.protocol.send(Ping(payload=b"x")))
        await peer.answer()

    exchange.serve = serve
    async with connect() as transport:
        await trio.sleep(1)
        assert [b"x"] == [bytes(event.payload) for event in exchange.peers[0].said(Pong)]
        assert [b"data"] == (await transport.receive()).messages


async def test_ping_flood(autojump_clock, connect, exchange):
    """At most two pongs a second, whatever comes; the data behind the pings is recorded."""

    async def serve(peer):
        await peer.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer)
            for second in range(10):
                pings = b"".join(peer.protocol.send(Ping(payload=b"%d" % i)) for i in range(200))
                await peer.send_raw(pings + peer.protocol.send(TextMessage(data=f"{second}")))
                await trio.sleep(0.3)

    exchange.serve = serve
    async with connect() as transport:
        messages = [message for _ in range(10) for message in (await transport.receive()).messages]
        dropped = transport.pings_dropped
    times = [time for time, event in exchange.peers[0].heard if isinstance(event, Pong)]
    assert [b"%d" % second for second in range(10)] == messages
    assert 2000 == dropped + len(times)
    assert all(late - early >= 1 for early, late in zip(times, times[2:], strict=False))


async def test_slow_consumer_slows_the_peer(autojump_clock, connect, exchange):
    """One batch lies in the slot, one is held back by the tap; everything else stays with the peer."""
    exchange.has_backpressure = True
    sent = []

    async def serve(peer):
        await peer.accept()
        for number in range(100):
            await peer.say(f"{number}")
            sent.append(number)

    exchange.serve = serve
    async with connect(read_tick_ms=0) as transport:
        await trio.sleep(10)
        assert len(sent) <= 3
        got = [message for _ in range(50) for message in (await transport.receive()).messages]
    assert [b"%d" % number for number in range(50)] == got


@pytest.mark.parametrize("piece", [b"\x00\x01x", b"x"])
async def test_message_that_never_ends(autojump_clock, connect, exchange, piece):
    """Fragments without an end, or a frame that drips in, are given up after a while."""

    async def serve(peer):
        await peer.accept()
        await peer.send_raw(b"\x01\x00" if piece[0] == 0 else b"\x81\x7e\xff\xff")
        while True:
            await peer.send_raw(piece)
            await trio.sleep(10)

    exchange.serve = serve
    began_at = trio.current_time()
    async with connect(stream_idle_sec=120) as transport:
        messages, fault = await end_of(transport)
        assert 140 >= trio.current_time() - began_at
    assert ([], "protocol") == (messages, fault.cause)


async def test_small_reads_are_gathered(autojump_clock, connect, doubles, exchange):
    """After a read that did not fill its buffer the next one waits for the tick; the first message does not."""
    times = []

    async def serve(peer):
        await doubles.flow(peer, interval_sec=0.001)

    exchange.serve = serve
    began_at = trio.current_time()
    async with connect(read_tick_ms=100) as transport:
        count = 0
        while count < 1000:
            count += len((await transport.receive()).messages)
            times.append(trio.current_time() - began_at)
    assert 0 == times[0]
    assert 12 >= len(times)


async def test_what_is_said_after_the_end(autojump_clock, connect, exchange):
    """Sending and pinging tell the fault instead of hanging or leaking a library's error."""

    async def serve(peer):
        await peer.accept()
        await peer.stream.aclose()

    exchange.serve = serve
    async with connect() as transport:
        await end_of(transport)
        for step in (transport.ping, lambda: transport.send("hello")):
            with pytest.raises(ConnectionFaultError) as caught:
                await step()
            assert "eof" == caught.value.cause


async def test_send_that_was_cut_off(autojump_clock, connect, exchange):
    """Nothing follows half a frame: the connection ends instead."""
    async with connect() as transport:
        scope = trio.CancelScope()

        async def cut():
            scope.cancel()
            await trio.sleep_forever()

        exchange.streams[0]._stream.send_stream.send_all_hook = cut
        with scope:
            await transport.send("half")
        with pytest.raises(ConnectionFaultError) as caught:
            await transport.send("whole")
    assert "reset" == caught.value.cause


async def test_unexpected_error_in_the_body(autojump_clock, connect):
    """It comes out as it is, not as a fault of the connection; nothing is left open."""
    with pytest.RaisesGroup(ZeroDivisionError):
        async with connect():
            raise ZeroDivisionError


async def test_tick_is_shared(autojump_clock):
    """All who wait wake together, at most one tick after the first of them began; nothing ticks while nobody waits."""
    tick = ReadTick(1000)
    woken = []

    async def wait(after_sec):
        await trio.sleep(after_sec)
        await tick.wait()
        woken.append(trio.current_time())

    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        for after_sec in (0, 0.3, 0.9, 5):
            nursery.start_soon(wait, after_sec)
    assert [1, 1, 1, 6] == [round(time - began_at, 6) for time in woken]


async def test_tick_whose_first_waiter_is_cancelled(autojump_clock):
    """The others go on."""
    tick = ReadTick(1000)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(trio.sleep, 0)
            await tick.wait()
        nursery.start_soon(tick.wait)
        nursery.start_soon(tick.wait)


async def test_cancelled_receive_loses_nothing(autojump_clock):
    """A batch that comes at the moment of a deadline is there for the next one who takes."""
    slot = BatchSlot()
    batch = object()
    scope = trio.CancelScope()
    taken = []

    async def take():
        with scope:
            taken.append(await slot.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        slot.put_nowait(batch)
    assert [batch] == taken or batch is slot.take_nowait()
