"""Whether the hot paths still cost what they cost: instructions of a message, counted, not timed.

    python tests/benchmarks/check_instructions.py [--record] [--json FILE]

Each path of `hot_paths.py` runs twice under valgrind, with few messages and with many: the difference is what the
messages cost, whatever imports do. It is compared with `instructions.json`, where each minor version of Python has its
own numbers, and may be 10 % more. `--record` writes the numbers of this Python there: do that with a change that is
meant to cost more, and say why in the commit. Exits with 1 where a path has become dearer; where valgrind is missing or
nothing is recorded for this Python it says so, and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from environments import HERE
from hot_paths import MESSAGES_MAX, PATHS, prepare
from table import print_table

RECORDED = HERE / "instructions.json"
FEW, MANY = 2_000, MESSAGES_MAX
GROWTH_MAX = 0.10
RUN_SEC_MAX = 300
_TOTAL = re.compile(r"I +refs: +([\d,]+)")


def count(path: str, messages: int) -> int:
    """The instructions of a whole process."""
    # Where memory lies would be another place in every run, and with it the order in which sets and dicts are walked.
    command = ["setarch", "-R"] if shutil.which("setarch") else []
    command += ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, str(HERE / "hot_paths.py"), path, str(messages)]
    # Hashes of texts would be others in every run, and with them the order of collisions.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=RUN_SEC_MAX)
    found = _TOTAL.search(done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{path} failed under valgrind: {done.stderr[-2000:]}")
    return int(found[1].replace(",", ""))


def measure() -> dict[str, int]:
    """The instructions of a message of each path."""
    prepare()
    runs = [(path, messages) for path in PATHS for messages in (FEW, MANY)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = dict(zip(runs, pool.map(lambda run: count(*run), runs), strict=True))
    return {path: round((totals[path, MANY] - totals[path, FEW]) / (MANY - FEW)) for path in PATHS}


def main() -> int:
    """Count, compare, tell; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the numbers of this Python down")
    parser.add_argument("--json", type=Path, help="write what was counted to this file")
    args = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is not there, so nothing was counted; install it with your system's packages")
        return 0
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    counted = measure()
    if args.json:
        args.json.write_text(json.dumps({"python": python, "instructions": counted}, indent=1) + "\n")
    if args.record:
        known[python] = counted
        RECORDED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    recorded = known.get(python)
    if recorded is None:
        print(f"nothing was recorded for Python {python}; counted: {counted}; --record writes it down")
        return 0
    growth = {path: counted[path] / recorded[path] - 1 for path in PATHS}
    print_table(
        ["instructions of a message", "recorded", "now", "change"],
        [[path, recorded[path], counted[path], f"{growth[path]:+.1%}"] for path in PATHS],
    )
    dearer = [path for path in PATHS if growth[path] > GROWTH_MAX]
    if dearer and not args.record:
        print(f"dearer by more than {GROWTH_MAX:.0%}: {', '.join(dearer)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
