"""The metrics for Prometheus, made when they are asked for: nothing is counted twice, and a message costs nothing.

No symbol is in a label, unless `METRICS_PER_SYMBOL` adds what is said of each stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from streamsvc import __version__
from streamsvc.recorder.metrics import RecorderMetrics
from streamsvc.schema import Market
from streamsvc.web.status import unsynced_age_sec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from streamsvc.histogram import Histogram
    from streamsvc.web.looking import DiskLook
    from streamsvc.web.status import Watched

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STREAM_STATES = ("ok", "suspect", "stalled", "disconnected")
WRITER_STATES = ("recording", "paused_disk", "paused_unsealed", "draining", "closed")
GAP_STATUSES = ("open", "repaired", "unrepairable")
_NS = 1e9


class Metrics:
    """Makes the exposition.

    Args:
        watched: The recorder.
        is_per_symbol: Whether streams are told one by one.
    """

    def __init__(self, watched: Watched, *, is_per_symbol: bool) -> None:
        self._collector = _Recorder(watched, is_per_symbol=is_per_symbol)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        self._registry.register(RecorderMetrics())
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def exposition(self, disk: DiskLook) -> bytes:
        """All metrics as text of version 0.0.4."""
        self._collector.disk = disk
        return generate_latest(self._registry)


class _Recorder(Collector):
    """What is known of the recorder now."""

    def __init__(self, watched: Watched, *, is_per_symbol: bool) -> None:
        self._watched = watched
        self._is_per_symbol = is_per_symbol
        self.disk: DiskLook | None = None
        # Once: two clocks are read, and a number that trembles would look like a restart at every scrape.
        self._started_at = watched.wall_ns() / _NS - (trio.current_time() - watched.live.started_at)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        if self.disk is None:
            return
        yield from self._streams()
        yield from self._connections()
        yield from self._journal()
        if self.disk.was_read:
            yield from self._files(self.disk)
            yield from self._gaps(self.disk)
        yield from self._backfilled()
        yield from self._rest()
        yield from self._service()
        if self._is_per_symbol:
            yield from self._symbols()

    def _markets(self) -> list[Market]:
        present = {stream.market for stream in self._watched.live.health.streams()}
        return [market for market in Market if market in present]

    def _streams(self) -> Iterator[Metric]:
        live = self._watched.live
        messages = CounterMetricFamily("streamsvc_messages", "Messages recorded.", labels=("market", "kind"))
        size = CounterMetricFamily("streamsvc_bytes", "Bytes of these messages.", labels=("market", "kind"))
        for (market, kind), (count, size_bytes) in sorted(live.health.totals().items()):
            messages.add_metric((market.label, kind.label), count)
            size.add_metric((market.label, kind.label), size_bytes)
        yield messages
        yield size
        verdicts = self._watched.stream_verdicts()
        states = GaugeMetricFamily("streamsvc_streams", "Streams by how they are doing.", labels=("market", "state"))
        newest = GaugeMetricFamily(
            "streamsvc_last_message_timestamp_seconds", "When the newest message came.", labels=("market",)
        )
        late = HistogramMetricFamily(
            "binance_ws_latency_seconds",
            "Receive time less event time of a batch's last message; negative where our clock is slow.",
            labels=("market",),
        )
        for market in self._markets():
            own = [verdict.value for stream, verdict in verdicts.items() if stream.market is market]
            for state in STREAM_STATES:
                states.add_metric((market.label, state), own.count(state))
            newest.add_metric((market.label,), self._newest(market))
            _add(late, (market.label,), live.intake.latency.histograms[market])
        yield states
        yield newest
        yield late
        counts = live.intake.counts
        yield CounterMetricFamily("streamsvc_quarantined", "Messages that could not be read.", value=counts.quarantined)
        yield CounterMetricFamily("streamsvc_duplicates", "Messages that came twice.", value=counts.duplicates)
        yield CounterMetricFamily("streamsvc_shed", "Messages dropped on purpose.", value=counts.shed)

    def _newest(self, market: Market) -> float:
        """Unix time of the newest message; 0 before the first."""
        slots = (slot for slot in self._watched.live.health.slots() if slot.stream.market is market)
        last = max((slot.last_message for slot in slots if slot.last_message is not None), default=None)
        return 0.0 if last is None else self._watched.wall_ns() / _NS - (trio.current_time() - last)

    def _connections(self) -> Iterator[Metric]:
        statistics = self._watched.live.supervisor.statistics()
        connections = GaugeMetricFamily("streamsvc_connections", "Connections.", labels=("market", "state"))
        reconnects = CounterMetricFamily(
            "ws_reconnects", "Attempts beyond the first of each connection.", labels=("market",)
        )
        for market in self._markets():
            own = [each.state == "up" for each in statistics.connections.values() if each.market is market]
            connections.add_metric((market.label, "up"), own.count(True))
            connections.add_metric((market.label, "down"), own.count(False))
            reconnects.add_metric((market.label,), statistics.reconnects_of(market))
        yield connections
        yield reconnects

    def _journal(self) -> Iterator[Metric]:
        live = self._watched.live
        state, backlog, channel = live.persistence.state, live.persistence.backlog, live.channel()
        states = GaugeMetricFamily("streamsvc_writer_state", "1 for the state of the writer.", labels=("state",))
        for name in WRITER_STATES:
            states.add_metric((name,), name == state.state)
        yield states
        lag = HistogramMetricFamily("msg_lag_seconds", "From receipt to written in the journal, of each block.")
        _add(lag, (), state.lag)
        yield lag
        for name, about, value in (
            ("streamsvc_journal_unsealed_bytes", "Journal not yet in files.", backlog.size_bytes + state.segment_bytes),
            ("streamsvc_journal_unsealed_segments", "Closed segments that wait for sealing.", backlog.segments),
            ("streamsvc_journal_unsynced_age_seconds", "Age of the oldest unsynced byte.", unsynced_age_sec(live)),
            ("streamsvc_queue_bytes", "Bytes between connections and writer.", channel.used_bytes),
            ("streamsvc_queue_limit_bytes", "Their limit.", channel.limit_bytes),
        ):
            yield GaugeMetricFamily(name, about, value=value)
        for name, about, total in (
            ("streamsvc_journal_written_bytes", "Bytes written to the journal.", state.written_bytes),
            ("streamsvc_segments_sealed", "Segments that became files.", backlog.sealed),
            ("streamsvc_segments_failed", "Segments that were set aside.", backlog.failed),
        ):
            yield CounterMetricFamily(name, about, value=total)
        seal = HistogramMetricFamily("streamsvc_seal_seconds", "How long sealing a segment took.")
        _add(seal, (), backlog.seal_sec)
        yield seal
        sizes = HistogramMetricFamily("streamsvc_parquet_file_bytes", "Sizes of the files that were published.")
        _add(sizes, (), backlog.file_bytes)
        yield sizes

    def _files(self, disk: DiskLook) -> Iterator[Metric]:
        for name, about, value in (
            ("streamsvc_parquet_files", "Files of the data set.", disk.parquet_files),
            ("streamsvc_parquet_bytes", "Their size.", disk.parquet_bytes),
            ("streamsvc_disk_free_bytes", "Free space on the disk of the data.", disk.free_bytes),
            ("streamsvc_disk_reserve_bytes", "Below this intake pauses.", self._watched.reserve_bytes),
        ):
            yield GaugeMetricFamily(name, about, value=value)

    def _gaps(self, disk: DiskLook) -> Iterator[Metric]:
        gaps = GaugeMetricFamily("streamsvc_gaps", "Gaps in the ledger.", labels=("market", "kind", "status"))
        streams = {(stream.market.label, stream.kind.label) for stream in self._watched.live.health.streams()}
        known = {(market, kind, status) for market, kind in streams for status in GAP_STATUSES}
        for labels in sorted(known | {key for key in disk.gaps if key[2] in GAP_STATUSES}):
            gaps.add_metric(labels, disk.gaps.get(labels, 0))
        yield gaps

    def _backfilled(self) -> Iterator[Metric]:
        backfilled = CounterMetricFamily(
            "streamsvc_backfilled_rows", "Rows fetched again over REST.", labels=("market",)
        )
        for market in self._markets():
            backfilled.add_metric((market.label,), self._watched.live.intake.fetched.rows_of.get(market, 0))
        yield backfilled

    def _rest(self) -> Iterator[Metric]:
        used = GaugeMetricFamily("streamsvc_rest_weight_used", "Weight of the last minute.", labels=("market",))
        limit = GaugeMetricFamily("streamsvc_rest_weight_limit", "What the exchange takes.", labels=("market",))
        closed = GaugeMetricFamily("streamsvc_rest_closed_seconds", "How long REST must rest.", labels=("market",))
        for market, governor in sorted(self._watched.live.probes.governors.items()):
            used.add_metric((market.label,), governor.minute_weight)
            limit.add_metric((market.label,), governor.weight_limit)
            closed.add_metric((market.label,), governor.closed_sec)
        yield used
        yield limit
        yield closed

    def _service(self) -> Iterator[Metric]:
        live = self._watched.live
        mismatches = CounterMetricFamily(
            "streamsvc_cvd_mismatches", "Minutes whose CVD is not the exchange's.", labels=("market",)
        )
        for market in self._markets():
            mismatches.add_metric((market.label,), live.analytics.mismatches[market])
        yield mismatches
        tasks = trio.lowlevel.current_statistics().tasks_living
        for name, about, value in (
            ("concurrent_tasks_active", "Tasks of Trio.", tasks),
            ("streamsvc_ready", "Whether /readyz says so.", not self._watched.unready()),
            ("streamsvc_start_time_seconds", "When the service started.", self._started_at),
        ):
            yield GaugeMetricFamily(name, about, value=value)
        info = GaugeMetricFamily("streamsvc_info", "The version that runs.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info

    def _symbols(self) -> Iterator[Metric]:
        live, now = self._watched.live, trio.current_time()
        labels = ("market", "symbol", "kind")
        messages = CounterMetricFamily("streamsvc_symbol_messages", "Messages of a stream.", labels=labels)
        ages = GaugeMetricFamily("streamsvc_symbol_last_message_age_seconds", "Since its last message.", labels=labels)
        cvd = GaugeMetricFamily("streamsvc_symbol_cvd", "Running CVD of a symbol.", labels=("market", "symbol"))
        for stream in live.health.streams():
            names = stream.market.label, stream.symbol, stream.kind.label
            slots = [live.health.slot(stream.market, stream.name, copy) for copy in range(live.health.copies)]
            messages.add_metric(names, sum(slot.messages for slot in slots))
            known = [age for slot in slots if (age := slot.age_sec(now)) is not None]
            if known:
                ages.add_metric(names, min(known))
        for market, symbol in live.analytics.symbols():
            found = live.analytics.symbol(market, symbol)
            if found is not None:
                cvd.add_metric((market.label, symbol), float(found.trades.cvd))
        yield messages
        yield ages
        yield cvd


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets = [
        ("+Inf" if bound == float("inf") else repr(float(bound)), total) for bound, total in histogram.cumulative()
    ]
    family.add_metric(labels, buckets, histogram.sum)
