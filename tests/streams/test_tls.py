"""Our TLS stream against OpenSSL's server over memory streams: records cut anywhere, faults, endings."""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import datetime as dt
import ssl
import warnings

import pytest
import trio
import trustme
from trio.testing import memory_stream_pair

from streamsvc.errors import ConnectionFaultError, UsageError
from streamsvc.streams.tls import READ_BYTES, make_client_context, open_tls

HOST = "exchange.test"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def client_context(ca_file):
    return make_client_context(ca_file)


def server_context(authority, *hosts, **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(hosts or (HOST,)), **options).configure_cert(context)
    return context


def update_keys(tls):
    """Ask for new keys on both sides, which Python's ssl cannot say: the SSL pointer lies behind the object's head."""
    pointer = ctypes.c_void_p.from_address(id(tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
    library = ctypes.CDLL(_ssl.__file__)
    if not hasattr(library, "SSL_key_update"):
        pytest.skip("this Python's OpenSSL is out of reach")
    assert library.SSL_key_update(pointer, 1) == 1


class Server:
    """A TLS server whose every byte the test moves by hand."""

    def __init__(self, context, stream):
        self.stream = stream
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                self.incoming.write(await self.stream.receive_some())
            else:
                await self.flush()
                return

    async def flush(self):
        if self.outgoing.pending:
            await self.stream.send_all(self.outgoing.read())

    def records(self, *messages):
        """Each message in a record of its own."""
        for message in messages:
            self.tls.write(message)
        return self.outgoing.read()

    def close_notify(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def read(self):
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.incoming.write(await self.stream.receive_some())


async def connect(client_context, context, *, host=HOST):
    ours, theirs = memory_stream_pair()
    server = Server(context, theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shake_hands)
        client = await open_tls(ours, client_context, host)
    return client, server


async def refusal(client_context, context, *, host=HOST):
    """The fault with which a handshake fails."""
    ours, theirs = memory_stream_pair()

    async def serve():
        server = Server(context, theirs)
        with contextlib.suppress(ssl.SSLError):
            await server.shake_hands()
        await server.flush()
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ConnectionFaultError) as caught:
            await open_tls(ours, client_context, host)
        await ours.aclose()
        nursery.cancel_scope.cancel()
    return caught.value


async def receive_all(client):
    parts = []
    while part := await client.receive_some():
        parts.append(part)
    return b"".join(parts)


async def test_all_records_that_have_arrived_come_at_once(client_context, authority):
    """One call hands out every whole record, however many there are."""
    client, server = await connect(client_context, server_context(authority))
    await server.stream.send_all(server.records(*[b"x" * 190] * 300))
    assert b"x" * 190 * 300 == await client.receive_some()


async def test_more_than_a_read_may_bring(client_context, authority):
    """What goes beyond the limit of a read comes with the next one, without another byte from the peer."""
    client, server = await connect(client_context, server_context(authority))
    await server.stream.send_all(server.records(*[bytes([i]) * 1500 for i in range(100)]))
    assert b"\x00" * 700 == await client.receive_some(700)
    got = b"\x00" * 700
    while len(got) < 150_000:
        part = await client.receive_some()
        assert 0 < len(part) <= READ_BYTES
        got += part
    assert b"".join(bytes([i]) * 1500 for i in range(100)) == got


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_records_cut_at_every_byte(client_context, authority, version):
    """Wherever the network cuts, the same bytes arrive."""
    context = server_context(authority)
    context.maximum_version = version
    client, server = await connect(client_context, context)
    got = []

    async def receive():
        while sum(map(len, got)) < 6:
            got.append(await client.receive_some())

    for place in range(60):
        data = server.records(b"one", b"two")
        got.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await server.stream.send_all(data[:place])
            await trio.testing.wait_all_tasks_blocked()
            await server.stream.send_all(data[place:])
        assert b"onetwo" == b"".join(got)


async def test_handshake_cut_into_single_bytes(client_context, authority):
    """A handshake that drips in is a handshake."""
    ours, theirs = memory_stream_pair()
    server = Server(server_context(authority), theirs)

    async def drip():
        for byte in server.outgoing.read():
            await theirs.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()

    server.flush = drip
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.shake_hands)
        client = await open_tls(ours, client_context, HOST)
    await client.send_all(b"hello")
    assert b"hello" == await server.read()


async def test_data_before_close_notify(client_context, authority):
    """Data is delivered first, then the end, again and again."""
    client, server = await connect(client_context, server_context(authority))
    await server.stream.send_all(server.records(b"last words") + server.close_notify())
    assert b"last words" == await client.receive_some()
    assert b"" == await client.receive_some()
    assert b"" == await client.receive_some()


async def test_key_updates(client_context, authority):
    """A peer that renews its keys and asks us to do so too is understood, and understands us."""
    client, server = await connect(client_context, server_context(authority))
    for _ in range(3):
        update_keys(server.tls)
        await server.stream.send_all(server.records(b"under the new keys"))
        assert b"under the new keys" == await client.receive_some()
        await client.send_all(b"under ours")
        assert b"under ours" == await server.read()


async def test_truncated(client_context, authority):
    """An end without close_notify is a fault, which lies behind the data."""
    client, server = await connect(client_context, server_context(authority))
    data = server.records(b"whole") + server.records(b"cut")[:-1]
    await server.stream.send_all(data)
    await server.stream.aclose()
    assert b"whole" == await client.receive_some()
    for _ in range(2):
        with pytest.raises(ConnectionFaultError) as caught:
            await client.receive_some()
        assert "eof" == caught.value.cause


async def test_damaged_record_behind_good_data(client_context, authority):
    """What is good is delivered; then the fault, and it stays."""
    client, server = await connect(client_context, server_context(authority))
    good = server.records(b"good")
    damaged = bytearray(server.records(b"damaged"))
    damaged[-1] ^= 1
    await server.stream.send_all(good + bytes(damaged) + server.records(b"never seen"))
    assert b"good" == await client.receive_some()
    for _ in range(2):
        with pytest.raises(ConnectionFaultError) as caught:
            await client.receive_some()
        assert "tls" == caught.value.cause


async def test_nothing_is_sent_after_the_end(client_context, authority):
    """A key update that is answered after the peer's bytes have ended would only break what is still to be read."""
    client, server = await connect(client_context, server_context(authority))
    await server.stream.send_stream.aclose()
    with pytest.raises(ConnectionFaultError):
        await client.receive_some()
    sent = server.stream.receive_stream
    await client.aclose()
    assert b"" == await sent.receive_some()


async def test_close_says_so(client_context, authority):
    """The peer sees close_notify, then the end."""
    client, server = await connect(client_context, server_context(authority))
    await client.aclose()
    assert b"" == await server.read()
    assert b"" == await server.stream.receive_some()


async def test_close_of_a_stalled_peer(client_context, authority):
    """A cancelled close leaves the transport closed."""
    client, server = await connect(client_context, server_context(authority))

    async def never():
        await trio.sleep_forever()

    client._transport.send_stream.send_all_hook = never
    await trio.aclose_forcefully(client)
    assert b"" == await server.stream.receive_some()


async def test_a_send_cut_off(client_context, authority):
    """No record follows a record of which only a part may have gone out."""
    client, _ = await connect(client_context, server_context(authority))

    scope = trio.CancelScope()

    async def cut():
        scope.cancel()
        await trio.sleep_forever()

    client._transport.send_stream.send_all_hook = cut
    with scope:
        await client.send_all(b"cut")
    client._transport.send_stream.send_all_hook = None
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"next")


