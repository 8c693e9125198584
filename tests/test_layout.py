"""The import rules that the layout promises, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streamsvc"

FLOORS = {
    "schema": 1,
    "batch": 1,
    "errors": 1,
    "log": 1,
    "venues": 2,
    "rest": 2,
    "settings": 2,
    "quarantine": 2,
    "streams": 3,
    "persistence": 3,
    "watchdog": 3,
    "intake": 4,
    "integrity": 4,
    "surroundings": 4,
    "live": 4,
    "shutdown": 4,
    "process": 5,
    "service": 5,
    "demo": 6,
    "terminal": 2,
    "cli": 6,
    "__main__": 7,
    "__init__": 0,
}
"""The floor of every part; each imports only from those below it, and parts may import themselves."""

SIMULATOR_MAY_IMPORT = {"schema", "errors", "log", "simulator"}
SIMULATOR_USERS = {"cli", "demo", "simulator"}

ONE_FILE_EACH = {
    "trio_websocket": "streams/transport.py",
    "fastparquet": "persistence/parquet.py",
    "pandas": "persistence/parquet.py",
    "httpx": "rest.py",
    "sqlite3": "persistence/catalogue.py",
    "trio_parallel": "persistence/workers.py",
    "dotenv": "settings.py",
    "rich": "terminal.py",
}
"""Foreign libraries that one file of the recorder imports."""


def imports_of(path: Path) -> set[str]:
    """The dotted names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_floors_below(path):
    part = part_of(path)
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("streamsvc.")}
    if part == "simulator":
        assert set() == ours - SIMULATOR_MAY_IMPORT
        return
    ours.discard(part)
    if part in SIMULATOR_USERS:
        ours.discard("simulator")
    assert set() == {other for other in ours if FLOORS[other] >= FLOORS[part]}


@pytest.mark.parametrize("library", ONE_FILE_EACH)
def test_a_foreign_library_is_imported_in_one_file(library):
    users = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if part_of(path) != "simulator" and any(name.split(".")[0] == library for name in imports_of(path))
    ]
    assert {ONE_FILE_EACH[library]} >= set(users)


def test_the_recorder_starts_without_the_libraries_of_the_sealers():
    """A worker process pays for pandas and fastparquet, the recorder does not: not at start, and not in memory."""
    code = "import sys, streamsvc.service; print([m for m in ('numpy', 'pandas', 'fastparquet') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
