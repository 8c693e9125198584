"""The README tells the truth: every setting, every event, every command."""

import ast
import re
from pathlib import Path

import attrs
import pytest

from streamsvc.cli import app
from streamsvc.schema import Kind, Market
from streamsvc.settings import Settings
from streamsvc.settings.fields import setting_of
from streamsvc.settings.files import parse_symbols_file
from streamsvc.settings.selection import changed_by_file
from streamsvc.settings.values import text_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "exception"}


def events_in_source():
    """The names of events: first arguments of calls of a logger, and texts given to be logged as `event`."""
    names = set()
    for path in (ROOT / "streamsvc").rglob("*.py"):
        if "simulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            is_log = (isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS) or isinstance(
                node.func, ast.IfExp
            )
            if is_log:
                names |= {
                    part.value
                    for part in ast.walk(node.args[0])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return names


@pytest.mark.parametrize("attribute", attrs.fields(Settings), ids=lambda attribute: attribute.name)
def test_a_setting_is_listed_with_its_default_and_sentence(attribute):
    default = text_of(attribute.default)
    beginning = f"| `{attribute.name.upper()}` | {f'`{default}`' if default else ''} | "
    assert beginning + setting_of(attribute).sentence in README


def test_the_vocabulary_of_events_is_fixed():
    """An event that is not in the README does not exist, and the other way round."""
    section = README[README.index("## Events in the log") : README.index("## How it is built")]
    listed = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    source = "".join(path.read_text() for path in (ROOT / "streamsvc").rglob("*.py"))
    assert set() == events_in_source() - listed
    assert set() == {name for name in listed if f'"{name}"' not in source}


def test_the_symbols_file_of_the_example():
    """It is one; what it does not say, the variables say."""
    (text,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    settings = Settings(futures_kinds=(Kind.AGG_TRADE,))
    selections = changed_by_file(settings, parse_symbols_file(text.encode()))
    assert (("BTCUSDT", "ETHUSDT"), ("*USDC",)) == (selections[Market.SPOT].names, selections[Market.SPOT].patterns)
    assert "BTCUSDT_251226" in selections[Market.FUTURES]
    assert "ETHUSDT" not in selections[Market.FUTURES]
    assert (Kind.AGG_TRADE,) == selections[Market.FUTURES].kinds


@pytest.mark.parametrize("command", app.list_commands(None))
def test_a_command_is_listed(command):
    assert f"| `streamsvc {command}" in README


FAULTS_BY_GROUP = {"A": 15, "B": 12, "C": 19, "D": 14, "E": 9, "F": 1, "G": 2}


def rows_of_faults():
    """The cells of the table of faults."""
    section = README[README.index("## Fault by fault") :]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines[1:]]


def test_every_fault_is_in_the_table():
    """Numbered through, by group; what cannot happen yet has no test."""
    groups = "".join(group * count for group, count in FAULTS_BY_GROUP.items())
    numbers = [f"{group}{number}" for number, group in enumerate(groups, 1)]
    assert numbers == [row[0] for row in rows_of_faults() if row[0]]
    untested = [row[2] for row in rows_of_faults() if "::" not in row[4]]
    assert ["there are no orders yet"] * 3 == untested


def test_the_tests_that_the_table_names_exist():
    """By the names of their file and function."""
    paths = list((ROOT / "tests").rglob("test_*.py"))
    existing = {
        f"{path.name}::{node.name}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {name for row in rows_of_faults() for name in re.findall(r"`(test_\w+\.py::\w+)`", row[4])}
    assert len(named) > 100
    assert set() == named - existing
