"""Structured logs: one JSON object a line on standard output, or coloured lines for people.

Writing never blocks the caller: lines go to a thread through a queue bounded in bytes; when the reader of our output
stalls, lines are dropped and counted, and the count is logged once there is room again. What the standard library's
loggers and `warnings` say comes out in the same form, from WARNING on. Secrets are hidden twice: fields are hidden by
their name, and the values that `hide_secret` was told wherever they stand in a line.
"""

from __future__ import annotations

import collections
import io
import logging
import re
import sys
import threading
import time
import traceback
from typing import IO, TYPE_CHECKING, Any, Final

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

LEVELS = ("debug", "info", "warning", "error")
QUEUE_BYTES_MAX: Final = 16 << 20
FIELD_CHARACTERS_MAX: Final = 8_192
EXCEPTION_CHARACTERS_MAX: Final = 100_000
_CLOSE_SEC = 2.0
_BUSY_OUTPUT_SEC = 0.05
_DEPTH_MAX = 8
_HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"(^|_)(key|apikey|listenkey|secret|token|signature|password|authorization)s?($|_)", re.IGNORECASE
)
_secrets: set[bytes] = set()

logger: Any = structlog.get_logger()
"""The project's logger; bind context before `start_soon`."""


def hide_secret(text: str) -> None:
    """From now on, no line of the log shows this text."""
    _secrets.update({text.encode("utf-8", "backslashreplace"), orjson.dumps(text)[1:-1]})


def without_secrets(text: str) -> str:
    """A text for people that goes another way than the log."""
    return _hide_secrets(None, "", text.encode("utf-8", "backslashreplace")).decode("utf-8", "replace")


class LineWriter:
    """A file-like object that a thread empties into `output`, so that a blocked pipe never blocks the caller.

    Args:
        output: Where lines go; best unbuffered. A buffer's lock, held by a thread in a blocked pipe, would abort the
            interpreter at its end.
        bytes_max: How much may wait for the output.
    """

    def __init__(self, output: IO[bytes] | io.RawIOBase, bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self._output = output
        self._bytes_max = bytes_max
        self._lines: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._unwritten_lines = 0
        self._is_closing = False
        self._is_gone = False
        self._changed = threading.Condition()
        self._lost_lines = 0
        self.dropped_lines = 0
        """Lines dropped since the last event that told so."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line; drop it when there is no room."""
        with self._changed:
            if self._is_gone or self._is_closing or self._waiting_bytes + len(line) > self._bytes_max:
                self._drop(1)
                return
            self._tell_dropped()
            self._append(line)

    def flush(self) -> None:
        """Nothing to do: the thread writes what is queued as soon as it can."""

    def close(self) -> int:
        """Write what is queued, waiting a little for a reader that is slow; returns how many lines were ever lost."""
        with self._changed:
            if not self._is_gone:
                self._tell_dropped()
            self._is_closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SEC)
        with self._changed:
            return self._lost_lines + self._unwritten_lines

    def _drop(self, count: int) -> None:
        self.dropped_lines += count
        self._lost_lines += count

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._waiting_bytes += len(line)
        self._unwritten_lines += 1
        self._changed.notify()

    def _tell_dropped(self) -> None:
        if self.dropped_lines:
            event = {"event": "log_lines_dropped", "level": "warning", "count": self.dropped_lines}
            self.dropped_lines = 0
            self._append(orjson.dumps(event | {"time": _now_text()}) + b"\n")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._is_closing:
                    self._changed.wait()
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
            is_written = self._write_all(b"".join(lines))
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                self._unwritten_lines -= len(lines)
                if not is_written:
                    self._drop(len(lines))
                if self._is_gone:
                    self._drop(len(self._lines))
                    self._lines.clear()
                    self._waiting_bytes = self._unwritten_lines = 0
                    return

    def _write_all(self, data: bytes) -> bool:
        """Write everything, in as many pieces as the output takes; False if it failed."""
        left = memoryview(data)
        while left:
            try:
                written = self._output.write(left)
            except (BrokenPipeError, ValueError):
                # The reader of our output has gone. Recording matters more than saying so.
                self._is_gone = True
                return False
            except OSError:
                return False  # E.g. a full disk: the next lines may find room.
            if written:
                left = left[written:]
            else:  # An output that does not block and has no room now.
                time.sleep(_BUSY_OUTPUT_SEC)
        return True


def _now_text() -> str:
    stamp: str = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")(None, "", {})["time"]
    return stamp


class _LibraryHandler(logging.Handler):
    """Says what a library told the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a library's wrong format string must not cost its message
            message = f"{record.msg} ({type(error).__name__})"
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(logger, level)("library_message", logger=record.name, message=message, exc_info=record.exc_info)


def configure(
    level: str = "info", form: str = "json", output: IO[bytes] | io.RawIOBase | None = None
) -> Callable[[], int]:
    """Set up logging for the process, before the first event.

    Args:
        level: One of `LEVELS`.
        form: `json` (one object a line) or `console` (for people).
        output: A binary stream, best unbuffered; standard output if None.

    Returns:
        A function that writes what is still queued and gives the standard library's logging back; call it last. It
        takes at most two seconds, and returns how many lines were lost since the start.
    """
    writer = LineWriter(output if output is not None else io.FileIO(sys.stdout.fileno(), "w", closefd=False))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.ExceptionRenderer(_format_exception),
            _limit_fields,
            *_renderers(form),
            _hide_secrets,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    root, handler = logging.getLogger(), _LibraryHandler(logging.WARNING)
    root_level = root.level
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)

    def close() -> int:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(root_level)
        return writer.close()

    return close


def _format_exception(exc_info: Any) -> str:
    """The traceback with every member of every group; the standard limits leave out all but 15 of them."""
    text = "".join(traceback.TracebackException(*exc_info, max_group_width=1000, max_group_depth=100).format())
    return _shortened(text.rstrip(), EXCEPTION_CHARACTERS_MAX)


def _shortened(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[:characters_max]}… ({len(text)} characters)"


def _limit_fields(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide fields that are named like secrets, and shorten texts that would flood the log."""
    for name, value in event.items():
        if _SECRET_NAME.search(str(name)):
            event[name] = _HIDDEN
        elif isinstance(value, str) and len(value) > FIELD_CHARACTERS_MAX and name != "exception":
            event[name] = _shortened(value, FIELD_CHARACTERS_MAX)
    return event


def _hide_secrets(_logger: Any, _name: str, line: Any) -> bytes:
    for secret in _secrets:
        line = line.replace(secret, _HIDDEN.encode())
    return bytes(line)


def _renderers(form: str) -> list[Any]:
    if form == "console":
        # The plain formatter: others show local variables, and with them secrets.
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
        )
        return [console, lambda _logger, _name, text: text.encode("utf-8", "backslashreplace")]
    return [structlog.processors.JSONRenderer(serializer=_dumps)]


def _dumps(event: dict[str, Any], **_options: Any) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # An integer beyond 64 bits, text with lone surrogates, keys or depths that JSON has not.
        return orjson.dumps(_plain(event, _DEPTH_MAX))


def _plain(value: Any, depth: int) -> Any:
    """A value as near as JSON can say it."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else str(value)
    if depth and isinstance(value, dict):
        return {str(_plain(str(key), 0)): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in value]
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - a broken __str__ must not cost the event
        text = f"<{type(value).__name__}: {type(error).__name__}>"
    return _shortened(text, EXCEPTION_CHARACTERS_MAX).encode("utf-8", "backslashreplace").decode()
