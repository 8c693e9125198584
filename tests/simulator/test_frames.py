"""Frames, held against wsproto."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from streamsvc.simulator import frames
from streamsvc.simulator.frames import ClientFrameError, ClientFrames, ClientMessage

texts = st.text(max_size=300) | st.sampled_from(["x" * 125, "x" * 126, "x" * 65535, "x" * 65536])


@settings(deadline=None)
@given(texts)
def test_a_frame_is_read_by_another_implementation(text):
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frames.frame(text.encode()))
    (event,) = client.events()
    assert TextMessage(data=text, frame_finished=True, message_finished=True) == event


def test_a_close_frame_carries_code_and_reason():
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frames.close_frame(1008, "Too many requests"))
    (event,) = client.events()
    assert (1008, "Too many requests") == (event.code, event.reason)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            texts.map(lambda text: TextMessage(data=text)),
            st.binary(max_size=20).map(lambda data: BytesMessage(data=data)),
            st.binary(max_size=20).map(lambda data: Ping(payload=data)),
            st.binary(max_size=20).map(lambda data: Pong(payload=data)),
        ),
        max_size=5,
    ),
    st.integers(1, 50),
)
def test_what_another_implementation_sends_is_read_wherever_it_is_cut(events, step):
    client = Connection(ConnectionType.CLIENT)
    data = b"".join(client.send(event) for event in [*events, CloseConnection(code=1000)])
    parser = ClientFrames()
    found = [message for at in range(0, len(data), step) for message in parser.feed(data[at : at + step])]
    opcodes = {TextMessage: frames.TEXT, BytesMessage: frames.BINARY, Ping: frames.PING, Pong: frames.PONG}
    expected = [
        ClientMessage(
            opcodes[type(event)],
            event.payload
            if isinstance(event, Ping | Pong)
            else (event.data.encode() if isinstance(event.data, str) else event.data),
        )
        for event in events
    ]
    assert [*expected, ClientMessage(frames.CLOSE, b"\x03\xe8")] == found


def test_fragments_are_put_together_around_a_control_frame():
    client = Connection(ConnectionType.CLIENT)
    data = client.send(TextMessage(data="ab", message_finished=False))
    data += client.send(Ping(payload=b"p"))
    data += client.send(TextMessage(data="cd", message_finished=True))
    expected = [ClientMessage(frames.PING, b"p"), ClientMessage(frames.TEXT, b"abcd")]
    assert expected == ClientFrames().feed(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1\x80\0\0\0\0", 1002),
        (b"\x81\x01x", 1002),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x80\x80\0\0\0\0", 1002),
        (b"\x01\x80\0\0\0\0\x01\x80\0\0\0\0", 1002),
        (b"\x89\xfe\x00\x80", 1002),
        (b"\x81\xff\0\0\0\0\0\x10\0\x01", 1009),
    ],
    ids=["reserved", "unmasked", "opcode", "continuation", "interleaved", "long control", "too long"],
)
def test_a_broken_rule_has_its_close_code(data, code):
    with pytest.raises(ClientFrameError) as caught:
        ClientFrames().feed(data)
    assert code == caught.value.code
