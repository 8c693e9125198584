"""A real Prometheus with the shipped configuration; whoever starts one calls `end`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from alerts_support import CONFIG, RULES, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not there (Debian: prometheus)")

INTERVAL = "500ms"
_PATIENCE_SEC = 10.0

# No proxy of the environment may come between.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def read_url(url: str) -> bytes:
    """Blocking: the body of an answer."""
    with _opener.open(url, timeout=_PATIENCE_SEC) as answer:
        return answer.read()


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class PrometheusProcess:
    """Scrapes one target with the shipped configuration, only more often.

    Args:
        place: A folder of its own for its data and the rewritten files.
        target: Host and port of what is scraped.
        change: Told of every rule that alerts, it may change it.
    """

    def __init__(self, place: Path, target: str, change: Callable[[dict[str, Any]], None]) -> None:
        assert PROMETHEUS is not None
        place.mkdir()
        self._log = place / "log"
        address = f"127.0.0.1:{free_port()}"
        self._url = f"http://{address}/"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    PROMETHEUS,
                    f"--config.file={_rewritten(place, target, change)}",
                    f"--storage.tsdb.path={place / 'data'}",
                    f"--web.listen-address={address}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        """What it says: warnings and errors."""
        return self._log.read_text()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Blocking: the samples of a query now; none while it does not answer yet."""
        answer = self._get("query", query=expression)
        return answer["result"] if answer else []

    def alerts(self) -> list[dict[str, Any]]:
        """Blocking: what is pending or fires, with labels and annotations."""
        answer = self._get("alerts")
        return answer["alerts"] if answer else []

    def _get(self, what: str, **parameters: str) -> dict[str, Any] | None:
        assert self._process.poll() is None, self.log()
        try:
            body = read_url(f"{self._url}api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        except OSError:
            return None
        return json.loads(body)["data"]

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SEC)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _rewritten(place: Path, target: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """The shipped files with another target, other intervals and waits."""
    config = yaml.safe_load(CONFIG.read_text())
    assert [path.name for path in RULES] == config["rule_files"]
    intervals = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
    config["global"] |= intervals
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    for path in RULES:
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    change(rule)
        write_json(place / path.name, content)
    return write_json(place / CONFIG.name, config)
