"""How a benchmark ends: its figures as JSON, what was wrong, and its exit code."""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

from recorder import version

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def verdict(*, is_reached: bool) -> str:
    """Whether what was wanted was reached, in a word that cannot be overlooked."""
    return "reached" if is_reached else "NOT reached"


def end(path: Path | None, figures: dict[str, Any], faults: Iterable[str], **about: Any) -> int:
    """Write the figures to a file, if one was asked for, and tell the faults; returns the exit code: 1 with faults."""
    if path is not None:
        where = {"version": version(), "python": platform.python_version(), "cores": os.cpu_count()}
        path.write_text(json.dumps({"about": where | about, **figures}, indent=1) + "\n")
    told = [fault for fault in faults if fault]
    for fault in told:
        print(fault, file=sys.stderr)
    return 1 if told else 0
