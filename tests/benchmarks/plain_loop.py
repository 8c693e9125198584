"""What one would write by hand to store order-book updates: websockets, json, pandas, pyarrow, one loop.

    python plain_loop.py URL FILE

Reads until the server closes and writes a row a level to FILE, in row groups of half a million, compressed as
streamsvc's are. Prints as JSON what that took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from websockets.asyncio import client

ROWS_PER_GROUP = 500_000
TIMES = ("receive_time", "exchange_time", "event_time")
SCHEMA = pa.schema(
    [
        ("symbol", pa.dictionary(pa.int32(), pa.string())),
        *((name, pa.timestamp("ns", "UTC")) for name in TIMES),
        *((name, pa.int64()) for name in ("first_update_id", "final_update_id", "previous_final_update_id")),
        ("side", pa.dictionary(pa.int32(), pa.string())),
        ("price", pa.float64()),
        ("quantity", pa.float64()),
        ("epoch", pa.int32()),
    ]
)


def rows_of(text: str, received_ns: int) -> list[tuple[object, ...]]:
    """The levels of an update as rows."""
    data = json.loads(text)["data"]
    event_ns = data["E"] * 1_000_000
    begin = data["s"], received_ns, event_ns, event_ns, data["U"], data["u"], data.get("pu", 0)
    return [
        (*begin, side, float(price), float(quantity), 0)
        for side, levels in (("bid", data["b"]), ("ask", data["a"]))
        for price, quantity in levels
    ]


def write(writer: pq.ParquetWriter, rows: list[tuple[object, ...]]) -> None:
    """Write rows as a row group."""
    frame = pd.DataFrame(rows, columns=SCHEMA.names)
    for name in TIMES:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    for name in ("symbol", "side"):
        frame[name] = frame[name].astype("category")
    writer.write_table(pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False))


async def main(url: str, path: str) -> None:
    """Read, store, tell."""
    messages = stored = 0
    rows: list[tuple[object, ...]] = []
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        async with client.connect(url, compression=None) as connection:
            wall, cpu = time.perf_counter(), time.process_time()
            async for text in connection:
                rows += rows_of(text, time.time_ns())
                messages += 1
                if len(rows) >= ROWS_PER_GROUP:
                    write(writer, rows)
                    stored += len(rows)
                    rows.clear()
        if rows:
            write(writer, rows)
            stored += len(rows)
    wall_sec, cpu_sec = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"messages": messages, "rows": stored, "wall_sec": wall_sec, "cpu_sec": cpu_sec}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
