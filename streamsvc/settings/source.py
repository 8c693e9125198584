"""Where the settings come from: the environment, `.env` in the working folder, and the files that variables name.

The environment wins over `.env`, and `SYMBOLS_FILE` over the variables where it says something. An empty text is the
same as a variable that is not set, but where it has a meaning of its own. Whatever is wrong is told in one message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from streamsvc.errors import UsageError
from streamsvc.log import hide_secret, logger
from streamsvc.settings.fields import setting_of
from streamsvc.settings.files import read_dotenv, read_symbols_file
from streamsvc.settings.values import parse_secret, read_small_file, text_of
from streamsvc.settings.variables import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ValueSource = Literal["default", ".env", "environment", "file"]

_SHOWN_CHARACTERS_MAX = 80
_PASSWORD = re.compile(r"//[^/]*@")
_ATTRIBUTES: dict[str, attrs.Attribute[Any]] = {attribute.name: attribute for attribute in attrs.fields(Settings)}


def _structure_with(attribute: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
    setting = setting_of(attribute)
    return lambda text, _type: setting.parse(text) if text else setting.empty


_HOOKS: dict[str, Any] = {
    name: override(struct_hook=_structure_with(attribute)) for name, attribute in _ATTRIBUTES.items()
}
_structure_settings = make_dict_structure_fn(Settings, cattrs.Converter(), _cattrs_forbid_extra_keys=True, **_HOOKS)


@attrs.frozen
class LoadedSettings:
    """Settings and where they came from.

    Attributes:
        settings: The settings in force.
        sources: By attribute, where its value came from; what is not in it is the default.
        unknown: Names in `.env` that are no variable of ours.
        without_file: The settings that were in force without `SYMBOLS_FILE`, for when that changes.
    """

    settings: Settings
    sources: Mapping[str, ValueSource]
    unknown: tuple[str, ...]
    without_file: Settings

    def log_warnings(self) -> None:
        """Log what is set and has no effect."""
        if self.unknown:
            logger.warning("settings_unknown", variables=list(self.unknown))


class _Faults:
    """What is wrong, by attribute, in the order of the settings."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, value: object, source: str, reason: str) -> None:
        setting = setting_of(_ATTRIBUTES[name])
        text = value if isinstance(value, str) else text_of(value)
        shown = "***" if setting.is_secret else repr(_PASSWORD.sub("//***@", text)[:_SHOWN_CHARACTERS_MAX])
        line = f"  {name.upper()}={shown} ({source}): {reason}; allowed: {setting.allowed}"
        self._lines.setdefault(name, []).append(line)

    def add_plain(self, reason: str) -> None:
        self._lines.setdefault("", []).append(f"  {reason}")

    def of(self, *names: str) -> bool:
        return any(name in self._lines for name in names)

    def raise_if_any(self) -> None:
        if self._lines:
            lines = [line for name in ("", *_ATTRIBUTES) for line in self._lines.get(name, [])]
            raise UsageError("\n".join(["wrong settings:", *lines]))


def load_settings(environ: Mapping[str, str], working_folder: Path, *, must_record: bool = True) -> LoadedSettings:
    """Read the settings, and tell the log which secrets it must hide.

    Args:
        environ: The environment variables.
        working_folder: Where `.env` may lie.
        must_record: Whether settings that name nothing to record are wrong.

    Raises:
        UsageError: its text names every wrong variable and what is allowed.
    """
    faults = _Faults()
    dotenv: dict[str, str] = {}
    try:
        dotenv = read_dotenv(working_folder / ".env")
    except UsageError as error:
        faults.add_plain(str(error))
    texts, sources = _merge(dotenv, environ)
    settings = _structure(texts, sources, faults)
    from_files: dict[str, Any] = {}
    symbols: dict[str, Any] = {}
    if settings.symbols_file:
        try:
            symbols = read_symbols_file(settings.symbols_file)
        except UsageError as error:
            for reason in str(error).splitlines():
                faults.add("symbols_file", texts["symbols_file"], sources["symbols_file"], reason)
    if settings.binance_api_key_file:
        from_files |= _read_api_key_file(settings, sources, faults)
    without_file = attrs.evolve(settings, **from_files)
    settings = attrs.evolve(without_file, **symbols)
    if settings.binance_api_key:
        hide_secret(settings.binance_api_key.reveal())
    sources |= dict.fromkeys(from_files | symbols, "file")
    _check_together(settings, sources, faults)
    if must_record and not (settings.spot_symbols or settings.futures_symbols):
        _check_recording(faults)
    faults.raise_if_any()
    known = {name.upper() for name in _ATTRIBUTES}
    unknown = tuple(name for name in dotenv if name not in known)
    return LoadedSettings(settings, sources, unknown, without_file)


def _merge(dotenv: Mapping[str, str], environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, ValueSource]]:
    """The texts of the variables that are set, and where they come from, by attribute."""
    texts: dict[str, str] = {}
    sources: dict[str, ValueSource] = {}
    places: tuple[tuple[ValueSource, Mapping[str, str]], ...] = (("environment", environ), (".env", dotenv))
    for name, attribute in _ATTRIBUTES.items():
        is_empty_meant = setting_of(attribute).empty is not None
        for source, variables in places:
            text = variables.get(name.upper())
            if text is not None and (text.strip() or is_empty_meant):
                texts[name], sources[name] = text.strip(), source
                break
    return texts, sources


def _structure(texts: dict[str, str], sources: Mapping[str, ValueSource], faults: _Faults) -> Settings:
    """The settings of those texts that are right; the others become faults."""
    try:
        return _structure_settings(texts, Settings)
    except cattrs.ClassValidationError as group:
        with_notes, _ = group.group_exceptions()
        for error, note in with_notes:
            faults.add(note.name, texts[note.name], sources[note.name], str(error))
        return _structure_settings({name: text for name, text in texts.items() if not faults.of(name)}, Settings)


def _read_api_key_file(settings: Settings, sources: Mapping[str, ValueSource], faults: _Faults) -> dict[str, Any]:
    path = settings.binance_api_key_file
    assert path is not None
    name, source = "binance_api_key_file", sources["binance_api_key_file"]
    if settings.binance_api_key is not None:
        faults.add(name, path, source, "BINANCE_API_KEY is set too, and only one of them can be")
        return {}
    try:
        text = read_small_file(path).decode().strip()
        if not text:
            raise ValueError("it is empty")  # noqa: TRY301 - told like the others
        return {"binance_api_key": parse_secret(text)}
    except UnicodeDecodeError:
        faults.add(name, path, source, "it is not text")
    except (OSError, ValueError) as error:
        faults.add(name, path, source, str(error))
    return {}


def _check_together(settings: Settings, sources: Mapping[str, ValueSource], faults: _Faults) -> None:
    for low, high in (("reconnect_min_sec", "reconnect_max_sec"), ("segment_max_mb", "unsealed_max_mb")):
        if not faults.of(low, high) and getattr(settings, low) > getattr(settings, high):
            reason = f"less than {low.upper()}, which is {text_of(getattr(settings, low))}"
            faults.add(high, getattr(settings, high), sources.get(high, "default"), reason)


def _check_recording(faults: _Faults) -> None:
    if not faults.of("", "spot_symbols", "futures_symbols", "symbols_file"):
        faults.add_plain(
            "there is nothing to record: set SPOT_SYMBOLS or FUTURES_SYMBOLS, e.g. SPOT_SYMBOLS=BTCUSDT,ETHUSDT, "
            "or name symbols in SYMBOLS_FILE"
        )
