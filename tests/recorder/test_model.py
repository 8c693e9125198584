"""Any order of writes, flushes, rotations, failures and crashes, against a list."""

import contextlib
import tempfile
from pathlib import Path

import attrs
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorder_support import NO_ROOM, Disk, Rig

from streamsvc.recorder import NotWrittenError

WRITE = st.tuples(st.just("write"), st.integers(1, 5))
BATCH = st.tuples(st.just("batch"), st.integers(1, 5))
FLUSH = st.tuples(st.just("flush"), st.just(0))
SLEEP = st.tuples(st.just("sleep"), st.integers(1, 20))
FAIL_WRITES = st.tuples(st.just("write fails"), st.lists(st.one_of(st.integers(0, 60), st.just(NO_ROOM)), max_size=3))
FAIL_SYNCS = st.tuples(st.just("sync fails"), st.integers(1, 2))
FAIL_RENAMES = st.tuples(st.just("rename fails"), st.integers(1, 2))
REOPEN = st.tuples(st.just("reopen"), st.just(0))
CRASH = st.tuples(st.just("crash"), st.integers(0, 100))
STEPS = st.lists(
    st.one_of(WRITE, BATCH, FLUSH, SLEEP, FAIL_WRITES, FAIL_SYNCS, FAIL_RENAMES, REOPEN, CRASH), max_size=25
)


@attrs.define
class Model:
    """What was accepted, in order, and how much of it is confirmed."""

    accepted: list = attrs.field(factory=list)
    confirmed: int = 0
    number: int = 0

    def take(self, count):
        """The next records."""
        numbers = list(range(self.number, self.number + count))
        self.number += count
        return [{"n": n, "text": "x" * (n % 90)} for n in numbers]

    def crashed(self, found):
        """What is found is what was accepted, from the first, and at least what was confirmed."""
        assert self.accepted[: len(found)] == found
        assert len(found) >= self.confirmed
        self.accepted, self.confirmed = found, len(found)


class DeadDisk(Disk):
    """Takes so many bytes more, and then nothing."""

    def __init__(self, taken):
        super().__init__()
        self.faults = {name: [NO_ROOM] * 10_000 for name in ("sync", "replace", "open")}
        self.faults["write"] = [taken, *[NO_ROOM] * 10_000]


async def run(rig, steps, options):
    model, steps = Model(), list(steps)
    while True:
        ended = await session(rig, model, steps, options)
        if ended != "crash":
            assert model.accepted == rig.numbers()
        if ended == "end":
            return
        rig.disk.__class__, rig.disk.faults = Disk, {}
        async with rig.open(**options):  # It cuts a torn end off.
            pass
        model.crashed(rig.numbers())


async def session(rig, model, steps, options):
    """One recorder; returns why it ended."""
    with contextlib.suppress(NotWrittenError):
        async with rig.open(**options, close_sec_max=60) as recorder:
            while steps:
                step, argument = steps.pop(0)
                if step == "reopen":
                    return step
                if step == "crash":
                    rig.disk.__class__ = DeadDisk
                    rig.disk.__init__(argument)
                    return step
                await take_step(rig, model, recorder, step, argument)
            return "end"
    return "crash"


async def take_step(rig, model, recorder, step, argument):
    match step:
        case "write":
            for record in model.take(argument):
                await recorder.write_trade(record)
                model.accepted.append(record["n"])
        case "batch":
            records = model.take(argument)
            model.accepted += [record["n"] for record in records]
            await recorder.write_trades_batch(records)
            model.confirmed = len(model.accepted)
        case "flush":
            await recorder.flush()
            model.confirmed = len(model.accepted)
        case "sleep":
            await trio.sleep(argument / 10)
        case "write fails":
            rig.disk.faults["write"] = list(argument)
        case "sync fails":
            rig.disk.faults["sync"] = [NO_ROOM] * argument
        case "rename fails":
            rig.disk.faults["replace"] = [NO_ROOM] * argument


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, is_compressed=st.booleans(), buffer_size=st.integers(1, 6))
def test_nothing_that_was_confirmed_is_lost_and_nothing_is_there_twice(steps, is_compressed, buffer_size):
    """What is there is what was accepted, in order; after a crash, at least up to what was confirmed."""
    options = {"rotation_size_mb": 0.001, "buffer_size": buffer_size, "enable_compression": is_compressed}
    with tempfile.TemporaryDirectory() as name:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(run, Rig(Path(name)), steps, options, clock=clock)
