"""What lies between the socket and trio-websocket: data messages are taken out, the protocol passes through.

Pure: bytes in, bytes out. Three rules (RFC 6455):
- Whole data messages are taken out here. Fragments are put together here too, so that the order is kept.
- The answer to the upgrade and the control frames pass through as they came.
- From the first frame that breaks the protocol, or goes over the limit, everything passes through, so that wsproto
  judges it and the connection fails with the close code that it deserves.
"""

from __future__ import annotations

import enum
import re
import struct

HEAD_BYTES_MAX = 16 * 1024
"""The longest answer to the upgrade; h11, which reads it, has the same limit."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
_SWITCHING = re.compile(rb"HTTP/1\.[01] 101\b")
_unpack_short = struct.Struct(">HH").unpack_from
_unpack_long = struct.Struct(">HQ").unpack_from

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_DATA_OPCODES = frozenset({_CONTINUATION, _TEXT, _BINARY})
_CONTROL_OPCODES = frozenset({_CLOSE, _PING, _PONG})
_EMPTY_FIRST_FRAGMENT = b"\x02\x00"


class Stage(enum.Enum):
    """Where in its life the byte stream is."""

    HEAD = enum.auto()
    FRAMES = enum.auto()
    CLOSED = enum.auto()  # The peer's close frame has passed; what follows has no meaning.
    BROKEN = enum.auto()  # Everything passes through.


class FrameSplitter:
    """Takes the data messages out of what an exchange sends on one connection.

    Attributes:
        stage: Where in its life the stream is.
        head: The answer to the upgrade, with its blank line; empty until it is complete.
        violation: What broke the protocol or a limit, for people; empty as long as nothing did.
        pings_allowed: How many pings may still pass to be answered. The owner refills it: an exchange that floods us
            with pings would otherwise make us exceed the messages that it takes from us.
        pings_dropped: Pings that were not passed on.
    """

    def __init__(self, message_bytes_max: int) -> None:
        """`message_bytes_max` bounds a message and all that is held back of an incomplete one."""
        self.stage = Stage.HEAD
        self.head = b""
        self.violation = ""
        self.pings_allowed = 0
        self.pings_dropped = 0
        self._message_bytes_max = message_bytes_max
        self._short_bytes_max = min(message_bytes_max, 0xFFFF)
        self._held = bytearray()  # The head, or the frame, that is not complete yet.
        self._needed_bytes = 0  # So many bytes must be there before a look is worth its time.
        self._fragments: bytearray | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the peer's close frame has passed."""
        return self.stage is Stage.CLOSED

    @property
    def is_incomplete(self) -> bool:
        """Whether a message has begun whose end is still to come."""
        return self._fragments is not None or bool(self._held)

    def feed(self, chunk: bytes) -> tuple[list[bytes], bytes]:
        """Split what one read brought.

        Returns:
            The data messages, in order, without their frames (text is not checked to be UTF-8); and the bytes that
            trio-websocket must see.
        """
        if self.stage is Stage.FRAMES:
            messages: list[bytes] = []
            return messages, self._split(chunk, messages)
        if self.stage is Stage.HEAD:
            return self._read_head(chunk)
        return [], chunk if self.stage is Stage.BROKEN else b""

    def _read_head(self, chunk: bytes) -> tuple[list[bytes], bytes]:
        searched = max(len(self._held) - 2, 0)
        self._held += chunk
        end = _BLANK_LINE.search(self._held, searched)
        if end is None:
            if len(self._held) <= HEAD_BYTES_MAX:
                return [], b""
            self.stage, self.violation = Stage.BROKEN, f"an answer to the upgrade over {HEAD_BYTES_MAX} bytes"
            return [], bytes(self._held)
        self.head = bytes(self._held[: end.end()])
        rest = bytes(self._held[end.end() :])
        self._held.clear()
        if not _SWITCHING.match(self.head):
            self.stage = Stage.BROKEN
            return [], self.head + rest
        self.stage = Stage.FRAMES
        messages: list[bytes] = []
        return messages, self.head + self._split(rest, messages)

    def _split(self, chunk: bytes, messages: list[bytes]) -> bytes:
        if self._held:
            self._held += chunk
            if len(self._held) < self._needed_bytes:
                return b""
            data = bytes(self._held)
            self._held.clear()
        else:
            data = chunk
        passed: list[bytes] = []
        position, is_going_on = 0, True
        while is_going_on:
            if self._fragments is None:
                position = self._take_plain(data, position, messages)
            position, is_going_on = self._take_other(data, position, messages, passed)
        if self.stage is Stage.FRAMES:
            self._held += data[position:]
        return b"".join(passed)

    def _take_plain(self, data: bytes, position: int, messages: list[bytes]) -> int:
        """Take text frames that are whole, unfragmented and short: all but a few. This loop is what a message costs.

        Stops before the first frame that is anything else, and returns where it begins.
        """
        append, unpack, bytes_max = messages.append, _unpack_short, self._short_bytes_max
        size = len(data)
        last = size - 4
        while position <= last:
            head, length = unpack(data, position)
            if head == 0x817E and 125 < length <= bytes_max:
                start = position + 4
            elif 0x8100 <= head <= 0x817D:
                length = head & 0x7F
                if length > bytes_max:
                    break
                start = position + 2
            else:
                break
            end = start + length
            if end > size:
                break
            append(data[start:end])
            position = end
        return position

    def _take_other(self, data: bytes, position: int, messages: list[bytes], passed: list[bytes]) -> tuple[int, bool]:
        """Handle one frame of any sort.

        Returns:
            Where the next frame begins, and whether there is more to do: False when the frame is not complete, and
            after the last frame that means something.
        """
        available = len(data) - position
        if available < 2:
            self._needed_bytes = 2
            return position, False
        first, second = data[position], data[position + 1]
        header_bytes = {126: 4, 127: 10}.get(second & 0x7F, 2)
        violation = self._judge(first, second)
        if not violation and available < header_bytes:
            self._needed_bytes = header_bytes
            return position, False
        length = second & 0x7F
        if not violation and header_bytes > 2:
            length = (_unpack_short if header_bytes == 4 else _unpack_long)(data, position)[1]
            violation = self._judge_length(length, header_bytes)
        if not violation and (first & 0xF) in _DATA_OPCODES and self._size_with(length) > self._message_bytes_max:
            violation = f"a message over {self._message_bytes_max} bytes"
        if violation:
            self._break(violation, data[position:], passed)
            return position, False
        end = position + header_bytes + length
        if end > len(data):
            self._needed_bytes = end - position
            return position, False
        if (first & 0xF) in _CONTROL_OPCODES:
            self._take_control(first & 0xF, data[position:end], passed)
        else:
            self._take_data(first, data[position + header_bytes : end], messages)
        return end, self.stage is Stage.FRAMES

    def _judge(self, first: int, second: int) -> str:
        """What the first two bytes of a frame tell against it; empty: nothing."""
        opcode, is_final = first & 0xF, first & 0x80
        if opcode in _CONTROL_OPCODES:
            if not is_final:
                return "a fragmented control frame"
            if second & 0x7F > 125:
                return "a control frame over 125 bytes"
        elif opcode not in _DATA_OPCODES:
            return f"the unknown opcode {opcode}"
        elif (opcode == _CONTINUATION) != (self._fragments is not None):
            return "a continuation of nothing" if self._fragments is None else "a new message inside a fragmented one"
        if first & 0x70:
            return "reserved bits"
        return "a masked frame" if second & 0x80 else ""

    def _judge_length(self, length: int, header_bytes: int) -> str:
        if length >> 63 or length <= (125 if header_bytes == 4 else 0xFFFF):
            return "a length that is not in its shortest form"
        return ""

    def _size_with(self, length: int) -> int:
        return length if self._fragments is None else len(self._fragments) + length

    def _break(self, violation: str, rest: bytes, passed: list[bytes]) -> None:
        self.stage, self.violation = Stage.BROKEN, violation
        if self._fragments is not None:
            # wsproto saw none of the fragments, and must know that a message is under way to judge what follows.
            passed.append(_EMPTY_FIRST_FRAGMENT)
            self._fragments = None
        passed.append(rest)

    def _take_control(self, opcode: int, frame: bytes, passed: list[bytes]) -> None:
        if opcode == _PING:
            if self.pings_allowed <= 0:
                self.pings_dropped += 1
                return
            self.pings_allowed -= 1
        elif opcode == _CLOSE:
            self.stage = Stage.CLOSED
        passed.append(frame)

    def _take_data(self, first: int, payload: bytes, messages: list[bytes]) -> None:
        is_final = first & 0x80
        if self._fragments is None:
            if is_final:
                messages.append(payload)
            else:
                self._fragments = bytearray(payload)
            return
        self._fragments += payload
        if is_final:
            messages.append(bytes(self._fragments))
            self._fragments = None
