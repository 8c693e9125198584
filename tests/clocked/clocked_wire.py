"""TCP connections in memory: bounded, half-closed, reset; and what came out of them on the recorder's side."""

import math

import trio

CAPACITY_BYTES = 256 * 1024
"""What lies between the two ends, as in the buffers of two kernels."""


class Pipe:
    """One direction."""

    def __init__(self, capacity_bytes):
        self.capacity_bytes = capacity_bytes
        self.unread = bytearray()
        self.is_ended = False  # A FIN lies behind `unread`.
        self.is_broken = False  # A RST lies behind it.
        self.is_deserted = False  # Nobody reads any more.
        self.changed = trio.lowlevel.ParkingLot()

    def notify(self):
        self.changed.unpark_all()


class End(trio.abc.HalfCloseableStream):
    """One end of a connection.

    Attributes:
        chunks: What was read from it, read by read.
        fault: Raised by the next read, if set.
    """

    def __init__(self, incoming, outgoing):
        self.incoming = incoming
        self.outgoing = outgoing
        self.is_closed = False
        self.is_sending = False
        self.chunks = []
        self.fault = None

    async def send_all(self, data):
        assert not self.is_sending, "two tasks send at a time"
        self.is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            left = memoryview(bytes(data))
            while left:
                await self.wait_send_all_might_not_block()
                room = self.outgoing.capacity_bytes - len(self.outgoing.unread)
                self.outgoing.unread += left[:room]
                left = left[room:]
                self.outgoing.notify()
        finally:
            self.is_sending = False

    async def wait_send_all_might_not_block(self):
        pipe = self.outgoing
        while True:
            if self.is_closed:
                raise trio.ClosedResourceError
            if pipe.is_broken or pipe.is_deserted or pipe.is_ended:
                raise trio.BrokenResourceError
            if len(pipe.unread) < pipe.capacity_bytes:
                return
            await pipe.changed.park()

    async def receive_some(self, max_bytes=None):
        await trio.lowlevel.checkpoint()
        pipe = self.incoming
        while not (pipe.unread or pipe.is_ended or pipe.is_broken or self.is_closed or self.fault):
            await pipe.changed.park()
        if self.fault is not None:
            raise self.fault
        if self.is_closed:
            raise trio.ClosedResourceError
        if not pipe.unread and pipe.is_broken:
            raise trio.BrokenResourceError
        chunk = bytes(pipe.unread[:max_bytes])
        del pipe.unread[:max_bytes]
        pipe.notify()
        self.chunks.append(chunk)
        return chunk

    async def send_eof(self):
        await trio.lowlevel.checkpoint()
        self.outgoing.is_ended = True
        self.outgoing.notify()

    def reset(self, unread_bytes=None):
        """Break the connection from outside; of what the other end has not read, it can still read so much."""
        del self.outgoing.unread[unread_bytes:]
        for pipe in (self.incoming, self.outgoing):
            pipe.is_broken = True
            pipe.notify()

    def crash(self, fault):
        """Have the read that is under way, or the next one, raise something unexpected."""
        self.fault = fault
        self.incoming.notify()

    async def aclose(self):
        self.is_closed = True
        self.outgoing.is_ended = True
        self.incoming.is_deserted = True
        self.incoming.notify()
        self.outgoing.notify()
        await trio.lowlevel.checkpoint()


def open_wire(capacity_bytes=CAPACITY_BYTES):
    """The recorder's end and the exchange's."""
    down, up = Pipe(capacity_bytes), Pipe(capacity_bytes)
    return End(down, up), End(up, down)


async def carry(source, target, delay_sec):
    """Bring what one end reads to another, so much later; then the end of it, whichever kind that is."""
    on_the_way, arriving = trio.open_memory_channel(math.inf)  # A wire's capacity bounds what is on the way.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_deliver, arriving, target, delay_sec)
        async with on_the_way:
            try:
                while chunk := await source.receive_some():
                    on_the_way.send_nowait((trio.current_time(), chunk))
            except trio.BrokenResourceError:
                target.reset()


async def _deliver(arriving, target, delay_sec):
    try:
        async for at, chunk in arriving:
            await trio.sleep_until(at + delay_sec)
            await target.send_all(chunk)
        await target.send_eof()
    except trio.BrokenResourceError:
        arriving.close()


def messages_in(end, message_bytes_max):
    """The whole data messages that an end has read, by RFC 6455.

    They end with a close frame, with what breaks the protocol, or with a message over the limit.
    """
    data = b"".join(end.chunks)
    head, blank, data = data.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"HTTP/1.1 101 "):
        return []
    messages, begun, at = [], None, 0
    while at + 2 <= len(data):
        start, first, size = at, data[at], data[at + 1]
        opcode, wide = first & 0xF, {126: 2, 127: 8}.get(size, 0)
        begin = at + 2 + wide
        if wide:
            size = int.from_bytes(data[at + 2 : begin])
        at = begin + size
        is_broken = first & 0x70 or data[start + 1] >= 0x80 or opcode not in (0, 1, 2, 9, 10) or at > len(data)
        if is_broken or (opcode > 2 and (size > 125 or first < 0x80)):
            break
        if opcode > 2:
            continue
        if (opcode == 0) != (begun is not None) or len(begun or b"") + size > message_bytes_max:
            break
        begun = (begun or b"") + data[begin:at]
        if first >= 0x80:
            messages.append(begun)
            begun = None
    return messages
