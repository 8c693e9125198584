"""A recorder that is scraped by a real Prometheus, with the configuration and the rules of deploy/prometheus."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from alerts_support import rules
from exported_metrics import HISTOGRAMS, METRICS
from prometheus_client.parser import text_string_to_metric_families
from prometheus_process import PrometheusProcess, free_port, needs_prometheus, read_url
from recorder_process import PATIENCE_SEC

from streamsvc.schema import Market

LOOK_SEC = 0.1
QUICK_WATCH = {"TRADE_TIMEOUT": "2", "HEALTH_CHECK_INTERVAL": "0.5"}
STALLED = "StreamsvcStreamStalled"
MUTED = "btcusdt@trade"


async def seen(look, is_wanted):
    """What a blocking look at another process gives, once it is what is wanted."""
    with trio.fail_after(PATIENCE_SEC):
        while not is_wanted(found := await trio.to_thread.run_sync(look)):  # noqa: ASYNC110 - it has no event
            await trio.sleep(LOOK_SEC)
    return found


@pytest.fixture
async def recorder(stage, start):
    """One that serves its metrics, and where."""
    address = f"127.0.0.1:{free_port()}"
    process = start(stage, HTTP_LISTEN=address, **QUICK_WATCH)
    process.address = address
    await process.saw("http_serving")
    return process


@pytest.fixture
def prometheus(recorder, tmp_path):
    """One that scrapes it; a stall is told after a second, all else as in earnest."""

    def wait_of(rule):
        return "1s" if rule["alert"] == STALLED else None

    process = PrometheusProcess(tmp_path / "prometheus", recorder.address, wait_of)
    yield process
    process.end()


def named(samples):
    """The names of samples that have a value, and not only NaN."""
    return {sample["metric"]["__name__"] for sample in samples if sample["value"][1] != "NaN"}


async def test_what_is_exported_is_what_rules_and_dashboard_ask_for(recorder):
    """By name and label: nothing that they name is missing, and nothing of ours is without a place in their list."""
    text = (await trio.to_thread.run_sync(read_url, f"http://{recorder.address}/metrics")).decode()

    exported = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    assert {} == {name: labels for name, labels in METRICS.items() if exported.get(name) != labels}
    ends = tuple(f"{name}_{end}" for name in HISTOGRAMS for end in ("sum", "count"))
    ours = {name for name in exported if not name.startswith(("process_", "python_")) and name not in ends}
    assert set() == ours - set(METRICS)


async def test_when_a_process_started_is_the_same_at_every_scrape(recorder):
    """Else every scrape would look like a restart."""
    looks = []
    for _ in range(2):
        text = (await trio.to_thread.run_sync(read_url, f"http://{recorder.address}/metrics")).decode()
        looks.append([line for line in text.splitlines() if "_start_time_seconds " in line and line[0] != "#"])
    assert looks[0] == looks[1]
    assert 2 == len(looks[0])


@needs_prometheus
async def test_a_stall_that_prometheus_hears_of(stage, recorder, prometheus):
    """All rules give values, nothing fires; a stream that stalls is told, and told no more when it flows again."""
    expected = {rule["record"] for rule in rules() if "record" in rule}
    up = partial(prometheus.query, 'up{job="streamsvc"} == 1')
    await seen(up, bool)
    recorded = partial(prometheus.query, '{__name__=~".+:.+:.+"}')
    await seen(recorded, lambda samples: expected <= named(samples))
    assert [] == [
        alert["labels"] for alert in await trio.to_thread.run_sync(prometheus.alerts) if alert["state"] == "firing"
    ]

    stage.exchange.mute(Market.SPOT, MUTED)

    def stalls(alerts):
        return [alert for alert in alerts if alert["labels"]["alertname"] == STALLED and alert["state"] == "firing"]

    (told,) = stalls(await seen(prometheus.alerts, stalls))
    expected = {"alertname": STALLED, "severity": "ticket", "market": "spot", "instance": recorder.address}
    assert expected | {"job": "streamsvc"} == told["labels"]
    assert f"Streams of spot that say nothing: 1 ({recorder.address})." == told["annotations"]["summary"]
    assert [("spot", "BTCUSDT", "trade")] == [
        (event["market"], event["symbol"], event["kind"]) for event in recorder.events("stream_stalled")
    ]

    stage.exchange.unmute(Market.SPOT, MUTED)

    await seen(prometheus.alerts, lambda alerts: not stalls(alerts))
    assert [] != recorder.events("stream_recovered")
    assert "" == prometheus.log()
