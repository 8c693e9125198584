"""A recorder that a real Prometheus scrapes, with configuration and rules of deploy/, and that a browser looks at."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from alerts_support import rules
from browser import BrowserPage, needs_chromium
from exported_metrics import HISTOGRAMS, METRICS
from prometheus_client.parser import text_string_to_metric_families
from prometheus_process import PrometheusProcess, free_port, needs_prometheus, read_url
from recorder_process import PATIENCE_SEC
from small_disk import fill

from streamsvc.schema import Market

LOOK_SEC = 0.1
QUICK_WATCH = {"TRADE_TIMEOUT": "2", "HEALTH_CHECK_INTERVAL": "0.5"}
STALLED, DISK_PAUSED = "StreamsvcStreamStalled", "StreamsvcDiskPaused"
MUTED = "btcusdt@trade"


async def seen(look, is_wanted):
    """What a blocking look at another process gives, once it is what is wanted."""
    with trio.fail_after(PATIENCE_SEC):
        while not is_wanted(found := await trio.to_thread.run_sync(look)):  # noqa: ASYNC110 - it has no event
            await trio.sleep(LOOK_SEC)
    return found


@pytest.fixture
async def recorder(stage, start, small_disk):
    """One that serves its metrics, and where; it has a small disk of its own."""
    address = f"127.0.0.1:{free_port()}"
    process = start(stage, HTTP_LISTEN=address, DATA_DIR=str(small_disk / "data"), **QUICK_WATCH)
    process.address = address
    await process.saw("http_serving")
    return process


@pytest.fixture
def prometheus(recorder, tmp_path):
    """One that scrapes it; a stall and a full disk are told after seconds, all else as in earnest."""

    def hurry(rule):
        if rule["alert"] in {STALLED, DISK_PAUSED}:
            rule["for"] = "1s"
            rule["expr"] = rule["expr"].replace("[5m]", "[5s]")

    process = PrometheusProcess(tmp_path / "prometheus", recorder.address, hurry)
    yield process
    process.end()


@pytest.fixture
def page(recorder):
    """Its page, in a browser."""
    browser = BrowserPage(f"http://{recorder.address}/")
    yield browser
    browser.end()


def named(samples):
    """The names of samples that have a value, and not only NaN."""
    return {sample["metric"]["__name__"] for sample in samples if sample["value"][1] != "NaN"}


def all_well(verdict):
    """Whether the page says so."""
    return verdict.startswith("Recording 14 streams of 4 symbols")


def firing(prometheus):
    """Blocking: the names of the alerts that fire."""
    return [alert["labels"]["alertname"] for alert in prometheus.alerts() if alert["state"] == "firing"]


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
async def test_all_rules_give_values_and_nothing_fires(recorder, prometheus):
    """Of a recorder that is well."""
    expected = {rule["record"] for rule in rules() if "record" in rule}
    await seen(partial(prometheus.query, 'up{job="streamsvc"} == 1'), bool)
    recorded = partial(prometheus.query, '{__name__=~".+:.+:.+"}')

    await seen(recorded, lambda samples: expected <= named(samples))

    assert [] == await trio.to_thread.run_sync(firing, prometheus)
    assert "" == prometheus.log()


@needs_prometheus
@needs_chromium
async def test_a_stall_a_cut_and_a_full_disk_as_page_metrics_alerts_and_log_tell_them(
    stage, recorder, prometheus, page, small_disk
):
    """All four tell the same story: what happened, and that it was mended."""
    verdict, alarms = partial(page.text, "#verdict-text"), partial(firing, prometheus)
    await seen(partial(prometheus.query, 'up{job="streamsvc"} == 1'), bool)
    await seen(verdict, all_well)

    stage.exchange.mute(Market.SPOT, MUTED)

    alerts = await seen(prometheus.alerts, lambda alerts: "firing" in {alert["state"] for alert in alerts})
    (told,) = [alert for alert in alerts if alert["state"] == "firing"]
    labels = {"alertname": STALLED, "severity": "ticket", "market": "spot"}
    assert labels | {"instance": recorder.address, "job": "streamsvc"} == told["labels"]
    assert f"Streams of spot that say nothing: 1 ({recorder.address})." == told["annotations"]["summary"]
    event = recorder.events("stream_stalled")[0]
    assert ("spot", "BTCUSDT", "trade") == (event["market"], event["symbol"], event["kind"])
    await seen(partial(prometheus.query, 'streamsvc_streams{market="spot",state="stalled"} == 1'), bool)
    await seen(verdict, lambda text: text.startswith("Silent and being repaired: BTCUSDT trade of spot"))

    stage.exchange.unmute(Market.SPOT, MUTED)

    await seen(alarms, lambda names: not names)
    await recorder.saw("stream_recovered")
    await recorder.saw("backfilled")
    await seen(partial(prometheus.query, 'streamsvc_gaps{market="spot",kind="trade",status="repaired"} > 0'), bool)
    await seen(verdict, all_well)

    breaks = recorder.names().count("connection_lost")
    stage.exchange.cut(Market.FUTURES)

    await recorder.saw("connection_lost", breaks + 1)
    await seen(partial(prometheus.query, 'ws_reconnects_total{market="futures"} > 0'), bool)
    lost = 'streamsvc_gaps{market="futures",kind="bookTicker",status="unrepairable"} > 0'
    await seen(partial(prometheus.query, lost), bool)
    await seen(partial(page.text, "#gaps"), lambda text: "disconnect" in text and "unrepairable" in text)
    await seen(verdict, all_well)
    assert [] == await trio.to_thread.run_sync(alarms), "one break is no reason to call anybody"

    fill(small_disk)

    await recorder.saw("paused_disk")
    await seen(alarms, lambda names: [DISK_PAUSED] == names)
    await seen(partial(prometheus.query, 'streamsvc_writer_state{state="paused_disk"} == 1'), bool)
    await seen(verdict, lambda text: text.startswith("The disk is full"))

    (small_disk / "filler").unlink()

    await recorder.saw("disk_resumed")
    await seen(alarms, lambda names: not names)
    await seen(partial(prometheus.query, 'streamsvc_writer_state{state="recording"} == 1'), bool)
    await seen(verdict, all_well)
    assert "" == prometheus.log()
