"""A TLS client on memory buffers: a read hands out every record that has arrived, not one.

Exchanges put each frame into a record of its own, and `trio.SSLStream` hands out one record a call, which costs a
scheduler's turn a message. Rules kept here: the handshake comes before any other I/O; what has arrived is delivered
before the fault behind it; nothing is sent after the end of the peer's bytes; records are sent in the order in which
they were made.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import trio

from streamsvc.errors import ConnectionFaultError, UsageError
from streamsvc.streams.nowait import READ_BYTES, nowait_reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def make_client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Certificates and host names are verified, TLS is 1.2 or newer; `ca_file` adds one authority to the system's.

    Raises:
        UsageError: `ca_file` cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as fault:
            raise UsageError(f"TLS_CA_FILE: no certificates can be read from {ca_file}: {fault}") from fault
    return context


async def open_tls(transport: trio.abc.Stream, context: ssl.SSLContext, host: str) -> TlsStream:
    """Make the TLS handshake over a connected stream, which the caller closes if this fails.

    There is no deadline here: the caller has one around dialling and all handshakes.

    Raises:
        ConnectionFaultError: `tls` (a certificate, a host name, an alert), `eof` or `reset`.
    """
    stream = TlsStream(transport, context, host)
    await stream._do_handshake()  # noqa: SLF001  # the only way to a stream, so that no I/O can come before it
    return stream


class TlsStream(trio.abc.Stream):
    """The client's end of a TLS connection; make one with `open_tls`. It closes the stream below."""

    def __init__(self, transport: trio.abc.Stream, context: ssl.SSLContext, host: str) -> None:
        self._transport = transport
        self._read_nowait = nowait_reader(transport)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._send_lock = trio.StrictFIFOLock()
        self._is_send_cut = False  # A send was cut off somewhere in a record: no other may follow.
        self._is_over = False  # The peer's bytes have ended.
        self._is_finished = False  # The peer has said that no more data comes.
        self._fault: ConnectionFaultError | None = None  # Lies behind data that is delivered first.

    async def _do_handshake(self) -> None:
        is_done = False
        while not is_done:
            error: ssl.SSLError | None = None
            try:
                self._tls.do_handshake()
                is_done = True
            except ssl.SSLError as caught:
                error = caught
            await self._flush()  # Also the alert that tells the peer what we disliked.
            if isinstance(error, ssl.SSLWantReadError):
                await self._fill()
            elif error is not None:
                raise _fault_of(error) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Every whole record that has arrived, up to 128 KB; empty at the peer's close_notify.

        Raises:
            ConnectionFaultError: `tls`; `eof` when the bytes end without a close_notify; `reset`.
        """
        await trio.lowlevel.checkpoint()
        limit = min(max_bytes or READ_BYTES, READ_BYTES)
        while self._fault is None:
            data, is_over = self._drain(limit)
            if data or is_over:
                return data
            await self._flush()  # A fault's alert, or the answer to a renegotiation.
            if self._fault is None:
                await self._fill()
        raise self._fault

    @property
    def receive_nowait(self) -> Callable[[], bytes | None] | None:
        """See `nowait_reader`; None where the transport cannot do it."""
        return self._receive_nowait if self._read_nowait is not None else None

    def _receive_nowait(self) -> bytes | None:
        assert self._read_nowait is not None
        if self._fault is not None or self._is_over or self._is_finished or self._outgoing.pending:
            return b""  # `receive_some` knows what to do about it.
        data = self._read_nowait()
        if data is None:
            return None
        if data:
            self._incoming.write(data)
        else:
            self._is_over = True
            self._incoming.write_eof()
        plain, is_over = self._drain(READ_BYTES)
        is_over |= self._is_over or self._fault is not None
        return plain or (b"" if is_over else None)

    def _drain(self, limit: int) -> tuple[bytes, bool]:
        """Decrypt records until none is left, `limit` is reached or a fault comes, which is kept for later.

        Returns:
            The data, and whether the peer has said that it has no more.
        """
        read, parts, is_over = self._tls.read, [], False
        try:
            while limit and not is_over:
                part = read(limit)
                parts.append(part)
                limit -= len(part)
                is_over = not part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            is_over = True
        except ssl.SSLError as error:
            self._fault = _fault_of(error)
            self._fault.__cause__ = error
        self._is_finished |= is_over
        return b"".join(parts), is_over

    async def _fill(self) -> None:
        """Bring ciphertext from the transport, or its end."""
        try:
            data = await self._transport.receive_some(READ_BYTES)
        except trio.BrokenResourceError as error:
            raise ConnectionFaultError("reset", "the connection was reset") from error
        if data:
            self._incoming.write(data)
        else:
            self._is_over = True
            self._incoming.write_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send.

        Raises:
            trio.BrokenResourceError: the connection is broken, or an earlier send was cut off.
            trio.ClosedResourceError: this end is closed.
        """
        async with self._send_lock:
            if self._is_send_cut:
                raise trio.BrokenResourceError
            if data:
                try:
                    self._tls.write(data)
                except ssl.SSLError as error:
                    raise trio.BrokenResourceError from error
            await self._send_pending()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may take more."""
        async with self._send_lock:
            await self._transport.wait_send_all_might_not_block()

    async def _flush(self) -> None:
        if not self._outgoing.pending or self._is_over:
            return
        async with self._send_lock:
            if not self._is_send_cut:
                # A peer that no longer reads may still have sent something that is worth reading.
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._send_pending()

    async def _send_pending(self) -> None:
        """Send what was made, with the lock held: whoever takes bytes from the buffer sends them before the next."""
        data = self._outgoing.read()
        if not data:
            await trio.lowlevel.checkpoint()
            return
        self._is_send_cut = True
        await self._transport.send_all(data)
        self._is_send_cut = False

    async def aclose(self) -> None:
        """Send a close_notify where that is possible, and close the transport. The caller bounds the time."""
        try:
            if not self._is_over and not self._is_send_cut and not self._send_lock.locked():
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._flush()
        finally:
            await self._transport.aclose()


def _fault_of(error: ssl.SSLError) -> ConnectionFaultError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFaultError("tls", f"the certificate was refused: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError):
        return ConnectionFaultError("eof", "the connection ended without TLS's close_notify")
    return ConnectionFaultError("tls", f"TLS failed: {error.reason or error}")
