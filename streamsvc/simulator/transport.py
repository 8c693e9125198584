"""Bytes to and from one client, plain or over TLS.

Over TLS every frame becomes a record of its own, as exchanges send them, while many records go out with one system
call: `trio.SSLStream` can do the first only at the price of a system call a frame.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Protocol

import trio

RECEIVE_BYTES = 65536
CLOSE_TIMEOUT_SEC = 5.0
"""How long a client may take to answer a close frame, or a FIN."""
GOODBYE_TIMEOUT_SEC = 1.0
"""How long the last bytes of a connection may take when it is closed."""


class PeerGoneError(Exception):
    """The client's connection is broken or closed."""


class Transport(Protocol):
    """One client's connection. One task may send while another receives."""

    async def send(self, pieces: list[bytes]) -> None:
        """Send all pieces.

        Raises:
            PeerGoneError: the connection is broken or closed.
        """

    async def receive(self) -> bytes:
        """Some bytes; empty at the end, however it came."""

    async def send_eof(self) -> None:
        """Send a FIN and nothing else; receiving goes on."""

    def abort(self) -> None:
        """Throw the connection away with a RST."""

    async def aclose(self) -> None:
        """Close orderly. Closing twice is fine."""


class PlainTransport:
    """Over any trio stream, without encryption."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream

    async def send(self, pieces: list[bytes]) -> None:
        """Send all pieces."""
        try:
            await self._stream.send_all(b"".join(pieces))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGoneError from error

    async def receive(self) -> bytes:
        """Some bytes; empty at the end, however it came."""
        return await _receive(self._stream)

    async def send_eof(self) -> None:
        """Send a FIN; receiving goes on."""
        await _send_eof(self._stream)

    def abort(self) -> None:
        """Throw the connection away with a RST."""
        _set_reset(self._stream)

    async def aclose(self) -> None:
        """Close orderly."""
        await self._stream.aclose()


class TlsTransport:
    """Over any trio stream, as a TLS server. Call `handshake` first."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, context: ssl.SSLContext) -> None:
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = trio.Lock()
        self._is_reset = False

    async def handshake(self) -> None:
        """Do the handshake.

        Raises:
            PeerGoneError: the client left or does not trust us.
        """
        while True:
            is_done, fault = False, None
            try:
                self._tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                fault = error
            # An alert that tells the client what is wrong goes out, too.
            await self._flush()
            if fault is not None:
                raise PeerGoneError from fault
            if is_done:
                return
            data = await _receive(self._stream)
            if not data:
                raise PeerGoneError
            self._incoming.write(data)

    async def send(self, pieces: list[bytes]) -> None:
        """Send all pieces, each in records of its own."""
        write = self._tls.write
        try:
            for piece in pieces:
                done = write(piece)
                while done < len(piece):
                    done += write(piece[done:])
        except ssl.SSLError as error:
            raise PeerGoneError from error
        await self._flush()

    async def receive(self) -> bytes:
        """Some bytes; empty at the end, however it came."""
        while True:
            try:
                return self._tls.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return b""
            data = await _receive(self._stream)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def send_eof(self) -> None:
        """Send a FIN without close_notify: a truncated TLS stream."""
        await _send_eof(self._stream)

    def abort(self) -> None:
        """Throw the connection away with a RST."""
        self._is_reset = True
        _set_reset(self._stream)

    async def aclose(self) -> None:
        """Say close_notify, as far as the client still listens, and close; the caller bounds the time."""
        try:
            if not self._is_reset:
                self._say_goodbye()
                await self._flush()
        except PeerGoneError:
            pass
        finally:
            await trio.aclose_forcefully(self._stream)

    def _say_goodbye(self) -> None:
        # The client has not said close_notify yet, and need not.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    async def _flush(self) -> None:
        async with self._sending:
            if not self._outgoing.pending:
                return
            try:
                await self._stream.send_all(self._outgoing.read())
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise PeerGoneError from error


async def _receive(stream: trio.abc.HalfCloseableStream) -> bytes:
    try:
        return bytes(await stream.receive_some(RECEIVE_BYTES))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


async def _send_eof(stream: trio.abc.HalfCloseableStream) -> None:
    try:
        await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise PeerGoneError from error


def _set_reset(stream: trio.abc.HalfCloseableStream) -> None:
    """Make the coming close a RST; streams in memory have none."""
    if isinstance(stream, trio.SocketStream):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
