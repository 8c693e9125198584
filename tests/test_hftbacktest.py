"""`hftbacktest`'s own converter reads what `streamsvc export-raw` makes, and gives the events of the recording itself.

The converter lives in an environment of its own beside ours, which `make test` sets up: it wants an older numpy.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from persistence_samples import RECORDINGS, make_folder, make_publisher, put_segment

from streamsvc.batch import Batch, open_block_channel
from streamsvc.intake import Intake
from streamsvc.persistence.layout import SegmentName
from streamsvc.persistence.raw_export import Telling, Wanted, export_raw
from streamsvc.persistence.seal import seal_segment
from streamsvc.schema import Kind, Market
from streamsvc.venues.binance_futures import BinanceFutures
from streamsvc.watchdog.health import Health

PYTHON = Path(f"{sys.prefix}-hftbacktest") / "bin" / "python"
CONVERT = """
import sys, numpy
from hftbacktest.data.utils.binancefutures import convert
words = iter(sys.argv[1:])
for source, target in zip(words, words):
    numpy.save(target, convert(source, opt="mt", buffer_size=3_000_000))
"""
CONVERT_SEC_MAX = 120
SEGMENT_BLOCKS = 20_000
DAYS = ["usdm-btcusdt-20240718.gz", "usdm-btcusdt-20240719.gz"]
TRADE, DEPTH, CLEAR, SNAPSHOT = 2, 1, 3, 4
"""The converter's kinds of event, in the low byte of `ev`."""


@pytest.fixture(scope="module", autouse=True)
def _is_installed():
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", "import hftbacktest"], check=False).returncode:
        pytest.skip(f"hftbacktest is not in {PYTHON.parent.parent.name}")


def converted(paths, tmp_path):
    """The events that hftbacktest makes of each file."""
    targets = [tmp_path / f"{number}.npy" for number in range(len(paths))]
    words = [word for pair in zip(paths, targets, strict=True) for word in pair]
    subprocess.run([PYTHON, "-c", CONVERT, *words], check=True, capture_output=True, timeout=CONVERT_SEC_MAX)
    return [np.load(target) for target in targets]


def record(lines, root):
    """Send lines of hftbacktest's form through intake, journal, sealer and archive, and export them again."""
    venue = BinanceFutures("wss://futures.test", depth_ms=0)
    streams = {kind: venue.stream("BTCUSDT", kind) for kind in (Kind.TRADE, Kind.DEPTH, Kind.BOOK_TICKER)}
    sender, receiver = open_block_channel(1 << 30)
    now_ns = 0
    intake = Intake(Health(streams.values()), sender, quarantine=None, late_ms=10**9, wall_ns=lambda: now_ns)
    blocks = []
    for now_ns, text in lines:
        if text.startswith(b'{"stream"'):
            block, _ = intake.read(Market.FUTURES, 1, Batch([text], now_ns, len(text)), now_ns / 1e9)
        else:
            intake.fetched.record_snapshot(streams[Kind.DEPTH], 0, text)
            block = receiver.receive_nowait()
        blocks.append(block)
    folder = make_folder(root / "data")
    publisher = make_publisher(folder)
    for first in range(0, len(blocks), SEGMENT_BLOCKS):
        name = SegmentName(1, 1, first)
        path = put_segment(folder, blocks[first : first + SEGMENT_BLOCKS], name)
        publisher.publish(name, seal_segment(str(path), str(folder.tmp), keeps_raw=True))
    assert export_raw(folder.root, root / "out", Wanted(), Telling(tell=lambda _: None, warn=pytest.fail))
    return sorted((root / "out" / "futures").iterdir())


def lines_of(path):
    with gzip.open(path) as file:
        for line in file:
            received_ns, _, text = line.rstrip().partition(b" ")
            yield int(received_ns), text


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings (../shared/recordings) are not here")
async def test_a_recording_gives_the_events_that_it_gave_before(tmp_path):
    """Two days of real traffic with an order book of REST, as they were recorded by hftbacktest: event for event."""
    exported = record((line for name in DAYS for line in lines_of(RECORDINGS / name)), tmp_path)
    assert ["BTCUSDT-20240718.gz", "BTCUSDT-20240719.gz"] == [path.name for path in exported]
    events = converted([*(RECORDINGS / name for name in DAYS), *exported], tmp_path)
    for expected, found in zip(events[:2], events[2:], strict=True):
        assert len(expected) > 50_000
        assert np.array_equal(expected, found)


async def test_every_kind_of_line_is_read(tmp_path):
    """Trades, updates, an order book of REST and best prices, in the order of receipt."""
    ms, ns = 1_700_000_000_000, 1_700_000_000_020_000_000
    update = {"e": "depthUpdate", "E": ms, "T": ms, "s": "BTCUSDT", "U": 5, "u": 9, "pu": 4, "b": [["1", "2"]], "a": []}
    trade = {"e": "trade", "E": ms + 1, "T": ms + 1, "s": "BTCUSDT", "t": 1, "p": "1.5", "q": "3", "X": "MARKET",
             "m": True}  # fmt: skip
    best = {"e": "bookTicker", "u": 9, "s": "BTCUSDT", "b": "1", "B": "2", "a": "2", "A": "1", "T": ms + 2, "E": ms + 2}
    book = {"lastUpdateId": 9, "E": ms + 3, "T": ms + 3, "bids": [["1", "2"]], "asks": [["2", "1"], ["3", "1"]]}
    texts = [
        {"stream": "btcusdt@depth@0ms", "data": update},
        {"stream": "btcusdt@trade", "data": trade},
        {"stream": "btcusdt@bookTicker", "data": best},
        book,
    ]
    lines = [(ns + n * 10**6, json.dumps(text, separators=(",", ":")).encode()) for n, text in enumerate(texts)]
    (path,) = record(lines, tmp_path)
    assert lines == list(lines_of(path))
    (events,) = converted([path], tmp_path)
    kinds = [kind & 0xFF for kind in events["ev"].tolist()]
    assert [DEPTH, TRADE, 103, 104, CLEAR, SNAPSHOT, CLEAR, SNAPSHOT, SNAPSHOT] == kinds
    assert [ns, ns + 10**6] == events["local_ts"][:2].tolist()
    assert [1.0, 1.5, 1.0, 2.0, 1.0, 1.0, 3.0, 2.0, 3.0] == events["px"].tolist()
