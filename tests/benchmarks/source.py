"""A server that sends prebuilt messages as fast as its client reads them, for `capture.py` and `depth.py`.

    python source.py --port 9101 --messages 300000 [--kind depth] [--tls CERTIFICATE KEY] [--once]

Raw sockets, threads and frames that lie ready: the server must never be the slower side. 100 symbols take turns, and
the exchange's time goes on as it would at a rate of half a million messages a second, whatever the reader reaches. It
says on standard output when it serves, and as JSON when the first message leaves and when the last one has left. After
the last message it sends a close frame; with --once it leaves the connection open instead, and answers later clients
with silence.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import threading
import time
from functools import partial

from wire import Plain, Texts, Tls, accept_upgrade, clients_of, frame_of, server_context

SYMBOLS = [f"SYM{number}USDT" for number in range(100)]
FRAMES_PER_SEND = 8192
FIRST_EVENT_MS = 1_700_000_000_000
MESSAGES_PER_MS = 500
"""A millisecond a message would be a market at a thousandth of its speed, of which a second ends every ten trades."""
CLOSE_NORMAL = struct.pack(">BBH", 0x88, 2, 1000)
CLOSE_BYTE = b"\x88"
LEAVE_SEC_MAX = 5.0


def say(event: str) -> None:
    """Tell the benchmark what happens now."""
    print(json.dumps({"event": event, "time": time.time()}), flush=True)


class Source:
    """All frames, and what becomes of a client."""

    def __init__(self, frames: list[bytes], *, is_once: bool) -> None:
        self._frames = frames
        self._is_once = is_once
        self._is_taken = threading.Lock()

    def serve(self, connection: socket.socket, wrap: partial[Tls] | type[Plain]) -> None:
        """Serve one client until it leaves."""
        with connection:
            try:
                client = wrap(connection)
                accept_upgrade(client)
                if not self._is_once or self._is_taken.acquire(blocking=False):
                    self._send_all(client)
                if self._is_once:
                    while client.receive():
                        pass
                    return
                client.send([CLOSE_NORMAL])
                connection.settimeout(LEAVE_SEC_MAX)
                # Closing before the client's answer is read could reset the connection under what it has not read yet.
                while (said := client.receive()) and CLOSE_BYTE not in said:
                    pass
            except OSError:
                return

    def _send_all(self, client: Plain | Tls) -> None:
        say("begin")
        for start in range(0, len(self._frames), FRAMES_PER_SEND):
            client.send(self._frames[start : start + FRAMES_PER_SEND])
        say("end")


def main() -> None:
    """Make the frames, then serve for ever."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--kind", choices=["aggTrade", "depth"], default="aggTrade")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()
    rng = random.Random(1)
    texts = [Texts(symbol, rng) for symbol in SYMBOLS]
    frames = [
        frame_of(texts[number % len(texts)].make(args.kind, FIRST_EVENT_MS + number // MESSAGES_PER_MS))
        for number in range(args.messages)
    ]
    source = Source(frames, is_once=args.once)
    wrap = partial(Tls, context=server_context(*args.tls)) if args.tls else Plain
    listener = socket.create_server(("127.0.0.1", args.port), backlog=64)
    say("serving")
    for connection in clients_of(listener):
        threading.Thread(target=source.serve, args=(connection, wrap), daemon=True).start()


if __name__ == "__main__":
    main()
