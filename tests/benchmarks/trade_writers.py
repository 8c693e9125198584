"""One run of one writer of trades, in a process of its own: what `trade_recorder.py` starts.

    python tests/benchmarks/trade_writers.py WRITER SCENARIO RECORDS FOLDER OPTIONS

Prints a line of JSON. Only `streamsvc` imports what is not in the standard library, so that a peer's own environment
can run the rest.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

BATCH = 100
WRITERS = 10
TRADE = {
    "trade_id": "T00000001",
    "symbol": "BTCUSDT",
    "direction": "LONG",
    "entry_price": 50000.5,
    "exit_price": 50100.25,
    "quantity": 0.25,
    "pnl": 24.9375,
    "entry_time": "2025-11-04T15:20:30.125000Z",
    "exit_time": "2025-11-04T15:25:31.250000Z",
    "strategy": "breakout",
}
"""What a strategy writes of a closed trade: ten fields, some 240 bytes."""


def plain(scenario: str, records: int, path: Path) -> None:
    """`json.dumps` and `write`, flushed to the kernel after each batch."""
    assert scenario != "ten"
    with path.open("w") as file:
        for number in range(records):
            file.write(json.dumps(TRADE) + "\n")
            if number % BATCH == BATCH - 1:
                file.flush()


def aiofiles(scenario: str, records: int, path: Path) -> None:
    """The same through aiofiles: a call each record, or each batch."""
    import aiofiles as library  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415

    async def write_one_by_one(file: Any, count: int) -> None:
        for _ in range(count):
            await file.write(json.dumps(TRADE) + "\n")
            await file.flush()

    async def main() -> None:
        async with library.open(path, "w") as file:
            if scenario == "single":
                await write_one_by_one(file, records)
            elif scenario == "ten":
                async with asyncio.TaskGroup() as group:
                    for _ in range(WRITERS):
                        group.create_task(write_one_by_one(file, records // WRITERS))
            else:
                for _ in range(records // BATCH):
                    await file.write("".join(json.dumps(TRADE) + "\n" for _ in range(BATCH)))
                    await file.flush()

    asyncio.run(main())


def limit(records: int, path: Path) -> None:
    """Ready bytes, one write and one sync for each batch: what the disk allows."""
    lines = (json.dumps(TRADE, separators=(",", ":")) + "\n").encode() * BATCH
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(records // BATCH):
        os.write(descriptor, lines)
        os.fdatasync(descriptor)
    os.close(descriptor)


def loop(records: int, path: Path) -> None:
    """The same, but for the text, which msgspec makes of each batch: what one task alone can reach."""
    import msgspec  # noqa: PLC0415

    encoder, trades = msgspec.json.Encoder(), [TRADE] * BATCH
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(records // BATCH):
        os.write(descriptor, encoder.encode_lines(trades))
        os.fdatasync(descriptor)
    os.close(descriptor)


def streamsvc(scenario: str, records: int, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Ours; it says what it has done."""
    import trio  # noqa: PLC0415

    from streamsvc.recorder import open_trade_recorder  # noqa: PLC0415

    longest = 0.0

    async def write_one_by_one(recorder: Any, count: int) -> None:
        nonlocal longest
        for _ in range(count):
            begin = time.perf_counter()
            await recorder.write_trade(TRADE)
            longest = max(longest, time.perf_counter() - begin)

    async def main() -> dict[str, Any]:
        async with open_trade_recorder(trades_file=path, **options) as recorder:
            begin = time.perf_counter()
            if scenario == "single":
                await write_one_by_one(recorder, records)
            elif scenario == "ten":
                async with trio.open_nursery() as nursery:
                    for _ in range(WRITERS):
                        nursery.start_soon(write_one_by_one, recorder, records // WRITERS)
            else:
                trades = [TRADE] * BATCH
                for _ in range(records // BATCH):
                    await recorder.write_trades_batch(trades)
            if recorder.statistics().buffered:
                await recorder.flush()
            seconds = time.perf_counter() - begin
            done = recorder.statistics()
        return {
            "seconds": seconds,
            "flushes": done.total_flushes,
            "flush_ms": done.avg_flush_duration_ms,
            "longest_ms": longest * 1000,
            "rotations": done.total_rotations,
            "leaving_sec": time.perf_counter() - begin - seconds,
        }

    return trio.run(main)


def main(writer: str, scenario: str, records: int, folder: Path, options: dict[str, Any]) -> None:
    """One run."""
    path = folder / "trades.jsonl"
    begin = time.perf_counter()
    said: dict[str, Any] = {}
    if writer == "streamsvc":
        said = streamsvc(scenario, records, path, options)
    elif writer in {"limit", "loop"}:
        {"limit": limit, "loop": loop}[writer](records, path)
    else:
        {"plain": plain, "aiofiles": aiofiles}[writer](scenario, records, path)
    said.setdefault("seconds", time.perf_counter() - begin)
    print(json.dumps({**said, "rate": records / said["seconds"]}))


if __name__ == "__main__":
    writer, scenario, records, folder, options = sys.argv[1:]
    main(writer, scenario, int(records), Path(folder), json.loads(options))
