"""WebSocket frames of a server: prebuilt bytes out, a small parser for what clients send. Pure.

RFC 6455, without extensions. Written apart from the recorder's own frame code on purpose: were they shared, both could
be wrong together.
"""

from __future__ import annotations

import base64
import hashlib
import struct

import attrs

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASKED = 0x80
_RESERVED = 0x70
CONTROL_PAYLOAD_MAX = 125


class ClientFrameError(Exception):
    """The client broke the protocol; `code` is the close code it gets."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def accept_key(key: bytes) -> bytes:
    """The answer to `Sec-WebSocket-Key`."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def frame(payload: bytes, opcode: int = TEXT, *, is_final: bool = True) -> bytes:
    """One unmasked frame."""
    size = len(payload)
    first = opcode | FIN if is_final else opcode
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    if size < 65536:
        return b"%c~%b%b" % (first, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8), payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what fits."""
    return frame(struct.pack(">H", code) + reason.encode()[: CONTROL_PAYLOAD_MAX - 2], CLOSE)


@attrs.frozen
class ClientMessage:
    """A whole message or control frame of a client, unmasked."""

    opcode: int
    payload: bytes


class ClientFrames:
    """Puts a client's bytes together into messages.

    Args:
        message_max_bytes: A longer message is an error (close code 1009).
    """

    def __init__(self, message_max_bytes: int = 1 << 20) -> None:
        self._buffer = bytearray()
        self._fragments = bytearray()
        self._opcode: int | None = None
        self._message_max_bytes = message_max_bytes

    def feed(self, data: bytes) -> list[ClientMessage]:
        """Take in bytes, give back what is complete.

        Raises:
            ClientFrameError: the client broke the protocol.
        """
        self._buffer += data
        messages: list[ClientMessage] = []
        while (head := self._head()) is not None:
            start, size = head
            end = start + 4 + size
            if len(self._buffer) < end:
                break
            first = self._buffer[0]
            payload = _unmask(bytes(self._buffer[start + 4 : end]), bytes(self._buffer[start : start + 4]))
            del self._buffer[:end]
            message = self._take(first, payload)
            if message is not None:
                messages.append(message)
        return messages

    def _head(self) -> tuple[int, int] | None:
        """Where the mask begins, and the payload's length; None while they are not there yet."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if buffer[0] & _RESERVED:
            raise ClientFrameError(1002, "reserved bits are set")
        if not buffer[1] & _MASKED:
            raise ClientFrameError(1002, "a client's frame must be masked")
        size = buffer[1] & 0x7F
        start = 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start])
        if buffer[0] & 0x8 and size > CONTROL_PAYLOAD_MAX:
            raise ClientFrameError(1002, "a control frame is too long")
        if size + len(self._fragments) > self._message_max_bytes:
            raise ClientFrameError(1009, "the message is too long")
        return start, size

    def _take(self, first: int, payload: bytes) -> ClientMessage | None:
        opcode, is_final = first & 0x0F, bool(first & FIN)
        if opcode in (CLOSE, PING, PONG):
            return ClientMessage(opcode, payload)
        if opcode not in (CONTINUATION, TEXT, BINARY):
            raise ClientFrameError(1002, "unknown opcode")
        if (opcode == CONTINUATION) != (self._opcode is not None):
            raise ClientFrameError(1002, "fragments are out of order")
        self._fragments += payload
        if not is_final:
            self._opcode = opcode if self._opcode is None else self._opcode
            return None
        message = ClientMessage(self._opcode if self._opcode is not None else opcode, bytes(self._fragments))
        self._fragments.clear()
        self._opcode = None
        return message


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
