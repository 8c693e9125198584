"""The log: one JSON object a line whatever is logged, never a secret, never a wait."""

from __future__ import annotations

import enum
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from typing import Self

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from streamsvc import log
from streamsvc.log import EXCEPTION_CHARACTERS_MAX, FIELD_CHARACTERS_MAX, LineWriter, configure, hide_secret, logger
from streamsvc.settings.values import SecretStr

CANARY = 'canary-"7f3a\\9c'


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(log, "_secrets", set())
    yield
    structlog.reset_defaults()


class Lines:
    """Logs into memory between `__enter__` and `__exit__`."""

    def __init__(self, level: str = "debug", form: str = "json") -> None:
        self.output = io.BytesIO()
        self._level, self._form = level, form

    def __enter__(self) -> Self:
        self._close = configure(self._level, self._form, self.output)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.lost = self._close()

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.output.getvalue().splitlines()]


class Gate(io.RawIOBase):
    """An output that takes nothing until it is opened, like a pipe whose reader stalls."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.taken = b""

    def write(self, data) -> int:
        self.entered.set()
        self.opened.wait()
        self.taken += bytes(data)
        return len(data)


def test_one_object_a_line_with_time_and_level():
    with Lines() as lines:
        logger.info("rotated", rows=12, seconds=1.5, symbols=["BTCUSDT", "币安"], text="two\nlines")
    (event,) = lines.events
    assert event.pop("time").endswith("Z")
    expected = {"event": "rotated", "level": "info", "rows": 12, "seconds": 1.5, "symbols": ["BTCUSDT", "币安"]}
    assert expected | {"text": "two\nlines"} == event


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level, expected):
    with Lines(level) as lines:
        for name in log.LEVELS:
            getattr(logger, name)("event")
    assert expected == len(lines.events)


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Color(enum.IntEnum):
    RED = 1


def fail(text: str) -> None:
    raise OSError(text)


def endless() -> dict:
    ring: dict = {}
    ring["ring"] = ring
    return ring


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ("\ud800x", "\\ud800x"),
        ({"a": {"b": [2**70, "\udfff"]}}, {"a": {"b": ["1180591620717411303424", "\\udfff"]}}),
        ({1: 2, "x": (3,)}, {"1": 2, "x": [3]}),
        ({(1, 2): 2**70}, {"(1, 2)": "1180591620717411303424"}),
        (Color.RED, 1),
        ([Color.RED, 2**70], [1, "1180591620717411303424"]),
        (float("nan"), None),
        ([float("inf"), 2**70], [None, "1180591620717411303424"]),
        (Broken(), "<Broken: RuntimeError>"),
        (SecretStr("hidden-one"), "***"),
        (b"\xff", "b'\\xff'"),
    ],
)
def test_values_that_json_lacks_cost_neither_the_event_nor_its_other_fields(value, expected):
    with Lines() as lines:
        logger.info("odd", value=value, other=1)
    (event,) = lines.events
    assert (expected, 1, "odd", "info") == (event["value"], event["other"], event["event"], event["level"])


def test_a_value_that_holds_itself():
    with Lines() as lines:
        logger.info("odd", value=endless())
    assert "odd" == lines.events[0]["event"]


def test_long_texts_are_cut():
    """A line cannot be flooded from outside."""
    with Lines() as lines:
        logger.info("long", text="x" * 1_000_000, odd=["x" * 1_000_000, 2**70])
    assert len(lines.events[0]["text"]) < FIELD_CHARACTERS_MAX + 100
    assert len(lines.output.getvalue()) < 2 * EXCEPTION_CHARACTERS_MAX


any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
    max_leaves=10,
)


@given(any_value)
def test_anything_makes_exactly_one_line(value):
    line = log._dumps({"event": "any", "value": value})
    assert b"\n" not in line
    assert "any" == json.loads(line)["event"]


def test_a_group_keeps_all_causes():
    """The standard library shows 15 members of a group and 10 levels; the sixteenth may be the one that matters."""
    group: BaseException = ExceptionGroup("many", [ValueError(f"cause-{number}") for number in range(100)])
    for depth in range(20):
        group = ExceptionGroup(f"level-{depth}", [group])
    with Lines() as lines:
        try:
            raise group from OSError("the first cause")
        except ExceptionGroup:
            logger.exception("crashed")
    (event,) = lines.events
    missing = [number for number in range(100) if f"cause-{number}\n" not in event["exception"] + "\n"]
    assert [] == missing
    assert "OSError: the first cause" in event["exception"]
    assert ("crashed", "error") == (event["event"], event["level"])


def test_exc_info_without_an_exception():
    with Lines() as lines:
        logger.error("odd", exc_info=True)
    assert "odd" == lines.events[0]["event"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_secret_is_hidden_wherever_it_stands(form):
    """In fields, inside of longer texts, in containers, in the event's name, in tracebacks with their source lines."""
    hide_secret(CANARY)
    with Lines(form=form) as lines:
        logger.info("field", url=f"https://x/?k={CANARY}&y", many={"deep": [CANARY, 2**70]})
        logger.info(f"event {CANARY}")
        try:
            fail(f"refused {CANARY}")
        except OSError:
            logger.exception("crashed")
        logging.getLogger("library").error("key %s", CANARY)
    text = lines.output.getvalue().decode()
    assert 4 <= len(text.splitlines())
    assert CANARY not in text
    assert json.dumps(CANARY)[1:-1] not in text
    assert "***" in text


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "API_KEY", "secret", "client_secret", "token", "signature", "password", "listen_key", "apikey"],
)
def test_fields_named_like_secrets_are_hidden(name):
    with Lines() as lines:
        logger.info("signed", **{name: "x" * 20, "monkey": 1, "keyboard": 2, "tokens_left_count": 3})
    assert ("***", 1, 2) == (lines.events[0][name], lines.events[0]["monkey"], lines.events[0]["keyboard"])


