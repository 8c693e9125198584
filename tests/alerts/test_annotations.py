"""What a person reads when an alert fires, as a real Prometheus fills it in."""

from __future__ import annotations

import http.server
import re
import threading
import time

import pytest
from alerts_support import alerts
from prometheus_process import PrometheusProcess, needs_prometheus
from recorder_metrics import STARTED, connections, gaps, healthy_gauges, healthy_rates, lag, latency, streams, writer

PATIENCE_SEC = 40.0
LOOK_SEC = 0.2

WORST = (
    streams("futures", ok=40, stalled=20)
    | connections("futures", up=1, down=2)
    | gaps("futures", "trade", "open", 7)
    | {
        "streamsvc_disk_free_bytes": 0.7 * 1024**3,
        "streamsvc_journal_unsynced_age_seconds": 14.0,
        "streamsvc_journal_unsealed_segments": 31.0,
        'streamsvc_rest_closed_seconds{market="spot"}': 5400.0,
        # Both at once, which no writer is.
        'streamsvc_writer_state{state="paused_disk"}': 1.0,
        'streamsvc_writer_state{state="paused_unsealed"}': 1.0,
    }
)
GROWING = {
    'ws_reconnects_total{market="futures"}': 1.0,
    "streamsvc_shed_total": 50.0,
    "streamsvc_quarantined_total": 10.0,
    "streamsvc_segments_failed_total": 1.0,
    'streamsvc_cvd_mismatches_total{market="spot"}': 1.0,
    'streamsvc_gaps{market="futures",kind="trade",status="unrepairable"}': 1.0,
    "streamsvc_disk_free_bytes": -1e6,
}


class EverythingAtOnce(http.server.BaseHTTPRequestHandler):
    """Exports a recorder to which everything happens at once, and that is another process at every scrape."""

    begun = time.time()

    def do_GET(self) -> None:
        now = time.time()
        rates = healthy_rates() | latency("spot", 3.0) | lag(3.0) | GROWING
        values = healthy_gauges() | writer("recording") | WORST | dict.fromkeys(STARTED, now)
        silent_since = {name: now - 3700 for name in values if name.startswith("streamsvc_last_message")}
        values |= silent_since
        for name, per_sec in rates.items():
            values[name] = values.get(name, 0.0) + per_sec * (now - self.begun)
        values |= {name: int(value) for name, value in values.items() if name.startswith("streamsvc_gaps")}
        body = "".join(f"{name} {float(value)!r}\n" for name, value in values.items()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing on standard error."""


@pytest.fixture
def told(tmp_path):
    """What is said of everything that fires, by what tells its rule apart."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), EverythingAtOnce) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        prometheus = PrometheusProcess(tmp_path / "prometheus", f"127.0.0.1:{server.server_port}", _at_once)
        try:
            yield _until_all_fire(prometheus)
        finally:
            prometheus.end()
            server.shutdown()


def _at_once(rule):
    rule["for"] = "0s"


def _until_all_fire(prometheus):
    deadline = time.monotonic() + PATIENCE_SEC
    while True:
        firing = {_told_apart(alert["labels"]): alert for alert in prometheus.alerts() if alert["state"] == "firing"}
        if wanted() <= set(firing):
            return firing
        assert time.monotonic() < deadline, (wanted() - set(firing), prometheus.log())
        time.sleep(LOOK_SEC)


def _told_apart(labels):
    return labels["alertname"], labels["severity"], labels.get("cause")


def wanted():
    """All but those that need a recorder that is gone."""
    every = {_told_apart({"alertname": alert["alert"], **alert["labels"]}) for alert in alerts()}
    return {one for one in every if one[0] != "StreamsvcDown"}


@needs_prometheus
def test_all_alerts_at_once_read_as_sentences(told):
    """No place is left empty, no number has a tail of digits, and each says of which recorder it speaks."""
    for name, alert in told.items():
        for text in alert["annotations"].values():
            assert [] == re.findall(r"<no value>|error|%!|\{\{|\(\)|  |\d\.\d{3}", text), (name, text)
        assert alert["labels"]["instance"] in alert["annotations"]["summary"], name
