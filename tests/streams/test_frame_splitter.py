"""The frame splitter, against wsproto: the same bytes, cut anywhere, mean the same to both."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Message, Ping, Pong, TextMessage

from streamsvc.streams.frames import HEAD_BYTES_MAX, FrameSplitter, Stage

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
LIMIT_BYTES = 70_000
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(opcode, payload=b"", *, fin=True, rsv=0, masked=False, length_bytes=None):
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    length = len(payload)
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    extended = {0: b"", 2: struct.pack(">H", length & 0xFFFF), 8: struct.pack(">Q", length)}[length_bytes]
    mask = b"\0\0\0\0" if masked else b""
    return bytes([first, short | (0x80 if masked else 0)]) + extended + mask + payload


def understood(data, *, bytes_max):
    """What a peer built on wsproto understands: messages, control frames, and the code with which it fails."""
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(data)
    messages, controls, parts = [], [], b""
    for event in connection.events():
        if isinstance(event, Message):
            parts += event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
            if len(parts) > bytes_max:
                return messages, controls, 1009
            if event.message_finished:
                messages.append(parts)
                parts = b""
        elif isinstance(event, CloseConnection):
            return messages, controls, int(event.code)
        else:
            assert isinstance(event, Ping | Pong)
            controls.append((type(event), bytes(event.payload)))
    return messages, controls, None


def split(chunks):
    """What the splitter makes of chunks after the head: messages, and what wsproto understands of the rest."""
    splitter = FrameSplitter(LIMIT_BYTES)
    assert ([], HEAD) == splitter.feed(HEAD)
    messages, passed = [], b""
    for chunk in chunks:
        splitter.pings_allowed = 1_000
        got, through = splitter.feed(chunk)
        messages += got
        passed += through
    leftover, controls, code = understood(passed, bytes_max=0)
    assert leftover == []
    return messages, controls, code


SIZES = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 190, 1000])
PAYLOADS = st.builds(lambda size, letter: letter * size, SIZES, st.sampled_from([b"a", b"\x00", b"7"]))
TEXTS = st.text(max_size=60).map(str.encode)
SMALL = st.binary(max_size=125)
CONTROLS = st.builds(frame, st.sampled_from([PING, PONG]), SMALL)
WHOLE = st.builds(frame, st.just(TEXT), PAYLOADS | TEXTS) | st.builds(frame, st.just(BINARY), PAYLOADS)
LONG = st.builds(lambda size: frame(TEXT, b"x" * size), st.sampled_from([65535, 65536, LIMIT_BYTES - 1, LIMIT_BYTES]))


@st.composite
def fragmented(draw):
    """A message in fragments, its characters cut anywhere, control frames and empty fragments between."""
    payload = draw(TEXTS | PAYLOADS)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[i:j] for i, j in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames = []
    for index, part in enumerate(parts):
        opcode = CONTINUATION if index else TEXT
        frames.append(frame(opcode, part, fin=index == len(parts) - 1))
        if index < len(parts) - 1:
            frames += draw(st.lists(CONTROLS, max_size=1))
    return b"".join(frames)


BROKEN = {
    "masked": frame(TEXT, b"hello", masked=True),
    "masked control": frame(PING, b"hello", masked=True),
    "reserved bit 1": frame(TEXT, b"hello", rsv=4),
    "reserved bit 3": frame(TEXT, b"hello" * 40, rsv=1),
    "reserved bit of a control frame": frame(PONG, b"", rsv=2),
    "unknown data opcode": frame(0x3, b"hello"),
    "unknown control opcode": frame(0xB, b"hello"),
    "oversize control": frame(PING, b"x" * 126),
    "fragmented control": frame(PING, b"x", fin=False),
    "continuation of nothing": frame(CONTINUATION, b"hello"),
    "empty continuation of nothing": frame(CONTINUATION),
    "message inside a fragmented one": frame(TEXT, b"he", fin=False) + frame(TEXT, b"llo"),
    "long message inside a fragmented one": frame(TEXT, b"he", fin=False) + frame(TEXT, b"x" * 200),
    "message after an empty fragment": frame(TEXT, fin=False) + frame(TEXT, b"llo"),
    "length not in its shortest form": frame(TEXT, b"hello", length_bytes=2),
    "length of 8 bytes not in its shortest form": frame(TEXT, b"x" * 300, length_bytes=8),
    "length beyond 63 bits": b"\x81\x7f\xff" + b"\xff" * 7 + b"hello",
    "too long": frame(TEXT, b"x" * (LIMIT_BYTES + 1)),
    "too long binary": frame(BINARY, b"x" * (LIMIT_BYTES + 1)),
    "too long in fragments": frame(TEXT, b"x" * 65536, fin=False) + frame(CONTINUATION, "é".encode() * 32768),
    "close with a payload of one byte": frame(CLOSE, b"x"),
    "close with a code that may not be sent": frame(CLOSE, struct.pack(">H", 1006)),
    "close with bad UTF-8": frame(CLOSE, struct.pack(">H", 1000) + b"\xff"),
}
ENDS = st.sampled_from([b"", frame(CLOSE), frame(CLOSE, struct.pack(">H", 1008) + b"policy"), *BROKEN.values()])
CONVERSATIONS = st.builds(
    lambda frames, end, more: b"".join(frames) + end + (more if end else b""),
    st.lists(WHOLE | CONTROLS | fragmented(), max_size=12),
    ENDS,
    WHOLE | CONTROLS,
)


@given(data=CONVERSATIONS, draw=st.data())
@settings(deadline=None)
def test_any_conversation_cut_anywhere(data, draw):
    """Messages in order, control frames in order, and the code of the end are those that wsproto sees."""
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=12)))
    chunks = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert understood(data, bytes_max=LIMIT_BYTES) == split(chunks)


@given(frames=st.lists(LONG | WHOLE, min_size=1, max_size=3), chunk_bytes=st.sampled_from([1000, 4096, 65536]))
@settings(deadline=None, max_examples=20)
def test_long_messages_in_many_reads(frames, chunk_bytes):
    """A message up to the limit arrives whole, however many reads it takes."""
    data = b"".join(frames)
    chunks = [data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes)]
    assert understood(data, bytes_max=LIMIT_BYTES) == split(chunks)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_cut_at_every_place(name):
    """What breaks the protocol fails the connection as wsproto does, wherever a read ends."""
    data = frame(TEXT, b"before") + frame(PING, b"1") + BROKEN[name] + frame(TEXT, b"after")
    expected = understood(data, bytes_max=LIMIT_BYTES)
    assert [b"before"] == expected[0]
    assert expected[2] in (1002, 1007, 1009)
    places = range(len(data)) if len(data) < 1000 else [*range(100), *range(len(data) - 100, len(data))]
    for place in places:
        assert expected == split([data[:place], data[place:]]), place


def test_a_conversation_cut_at_every_place_and_byte_by_byte():
    """No place to cut a read makes a difference."""
    data = (
        frame(TEXT, b"short")
        + frame(TEXT, b"x" * 190)
        + frame(PING, b"ping")
        + frame(TEXT, "zwölf".encode()[:3], fin=False)
        + frame(PONG, b"between")
        + frame(CONTINUATION, "zwölf".encode()[3:])
        + frame(BINARY, b"")
        + frame(TEXT, b"y" * 70_000)
        + frame(CLOSE, struct.pack(">H", 1001))
    )
    expected = understood(data, bytes_max=LIMIT_BYTES)
    assert 1001 == expected[2]
    for place in [*range(300), *range(len(data) - 300, len(data))]:
        assert expected == split([data[:place], data[place:]]), place
    assert expected == split([data[i : i + 1] for i in range(len(data))])


@pytest.mark.parametrize("blank", [b"\r\n\r\n", b"\n\n"])
def test_head_cut_at_every_place(blank):
    """The answer to the upgrade passes untouched, and the frames behind it are split from the first byte."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket" + blank
    data = head + frame(TEXT, b"one") + frame(TEXT, b"two")
    for place in range(len(data) + 1):
        splitter = FrameSplitter(LIMIT_BYTES)
        first, second = splitter.feed(data[:place]), splitter.feed(data[place:])
        assert [b"one", b"two"] == first[0] + second[0]
        assert head == first[1] + second[1] == splitter.head


