"""A recorder that a real Prometheus scrapes, with configuration and rules of deploy/, and that a browser looks at."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import attrs
import pytest
import trio
from alerts_support import rules
from browser import BrowserPage, needs_chromium
from exported_metrics import HISTOGRAMS, METRICS
from prometheus_client.parser import text_string_to_metric_families
from prometheus_process import PrometheusProcess, free_port, needs_prometheus, read_url
from recorder_process import PATIENCE_SEC, RecorderProcess
from small_disk import fill

from streamsvc.schema import Market

LOOK_SEC = 0.1
QUICK_WATCH = {"TRADE_TIMEOUT": "2", "HEALTH_CHECK_INTERVAL": "0.5"}
STALLED, DISK_PAUSED = "StreamsvcStreamStalled", "StreamsvcDiskPaused"
MUTED = "btcusdt@trade"
WELL = "Recording 14 streams of 4 symbols"


async def seen(look, is_wanted):
    """What a blocking look at another process gives, once it is what is wanted."""
    with trio.fail_after(PATIENCE_SEC):
        while not is_wanted(found := await trio.to_thread.run_sync(look)):  # noqa: ASYNC110 - it has no event
            await trio.sleep(LOOK_SEC)
    return found


@pytest.fixture
async def recording(stage, start):
    """Starts recorders that serve their metrics, and are quick to notice that a stream is silent."""

    async def begin(**settings):
        process = start(stage, HTTP_LISTEN=f"127.0.0.1:{free_port()}", **QUICK_WATCH, **settings)
        await process.saw("http_serving")
        return process

    return begin


def address_of(recorder):
    """Where it serves."""
    return recorder.events("http_serving")[0]["address"]


def metrics_of(recorder):
    """Blocking: what it answers to who scrapes it."""
    return read_url(f"http://{address_of(recorder)}/metrics").decode()


@contextmanager
def scraping(recorder, place):
    """A Prometheus that scrapes it; a stall and a full disk are told after seconds, all else as in earnest."""

    def hurry(rule):
        if rule["alert"] in {STALLED, DISK_PAUSED}:
            rule["for"] = "1s"
            rule["expr"] = rule["expr"].replace("[5m]", "[5s]")

    process = PrometheusProcess(place / "prometheus", address_of(recorder), hurry)
    try:
        yield process
        assert "" == process.log()
    finally:
        process.end()


def named(samples):
    """The names of samples that have a value, and not only NaN."""
    return {sample["metric"]["__name__"] for sample in samples if sample["value"][1] != "NaN"}


def firing(prometheus):
    """Blocking: the names of the alerts that fire."""
    return [alert["labels"]["alertname"] for alert in prometheus.alerts() if alert["state"] == "firing"]


async def test_what_is_exported_is_what_rules_and_dashboard_ask_for(recording):
    """By name and label: nothing that they name is missing, and nothing of ours is without a place in their list."""
    text = await trio.to_thread.run_sync(metrics_of, await recording())

    exported = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    assert {} == {name: labels for name, labels in METRICS.items() if exported.get(name) != labels}
    ends = tuple(f"{name}_{end}" for name in HISTOGRAMS for end in ("sum", "count"))
    ours = {name for name in exported if not name.startswith(("process_", "python_")) and name not in ends}
    assert set() == ours - set(METRICS)


async def test_when_it_started_is_the_same_at_every_scrape(recording):
    """Else every scrape would look like a restart."""
    recorder = await recording()

    looks = []
    for _ in range(2):
        text = await trio.to_thread.run_sync(metrics_of, recorder)
        looks.append([line for line in text.splitlines() if "_start_time_seconds " in line and line[0] != "#"])

    assert looks[0] == looks[1]
    assert 2 == len(looks[0])


@needs_prometheus
async def test_all_rules_give_values_and_nothing_fires(recording, tmp_path):
    """Of a recorder that is well."""
    expected = {rule["record"] for rule in rules() if "record" in rule}
    with scraping(await recording(), tmp_path) as prometheus:
        await seen(partial(prometheus.query, 'up{job="streamsvc"} == 1'), bool)
        recorded = partial(prometheus.query, '{__name__=~".+:.+:.+"}')

        await seen(recorded, lambda samples: expected <= named(samples))

        assert [] == await trio.to_thread.run_sync(firing, prometheus)


@attrs.frozen
class Views:
    """What page, metrics, alerts and log say of one recorder."""

    recorder: RecorderProcess
    prometheus: PrometheusProcess
    page: BrowserPage

    async def metric(self, query):
        """Wait until a query has an answer."""
        await seen(partial(self.prometheus.query, query), bool)

    async def verdict(self, beginning):
        """Wait until the page's sentence begins so."""
        await seen(partial(self.page.text, "#verdict-text"), lambda text: text.startswith(beginning))

    async def alerts(self, *names):
        """Wait until these fire, and no other ones."""
        await seen(partial(firing, self.prometheus), lambda found: list(names) == found)


