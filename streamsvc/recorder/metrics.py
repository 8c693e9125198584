"""The statistics of the recorders that are open in this process, for Prometheus, made when they are asked for.

The service's own `/metrics` has them; elsewhere: `prometheus_client.REGISTRY.register(RecorderMetrics())`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from streamsvc.recorder.opening import open_recorders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from streamsvc.recorder.statistics import RecorderStatistics

_COUNTERS = {
    "total_writes": ("streamsvc_recorder_writes", "Records that were accepted."),
    "total_bytes_written": ("streamsvc_recorder_written_bytes", "Bytes of lines in the file."),
    "total_flushes": ("streamsvc_recorder_flushes", "How often the buffer went to the file."),
    "failed_flushes": ("streamsvc_recorder_failed_flushes", "Attempts of it that failed and are made again."),
    "total_rotations": ("streamsvc_recorder_rotations", "How often the file was rotated."),
    "total_compressions": ("streamsvc_recorder_compressions", "Rotated files that were compressed."),
}


class RecorderMetrics(Collector):
    """One series a recorder, labelled with its file; none where no recorder is open."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is changes with the recorders."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What the recorders say of themselves now."""
        statistics = [(str(recorder.trades_file), recorder.statistics()) for recorder in open_recorders()]
        if not statistics:
            return
        for field, (name, about) in _COUNTERS.items():
            counter = CounterMetricFamily(name, about, labels=("file",))
            for file, each in statistics:
                counter.add_metric((file,), getattr(each, field))
            yield counter
        yield from _gauges(statistics)


def _gauges(statistics: list[tuple[str, RecorderStatistics]]) -> Iterator[Metric]:
    buffered = GaugeMetricFamily("streamsvc_recorder_buffered", "Records not in the file yet.", labels=("file",))
    seconds = GaugeMetricFamily(
        "streamsvc_recorder_flush_seconds", "How long a flush took, on average.", labels=("file",)
    )
    last = GaugeMetricFamily(
        "streamsvc_recorder_last_flush_timestamp_seconds", "When a flush last ended.", labels=("file",)
    )
    for file, each in statistics:
        buffered.add_metric((file,), each.buffered)
        seconds.add_metric((file,), each.avg_flush_duration_ms / 1000)
        if each.last_flush_time is not None:
            last.add_metric((file,), each.last_flush_time.timestamp())
    yield from (buffered, seconds, last)
