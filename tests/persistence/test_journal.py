"""The journal's format: what was written is read, and what is damaged is never taken for data."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from persistence_samples import NAME, RECEIVED_NS, block, segment_bytes, spot_trade

from streamsvc.batch import Block
from streamsvc.errors import NewerVersionError
from streamsvc.persistence.journal import (
    FRAME_MAGIC,
    HEADER_BYTES,
    Damage,
    encode_frame,
    encode_header,
    frame_seed,
    read_header,
    read_segment,
)
from streamsvc.persistence.layout import SegmentName
from streamsvc.schema import Kind, Market, Source

SEED = frame_seed(NAME)
BLOCKS = [
    block([spot_trade(1)]),
    block([b"{}", b"", b"\xff\xfe"], kind=Kind.DEPTH, market=Market.FUTURES, epochs=[0, 1, -1]),
    *(block([b"%d" % number]) for number in range(47)),
    block([b'{"b":1}', b'{"a":2}']),
]
"""Fifty: every prefix and every flipped bit of them is tried, so most are short."""
SEGMENT = segment_bytes(BLOCKS)
ENDS = [len(segment_bytes(BLOCKS[:count])) for count in range(len(BLOCKS) + 1)]


def split(data, name=NAME):
    items = list(read_segment(data, name))
    return [item for item in items if isinstance(item, Block)], [item for item in items if isinstance(item, Damage)]


@st.composite
def any_block(draw):
    messages = draw(st.lists(st.binary(max_size=60), max_size=6))
    count = len(messages)
    return Block(
        market=draw(st.sampled_from(Market)),
        source=draw(st.sampled_from(Source)),
        connection=draw(st.integers(0, 2**32 - 1)),
        received_ns=draw(st.integers(-(2**63), 2**63 - 1)),
        kinds=bytes(draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))),
        messages=messages,
        size_bytes=sum(map(len, messages)),
        epochs=draw(st.none() | st.lists(st.integers(-(2**31), 2**31 - 1), min_size=count, max_size=count)),
    )


@given(st.lists(any_block(), max_size=5))
def test_blocks_are_read_as_they_were_written(blocks):
    """Nothing of a block is lost or changed, whatever bytes its messages are."""
    assert (blocks, []) == split(segment_bytes(blocks))


def test_every_prefix_yields_its_whole_frames_and_reports_the_rest():
    """A cut anywhere costs the frame that was cut, and every byte is accounted for."""
    for size in range(len(SEGMENT) + 1):
        blocks, damage = split(SEGMENT[:size])
        whole = [BLOCKS[place] for place in range(len(BLOCKS)) if ENDS[place + 1] <= size]
        assert whole == blocks
        accounted = max((end for end in ENDS if end <= size), default=0)
        assert size - accounted == sum(item.size_bytes for item in damage)
        assert {"torn_tail"} >= {item.reason for item in damage}


def test_every_flipped_bit_costs_at_most_its_own_frame():
    """A flipped bit is never accepted, and the frames around it are read."""
    for position in range(len(SEGMENT)):
        for bit in range(8):
            data = bytearray(SEGMENT)
            data[position] ^= 1 << bit
            blocks, damage = split(bytes(data))
            hit = next(place for place, end in enumerate(ENDS) if position < end) - 1
            expected = BLOCKS if hit < 0 else [*BLOCKS[:hit], *BLOCKS[hit + 1 :]]
            assert expected == blocks
            start = 0 if hit < 0 else ENDS[hit]
            assert [(start, ENDS[hit + 1] - start)] == [(item.offset, item.size_bytes) for item in damage]


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (bytes(100), "zero_tail"),
        (b"garbage" * 9, "damaged_frame"),
        (FRAME_MAGIC + b"\x01" * 50, "torn_tail"),
        (FRAME_MAGIC[:2] + bytes(50), "torn_tail"),
    ],
)
def test_a_tail_that_is_no_frame_is_reported_with_its_place(tail, reason):
    assert (BLOCKS, [Damage(len(SEGMENT), len(tail), reason)]) == split(SEGMENT + tail)


def test_frames_after_a_stretch_of_garbage_are_found():
    """The reader goes on at the next frame whose checksum holds."""
    middle = ENDS[1]
    assert (BLOCKS, [Damage(middle, 5, "damaged_frame")]) == split(
        SEGMENT[:middle] + b"\xf5\xf6\xf7\xf8x" + SEGMENT[middle:]
    )


def test_frames_of_another_segment_are_not_taken():
    """A frame proves which segment it belongs to: neither a stale block of the disk nor a text can pass for one."""
    stranger = encode_frame(BLOCKS[0], frame_seed(SegmentName(1, 1, 1)))
    blocks, damage = split(SEGMENT + stranger)
    assert (BLOCKS, [len(stranger)]) == (blocks, [item.size_bytes for item in damage])


def test_a_frame_inside_a_damaged_message_is_found_only_with_the_segments_own_seed():
    inner = encode_frame(block([b"fake"]), 0)
    data = bytearray(segment_bytes([block([inner])]))
    data[HEADER_BYTES + 20] ^= 1
    assert [] == split(bytes(data))[0]


def test_an_empty_file_is_an_empty_segment():
    assert ([], []) == split(b"")


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1])
def test_a_header_of_which_a_power_cut_left_the_beginning(length):
    """The file's size got to the disk before its bytes: nothing was in it that could be damaged."""
    data = SEGMENT[:length] + bytes(HEADER_BYTES - length + 40)
    assert ([], ["torn_tail", "zero_tail"]) == (split(data)[0], [item.reason for item in split(data)[1]])


def test_a_damaged_header_is_replaced_by_the_files_name():
    data = b"\0" * HEADER_BYTES + SEGMENT[HEADER_BYTES:]
    assert (BLOCKS, [Damage(0, HEADER_BYTES, "damaged_header")]) == split(data)


def test_a_renamed_segment_is_read_by_its_header():
    assert (BLOCKS, []) == split(SEGMENT, SegmentName(9, 9, 9))


def test_a_header_of_a_newer_version_is_refused():
    header = bytearray(encode_header(NAME)[:-4])
    struct.pack_into("<H", header, 8, 2)
    with pytest.raises(NewerVersionError, match="newer version"):
        read_header(bytes(header) + struct.pack("<I", zlib.crc32(header)))


@pytest.mark.parametrize("offset", [4, 5, 6, 7, 8])
def test_a_frame_that_only_a_newer_version_reads_is_refused(offset):
    """Version, record type, source, market and flags beyond ours are neither guessed at nor dropped."""
    frame = bytearray(encode_frame(BLOCKS[0], SEED))
    frame[8 + offset] = 77
    struct.pack_into("<I", frame, 4, zlib.crc32(frame[8:], SEED))
    with pytest.raises(NewerVersionError):
        list(read_segment(encode_header(NAME) + bytes(frame), NAME))


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_handled(data):
    """Whatever lies in the journal, the reader accounts for every byte and raises nothing."""
    blocks, damage = split(data)
    assert ([], len(data)) == (blocks, sum(item.size_bytes for item in damage))


def test_receive_times_are_kept_to_the_nanosecond():
    assert [RECEIVED_NS + 1] == [
        each.received_ns for each in split(segment_bytes([block([b"x"], received_ns=RECEIVED_NS + 1)]))[0]
    ]
