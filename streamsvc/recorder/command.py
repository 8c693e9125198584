"""`streamsvc trades`: records shown, filtered, followed, and converted to Parquet."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from streamsvc.errors import UsageError
from streamsvc.persistence.files import written_whole
from streamsvc.recorder.flat import cell_of, flatten, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

ROWS_PER_GROUP = 100_000


@attrs.frozen
class Filter:
    """Which records are wanted.

    Attributes:
        wanted: Fields, nested ones with dots, and the text that their value must be.
    """

    wanted: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Filter:
        """Of `FIELD=VALUE`.

        Raises:
            UsageError: one has no `=`.
        """
        pairs = [text.partition("=") for text in texts]
        for name, sign, _ in pairs:
            if not sign:
                raise UsageError(f"--where {name}: say FIELD=VALUE, for example symbol=BTCUSDT")
        return cls(tuple((name, value) for name, _, value in pairs))

    def passes(self, record: dict[str, Any]) -> bool:
        """Whether a record is wanted."""
        if not self.wanted:
            return True
        flat = flatten(record)
        return all(name in flat and _text_of(flat[name]) == value for name, value in self.wanted)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def last_of(records: Iterator[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """The last so many; all of them if None."""
    return list(records if count is None else deque(records, count))


def table_rows(records: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: a column for every field that one of them has."""
    rows = [flatten(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[_text_of(row[name]) if row.get(name) is not None else "" for name in names] for row in rows]


def write_parquet(read: Callable[[], Iterator[dict[str, Any]]], target: Path) -> int:
    """Write records to a Parquet file, which appears whole or not at all; returns how many.

    Args:
        read: Walks the records; called twice, since types are known only after all of them. What was written between
            the two is left out.
        target: The file.

    Raises:
        UsageError: the file is there already, or there is nothing to write.
    """
    from streamsvc.persistence.parquet import write_records  # noqa: PLC0415 - pandas is slow to load

    if target.exists():
        raise UsageError(f"{target} is there already; name another file, or remove it")
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for record in read():
            count += 1
            yield flatten(record)

    schema = schema_of(counted())
    if not count:
        raise UsageError("there is no such record, so no file was written")
    rows = (flatten(record) for record in islice(read(), count))
    groups = (
        {name: [cell_of(row.get(name), kind) for row in group] for name, kind in schema.items()}
        for group in iter(lambda: list(islice(rows, ROWS_PER_GROUP)), [])
    )
    with written_whole(target.absolute()) as file:
        write_records(file, schema, groups)
    return count
