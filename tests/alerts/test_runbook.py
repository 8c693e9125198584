"""The runbook: a paragraph an alert, in words that the service knows."""

import ast
import re

import pytest
from alerts_support import DEPLOY, ROOT, alerts
from exported_metrics import HISTOGRAMS, METRICS

from streamsvc.cli import app
from streamsvc.settings import Settings

RUNBOOK = (DEPLOY / "README.md").read_text()
NAMES = sorted({alert["alert"] for alert in alerts()})
OTHERS = {"scrape_configs", "rule_files", "no_target", "receive_time"}
"""Of Prometheus' configuration, a cause, a column."""


def paragraphs():
    """The text below each heading of an alert."""
    parts = re.split(r"^### (\w+)$", RUNBOOK[RUNBOOK.index("## Alerts") :], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def source():
    """All of the recorder's own code."""
    return "".join(path.read_text() for path in (ROOT / "streamsvc").rglob("*.py") if "simulator" not in path.parts)


def unheard(names):
    """Those that are no event: README's list of them is held to the source by a test of its own."""
    text = source()
    return {name for name in names if f'"{name}"' not in text}


def fields():
    """Names of fields that events are logged with, by the source."""
    names = set()
    for path in (ROOT / "streamsvc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                names |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return names


def quoted(text):
    """What stands in code marks."""
    return re.findall(r"`([^`]+)`", text)


def test_every_alert_has_its_paragraph():
    """And no other one has; the links of the alerts lead to them, and the README counts them."""
    assert NAMES == sorted(paragraphs())
    assert f"{len(NAMES)} alerts" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_paragraph_says_what_it_means_where_to_look_and_what_to_do(name):
    """And is as urgent as the rules."""
    text = paragraphs()[name]
    urgencies = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] == name}
    assert urgencies == {word for word in ("page", "ticket") if f"**{word.title()}" in text or f"**{word}" in text}
    assert text.index("*Look:*") < text.index("*Do:*")
    causes = {alert["labels"]["cause"] for alert in alerts() if alert["alert"] == name and "cause" in alert["labels"]}
    assert causes == set(re.findall(r'cause="(\w+)"', text))


def test_the_table_of_events_names_every_alert_once():
    """With events that there are."""
    section = RUNBOOK[RUNBOOK.index("## Which alert") : RUNBOOK.index("## Alerts")]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert NAMES == sorted(quoted(row[0])[0] for row in rows)
    assert set() == unheard({name for row in rows for cell in row[1:] for name in quoted(cell)})


def test_words_in_code_marks_are_known():
    """Events, settings, metrics, fields of events and alerts; a word that nobody knows helps nobody at night."""
    words = set(quoted(re.sub(r"```.*?```", "", RUNBOOK, flags=re.DOTALL)))
    lower = {word for word in words if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)}
    assert set() == unheard(lower - set(METRICS) - set(HISTOGRAMS) - fields() - OTHERS)
    upper = {name for word in words for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", word)}
    settings = {attribute.name.upper() for attribute in Settings.__attrs_attrs__}
    assert set() == upper - settings
    assert set() == {word for word in words if word.startswith("Streamsvc")} - set(NAMES)


def test_settings_in_the_table_of_thresholds_have_these_defaults():
    """So that what is said of thresholds holds."""
    section = RUNBOOK[RUNBOOK.index("**Thresholds**") : RUNBOOK.index("## Where to look")]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) >= 6
    defaults = {attribute.name.upper(): attribute.default for attribute in Settings.__attrs_attrs__}
    for row in rows:
        values = [float(value) for value in row[1].split(",")]
        assert values == [float(defaults[name]) for name in quoted(row[0])]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?:^|`)streamsvc ([a-z-]+)", RUNBOOK, flags=re.MULTILINE))))
def test_a_command_exists(command):
    """Where it is typed, not where it names the service."""
    if command == "top" and command not in app.list_commands(None):
        pytest.skip("streamsvc top is not there yet")
    assert command in app.list_commands(None)


def test_files_that_it_names_are_there():
    """The table of what is here, and links."""
    section = RUNBOOK[RUNBOOK.index("## What is here") : RUNBOOK.index("**Prometheus**")]
    named = [quoted(line)[0] for line in section.splitlines() if line.startswith("| `")]
    assert [] == [name for name in named if not (DEPLOY / name).is_file()]
