"""Exchanges that follow a script: each connection is a conversation that a test has written down."""

import json
import math
from bisect import bisect_left
from urllib.parse import parse_qs, urlsplit

import trio

from streamsvc.simulator.frames import CLOSE, PING, PONG, TEXT, ClientFrames, accept_key, frame


def trade(symbol, trade_id, time_ms, *, quantity="0.5"):
    """A spot trade in the combined form."""
    return (
        f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{time_ms},"s":"{symbol}","t":{trade_id},'
        f'"p":"100.25","q":"{quantity}","T":{time_ms},"m":true,"M":true}}}}'
    ).encode()


def depth(symbol, update_id, time_ms, *, padding_bytes=0):
    """A spot order-book update of one id in the combined form, speed 100 ms; a new field may make it long."""
    return (
        f'{{"stream":"{symbol.lower()}@depth@100ms","data":{{"e":"depthUpdate","E":{time_ms},"s":"{symbol}",'
        f'"U":{update_id},"u":{update_id},"b":[["99.75","1.5"]],"a":[],"new":"{"x" * padding_bytes}"}}}}'
    ).encode()


class Talk:
    """One connection after its upgrade.

    Attributes:
        end: The exchange's end.
        path: The URL's path.
        streams: The names that the URL asked for.
        heard_at: When the recorder sent something.
        answers_pings: Whether pings get a pong.
        answers_close: Whether a close frame gets one back, and ends the connection.
    """

    def __init__(self, end, path, streams):
        self.end = end
        self.path = path
        self.streams = streams
        self.heard_at = []
        self.answers_pings = True
        self.answers_close = True
        self._sending = trio.Lock()

    async def send(self, *texts):
        await self.send_bytes(b"".join(frame(text) for text in texts))

    async def send_bytes(self, data):
        async with self._sending:
            await self.end.send_all(data)

    async def play(self, interval_sec, make, *, until_sec=math.inf):
        """Send what a market says that speaks once an interval, whoever listens: `make` gets the number of the tick."""
        number = math.floor(trio.current_time() / interval_sec) + 1
        while (due := number * interval_sec) < until_sec:
            await trio.sleep_until(due)
            await self.send(*make(number))
            number += 1

    async def listen(self):
        """Answer what the recorder says, until it leaves."""
        frames = ClientFrames()
        while data := await self.end.receive_some():
            for message in frames.feed(data):
                self.heard_at.append(trio.current_time())
                if message.opcode == PING and self.answers_pings:
                    await self.send_bytes(frame(message.payload, PONG))
                elif message.opcode == CLOSE and self.answers_close:
                    await self.send_bytes(frame(message.payload, CLOSE))
                    return
                elif message.opcode == TEXT:
                    await self.send(b'{"result":null,"id":%d}' % json.loads(message.payload)["id"])


def most_within(times, seconds):
    """The most of these times, which are in order, within any window of this length."""
    return max((bisect_left(times, begin + seconds) - first for first, begin in enumerate(times)), default=0)


def scripted(converse):
    """A server for `World.servers`: it makes the handshake, then has `converse(talk)` speak until either side ends."""

    async def serve(end):
        try:
            talk = await _upgrade(end)
            if talk is None:
                return
            async with trio.open_nursery() as nursery:

                async def listen():
                    await talk.listen()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(listen)
                await converse(talk)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The recorder has left.
        finally:
            await trio.aclose_forcefully(end)

    return serve


async def _upgrade(end):
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = await end.receive_some()
        if not chunk:
            return None
        head += chunk
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    key = accept_key(headers["sec-websocket-key"].encode()).decode()
    await end.send_all(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
    )
    target = urlsplit(lines[0].split()[1])
    (streams,) = parse_qs(target.query)["streams"]
    return Talk(end, target.path, streams.split("/"))
