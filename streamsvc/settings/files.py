"""The files that settings are read from: `.env`, and the TOML file of `SYMBOLS_FILE`."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from streamsvc.errors import UsageError
from streamsvc.schema import STREAM_KINDS, Market
from streamsvc.settings.values import parse_kinds, parse_symbols, read_small_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CONVERTER = cattrs.Converter()


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file; none if there is no such file.

    Raises:
        UsageError: the file cannot be read, or has lines that are no variable; they are told by their number, since
            they may hold a secret.
    """
    if not path.is_file():
        return {}
    import io  # noqa: PLC0415

    from dotenv.parser import parse_stream  # noqa: PLC0415 - costs 12 ms, and a service under systemd has no .env

    try:
        bindings = list(parse_stream(io.StringIO(read_small_file(path).decode("utf-8-sig"))))
    except UnicodeDecodeError as error:
        raise UsageError(f"the file {path.name} is not UTF-8 text") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"the file {path.name} cannot be read: {error}") from error
    wrong = [str(binding.original.line) for binding in bindings if binding.error]
    if wrong:
        raise UsageError(f"the file {path.name} has lines that are not NAME=value: {', '.join(wrong)}")
    return {binding.key: binding.value or "" for binding in bindings if binding.key}


@attrs.frozen
class MarketTable:
    """What a table of the file says; None: nothing."""

    symbols: list[str] | None = None
    kinds: list[str] | None = None


@attrs.frozen
class SymbolsDocument:
    """The whole file."""

    spot: MarketTable = MarketTable()
    futures: MarketTable = MarketTable()


def _hook(parse: Callable[[Any], Any]) -> Any:
    return override(struct_hook=lambda value, _type: parse(value))


def _parse_texts(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise ValueError("not a list of texts")


_structure_table = make_dict_structure_fn(
    MarketTable, _CONVERTER, _cattrs_forbid_extra_keys=True, symbols=_hook(_parse_texts), kinds=_hook(_parse_texts)
)


def _parse_table(value: object) -> MarketTable:
    if not isinstance(value, dict):
        raise ValueError("not a table")  # noqa: TRY004 - the caller tells ValueErrors to the user
    return _structure_table(value, MarketTable)


_structure_document = make_dict_structure_fn(
    SymbolsDocument,
    _CONVERTER,
    _cattrs_forbid_extra_keys=True,
    spot=_hook(_parse_table),
    futures=_hook(_parse_table),
)


def _describe(error: BaseException, _type: Any) -> str:
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return "unknown: " + ", ".join(sorted(error.extra_fields))
    return str(error)


def read_symbols_file(path: Path) -> dict[str, Any]:
    """Symbols and kinds of the file by attribute of `Settings`; what the file does not name is not in it.

    Raises:
        UsageError: each line of its text is something wrong with the file.
    """
    try:
        return parse_symbols_file(read_small_file(path))
    except (OSError, ValueError) as error:
        raise UsageError(str(error) or type(error).__name__) from error


def parse_symbols_file(content: bytes) -> dict[str, Any]:
    """The same of a file that has been read.

    Raises:
        UsageError: each line of its text is something wrong with the file.
    """
    try:
        document = _structure_document(tomllib.loads(content.decode()), SymbolsDocument)
    except cattrs.ClassValidationError as group:
        raise UsageError("\n".join(cattrs.transform_error(group, "file", format_exception=_describe))) from group
    except UnicodeDecodeError as error:
        raise UsageError("it is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(str(error) or type(error).__name__) from error
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for market, table in ((Market.SPOT, document.spot), (Market.FUTURES, document.futures)):
        if table.symbols is not None:
            try:
                found[f"{market.label}_symbols"] = parse_symbols(table.symbols)
            except ValueError as error:
                wrong.append(f"[{market.label}] symbols: {error}")
        if table.kinds is not None:
            try:
                found[f"{market.label}_kinds"] = parse_kinds(market, table.kinds)
            except ValueError as error:
                allowed = ",".join(kind.label for kind in STREAM_KINDS[market])
                wrong.append(f"[{market.label}] kinds: {error}, of {allowed}")
    if wrong:
        raise UsageError("\n".join(wrong))
    return found
