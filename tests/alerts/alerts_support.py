"""The files of deploy/ that Prometheus and Grafana read, and promtool."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
CONFIG = PROMETHEUS / "prometheus.yml"
RULES = (PROMETHEUS / "recording_rules.yml", PROMETHEUS / "alert_rules.yml")

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there (Debian: prometheus)")


@functools.cache
def rules() -> list[dict[str, Any]]:
    """All rules in order."""
    files = [yaml.safe_load(path.read_text()) for path in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


@functools.cache
def dashboard() -> dict[str, Any]:
    """The dashboard."""
    return json.loads((DEPLOY / "grafana" / "streamsvc.json").read_text())


def panels() -> list[dict[str, Any]]:
    """Its panels, without the titles of rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> list[dict[str, Any]]:
    """What its panels ask for."""
    return [target for panel in panels() for target in panel["targets"]]


def run_promtool(*arguments: str | Path) -> tuple[int, str]:
    """The exit code of promtool, and what it says."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def write_json(path: Path, content: Any) -> Path:
    """A file that promtool reads: JSON is YAML."""
    path.write_text(json.dumps(content))
    return path
