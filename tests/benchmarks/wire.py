"""Binance's spot messages in the combined form, and the frames and TLS records around them, made for speed.

Ids chain as the exchange's do: trade ids grow by one a symbol, each order-book update begins after the one before it.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator

HANDSHAKE_BYTES_MAX = 64 * 1024
RECORDS_PER_SEND = 512
UPDATES_PER_DIFF = 7
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def frame_of(payload: bytes) -> bytes:
    """A text frame of a server: whole, unmasked, its length in the shortest form."""
    size = len(payload)
    if size <= 125:
        return struct.pack(">BB", 0x81, size) + payload
    if size <= 0xFFFF:
        return struct.pack(">BBH", 0x81, 126, size) + payload
    return struct.pack(">BBQ", 0x81, 127, size) + payload


class Texts:
    """Makes the messages of one symbol, one kind after the other as asked. Prices and quantities come from a pool.

    Args:
        symbol: In upper case.
        rng: Where prices and quantities come from.
        levels: How many levels an order-book update has on each side.
    """

    def __init__(self, symbol: str, rng: random.Random, levels: int = 20) -> None:
        self._symbol, self._stream = symbol, symbol.lower()
        self._trades = self._updates = self._tickers = 0
        self._prices = [f"{20_000 + rng.randrange(1_000_000) / 100:.2f}" for _ in range(97)]
        self._quantities = [f"{rng.randrange(1, 10**9) / 10**8:.8f}" for _ in range(89)]
        self._sides = [
            ",".join(f'["{20_000 + rng.randrange(10**6) / 100:.2f}","{rng.random():.8f}"]' for _ in range(levels))
            for _ in range(31)
        ]

    def make(self, kind: str, time_ms: int) -> bytes:
        """The next message of a kind: `aggTrade`, `trade`, `depth` or `bookTicker`."""
        maker: Callable[[int], str] = getattr(self, f"_{kind}")
        return maker(time_ms).encode()

    def _aggTrade(self, time_ms: int) -> str:  # noqa: N802 - the exchange's name
        n = self._trades
        self._trades += 1
        return (
            f'{{"stream":"{self._stream}@aggTrade","data":{{"e":"aggTrade","E":{time_ms},"s":"{self._symbol}",'
            f'"a":{n},"p":"{self._prices[n % 97]}","q":"{self._quantities[n % 89]}","f":{2 * n},"l":{2 * n + 1},'
            f'"T":{time_ms},"m":{"true" if n & 1 else "false"},"M":true}}}}'
        )

    def _trade(self, time_ms: int) -> str:
        n = self._trades
        self._trades += 1
        return (
            f'{{"stream":"{self._stream}@trade","data":{{"e":"trade","E":{time_ms},"s":"{self._symbol}",'
            f'"t":{n},"p":"{self._prices[n % 97]}","q":"{self._quantities[n % 89]}",'
            f'"T":{time_ms},"m":{"true" if n & 1 else "false"},"M":true}}}}'
        )

    def _depth(self, time_ms: int) -> str:
        first = self._updates + 1
        self._updates += UPDATES_PER_DIFF
        bids, asks = self._sides[first % 31], self._sides[(first + 1) % 31]
        return (
            f'{{"stream":"{self._stream}@depth@100ms","data":{{"e":"depthUpdate","E":{time_ms},"s":"{self._symbol}",'
            f'"U":{first},"u":{self._updates},"b":[{bids}],"a":[{asks}]}}}}'
        )

    def _bookTicker(self, _time_ms: int) -> str:  # noqa: N802 - the exchange's name
        self._tickers += 1  # A count of its own: a ticker's id lies within an update's, and makes no hole between two.
        n = self._tickers
        return (
            f'{{"stream":"{self._stream}@bookTicker","data":{{"u":{n},"s":"{self._symbol}",'
            f'"b":"{self._prices[n % 97]}","B":"{self._quantities[n % 89]}",'
            f'"a":"{self._prices[(n + 1) % 97]}","A":"{self._quantities[(n + 1) % 89]}"}}}}'
        )


class Plain:
    """A client's connection without TLS: frames are joined to large sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self) -> bytes:
        """What the client says; empty at its end."""
        return self._connection.recv(HANDSHAKE_BYTES_MAX)

    def send(self, frames: Iterable[bytes]) -> None:
        """Send frames."""
        self._connection.sendall(b"".join(frames))


class Tls:
    """A client's connection over TLS: each frame is a record of its own, many records go in one send.

    Args:
        connection: Connected; the TLS handshake is made here.
        context: With the server's certificate.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._connection = connection
        self._from_client, self._to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_client, self._to_client, server_side=True)
        self._until_done(self._tls.do_handshake)

    def receive(self) -> bytes:
        """What the client says; empty at its end."""
        try:
            return self._until_done(lambda: self._tls.read(HANDSHAKE_BYTES_MAX))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def send(self, frames: Iterable[bytes]) -> None:
        """Send frames."""
        write = self._tls.write
        pending = 0
        for frame in frames:
            write(frame)
            pending += 1
            if pending == RECORDS_PER_SEND:
                self._flush()
                pending = 0
        self._flush()

    def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                said = self._connection.recv(HANDSHAKE_BYTES_MAX)
                if said:
                    self._from_client.write(said)
                else:
                    self._from_client.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._to_client.pending:
            self._connection.sendall(self._to_client.read())


def accept_upgrade(client: Plain | Tls) -> str:
    """Answer the client's upgrade; returns the path that it asked for.

    Raises:
        ConnectionError: it left, or said no upgrade.
    """
    request = b""
    while b"\r\n\r\n" not in request:
        said = client.receive()
        if not said or len(request) > HANDSHAKE_BYTES_MAX:
            raise ConnectionError("no upgrade")
        request += said
    first, *lines = request.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "sec-websocket-key" not in headers:
        raise ConnectionError("no upgrade")
    proof = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + _ACCEPT_GUID).digest())
    client.send(
        [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + proof
            + b"\r\n\r\n"
        ]
    )
    return first.split(" ")[1]


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server's TLS context of files in PEM form."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def clients_of(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept connections for ever, without Nagle's delay."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection
