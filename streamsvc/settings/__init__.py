"""The settings in force (`variables.py`), where they come from (`source.py`), what people see of them (`show.py`)."""

from __future__ import annotations

from streamsvc.settings.variables import Settings

__all__ = ["Settings"]
