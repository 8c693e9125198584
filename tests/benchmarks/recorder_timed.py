"""`streamsvc` that writes down how long messages took from the source's socket into the live view, for `latency.py`.

Right after each batch was taken in somebody asks for the symbol of its last message, as the live page does, and gets
what counts that message. Where the source has stamped messages with the monotonic clock, the time since then is kept of
every one of the batch. It goes to `latencies.bin` in the working folder at the end: 64-bit numbers of ns.
"""

import re
import time
from array import array
from pathlib import Path

from streamsvc.__main__ import main
from streamsvc.analytics.live import Analytics
from streamsvc.batch import Block
from streamsvc.schema import Source

STAMP = re.compile(rb'"ns":(\d+)}}$')
latencies = array("q")
take = Analytics.take


def take_and_ask(self: Analytics, block: Block) -> None:
    """Take a block, ask, look at the clock."""
    head = block.heads[-1] if block.source is Source.STREAM and block.heads else None
    take(self, block)
    if head is None:
        return
    view = self.symbol(block.market, head.s)
    assert view is None or view.trades.last_price is not None
    now_ns = time.monotonic_ns()
    for text in block.messages:
        if found := STAMP.search(text):
            latencies.append(now_ns - int(found[1]))


Analytics.take = take_and_ask  # type: ignore[method-assign]

if __name__ == "__main__":
    try:
        main()
    finally:
        Path("latencies.bin").write_bytes(latencies.tobytes())
