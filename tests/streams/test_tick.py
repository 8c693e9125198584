"""The pause that all connections share, and what is read of real sockets at its ticks."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, serve_websocket

from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.nowait import nowait_reader
from streamsvc.streams.tick import ReadTick
from streamsvc.streams.tls import open_tls
from streamsvc.streams.transport import open_transport


async def test_who_looks_is_asked_at_every_tick_until_it_has_seen_enough(autojump_clock):
    """One task ticks for all, whoever that is."""
    tick, looked = ReadTick(1000), []

    def look_until(count):
        def look():
            looked.append((count, trio.current_time()))
            return sum(number == count for number, _ in looked) < count

        return look

    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick.wait, look_until(1))
        nursery.start_soon(tick.wait, look_until(3))
        nursery.start_soon(tick.wait)
    assert 3 == trio.current_time() - began_at
    assert [(1, 1), (3, 1), (3, 2), (3, 3)] == sorted((count, at - began_at) for count, at in looked)


async def test_the_one_who_ticks_is_cancelled(autojump_clock):
    """Another takes over, and asks on."""
    tick, times = ReadTick(1000), []
    began_at = trio.current_time()

    def look():
        times.append(trio.current_time() - began_at)
        return len(times) < 4

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1.5):
            async with trio.open_nursery() as inner:
                inner.start_soon(tick.wait, lambda: True)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(tick.wait, look)
                await trio.sleep_forever()
    assert 4 == len(times)
    assert times[-1] <= 6


async def test_work_at_a_tick_makes_no_pause_longer(mock_clock):
    """Ticks are counted from tick to tick."""
    tick, times = ReadTick(1000), []

    def look():
        times.append(trio.current_time())
        mock_clock.jump(0.4)
        return len(times) < 3

    mock_clock.autojump_threshold = 0
    await tick.wait(look)
    assert [1, 1] == [round(later - earlier, 6) for earlier, later in pairwise(times)]


async def test_the_pause_is_a_quarter_where_much_comes(autojump_clock):
    tick, times = ReadTick(1000), []

    def look():
        times.append(trio.current_time())
        tick.saw([0, 7000, 1600, 1500, 7000][len(times) - 1])
        return len(times) < 5

    await tick.wait(look)
    assert [1, 0.25, 0.25, 1] == [round(later - earlier, 6) for earlier, later in pairwise(times)]


@pytest.fixture
async def sockets():
    """Two connected sockets, ours first."""
    ours, peer = tcp_pair()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
        with peer:
            yield stream, peer


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


async def until(read):
    for _ in range(5000):
        if (data := read()) is not None:
            return data
        await trio.sleep(0.001)
    raise AssertionError("nothing came")


async def test_a_socket_is_read_without_waiting(sockets):
    """Nothing, data, nothing, the end."""
    stream, peer = sockets
    read = nowait_reader(stream)
    assert read() is None
    peer.sendall(b"one")
    assert b"one" == await until(read)
    assert read() is None
    peer.close()
    assert b"" == await until(read)
    assert b"" == await stream.receive_some(10)


async def test_a_socket_that_is_reset(sockets):
    """It is told as `receive_some` would tell it."""
    stream, peer = sockets
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(ConnectionFaultError, match="reset"):
        await until(nowait_reader(stream))


async def test_streams_that_cannot_be_read_without_waiting():
    assert nowait_reader(trio.testing.memory_stream_pair()[0]) is None


async def test_tls_is_read_without_waiting(sockets, contexts):
    """Half a record says nothing yet; what is behind the end is left to `receive_some`."""
    stream, peer = sockets
    peer.setblocking(False)
    below = trio.SocketStream(trio.socket.from_stdlib_socket(peer.dup()))
    server = trio.SSLStream(below, contexts[0], server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        ours = await open_tls(stream, contexts[1], "127.0.0.1")
    read = nowait_reader(ours)
    assert read is not None
    assert read() is None  # Tickets for a session may come after the handshake, which are no data.
    await server.send_all(b"one")
    assert b"one" == await until(read)
    assert read() is None
    await server.send_all(b"two")
    with trio.move_on_after(0.05):
        await server.aclose()
    assert b"two" == await until(read)
    assert b"" == await until(read)
    assert b"" == await ours.receive_some()
    await below.aclose()


COUNT = 600


@pytest.fixture
def talking(nursery):
    """Starts a server that says one small message a millisecond, a ping among them; gives its URL."""

    async def talk(request):
        websocket = await request.accept()
        try:
            for number in range(COUNT):
                await websocket.send_message(b'{"n":%d}' % number)
                if number == COUNT // 2:
                    with trio.fail_after(5):
                        await websocket.ping()
                await trio.sleep(0.001)
            await websocket.aclose(1001, "going away")
        except ConnectionClosed:
            pass

    async def start():
        server = await nursery.start(serve_websocket, talk, "127.0.0.1", 0, None)
        return f"ws://127.0.0.1:{server.port}/stream?streams=x"

    return start


async def test_what_comes_one_by_one_is_delivered_in_order_however_often_nobody_takes_it(talking, wiring):
    """Some batches are taken as they are read, some have to wait: none is lost, none overtakes another."""
    taken, held, ways = [], [], set()

    def take(batch):
        if held or len(taken) // 50 % 2:
            return False
        taken.extend(batch.messages)
        ways.add("at once")
        return True

    async def converse(url):
        async with open_transport(url, wiring, []) as transport:
            transport.deliver_to(take)
            while True:
                held.append(await transport.receive())
                await trio.sleep(0.01)
                taken.extend(held.pop().messages)
                ways.add("waited")

    with trio.fail_after(30), pytest.raises(ConnectionFaultError) as caught:
        await converse(await talking())
    assert ("closed", 1001) == (caught.value.cause, caught.value.status)
    assert [b'{"n":%d}' % number for number in range(COUNT)] == taken
    assert {"at once", "waited"} == ways
