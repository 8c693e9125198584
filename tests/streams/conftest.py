"""An exchange of a few lines on memory streams, and what a connection needs beside it."""

from __future__ import annotations

import random
import ssl
import time

import attrs
import pytest
import trio
import trustme
from trio.testing import lockstep_stream_pair, memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import LocalProtocolError

from streamsvc.settings import Settings
from streamsvc.streams.tick import ReadTick
from streamsvc.streams.tls import make_client_context
from streamsvc.streams.transport import Wiring
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.venues.binance_spot import BinanceSpot

START_NS = 1_700_000_000_000_000_000


class Peer:
    """The exchange's end of one connection.

    Attributes:
        target: Path and query that the client asked for.
        opened_at, heard: When the client connected, and what it said: pairs of a time and an event.
    """

    def __init__(self, stream):
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.target = None
        self.opened_at = trio.current_time()
        self.heard = []
        self._events = iter(())
        self._lock = trio.StrictFIFOLock()

    async def send(self, event):
        async with self._lock:
            await self.stream.send_all(self.protocol.send(event))

    async def send_raw(self, data):
        async with self._lock:
            await self.stream.send_all(data)

    async def say(self, text):
        await self.send(TextMessage(data=text))

    async def hear(self):
        """The next thing that the client says; None when it has hung up."""
        while True:
            for event in self._events:
                self.heard.append((trio.current_time(), event))
                return event
            data = await self.stream.receive_some(65536)
            if not data:
                return None
            self.protocol.receive_data(bytes(data))
            self._events = self.protocol.events()

    async def accept(self):
        request = await self.hear()
        if request is None:
            raise trio.BrokenResourceError
        assert isinstance(request, Request)
        self.target = request.target
        await self.send(AcceptConnection())

    async def answer(self, on_text=None):
        """Answer pings, close frames and, with `on_text`, texts, until the client hangs up."""
        try:
            while (event := await self.hear()) is not None:
                if isinstance(event, Ping):
                    await self.send(event.response())
                elif isinstance(event, CloseConnection):
                    if self.protocol.state is ConnectionState.REMOTE_CLOSING:
                        await self.send(event.response())
                    await self.stream.aclose()
                    return
                elif isinstance(event, TextMessage) and on_text is not None:
                    await on_text(self, event.data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def said(self, kind):
        """What the client said of a type of event."""
        return [event for _, event in self.heard if isinstance(event, kind)]


class Watched(trio.abc.Stream):
    """The client's end: tells whether it was left open."""

    def __init__(self, stream):
        self._stream = stream
        self.is_closed = False

    async def receive_some(self, max_bytes=None):
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data):
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self):
        self.is_closed = True
        await self._stream.aclose()


async def until_hung_up(serve, *arguments, **options):
    """Serve a peer; that it hangs up, at whatever moment, is no accident."""
    try:
        await serve(*arguments, **options)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
        pass


class Exchange:
    """Serves each dialled connection with `serve(peer)`, an async function; set it before dialling.

    Attributes:
        dials: When each connection was dialled.
        peers: The connections, in order.
        streams: The client's ends.
        refuse: An error to raise instead of connecting, or None.
        server_context, client_context: For `wss` URLs.
        has_backpressure: Whether what is sent must be received before more can be sent.
    """

    def __init__(self, nursery):
        self._nursery = nursery
        self.serve = flow
        self.dials = []
        self.peers = []
        self.streams = []
        self.refuse = None
        self.server_context = None
        self.client_context = ssl.create_default_context()
        self.has_backpressure = False
        self.began_at = trio.current_time()

    def wall_ns(self):
        """A wall clock that goes with Trio's, from `START_NS`."""
        return START_NS + round((trio.current_time() - self.began_at) * 1e9)

    async def dial(self, host, port):
        del host, port
        await trio.lowlevel.checkpoint()
        self.dials.append(trio.current_time())
        if self.refuse is not None:
            raise self.refuse
        ours, theirs = lockstep_stream_pair() if self.has_backpressure else memory_stream_pair()
        if self.server_context is not None:
            theirs = trio.SSLStream(theirs, self.server_context, server_side=True, https_compatible=True)
        peer = Peer(theirs)
        self.peers.append(peer)
        self.streams.append(Watched(ours))
        self._nursery.start_soon(self._serve, peer)
        return self.streams[-1]

    async def _serve(self, peer):
        await until_hung_up(self.serve, peer)