def test_refusal_passes_whole():
    """What follows an answer other than 101 is not taken for frames."""
    data = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\n\x81\x02hi"
    splitter = FrameSplitter(LIMIT_BYTES)
    assert ([], data) == splitter.feed(data)
    assert ([], b"\x81\x02hi") == splitter.feed(b"\x81\x02hi")


def test_head_without_an_end():
    """A head that never ends is not collected for ever."""
    splitter = FrameSplitter(LIMIT_BYTES)
    passed = b"".join(splitter.feed(b"x" * 1000)[1] for _ in range(40))
    assert b"x" * 40_000 == passed
    assert str(HEAD_BYTES_MAX) in splitter.violation


def test_bad_utf8_is_a_message_like_any_other():
    """The intake puts it into quarantine; the connection and its neighbours stay."""
    splitter = FrameSplitter(LIMIT_BYTES)
    splitter.feed(HEAD)
    got = splitter.feed(frame(TEXT, b"\xff\xfe") + frame(TEXT, b"next"))
    assert ([b"\xff\xfe", b"next"], b"") == got
    assert Stage.FRAMES is splitter.stage


def test_more_pings_than_are_answered():
    """Surplus pings are dropped and counted, and everything else goes on."""
    splitter = FrameSplitter(LIMIT_BYTES)
    splitter.feed(HEAD)
    splitter.pings_allowed = 2
    data = b"".join(frame(PING, b"%d" % i) for i in range(10))
    messages, passed = splitter.feed(data + frame(TEXT, b"data") + frame(PONG, b"mine"))
    assert [b"data"] == messages
    assert frame(PING, b"0") + frame(PING, b"1") + frame(PONG, b"mine") == passed
    assert 8 == splitter.pings_dropped


