"""A recorder for records of one's own, and what reads them again: `docs/trade_recorder.md`."""

from streamsvc.recorder.faults import NotWrittenError, PairError, RecorderClosedError, RecordError
from streamsvc.recorder.opening import open_recorders, open_trade_recorder
from streamsvc.recorder.reading import follow_trades, read_trades
from streamsvc.recorder.recorder import TradeRecorder
from streamsvc.recorder.statistics import RecorderStatistics

__all__ = [
    "NotWrittenError",
    "PairError",
    "RecordError",
    "RecorderClosedError",
    "RecorderStatistics",
    "TradeRecorder",
    "follow_trades",
    "open_recorders",
    "open_trade_recorder",
    "read_trades",
]
