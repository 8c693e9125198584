"""`streamsvc` that writes down how long messages took from the source's socket into the live view, for `latency.py`.

A task of its own in the service's loop, as the one behind the live page, is woken whenever a batch was taken in. When
its turn has come it asks for the symbol of the newest message, and must be told that message's price. Where the source
has stamped messages with the monotonic clock, the time since then is kept of every one that came since the last look.
It goes to `latencies.bin` in the working folder at the end: 64-bit numbers of ns.
"""

import re
import time
from array import array
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import trio

from streamsvc.__main__ import main
from streamsvc.analytics.live import Analytics
from streamsvc.batch import Block
from streamsvc.schema import Market, Source

STAMP = re.compile(rb'"ns":(\d+)}}$')
take = Analytics.take


class Onlooker:
    """Somebody who looks at what is new, in a task of its own."""

    def __init__(self) -> None:
        self.latencies = array("q")
        self._turn = trio.lowlevel.ParkingLot()
        self._texts: list[bytes] = []
        self._newest: tuple[Market, Any] | None = None  # And what the intake has read of it.
        self._is_there = False

    def told(self, analytics: Analytics, market: Market, newest: Any, texts: list[bytes]) -> None:
        """These were taken in."""
        if not self._is_there:
            self._is_there = True
            trio.lowlevel.spawn_system_task(self._look, analytics)
        self._texts += texts
        self._newest = market, newest
        self._turn.unpark()

    async def _look(self, analytics: Analytics) -> NoReturn:
        while True:
            while self._newest is None:
                await self._turn.park()
            (market, newest), self._newest = self._newest, None
            texts, self._texts = self._texts, []
            view = analytics.symbol(market, newest.s)
            assert view is not None
            assert view.trades.last_price == Decimal(newest.p)
            assert view.trades.cvd is not None
            now_ns = time.monotonic_ns()
            for text in texts:
                if found := STAMP.search(text):
                    self.latencies.append(now_ns - int(found[1]))


onlooker = Onlooker()


def take_and_tell(self: Analytics, block: Block) -> None:
    """Take a block, tell the onlooker."""
    newest = block.heads[-1] if block.source is Source.STREAM and block.heads else None
    take(self, block)
    if newest is not None:
        onlooker.told(self, block.market, newest, block.messages)


Analytics.take = take_and_tell  # type: ignore[method-assign]

if __name__ == "__main__":
    try:
        main()
    finally:
        Path("latencies.bin").write_bytes(onlooker.latencies.tobytes())