def test_bytes_after_the_close_frame():
    """They mean nothing: neither data nor a fault."""
    splitter = FrameSplitter(LIMIT_BYTES)
    splitter.feed(HEAD)
    assert ([b"last"], frame(CLOSE)) == splitter.feed(frame(TEXT, b"last") + frame(CLOSE) + frame(TEXT, b"late"))
    assert ([], b"") == splitter.feed(b"\xff" * 100)


def test_endless_fragments_hold_no_more_than_the_limit():
    """Memory stays within a few times the limit, whatever the size of the fragments, until the limit breaks them."""
    splitter = FrameSplitter(LIMIT_BYTES)
    splitter.feed(HEAD)
    splitter.feed(frame(TEXT, b"", fin=False))
    many = frame(CONTINUATION, b"x" * 10, fin=False) * 1000 + frame(CONTINUATION, b"", fin=False) * 1000
    tracemalloc.start()
    while splitter.stage is Stage.FRAMES:
        splitter.feed(many)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 5 * LIMIT_BYTES


def test_a_long_message_in_small_reads_is_looked_at_twice():
    """Once at its header, once when it is complete: what it costs grows with its length, not with its square."""
    looks = []

    class Counting(FrameSplitter):
        def _take_other(self, *arguments):
            looks.append(1)
            return super()._take_other(*arguments)

    splitter = Counting(LIMIT_BYTES)
    splitter.feed(HEAD)
    looks.clear()
    data = frame(TEXT, b"x" * 60_000)
    messages = [message for i in range(0, len(data), 10) for message in splitter.feed(data[i : i + 10])[0]]
    assert [b"x" * 60_000] == messages
    assert len(looks) <= 3


def test_a_message_far_over_the_limit_is_not_collected():
    """The first bytes of its frame are enough to break the connection."""
    splitter = FrameSplitter(LIMIT_BYTES)
    splitter.feed(HEAD)
    start = b"\x81\x7f" + struct.pack(">Q", 1 << 40)
    assert ([], start) == splitter.feed(start)
    assert Stage.BROKEN is splitter.stage
    assert ([], b"x" * 1000) == splitter.feed(b"x" * 1000)
