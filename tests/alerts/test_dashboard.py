"""The dashboard, without a Grafana: what can be said of its JSON."""

import itertools
import re

import pytest
from alerts_support import ROOT, dashboard, needs_promtool, panels, rules, run_promtool, targets, write_json
from exported_metrics import unknown

DASHBOARD, PANELS = dashboard(), panels()
PROMETHEUS, LOKI = "${datasource}", "${loki}"
ROWS = [
    "Verdict",
    "Streams",
    "Latency and lag",
    "Gaps and backfill",
    "Journal, sealing, disk",
    "REST",
    "Process",
    "Logs",
]
LABELS_OF_LOGS = {"service", "environment", "level"}


def queries(source):
    """The queries of one source of data, panels and annotations alike."""
    of_panels = [target["expr"] for target in targets() if target["datasource"]["uid"] == source]
    notes = [note["expr"] for note in DASHBOARD["annotations"]["list"] if note["datasource"]["uid"] == source]
    return of_panels + notes


def with_values(query):
    """A query as Grafana would send it."""
    for name, value in {"$__rate_interval": "1m", "$instance": ".*", "$market": ".*"}.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


def area(panel):
    """The cells of the grid that a panel covers."""
    place = panel["gridPos"]
    across = range(place["x"], place["x"] + place["w"])
    return set(itertools.product(across, range(place["y"], place["y"] + place["h"])))


def test_panels_do_not_overlap():
    """Nor do they leave the grid of 24 columns."""
    cells = [cell for panel in DASHBOARD["panels"] for cell in area(panel)]
    assert len(set(cells)) == len(cells)
    assert set(range(24)) == {x for x, _ in cells}


def test_rows_come_from_verdict_to_logs():
    """Every panel lies below the title of its row."""
    assert ROWS == [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    heights = [panel["gridPos"]["y"] for panel in DASHBOARD["panels"]]
    assert sorted(heights) == heights


def test_names_are_unique():
    """Ids, titles, and the letters of queries within a panel."""
    for names in (
        [panel["id"] for panel in DASHBOARD["panels"]],
        [panel["title"] for panel in DASHBOARD["panels"]],
        *([target["refId"] for target in panel["targets"]] for panel in PANELS),
    ):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_can_be_read(panel):
    """It says which question it answers, has a unit, and takes its data from what the viewer has chosen."""
    assert panel["description"].endswith(("?", "."))
    assert "?" in panel["description"]
    assert {panel["datasource"]["uid"]} == {target["datasource"]["uid"] for target in panel["targets"]}
    assert panel["datasource"]["uid"] in {PROMETHEUS, LOKI}
    assert all(target["legendFormat"] for target in panel["targets"] if panel["type"] != "logs")
    if panel["type"] != "logs":
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_variables_of_the_dashboard():
    """Whatever is asked is asked of the chosen sources; schema of Grafana 10.4 and newer."""
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert ["datasource", "loki", "instance", "market", "environment"] == list(variables)
    assert ("prometheus", "loki") == (variables["datasource"]["query"], variables["loki"]["query"])
    assert {PROMETHEUS} == {variables[name]["datasource"]["uid"] for name in ("instance", "market")}
    assert LOKI == variables["environment"]["datasource"]["uid"]
    assert (39, None, "streamsvc") == (DASHBOARD["schemaVersion"], DASHBOARD["id"], DASHBOARD["uid"])


@needs_promtool
def test_every_query_parses(tmp_path):
    """promtool has no command for a query, but reads rules."""
    every = [
        {"record": f"query:{number}", "expr": with_values(query)} for number, query in enumerate(queries(PROMETHEUS))
    ]
    assert len(every) >= 40
    file = write_json(tmp_path / "rules.yml", {"groups": [{"name": "dashboard", "rules": every}]})
    code, said = run_promtool("check", "rules", file)
    assert 0 == code, said


@pytest.mark.parametrize("query", queries(PROMETHEUS))
def test_a_query_asks_for_what_there_is(query):
    """Metrics, their labels, and recording rules."""
    assert [] == unknown(with_values(query), {rule["record"] for rule in rules() if "record" in rule})


@pytest.mark.parametrize("query", queries(LOKI))
def test_a_query_of_logs_selects_by_labels_that_are_shipped(query):
    """Symbols and connections are no labels."""
    chosen = re.search(r"\{([^}]*)\}", query)
    assert chosen is not None
    assert LABELS_OF_LOGS >= set(re.findall(r"(\w+)=", chosen[1]))


def test_the_readme_lists_the_panels():
    """In their order, under their rows, with the questions."""
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("## Watch it") : readme.index("## Read the data")]
    lines = [line for line in section.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    listed = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines[1:]]
    expected, row = [], ""
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            expected.append((row, panel["title"], panel["description"]))
            row = ""
    assert expected == listed
