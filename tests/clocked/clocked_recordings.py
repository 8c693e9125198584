"""Recordings as a market under the clock that jumps, and beside them the kinds that they lack."""

import json
from collections import defaultdict

from recordings_support import recorded_messages, stream_of

from streamsvc.simulator.replay import open_sources


class RecordedBeside:
    """The source of one market: recordings, and a synthetic market of the same symbols for the kinds that they lack.

    It is at its end with the recordings, and not before so many seconds have gone by.

    Args:
        recorded: A `RecordingSource`.
        synthetic: A `SyntheticSource`.
        seconds: How long it goes on at least.
    """

    is_unpaced = False

    def __init__(self, recorded, synthetic, seconds):
        self.market = recorded.market
        self.names = recorded.names
        self._recorded = recorded
        self._synthetic = synthetic
        self._seconds = seconds
        self._end_us = None
        self._now_us = 0
        for symbol, history in recorded.histories().items():
            beside = synthetic.histories()[symbol]
            for kind, past in (("trade", "trades"), ("aggTrade", "agg_trades")):
                if f"{symbol.lower()}@{kind}" not in self.names:
                    setattr(history, past, getattr(beside, past))

    @property
    def is_done(self):
        return self._recorded.is_done and self._now_us >= self._end_us

    def histories(self):
        return self._recorded.histories()

    def symbol_infos(self):
        return self._recorded.symbol_infos()

    def watch(self, stream):
        return self._recorded.watch(stream) or self._synthetic.watch(stream)

    def advance(self, now_us):
        self._now_us = now_us
        if self._end_us is None:
            self._end_us = now_us + self._seconds * 1_000_000
        return [*self._recorded.advance(now_us), *self._synthetic.advance(now_us)]

    def next_due_us(self):
        sources = [self._synthetic] if self._recorded.is_done else [self._synthetic, self._recorded]
        return min(source.next_due_us() for source in sources)


def recorded_sources(paths, synthetic, seconds):
    """A source of each market at the recordings' own pace; `synthetic(market, symbols)` makes what stands beside it."""
    return [
        RecordedBeside(source, synthetic(market, [*source.histories()]), seconds)
        for market, source in open_sources(paths).items()
    ]


def said(paths, exchange):
    """Every message of the recordings, and all that the exchange has made up beside them, by stream."""
    messages = defaultdict(list, recorded_messages(map(str, paths)))
    recorded = frozenset(messages)
    for market, name, payload in exchange.ledger.log:
        stream = stream_of(market, name)
        if stream not in recorded:
            messages[stream].append(json.loads(payload))
    return dict(messages)
