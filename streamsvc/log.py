"""Structured logs: one JSON object a line on standard output, or coloured lines for people.

Writing never blocks the loop: lines go to a thread through a bounded queue; when the reader of our output stalls, lines
are dropped and counted, and the count is logged once there is room again.
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = ("debug", "info", "warning", "error")
QUEUE_LINES_MAX = 10_000
_STOP_SEC = 2.0

logger: Any = structlog.get_logger()
"""The project's logger; bind context before `start_soon`."""


class LineWriter:
    """A file-like object that a thread empties into `output`, so that a blocked pipe never blocks the caller."""

    def __init__(self, output: IO[bytes], lines_max: int = QUEUE_LINES_MAX) -> None:
        self._output = output
        self._queue: queue.Queue[bytes | None] = queue.Queue(lines_max)
        self.dropped_lines = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line; drop it when the queue is full."""
        try:
            if self.dropped_lines:
                self._queue.put_nowait(_dropped_event(self.dropped_lines))
                self.dropped_lines = 0
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped_lines += 1

    def flush(self) -> None:
        """Nothing to do: the thread flushes when it has emptied the queue."""

    def close(self) -> None:
        """Write what is queued, waiting a little for a reader that is slow."""
        try:
            self._queue.put(None, timeout=_STOP_SEC)
        except queue.Full:
            return
        self._thread.join(_STOP_SEC)

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._output.write(line)
                if self._queue.empty():
                    self._output.flush()
            except (OSError, ValueError):
                # The reader of our output has gone. Recording matters more than saying so.
                return


def _dropped_event(count: int) -> bytes:
    return orjson.dumps({"event": "log_lines_dropped", "level": "warning", "count": count}) + b"\n"


def configure(level: str = "info", form: str = "json", output: IO[bytes] | None = None) -> Callable[[], None]:
    """Set up logging for the process, before the first event.

    Args:
        level: One of `LEVELS`.
        form: `json` (one object a line) or `console` (for people).
        output: A binary stream; standard output if None.

    Returns:
        A function that writes what is still queued; call it last.
    """
    writer = LineWriter(output if output is not None else sys.stdout.buffer)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            *_renderers(form),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    return writer.close


def _renderers(form: str) -> list[Any]:
    if form == "console":
        console = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), timestamp_key="time")
        return [console, lambda _logger, _name, text: text.encode()]
    return [structlog.processors.JSONRenderer(serializer=_dumps)]


def _dumps(event: dict[str, Any], **_options: Any) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # An integer beyond 64 bits, or text with lone surrogates: say it, if less exactly.
        return orjson.dumps({str(key): repr(value) for key, value in event.items()})
