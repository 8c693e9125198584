"""A server that sends spot messages of the streams that its clients ask for, at a steady rate.

    python paced_source.py --port 9101 --rate 20000 --streams 900 [--levels 20] [--one-by-one] [--stamped]
                           [--held] [--tls CERTIFICATE KEY]

The rate is that of `--streams` streams together; a client gets the share of the streams in its URL, which take turns.
Messages carry the time at which they are made. They leave in small bursts, every 2 ms, or with --one-by-one each on its
own at its own time, as outside of bursts those of an exchange do; those of several clients not at the same moment. With
--stamped each carries the monotonic clock in a field of its own, `ns`. With --held nothing leaves before SIGUSR1. On
SIGTERM it stops sending, says how many messages of each kind it sent, and leaves.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from functools import partial
from urllib.parse import parse_qs, urlsplit

from wire import Plain, Texts, Tls, accept_upgrade, clients_of, frame_of, server_context

TICK_SEC = 0.002
STOP_SEC_MAX = 2.0
_PR_SET_TIMERSLACK = 29
PHASE_STEP = (5**0.5 - 1) / 2
"""Multiples of the golden ratio spread evenly over a period, however many there are."""


class PacedSource:
    """Sends to every client its share of the rate."""

    def __init__(self, rate: float, streams: int, levels: int, *, is_one_by_one: bool, is_stamped: bool) -> None:
        self._rate_of_stream = rate / streams
        self._levels = levels
        self._is_one_by_one = is_one_by_one
        self._is_stamped = is_stamped
        self._texts: dict[str, Texts] = {}
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self.may_begin = threading.Event()
        self._done: list[Counter[str]] = []
        self._threads: list[threading.Thread] = []

    def take(self, connection: socket.socket, wrap: partial[Tls] | type[Plain]) -> None:
        """Serve a client in a thread of its own."""
        thread = threading.Thread(target=self._serve, args=(connection, wrap), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> Counter[str]:
        """Stop sending; returns the messages sent, by kind."""
        self._is_stopping.set()
        self.may_begin.set()
        for thread in self._threads:
            thread.join(STOP_SEC_MAX)
        return sum(self._done, Counter())

    def _serve(self, connection: socket.socket, wrap: partial[Tls] | type[Plain]) -> None:
        sent: Counter[str] = Counter()
        phase = PHASE_STEP * len(self._done) % 1
        self._done.append(sent)
        with connection:
            try:
                client = wrap(connection)
                query = parse_qs(urlsplit(accept_upgrade(client)).query)
                names = [name.split("@")[:2] for name in query["streams"][0].split("/")]
                self._send(client, [(self._texts_of(symbol.upper()), kind) for symbol, kind in names], sent, phase)
                time.sleep(STOP_SEC_MAX)  # What is under way must not be cut off.
            except OSError:
                return

    def _texts_of(self, symbol: str) -> Texts:
        with self._lock:
            if symbol not in self._texts:
                self._texts[symbol] = Texts(symbol, random.Random(symbol), self._levels)
            return self._texts[symbol]

    def _send(self, client: Plain | Tls, streams: list[tuple[Texts, str]], sent: Counter[str], phase: float) -> None:
        """Send until the end; `phase` is the part of the time between two messages by which the first is later."""
        rate = self._rate_of_stream * len(streams)
        self.may_begin.wait()
        begin, number = time.perf_counter() + phase / rate, 0
        while not self._is_stopping.is_set():
            time.sleep(max((number + 1) / rate + begin - time.perf_counter(), 0) if self._is_one_by_one else TICK_SEC)
            due = int((time.perf_counter() - begin) * rate)
            now_ms = time.time_ns() // 1_000_000
            frames = []
            for place in range(number, due):
                texts, kind = streams[place % len(streams)]
                text = texts.make(kind, now_ms)
                frames.append(frame_of(_stamped(text) if self._is_stamped else text))
                sent[kind] += 1
                if self._is_one_by_one:
                    client.send(frames)
                    frames.clear()
            if frames:
                client.send(frames)
            number = due


def _stamped(text: bytes) -> bytes:
    """A message with the monotonic clock, which all processes share, in a field that nobody else knows."""
    return b'%b,"ns":%d}}' % (text[:-2], time.monotonic_ns())


def sleep_exactly() -> None:
    """Have this thread, and those that it begins, woken when asked: by default Linux is 50 us late (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--stamped", action="store_true")
    parser.add_argument("--held", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    args = parser.parse_args()
    wrap = partial(Tls, context=server_context(*args.tls)) if args.tls else Plain
    source = PacedSource(args.rate, args.streams, args.levels, is_one_by_one=args.one_by_one, is_stamped=args.stamped)
    if args.one_by_one:
        sleep_exactly()
    listener = socket.create_server(("127.0.0.1", args.port), backlog=64)

    def serve() -> None:
        for connection in clients_of(listener):
            source.take(connection, wrap)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    if not args.held:
        source.may_begin.set()
    threading.Thread(target=serve, daemon=True).start()
    print(json.dumps({"event": "serving"}), flush=True)
    while signal.sigwait({signal.SIGTERM, signal.SIGUSR1}) == signal.SIGUSR1:
        source.may_begin.set()
    sent = source.stop()
    print(json.dumps({"event": "sent", "messages": sent, "cpu_sec": time.process_time()}), flush=True)


if __name__ == "__main__":
    main()