async def flow(peer, *, interval_sec=1.0, on_text=None):
    """The usual exchange: a message now and then, pings and close frames answered."""
    await peer.accept()
    async with trio.open_nursery() as nursery:

        async def talk():
            for number in range(1_000_000):
                await peer.say(f'{{"n":{number}}}')
                await trio.sleep(interval_sec)

        nursery.start_soon(talk)
        await peer.answer(on_text)
        nursery.cancel_scope.cancel()


@attrs.define(slots=False)
class RecordingPort:
    """A port that keeps what it gets."""

    plan: object = None
    number: int = 0
    opens: int = 0
    messages: list = attrs.field(factory=list)
    received_ns: list = attrs.field(factory=list)
    shed_messages: list = attrs.field(factory=list)
    causes: list = attrs.field(factory=list)
    room: trio.Event = attrs.field(factory=trio.Event)
    asked: list = attrs.field(factory=list)
    carried: list = attrs.field(factory=list)

    def __attrs_post_init__(self):
        self.room.set()

    def joining(self, streams):
        self.asked += [stream.name for stream in streams]

    def joined(self, streams):
        self.carried += [stream.name for stream in streams]

    def parted(self, streams):
        for stream in streams:
            self.asked.remove(stream.name)
            self.carried.remove(stream.name)

    def opened(self):
        self.opens += 1
        self.carried = list(self.asked)

    @property
    def has_room(self):
        return self.room.is_set()

    async def wait_room(self):
        await trio.lowlevel.checkpoint()
        await self.room.wait()

    def is_behind(self):
        return False

    def take(self, batch):
        self.messages += batch.messages
        self.received_ns.append(batch.received_ns)
        return [text for text in batch.messages if b'"n"' not in text]

    def leave(self, batch):
        if self.has_room:
            self.take(batch)
        else:
            self.shed_messages += batch.messages

    def close(self, cause):
        self.causes.append(cause)


def make_settings(**changes):
    return Settings(spot_symbols=("BTCUSDT",), **changes)


def make_wiring(exchange, **changes):
    settings = make_settings(**changes)
    return Wiring(
        dial=exchange.dial,
        ssl_context=exchange.client_context,
        tick=ReadTick(settings.read_tick_ms),
        wall_ns=exchange.wall_ns,
        rng=random.Random(1),
        settings=settings,
    )


@attrs.frozen
class Doubles:
    """What the tests of this folder share."""

    Exchange: type = Exchange
    Peer: type = Peer
    Port: type = RecordingPort
    flow: object = staticmethod(flow)
    settings: object = staticmethod(make_settings)
    wiring: object = staticmethod(make_wiring)
    until_hung_up: object = staticmethod(until_hung_up)
    start_ns: int = START_NS


@pytest.fixture
def doubles():
    return Doubles()


@pytest.fixture
async def exchange(nursery):
    return Exchange(nursery)


@pytest.fixture
def spot():
    return BinanceSpot("ws://exchange.test:9443")


@pytest.fixture
def futures():
    return BinanceFutures("ws://exchange.test:9443")


@pytest.fixture(scope="session")
def contexts(tmp_path_factory):
    """TLS contexts of a server for `exchange.test` and `127.0.0.1`, and of a client that believes it."""
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("exchange.test", "127.0.0.1").configure_cert(server_context)
    return server_context, make_client_context(ca_file)


@pytest.fixture
def wiring(contexts, doubles):
    """For real sockets, with a real clock."""
    settings = doubles.settings()
    return Wiring(
        dial=trio.open_tcp_stream,
        ssl_context=contexts[1],
        tick=ReadTick(settings.read_tick_ms),
        wall_ns=time.time_ns,
        rng=random.Random(),
        settings=settings,
    )
