r"""The journal's format: a segment is a header and then frames, each a block of messages exactly as received.

Rules:
1. Append-only. A frame that is whole and whose checksum holds is the record; anything else is damage, which is
   reported with its place and never taken for data.
2. Frames begin with a mark that no UTF-8 text contains. After damage the reader looks for the next mark; the checksum
   is the proof. It is seeded with the segment's name, so that no text from outside can pass for a frame.
3. A version newer than ours is refused, not guessed at.

Layout, little endian:
    header  "streamsv" u16 version, u32 run, u32 token, u32 sequence, u32 CRC32 of what is before
    frame   f5 f6 f7 f8, u32 CRC32 of what follows,
            u32 length of what follows, u8 version, u8 record (1: messages), u8 source, u8 market, u8 flags, 3 zero
            bytes, u32 connection, i64 received_ns, u32 count,
            u8 kind of each, u32 length of each text, [i32 epoch of each, if flag 1,] the texts
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import attrs

from streamsvc.batch import Block
from streamsvc.errors import NewerVersionError
from streamsvc.persistence.layout import SegmentName
from streamsvc.schema import Market, Source

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

VERSION = 1
FILE_MAGIC = b"streamsv"
FRAME_MAGIC = b"\xf5\xf6\xf7\xf8"
RECORD_MESSAGES = 1
FLAG_EPOCHS = 1

_HEADER = struct.Struct("<8sHIII")
_CRC = struct.Struct("<I")
_MARK = struct.Struct("<4sI")
_HEAD = struct.Struct("<IBBBBB3xIqI")
HEADER_BYTES = _HEADER.size + _CRC.size
FRAME_BYTES_MIN = _MARK.size + _HEAD.size


@attrs.frozen
class Damage:
    """A stretch of a segment that holds no whole frame.

    Attributes:
        offset: Where it begins.
        size_bytes: How long it is.
        reason: `torn_tail` (a last frame that was not written whole), `zero_tail`, `damaged_header`, `damaged_frame`.
    """

    offset: int
    size_bytes: int
    reason: str


def encode_header(name: SegmentName) -> bytes:
    """The first bytes of a segment."""
    header = _HEADER.pack(FILE_MAGIC, VERSION, name.run, name.token, name.sequence)
    return header + _CRC.pack(zlib.crc32(header))


def frame_seed(name: SegmentName) -> int:
    """What the checksums of a segment's frames begin with."""
    return zlib.crc32(str(name).encode())


def encode_frame(block: Block, seed: int) -> bytes:
    """A block as a frame of the segment that `frame_seed` was asked about."""
    count = len(block.messages)
    assert count == len(block.kinds)
    lengths = struct.pack(f"<{count}I", *map(len, block.messages))
    epochs, flags = b"", 0
    if block.epochs is not None:
        epochs, flags = struct.pack(f"<{count}i", *block.epochs), FLAG_EPOCHS
    size_bytes = _HEAD.size - 4 + count + len(lengths) + len(epochs) + block.size_bytes
    head = _HEAD.pack(
        size_bytes,
        VERSION,
        RECORD_MESSAGES,
        block.source,
        block.market,
        flags,
        block.connection,
        block.received_ns,
        count,
    )
    begin, text = b"".join((head, block.kinds, lengths, epochs)), b"".join(block.messages)
    assert len(text) == block.size_bytes, "size_bytes of a block is the sum of its messages' lengths"
    checksum = zlib.crc32(text, zlib.crc32(begin, seed))
    return b"".join((_MARK.pack(FRAME_MAGIC, checksum), begin, text))


def read_header(data: bytes | mmap.mmap) -> SegmentName | None:
    """The name in a segment's header, None where the header is damaged or not whole.

    Raises:
        NewerVersionError: a newer version wrote it.
    """
    header = data[:HEADER_BYTES]
    if len(header) < HEADER_BYTES or _CRC.unpack_from(header, _HEADER.size)[0] != zlib.crc32(header[: _HEADER.size]):
        return None
    magic, version, run, token, sequence = _HEADER.unpack_from(header)
    if magic != FILE_MAGIC:
        return None
    if version > VERSION:
        raise NewerVersionError(
            f"journal segment {SegmentName(run, token, sequence)} was written in format {version} by a newer version "
            f"of streamsvc; this one reads formats up to {VERSION}. Run the newer version on this folder."
        )
    return SegmentName(run, token, sequence)


