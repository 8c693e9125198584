"""Records converted to Parquet."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from streamsvc.errors import UsageError
from streamsvc.persistence.files import written_whole
from streamsvc.recorder.flat import cell_of, flatten, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS_PER_GROUP = 100_000


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