async def test_many_senders_at_once(client_context, authority):
    """Records go out in the order in which they were made: otherwise the peer could not read them."""
    client, server = await connect(client_context, server_context(authority))

    deliver = client._transport.send_stream.send_all_hook

    async def turn():
        await trio.testing.wait_all_tasks_blocked()
        await deliver()

    client._transport.send_stream.send_all_hook = turn
    async with trio.open_nursery() as nursery:
        for i in range(20):
            nursery.start_soon(client.send_all, b"%02d" % i)
        got = b""
        while len(got) < 40:
            got += await server.read()
    assert sorted(b"%02d" % i for i in range(20)) == sorted(got[i : i + 2] for i in range(0, 40, 2))


async def test_certificate_of_another_host(client_context, authority):
    """No connection, and the reason is told."""
    fault = await refusal(client_context, server_context(authority, "other.test"))
    assert "tls" == fault.cause
    assert "exchange.test" in fault.detail


async def test_expired_certificate(client_context, authority):
    """No connection, and the reason is told."""
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    fault = await refusal(client_context, server_context(authority, not_before=past, not_after=past))
    assert ("tls", True) == (fault.cause, "expired" in fault.detail)


async def test_unknown_authority(authority):
    """Without TLS_CA_FILE an authority of our own is not believed."""
    fault = await refusal(make_client_context(), server_context(authority))
    assert ("tls", True) == (fault.cause, "certificate" in fault.detail)


async def test_tls_too_old(client_context, authority):
    """Below 1.2 there is no connection."""
    context = server_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert "tls" == (await refusal(client_context, context)).cause


async def test_end_within_the_handshake(client_context):
    """A peer that hangs up says nothing about certificates."""
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(ConnectionFaultError) as caught:
        await open_tls(ours, client_context, HOST)
    assert caught.value.cause in {"eof", "reset"}


async def test_not_tls_at_all(client_context):
    """Plain HTTP where TLS should be is a fault, not an accident."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionFaultError) as caught:
        await open_tls(ours, client_context, HOST)
    assert "tls" == caught.value.cause


def test_authority_that_is_none(tmp_path):
    """A wrong TLS_CA_FILE is the user's to mend."""
    path = tmp_path / "ca.pem"
    with pytest.raises(UsageError):
        make_client_context(path)
    path.write_text("no certificate")
    with pytest.raises(UsageError):
        make_client_context(path)


def test_certificates_and_names_are_verified():
    """Nobody can forget to ask for it."""
    context = make_client_context()
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
