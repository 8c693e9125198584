"""Three hot paths with fixed work, for `check_instructions.py`, which counts their instructions.

    python hot_paths.py NAME MESSAGES

`intake`: bytes of frames to blocks in the channel, and out of it as journal frames. `analytics`: what is derived of
blocks of trades and best bids and asks. `sealing`: texts to columns of numbers, as a sealer makes them before
it writes Parquet. What they read was made before, by `prepare`, from a fixed seed.
"""

from __future__ import annotations

import pickle
import random
import sys
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import trio
from environments import BENCH_FOLDER
from wire import Texts, frame_of

from streamsvc.analytics.live import Analytics
from streamsvc.batch import Batch, open_block_channel
from streamsvc.intake import Intake
from streamsvc.persistence.decoding import DayLimit, decode
from streamsvc.persistence.journal import encode_frame
from streamsvc.schema import Kind, Market, Source
from streamsvc.streams.frames import FrameSplitter, Stage
from streamsvc.venues.binance_payloads import PAYLOADS
from streamsvc.venues.binance_spot import BinanceSpot
from streamsvc.watchdog.health import Health

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamsvc.batch import Block

SYMBOLS = [f"SYM{number}USDT" for number in range(20)]
FIRST_EVENT_MS = 1_700_000_030_000  # Ten seconds before the end of a minute, so that minutes are closed as well.
CHUNK_BYTES = 16 * 1024
MESSAGES_MAX = 40_000
KINDS = (("aggTrade",), ("trade", "bookTicker"), ("depth",))
DERIVED_OF = ("trade", "bookTicker")
FOLDER = BENCH_FOLDER / "hot-paths"
BLOCKS = FOLDER / "blocks.pickle"
MESSAGES_PER_MS = 2


def prepare() -> None:
    """Make all messages, once for all runs: their making is not what is counted."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kinds in KINDS:
        texts = [Texts(symbol, random.Random(symbol)) for symbol in SYMBOLS]
        made = [
            texts[number % len(texts)].make(
                kinds[number // len(texts) % len(kinds)], FIRST_EVENT_MS + number // MESSAGES_PER_MS
            )
            for number in range(MESSAGES_MAX)
        ]
        _file_of(kinds).write_bytes(b"\n".join(made))
    blocks: list[Block] = []
    take_in(DERIVED_OF, MESSAGES_MAX, blocks.append)
    BLOCKS.write_bytes(pickle.dumps(blocks))


def texts_of(kinds: tuple[str, ...], messages: int) -> list[bytes]:
    """Messages of the symbols and kinds in turns."""
    return _file_of(kinds).read_bytes().split(b"\n")[:messages]


def _file_of(kinds: tuple[str, ...]) -> Path:
    return FOLDER / f"{'-'.join(kinds)}.txt"


class Nowhere:
    """The place for what cannot be read."""

    def put(self, **text: object) -> None:
        """Nothing of it may come."""
        raise AssertionError(text)


def take_in(kinds: tuple[str, ...], messages: int, take: Callable[[Block], None]) -> None:
    """Take frames in as a connection does; every block goes to `take`."""

    async def run() -> None:
        venue = BinanceSpot("wss://127.0.0.1")
        health = Health([venue.stream(symbol, Kind.from_label(kind)) for symbol in SYMBOLS for kind in kinds])
        sender, receiver = open_block_channel(1 << 30)
        sender.have_tapped(take)
        intake = Intake(health, sender, Nowhere(), late_ms=200)
        splitter = FrameSplitter(1 << 23)
        splitter.stage = Stage.FRAMES
        data = b"".join(map(frame_of, texts_of(kinds, messages)))
        for begin in range(0, len(data), CHUNK_BYTES):
            found, _ = splitter.feed(data[begin : begin + CHUNK_BYTES])
            batch = Batch(found, (FIRST_EVENT_MS + 5) * 1_000_000 + begin, sum(map(len, found)))
            block, _ = intake.read(Market.SPOT, 1, batch, 1.0)
            assert block is not None
            sender.put_nowait(block)
            receiver.receive_nowait()
        sender.close()
        receiver.close()

    trio.run(run)


def run_intake(messages: int) -> None:
    """Frames to journal frames."""

    def take(block: Block) -> None:
        encode_frame(block, 1)
        assert block.heads is not None
        block.heads.clear()

    take_in(("aggTrade",), messages, take)


def run_analytics(messages: int) -> None:
    """What is derived of blocks."""

    async def run() -> None:
        sender, receiver = open_block_channel(1 << 30)
        analytics = Analytics(
            sender,
            wall_ns=lambda: FIRST_EVENT_MS * 1_000_000,
            reset="never",
            grace_sec=2,
            is_recorded=lambda _market, kind, _symbol: kind is Kind.TRADE,
        )
        analytics.begin({}, {})
        for block in blocks:
            analytics.take(block)
        assert len(analytics.symbols()) == len(SYMBOLS)
        analytics.finish()
        sender.close()
        receiver.close()

    made: list[Block] = pickle.loads(BLOCKS.read_bytes())
    counts = accumulate(len(block.messages) for block in made)
    blocks = [block for block, count in zip(made, counts, strict=True) if count <= messages]
    trio.run(run)


def run_sealing(messages: int) -> None:
    """Texts to columns."""
    for kind in (Kind.AGG_TRADE, Kind.DEPTH):
        texts = texts_of((kind.label,), messages // 2)
        received_ns = np.full(len(texts), FIRST_EVENT_MS * 1_000_000, np.int64)
        decoded = decode(PAYLOADS[Source.STREAM, Market.SPOT, kind], kind, texts, received_ns, DayLimit())
        assert len(decoded.kept) == len(texts)


PATHS = {"intake": run_intake, "analytics": run_analytics, "sealing": run_sealing}

if __name__ == "__main__":
    PATHS[sys.argv[1]](int(sys.argv[2]))
