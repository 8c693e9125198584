"""The rules that alert: what they are made of, and what fires when."""

import re

import pytest
from alerts_support import CONFIG, RULES, alerts, needs_promtool, rules, run_promtool, write_json
from loud_stories import LOUD
from quiet_stories import QUIET
from recorder_metrics import exported

SHOWN = "alertname, severity, cause, market, kind"


def told_apart(alert):
    """What tells rules of one alert apart."""
    return alert["alert"], alert["labels"]["severity"], alert["labels"].get("cause")


def heard_in(stories):
    """All alerts that fire in stories, in the same terms."""
    every = [dict(labels) for story in stories for heard in story.heard.values() for labels in heard]
    return {(labels["alertname"], labels["severity"], labels.get("cause")) for labels in every}


@needs_promtool
def test_promtool_accepts_configuration_and_rules():
    """Without a warning."""
    code, said = run_promtool("check", "config", "--lint-fatal", CONFIG)
    assert (0, len(rules())) == (code, sum(map(int, re.findall(r"SUCCESS: (\d+) rules found", said)))), said


@needs_promtool
@pytest.mark.parametrize("story", QUIET + LOUD, ids=lambda story: story.situation)
def test_what_is_heard_of(story, tmp_path):
    """These alerts fire at these minutes, and no other ones."""
    expected = [
        {
            "expr": f'max by ({SHOWN}) (ALERTS{{alertstate="firing"}})',
            "eval_time": f"{round(minute * 60)}s",
            "exp_samples": [
                {"labels": "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}", "value": 1}
                for labels in heard
            ],
        }
        for minute, heard in sorted(story.heard.items())
    ]
    step = f"{story.step_sec:g}s"
    test = {
        "interval": step,
        "input_series": exported(story.phases, story.step_sec, story.only),
        "promql_expr_test": expected,
    }
    content = {"rule_files": [str(path) for path in RULES], "evaluation_interval": step, "tests": [test]}
    code, said = run_promtool("test", "rules", write_json(tmp_path / "test.yml", content))
    assert 0 == code, said


def test_every_alert_is_heard_in_a_story():
    """And before it is, there is a minute of the same story in which it is not."""
    assert {told_apart(alert) for alert in alerts()} == heard_in(LOUD)
    assert set() == {story.situation for story in LOUD if not any(story.heard.values())}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: "-".join(filter(None, told_apart(alert))))
def test_an_alert_says_what_to_do(alert):
    """By page or ticket, in one sentence of a line and a description, with a place in the runbook that is its own."""
    assert {"severity"} <= set(alert["labels"]) <= {"severity", "cause"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    notes = alert["annotations"]
    assert {"summary", "description", "runbook_url"} == set(notes)
    assert f"deploy/README.md#{alert['alert'].lower()}" == notes["runbook_url"]
    assert "\n" not in notes["summary"]
    assert len(notes["summary"]) <= 120
    assert "Next: " in notes["description"]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: "-".join(filter(None, told_apart(alert))))
def test_what_an_alert_says_has_the_labels_that_it_uses(alert):
    """A label that is not there would be an empty place in a sentence."""
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    target = set() if alert["labels"].get("cause") == "no_target" else {"instance", "job"}
    stories = [dict(labels) for story in LOUD for heard in story.heard.values() for labels in heard]
    for labels in stories:
        if told_apart(alert) == (labels["alertname"], labels["severity"], labels.get("cause")):
            assert set() == used - target - set(labels)