@pytest.fixture
async def views(recording, small_disk, tmp_path):
    """All four, of a recorder on a small disk, when all say that all is well."""
    recorder = await recording(DATA_DIR=str(small_disk / "data"))
    with scraping(recorder, tmp_path) as prometheus:
        page = await trio.to_thread.run_sync(BrowserPage, f"http://{address_of(recorder)}/")
        try:
            found = Views(recorder, prometheus, page)
            await found.metric('up{job="streamsvc"} == 1')
            await found.verdict(WELL)
            yield found
        finally:
            page.end()


@needs_prometheus
@needs_chromium
async def test_a_stall_a_cut_and_a_full_disk_as_page_metrics_alerts_and_log_tell_them(stage, views, small_disk):
    """All four tell the same story: what happened, and that it was mended."""
    recorder = views.recorder
    stage.exchange.mute(Market.SPOT, MUTED)

    await views.alerts(STALLED)
    (told,) = [alert for alert in views.prometheus.alerts() if alert["state"] == "firing"]
    labels = {"alertname": STALLED, "severity": "ticket", "market": "spot"}
    assert labels | {"instance": address_of(recorder), "job": "streamsvc"} == told["labels"]
    assert f"Streams of spot that say nothing: 1 ({address_of(recorder)})." == told["annotations"]["summary"]
    event = recorder.events("stream_stalled")[0]
    assert ("spot", "BTCUSDT", "trade") == (event["market"], event["symbol"], event["kind"])
    await views.metric('streamsvc_streams{market="spot",state="stalled"} == 1')
    await views.verdict("Silent and being repaired: BTCUSDT trade of spot")

    stage.exchange.unmute(Market.SPOT, MUTED)

    await views.alerts()
    await recorder.saw("stream_recovered")
    await recorder.saw("backfilled")
    await views.metric('streamsvc_gaps{market="spot",kind="trade",status="repaired"} > 0')
    await views.verdict(WELL)

    breaks = recorder.names().count("connection_lost")
    stage.exchange.cut(Market.FUTURES)

    await recorder.saw("connection_lost", breaks + 1)
    await views.metric('ws_reconnects_total{market="futures"} > 0')
    await views.metric('streamsvc_gaps{market="futures",kind="bookTicker",status="unrepairable"} > 0')
    await seen(partial(views.page.text, "#gaps"), lambda text: "disconnect" in text and "unrepairable" in text)
    await views.verdict(WELL)
    await views.alerts()  # One break is no reason to call anybody.

    fill(small_disk)

    await recorder.saw("paused_disk")
    await views.alerts(DISK_PAUSED)
    await views.metric('streamsvc_writer_state{state="paused_disk"} == 1')
    await views.verdict("The disk is full")

    (small_disk / "filler").unlink()

    await recorder.saw("disk_resumed")
    await views.alerts()
    await views.metric('streamsvc_writer_state{state="recording"} == 1')
    await views.verdict(WELL)
