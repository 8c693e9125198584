"""A process that records numbers until it is killed, and says after each flush up to which they are on the disk."""

import os
import sys

import trio

from streamsvc.recorder import open_trade_recorder, read_trades


async def main(path, pending):
    try:
        first = max((record["n"] for record in read_trades(path) if "n" in record), default=-1) + 1
    except FileNotFoundError:
        first = 0
    options = {"buffer_size": 20, "flush_interval_sec": 0.001, "rotation_size_mb": 0.05}
    async with open_trade_recorder(trades_file=path, pending_file=pending, **options) as recorder:
        for trade_id in list(recorder.pending()):
            await recorder.close_trade(trade_id, {"after": "restart"})
        print("ready", flush=True)
        n = first
        while True:
            for _ in range(n % 37 + 1):
                await recorder.write_trade({"n": n, "text": "x" * (n % 200)})
                n += 1
            trade_id = f"T{n}-{os.getpid()}"  # A number comes again after a kill; an id does not.
            await recorder.open_trade(trade_id, {"at": n})
            print("opened", trade_id, flush=True)
            if n % 3:
                await recorder.close_trade(trade_id, {"at": n})
            await recorder.flush()
            print("flushed", n - 1, flush=True)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
