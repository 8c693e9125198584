"""Damage: frames and texts that break rules on purpose. Pure."""

from __future__ import annotations

import re
from typing import Literal, get_args

from streamsvc.simulator.frames import FIN, PING, TEXT, frame

Corruption = Literal["truncated", "field", "type", "price", "nan"]
"""How a real message is damaged: cut off, an id's field renamed, a number turned into text, a bad price, `NaN`."""

Garbage = Literal[
    "not_json",
    "empty",
    "deep_nest",
    "byte_order_mark",
    "wrong_shape",
    "extra_fields",
    "invalid_utf8",
    "oversize",
    "bad_opcode",
    "reserved_bits",
    "masked",
    "oversize_control",
    "fragmented_control",
    "endless_fragments",
    "binary",
]
"""What can be sent out of nowhere; from `bad_opcode` to `fragmented_control` a client must close with 1002."""

CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
GARBAGE: tuple[Garbage, ...] = get_args(Garbage)
OVERSIZE_BYTES = 16 << 20


def corrupted(data: bytes, corruption: Corruption) -> bytes:
    """A payload with one thing wrong in it. Its ids count as never sent."""
    if corruption == "truncated":
        return data[: len(data) // 2]
    if corruption == "field":
        return re.sub(rb'"(s|lastUpdateId)":', rb'"\1_renamed":', data, count=1)
    if corruption == "type":
        return re.sub(rb'"([tau]|lastUpdateId)":(\d+)', rb'"\1":"\2x"', data, count=1)
    bad = b'"abc"' if corruption == "price" else b"NaN"
    changed, count = re.subn(rb'"p":"[^"]*"', b'"p":' + bad, data, count=1)
    return changed if count else re.sub(rb'"\d+\.\d+"', bad, data, count=1)


def garbage_frames(kind: Garbage, size_bytes: int = OVERSIZE_BYTES) -> bytes:
    """Frames as they go on the wire, without having to do with any stream.

    Args:
        kind: What is wrong with them.
        size_bytes: Of `oversize` and `endless_fragments`.
    """
    texts = {
        "not_json": b'{"stream":"btcusdt@trade","data":{"e":"trade"',
        "empty": b"",
        "deep_nest": b"[" * 100_000,
        "byte_order_mark": b'\xef\xbb\xbf{"e":"unknown"}',
        "wrong_shape": b'[{"e":["trade"],"E":{}},null,1e400]',
        "extra_fields": b'{"e":"somethingNew","E":1,"x":{"y":[1,2,3]}}',
        "invalid_utf8": b'{"e":"trade","s":"\xff\xfe"}',
        "oversize": b'{"e":"' + b"x" * size_bytes + b'"}' if kind == "oversize" else b"",
    }
    if kind in texts:
        return frame(texts[kind])
    if kind == "endless_fragments":
        part = b"x" * 65536
        rest = b"".join(frame(part, 0, is_final=False) for _ in range(size_bytes // len(part)))
        return frame(part, TEXT, is_final=False) + rest
    return {
        "bad_opcode": frame(b"?", 0x3),
        "reserved_bits": bytes([TEXT | FIN | 0x40, 2]) + b"{}",
        "masked": bytes([TEXT | FIN, 0x80 | 2]) + b"\0\0\0\0{}",
        "oversize_control": bytes([PING | FIN, 126, 0, 200]) + b"x" * 200,
        "fragmented_control": frame(b"?", PING, is_final=False),
        "binary": frame(b"\x00\x01\x02", 0x2),
    }[kind]
