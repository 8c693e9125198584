"""What the tap does at a tick, over a stream whose every read is written down."""

from __future__ import annotations

import math

import pytest
import trio
from wsproto.frame_protocol import FrameProtocol

from streamsvc.errors import ConnectionFaultError
from streamsvc.streams.frames import Stage
from streamsvc.streams.tap import FrameTap
from streamsvc.streams.tick import ReadTick

PEER = FrameProtocol(client=False, extensions=[])
TEXTS = [b'{"n":%d}' % number for number in range(9)]
PING = bytes(PEER.ping(b"?"))
NOTHING = None


def frames(*texts):
    return b"".join(bytes(PEER.send_data(text.decode(), fin=True)) for text in texts)


class Written(trio.abc.ReceiveStream):
    """Gives what it was told at each read and each look, with the time; a fault is raised."""

    def __init__(self, reads, looks):
        self._reads, self._looks = list(reads), list(looks)
        self.read_at = []
        self.looked_at = []

    async def receive_some(self, _max_bytes=None):
        await trio.lowlevel.checkpoint()
        self.read_at.append(round(trio.current_time() - self.begun_at, 6))
        if not self._reads:
            await trio.sleep_forever()
        return self._reads.pop(0)

    def receive_nowait(self):
        self.looked_at.append(round(trio.current_time() - self.begun_at, 6))
        found = self._looks.pop(0) if self._looks else NOTHING
        if isinstance(found, Exception):
            raise found
        return found

    async def aclose(self):
        await trio.lowlevel.checkpoint()


@pytest.fixture
def tapped():
    """Makes a tap with a tick of a second, and what was delivered at once."""

    def make(reads, looks):
        stream, delivered = Written(reads, looks), []
        stream.begun_at = trio.current_time()
        limits = {"message_bytes_max": 1 << 20, "message_sec_max": math.inf}
        tap = FrameTap(stream, tick=ReadTick(1000), wall_ns=lambda: 0, **limits)
        tap.splitter.stage = Stage.FRAMES

        def deliver(batch):
            delivered.extend(batch.messages)
            return True

        tap.deliver = deliver
        return tap, stream, delivered

    return make


async def test_after_a_small_read_the_tap_looks_at_every_tick(tapped, autojump_clock):
    """What is there is delivered; nobody waits for the stream meanwhile."""
    tap, stream, delivered = tapped([frames(TEXTS[0])], [frames(*TEXTS[1:3]), NOTHING, frames(TEXTS[3])])
    with trio.move_on_after(3.5):
        await tap.receive_some()
    assert TEXTS[:4] == delivered
    assert ([0], [1, 2, 3]) == (stream.read_at, stream.looked_at)


async def test_a_control_frame_at_a_tick_is_passed_on(tapped, autojump_clock):
    """At once, behind the messages before it."""
    tap, stream, delivered = tapped([frames(TEXTS[0])], [frames(TEXTS[1]) + PING])
    assert PING == await tap.receive_some()
    assert (TEXTS[:2], [1]) == (delivered, stream.looked_at)


async def test_after_many_looks_that_found_nothing_the_stream_is_waited_for(tapped, autojump_clock):
    """A quiet connection costs no looks."""
    tap, stream, _ = tapped([frames(TEXTS[0])], [])
    with trio.move_on_after(100):
        await tap.receive_some()
    assert (list(range(1, 17)), [0, 16]) == (stream.looked_at, stream.read_at)


async def test_a_large_look_is_followed_by_a_read(tapped, autojump_clock):
    """More is waiting, so no pause is made."""
    many = frames(*[b'{"text":"%s"}' % (b"x" * 1000)] * 40)
    tap, stream, delivered = tapped([frames(TEXTS[0]), frames(TEXTS[1])], [many])
    with trio.move_on_after(1.5):
        await tap.receive_some()
    assert ([0, 1], [1, 1.25]) == (stream.read_at, stream.looked_at)  # The next tick comes sooner: much came.
    assert 42 == len(delivered)


async def test_what_is_not_delivered_waits_and_nothing_is_read_before_it_is_taken(tapped, autojump_clock):
    """Neither at ticks nor otherwise: a slow consumer slows the socket."""
    tap, stream, _ = tapped([frames(TEXTS[0]), frames(TEXTS[2])], [frames(TEXTS[1])])
    with trio.move_on_after(0.5):
        await tap.receive_some()
    tap.deliver = lambda _batch: False
    with trio.move_on_after(20):
        await tap.receive_some()
    assert (1, 1) == (len(stream.read_at), len(stream.looked_at))
    assert [TEXTS[1]] == tap.slot.take_nowait().messages


@pytest.mark.parametrize("found", [ConnectionFaultError("reset", "the connection was reset"), b""])
async def test_an_end_at_a_tick(tapped, found, autojump_clock):
    """A fault is that of the connection; an end is left to the stream, which says which it is."""
    tap, _, delivered = tapped([frames(TEXTS[0]), b""], [found])
    assert b"" == await tap.receive_some()
    assert (TEXTS[:1], "reset" if found else "eof") == (delivered, tap.fault.cause)


async def test_without_pauses_there_are_no_looks(tapped, autojump_clock):
    tap, stream, delivered = tapped([frames(TEXTS[0]), frames(TEXTS[1])], [])
    tap._tick = ReadTick(0)
    with trio.move_on_after(5):
        await tap.receive_some()
    assert ([0, 0, 0], [], TEXTS[:2]) == (stream.read_at, stream.looked_at, delivered)