def read_segment(data: bytes | mmap.mmap, name: SegmentName) -> Iterator[Block | Damage]:
    """Everything in a segment, in order: blocks, and the damage between them.

    Args:
        data: The whole segment.
        name: Its name, which counts where the header is damaged.

    Raises:
        NewerVersionError: a newer version wrote it.
    """
    size_bytes = len(data)
    header_name = read_header(data)
    if header_name is None and size_bytes:
        is_torn = size_bytes < HEADER_BYTES or _is_unwritten(data[:HEADER_BYTES], data[HEADER_BYTES:])
        yield Damage(0, min(size_bytes, HEADER_BYTES), "torn_tail" if is_torn else "damaged_header")
    seed = frame_seed(header_name or name)
    offset = HEADER_BYTES
    while offset < size_bytes:
        frame = _frame_at(data, offset, seed)
        if frame is not None:
            yield _decode_frame(frame)
            offset += len(frame)
            continue
        following = _next_frame(data, offset + 1, seed)
        if following is None:
            yield Damage(offset, size_bytes - offset, _tail_reason(data, offset))
            return
        yield Damage(offset, following - offset, "damaged_frame")
        offset = following


def _frame_at(data: bytes | mmap.mmap, offset: int, seed: int) -> bytes | None:
    """The frame at `offset`, None if there is no whole frame whose checksum holds."""
    prefix = data[offset : offset + FRAME_BYTES_MIN]
    if len(prefix) < FRAME_BYTES_MIN or prefix[:4] != FRAME_MAGIC:
        return None
    crc, length = struct.unpack_from("<II", prefix, 4)
    end = offset + _MARK.size + 4 + int(length)
    if end > len(data):
        return None
    frame = data[offset:end]
    return frame if zlib.crc32(memoryview(frame)[_MARK.size :], seed) == crc else None


def _next_frame(data: bytes | mmap.mmap, offset: int, seed: int) -> int | None:
    """The next place with a whole frame, None if there is none."""
    while (offset := data.find(FRAME_MAGIC, offset)) >= 0:
        if _frame_at(data, offset, seed) is not None:
            return offset
        offset += 1
    return None


def _is_unwritten(header: bytes, rest: bytes) -> bool:
    """Whether a power cut left only the beginning of a header: a file's size may get to the disk before its bytes."""
    return header.endswith(b"\0") and not rest.strip(b"\0")


def _tail_reason(data: bytes | mmap.mmap, offset: int) -> str:
    # As with the header: of the last frame the beginning may be there, and zeros for the rest.
    tail = data[offset:].rstrip(b"\0")
    if not tail:
        return "zero_tail"
    return "torn_tail" if tail[:4] == FRAME_MAGIC[: len(tail)] else "damaged_frame"


def _decode_frame(frame: bytes) -> Block:
    _, version, record, source, market, flags, connection, received_ns, count = _HEAD.unpack_from(frame, _MARK.size)
    is_known = version <= VERSION and record == RECORD_MESSAGES and flags <= FLAG_EPOCHS
    if not is_known or source not in _SOURCES or market not in _MARKETS:
        raise NewerVersionError(
            f"the journal holds a frame (version {version}, record {record}) that only a newer version of streamsvc "
            "reads; run that version on this folder."
        )
    at = FRAME_BYTES_MIN
    kinds = frame[at : at + count]
    at += count
    lengths = struct.unpack_from(f"<{count}I", frame, at)
    at += 4 * count
    epochs = None
    if flags & FLAG_EPOCHS:
        epochs = list(struct.unpack_from(f"<{count}i", frame, at))
        at += 4 * count
    texts = io.BytesIO(frame)
    texts.seek(at)
    return Block(
        market=_MARKETS[market],
        source=_SOURCES[source],
        connection=connection,
        received_ns=received_ns,
        kinds=kinds,
        messages=list(map(texts.read, lengths)),
        size_bytes=len(frame) - at,
        epochs=epochs,
    )


_SOURCES = {int(source): source for source in Source}
_MARKETS = {int(market): market for market in Market}