def test_console_lines_have_no_local_variables_and_survive_odd_text():
    with Lines(form="console") as lines:
        local_variable = "visible-local"
        try:
            fail("\ud800")
        except OSError:
            logger.exception("crashed")
        del local_variable
    text = lines.output.getvalue().decode()
    assert "crashed" in text
    assert "OSError" in text
    assert "visible-local" not in text.replace('local_variable = "visible-local"', "")


def test_libraries_speak_in_the_same_form():
    """From WARNING on; a wrong format string does not cost the message; the old order is given back."""
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    with Lines() as lines:
        logging.getLogger("httpx2").info("HTTP Request")
        logging.getLogger("httpx2").warning("slow by %d s", 3)
        wrong = logging.makeLogRecord({"name": "other", "levelno": 50, "msg": "%d", "args": ("no number",)})
        log._LibraryHandler().emit(wrong)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("careful", stacklevel=1)
        try:
            fail("inner")
        except OSError:
            logging.getLogger("other").exception("failed")
    assert [
        ("library_message", "warning", "httpx2", "slow by 3 s"),
        ("library_message", "error", "other", "%d (TypeError)"),
    ] == [(event["event"], event["level"], event["logger"], event["message"]) for event in lines.events[:2]]
    assert "careful" in lines.events[2]["message"]
    assert "OSError: inner" in lines.events[3]["exception"]
    assert before == (logging.getLogger().level, logging.getLogger().handlers)


def test_a_stalled_reader_costs_lines_and_no_time():
    """Lines beyond the limit are dropped, counted, and the count is told when there is room again."""
    gate = Gate()
    writer = LineWriter(gate, bytes_max=100)
    writer.write(b"a" * 49 + b"\n")
    gate.entered.wait()
    for _ in range(10):
        writer.write(b"b" * 49 + b"\n")
    assert 9 == writer.dropped_lines
    gate.opened.set()
    assert 9 == writer.close()
    told = orjson.loads(gate.taken.splitlines()[-1])
    assert ("log_lines_dropped", 9) == (told["event"], told["count"])
    assert 3 == len(gate.taken.splitlines())


def test_a_reader_that_never_comes_back(monkeypatch):
    """Closing gives up after its limit and says how much was lost."""
    monkeypatch.setattr(log, "_CLOSE_SEC", 0.01)
    gate = Gate()
    writer = LineWriter(gate, bytes_max=100)
    for _ in range(5):
        writer.write(b"x" * 39 + b"\n")
    assert 5 + 1 == writer.close()  # The note about the dropped ones is a line too.
    writer.write(b"after the end\n")
    assert 1 == writer.dropped_lines
    gate.opened.set()


def test_the_reader_has_gone():
    """A closed pipe ends the writing, not the recording; memory stays bounded."""

    class Gone(io.RawIOBase):
        def write(self, _data) -> int:
            raise BrokenPipeError

    writer = LineWriter(Gone())
    writer.write(b"first\n")
    writer._thread.join()
    writer.write(b"second\n")
    assert 0 == writer._waiting_bytes
    assert 2 == writer.close()


def test_a_full_disk_loses_lines_until_there_is_room():
    """What could not be written is counted and told later; the log does not end."""

    class Full(io.BytesIO):
        is_full = True

        def write(self, data) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(data)

    output = Full()
    writer = LineWriter(output)
    writer.write(b"lost\n")
    while not writer.dropped_lines:
        pass
    output.is_full = False
    writer.write(b"kept\n")
    writer.close()
    lines = output.getvalue().splitlines()
    assert 1 == orjson.loads(lines[0])["count"]
    assert b"kept" == lines[1]


def test_an_output_that_takes_little_at_a_time(monkeypatch):
    """Short writes and an output that has no room just now leave every byte in its place."""
    monkeypatch.setattr(log, "_BUSY_OUTPUT_SEC", 0)

    class Narrow(io.RawIOBase):
        taken = b""
        calls = 0

        def write(self, data) -> int | None:
            self.calls += 1
            if self.calls % 2:
                return None
            self.taken += bytes(data[:3])
            return min(3, len(data))

    output = Narrow()
    writer = LineWriter(output)
    expected = b"".join(b"line %d\n" % number for number in range(50))
    for line in expected.splitlines(keepends=True):
        writer.write(line)
    assert 0 == writer.close()
    assert expected == output.taken


def test_many_threads_write_whole_lines():
    with Lines() as lines:
        threads = [
            threading.Thread(target=lambda: [logger.info("from_thread", number=number) for number in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 400 == len(lines.events)


def test_a_process_whose_output_is_a_blocked_pipe_still_ends():
    """No exit code of an abort: the interpreter's end does not meet a buffer's lock."""
    code = (
        "from streamsvc import log\n"
        "log._CLOSE_SEC = 0.1\n"
        "close = log.configure()\n"
        "for _ in range(3000): log.logger.info('line', text='x' * 100)\n"
        "print(close() > 0, file=__import__('sys').stderr)\n"
    )
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, timeout=20, check=False
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (0, b"True\n") == (done.returncode, done.stderr)
