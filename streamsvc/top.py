"""`streamsvc top`: a running recorder as a table in the terminal, made of its `/status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import orjson

from streamsvc.errors import StreamsvcError, UsageError
from streamsvc.terminal import console, renewing, table

if TYPE_CHECKING:
    from streamsvc.terminal import Console, Table

ANSWER_SEC = 5.0
ANSWER_BYTES_MAX = 32 << 20
EVERY_SEC = 2.0
ROWS_MAX = 20
_WORST_FIRST = ("stalled", "disconnected", "suspect", "ok")
_COLUMNS = ("market", "symbol", "kind", "state", "age s", "per s")


class NoAnswerError(StreamsvcError):
    """Nobody answers, or it is no recorder."""


def address_of(text: str) -> str:
    """The address of `/status` for what a user gives: a URL, or host and port.

    Raises:
        UsageError: it is neither.
    """
    parts = urlsplit(text if "//" in text else f"http://{text}")
    try:
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or "@" in parts.netloc:
        raise UsageError(f"{text!r} is no address of a recorder; one is e.g. http://127.0.0.1:9464")
    return f"{parts.scheme}://{parts.netloc}/status"


def ask(address: str) -> dict[str, Any]:
    """The status document.

    Raises:
        NoAnswerError: its text says what to do.
    """
    try:
        # A proxy of the environment does not know this machine's loopback.
        with build_opener(ProxyHandler({})).open(address, timeout=ANSWER_SEC) as answer:  # the scheme was checked
            text = answer.read(ANSWER_BYTES_MAX + 1)
        found = orjson.loads(text) if len(text) <= ANSWER_BYTES_MAX else None
    except (URLError, OSError, ValueError) as fault:
        reason = getattr(fault, "reason", None) or fault
        raise NoAnswerError(
            f"no answer at {address} ({reason}): is a recorder running, and what is its HTTP_LISTEN?"
        ) from fault
    if not isinstance(found, dict) or not {"verdict", "matrix", "gaps"} <= found.keys():
        raise NoAnswerError(f"what answers at {address} is no recorder")
    return found


def show(address: str, *, is_once: bool) -> None:
    """Show it once, or in a terminal again and again until Ctrl-C.

    Raises:
        NoAnswerError: nobody answers at the first time; later that is shown, and asked again.
    """
    out, status = console(), ask(address)
    if is_once or not out.is_terminal:
        for line in _headlines(status):
            out.print(line)
        out.print(_streams(status))
        return
    with renewing(out) as renew:
        while True:
            renew(_screen(status, out))
            time.sleep(EVERY_SEC)
            try:
                status = ask(address)
            except NoAnswerError as fault:
                status = {**status, "verdict": {"level": "bad", "text": str(fault), "reasons": []}}


def _screen(status: dict[str, Any], out: Console) -> Table:
    made = _streams(status, max(3, min(ROWS_MAX, out.height - 12)))
    made.title = "\n".join(_headlines(status)) + "\n"
    return made


def _headlines(status: dict[str, Any]) -> list[str]:
    gaps, journal, rates = status["gaps"], status["journal"], status["rates"]
    connections = status["connections"]
    up = sum(each["is_up"] for each in connections)
    latency = ", ".join(f"{market} {_ms(each['p50_ms'])}" for market, each in status["latency"].items())
    return [
        f"[{status['verdict']['level']}] {status['verdict']['text']}",
        *(f"  {reason}" for reason in status["verdict"]["reasons"][1:]),
        (
            f"writer {status['writer']['state']}; {up}/{len(connections)} connections; "
            f"{rates['messages_per_sec']:,.0f} messages/s; latency {latency or '-'}"
        ),
        (
            f"gaps {gaps['open']:,} open, {gaps['repaired']:,} repaired, {gaps['unrepairable']:,} not repairable; "
            f"journal {_mb(journal['unsealed_bytes'])} in {journal['unsealed_segments'] + 1} segments"
        ),
        (
            f"data set {_mb(status['files']['parquet_bytes'])}; disk free {_mb(status['disk']['free_bytes'])}; "
            f"memory {_mb(status['process']['rss_bytes'])}; up {status['uptime_sec'] / 3600:.1f} h"
        ),
    ]


def _streams(status: dict[str, Any], rows_max: int | None = None) -> Table:
    rows = [
        (part["market"], symbol, kind, state, part["age_sec"][place][column], part["per_sec"][place][column])
        for part in status["matrix"]
        for place, symbol in enumerate(part["symbols"])
        for column, kind in enumerate(part["kinds"])
        if (state := part["states"][place][column]) is not None
    ]
    rows.sort(key=lambda row: (_WORST_FIRST.index(row[3]), -(row[4] or 0.0)))
    shown = [
        (market, symbol[:24], kind, state, "-" if age is None else f"{age:,.1f}", f"{rate:,.1f}")
        for market, symbol, kind, state, age, rate in rows[:rows_max]
    ]
    if len(shown) < len(rows):
        shown.append(("", f"and {len(rows) - len(shown):,} more", "", "", "", ""))
    return table("", _COLUMNS, shown, numbers=("age s", "per s"))


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes < 1e9 else f"{size_bytes / 1e9:,.1f} GB"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
