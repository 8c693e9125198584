"""The statistics of open recorders, as Prometheus reads them."""

from prometheus_client import CollectorRegistry, generate_latest

from streamsvc.recorder import open_recorders
from streamsvc.recorder.metrics import RecorderMetrics


def samples():
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RecorderMetrics())
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


async def test_what_the_statistics_say(rig, autojump_clock):
    assert {} == samples()
    async with rig.open(flush_interval_sec=100) as recorder:
        await recorder.write_trades_batch([{"n": 0}, {"n": 1}])
        await recorder.write_trade({"n": 2})
        label = f'{{file="{rig.path}"}}'
        values = {name.removesuffix(label): float(value) for name, value in samples().items()}
        statistics = recorder.statistics()
    assert [] == open_recorders()
    assert {
        "streamsvc_recorder_writes_total": 3,
        "streamsvc_recorder_written_bytes_total": statistics.total_bytes_written,
        "streamsvc_recorder_flushes_total": 1,
        "streamsvc_recorder_failed_flushes_total": 0,
        "streamsvc_recorder_rotations_total": 0,
        "streamsvc_recorder_compressions_total": 0,
        "streamsvc_recorder_buffered": 1,
        "streamsvc_recorder_flush_seconds": statistics.avg_flush_duration_ms / 1000,
        "streamsvc_recorder_last_flush_timestamp_seconds": statistics.last_flush_time.timestamp(),
    } == values
