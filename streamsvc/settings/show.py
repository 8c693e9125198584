"""What people see of the settings: the table of `streamsvc config`, and the text of `.env.example`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from streamsvc.settings.fields import setting_of
from streamsvc.settings.values import text_of
from streamsvc.settings.variables import Settings

if TYPE_CHECKING:
    from streamsvc.settings.source import LoadedSettings, ValueSource


@attrs.frozen
class SettingRow:
    """A line of `streamsvc config`.

    Attributes:
        variable: The name of the variable.
        value: The value in force as the variable would hold it; `***` for a secret that is set.
        source: Where the value came from.
        unit: The unit, or an empty text.
        sentence: What it is for.
    """

    variable: str
    value: str
    source: ValueSource
    unit: str
    sentence: str


def setting_rows(loaded: LoadedSettings) -> list[SettingRow]:
    """All settings in force, secrets hidden."""
    rows = []
    for attribute in attrs.fields(Settings):
        setting = setting_of(attribute)
        text = text_of(getattr(loaded.settings, attribute.name))
        source = loaded.sources.get(attribute.name, "default")
        rows.append(SettingRow(attribute.name.upper(), text, source, setting.unit, setting.sentence))
    return rows


def env_example() -> str:
    """The text of `.env.example`: every variable with sentence, unit, what is allowed, and default."""
    lines = [
        "# Every setting of streamsvc with its default. Copy this file to .env and uncomment what shall differ.",
        "# Variables of the environment win over .env. Made by `python -m streamsvc.settings.show`.",
    ]
    for attribute in attrs.fields(Settings):
        setting = setting_of(attribute)
        unit = f" Unit: {setting.unit}." if setting.unit else ""
        lines += [
            "",
            f"# {setting.sentence}{unit}",
            f"# Allowed: {setting.allowed}.",
            f"#{attribute.name.upper()}={text_of(attribute.default)}",
        ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(env_example(), end="")  # noqa: T201 - that is the command
