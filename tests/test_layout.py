"""The import rules that the layout promises, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streamsvc"

FLOORS = [
    {"schema", "errors", "log", "gap", "histogram"},
    {"batch", "derived"},
    {"venues", "rest", "settings", "terminal"},
    {"rest_governor"},
    {"streams", "persistence", "watchdog"},
    {"integrity"},
    {"intake", "surroundings", "shutdown", "dataset", "recorder"},
    {"analytics"},
    {"live", "rest_uses", "roster", "task_tree"},
    {"web", "parts"},
    {"service"},
    {"process", "demo", "top"},
    {"cli"},
    {"__main__"},
]
"""The floors from the lowest; a part imports only from those below its own, and from itself."""

FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts} | {"__init__": -1}

SIMULATOR_MAY_IMPORT = {"schema", "errors", "log", "simulator"}
SIMULATOR_USERS = {"cli", "demo", "simulator"}

FILES_OF = {
    "trio_websocket": {"streams/transport.py"},
    "fastparquet": {"persistence/parquet.py"},
    "pandas": {"persistence/parquet.py"},
    "httpx2": {"rest.py"},
    "sqlite3": {"persistence/catalogue.py"},
    "trio_parallel": {"persistence/workers.py"},
    "dotenv": {"settings/files.py"},
    "rich": {"terminal.py"},
    "cramjam": {"persistence/compression.py"},
    "hypercorn": {"web/server.py"},
    "prometheus_client": {"web/metrics.py", "recorder/metrics.py"},
    "watchfiles": {"settings/watching.py"},
}
"""Foreign libraries, and the files that alone import them: one each, but where two things are independent."""


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
    ours -= {part, "__version__"}
    if part in SIMULATOR_USERS:
        ours.discard("simulator")
    assert set() == {other for other in ours if FLOOR_OF[other] >= FLOOR_OF[part]}


@pytest.mark.parametrize("library", FILES_OF)
def test_a_foreign_library_is_imported_where_it_belongs(library):
    users = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if part_of(path) != "simulator" and any(name.split(".")[0] == library for name in imports_of(path))
    ]
    assert FILES_OF[library] >= set(users)


def test_the_recorder_starts_without_the_libraries_of_the_sealers():
    """A worker process pays for pandas and fastparquet, the recorder does not: not at start, and not in memory."""
    code = "import sys, streamsvc.service; print([m for m in ('numpy', 'pandas', 'fastparquet') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
