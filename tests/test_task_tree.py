"""The tree of tasks: who started whom, and where each one waits."""

import trio
from structlog.testing import capture_logs

from streamsvc import task_tree


async def wait_for_something(event):
    await event.wait()


async def test_a_task_stands_below_the_one_that_started_it_with_where_it_waits(autojump_clock):
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait_for_something, event, name=f"waiter-{number}")
        await trio.sleep(1)
        lines = task_tree.task_tree()
        event.set()
    own = [line for line in lines if "waiter-" in line]
    assert ["waiter-0", "waiter-1", "waiter-2"] == [line.split()[0] for line in own]
    assert all("(wait_for_something, tests/test_task_tree.py:" in line and "in Event.wait)" in line for line in own)
    (parent,) = [line for line in lines if "test_a_task_stands_below" in line]
    depths = [len(line) - len(line.lstrip()) for line in (parent, own[0])]
    assert depths[0] < depths[1]


async def test_what_is_told_is_bounded(autojump_clock, monkeypatch):
    monkeypatch.setattr(task_tree, "LINES_MAX", 5)
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(wait_for_something, event)
        await trio.sleep(1)
        with capture_logs() as logged:
            task_tree.tell_task_tree()
        event.set()
    (told,) = logged
    assert (5, told["tasks"] - 5) == (len(told["lines"]), told["left_out"])
