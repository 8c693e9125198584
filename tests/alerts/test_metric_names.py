"""Rules ask for what a recorder exports, and their stories are told in the same names."""

import pytest
from alerts_support import rules, targets
from exported_metrics import COUNTERS, METRICS, OF_TARGETS, selectors, unknown
from recorder_metrics import healthy_gauges, healthy_rates

RECORDED = {rule["record"] for rule in rules() if "record" in rule}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_asks_for_what_there_is(rule):
    """Metrics, their labels, and recording rules."""
    assert [] == unknown(rule["expr"], RECORDED)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recording_rule_is_used_and_named_by_its_level(name):
    """level:metric:operation, the level being the labels that are left. Used by an alert, a panel or another rule."""
    used = [rule["expr"] for rule in rules()] + [target["expr"] for target in targets()]
    assert any(name in expression for expression in used)
    level, metric, operation = name.split(":")
    assert level in {"instance", "instance_market", "instance_market_kind"}
    assert metric
    assert operation


def test_stories_are_told_in_metrics_that_there_are():
    """With exactly their labels; what grows is a counter, or a histogram's buckets."""
    told = [selectors(name)[0] for name in (*healthy_gauges(), *healthy_rates())]
    assert [] == [name for name, labels in told if METRICS.get(name) != labels - OF_TARGETS]
    growing = {selectors(name)[0][0] for name in healthy_rates()}
    assert growing == {name for name in growing if name in COUNTERS or name.endswith("_bucket")}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rate(streamsvc_messages_total[1m])", []),
        ('sum by (market) (streamsvc_gaps{status="open",market!="x"}) > 0', []),
        ("streamsvc_nonsense + up", ["streamsvc_nonsense"]),
        ('streamsvc_ready{market="spot"}', ["streamsvc_ready by ['market']"]),
        ("a:b:c / on (job) group_left () streamsvc_ready", ["a:b:c"]),
    ],
)
def test_names_in_a_query(query, expected):
    """What nobody exports is found."""
    assert expected == unknown(query, set())
