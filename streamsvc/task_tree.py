"""The tree of Trio's tasks, with where each one waits, as lines: what SIGUSR1 writes to the log.

Event: `task_tree` (tasks, lines: two spaces deeper for each nursery, `name (function, file:line in what)`; left_out, if
there were more than `LINES_MAX`).
"""

from __future__ import annotations

import signal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import trio

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES_MAX = 500
_TRIO = str(PurePath(trio.__file__).parent)
_FRAMES_MAX = 200
"""Awaits in awaits; a task that is deeper is told where it is by then."""


def task_tree() -> list[str]:
    """A line a task, parents before their children; call it within Trio."""
    root = trio.lowlevel.current_root_task()
    return [] if root is None else list(_lines(root, 0))


def _lines(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{task.name} {_place_of(task)}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child.name):
            yield from _lines(child, depth + 1)


def _place_of(task: trio.lowlevel.Task) -> str:
    """Where a task waits: the innermost frame that is not Trio's, and what of Trio it waits in."""
    frames = list(_frames(task))
    if not frames:
        return "(running)"
    place = next((place for place in range(len(frames) - 1, -1, -1) if _TRIO not in frames[place][1]), 0)
    function, path, line = frames[place]
    within = f" in {frames[place + 1][0]}" if place + 1 < len(frames) else ""
    return f"({function}, {'/'.join(PurePath(path).parts[-2:])}:{line}{within})"


def _frames(task: trio.lowlevel.Task) -> Iterator[tuple[str, str, int]]:
    awaited: Any = task.coro
    for _ in range(_FRAMES_MAX):
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        yield frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def tell_task_tree() -> None:
    """Log the tree."""
    lines = task_tree()
    left_out = {"left_out": len(lines) - LINES_MAX} if len(lines) > LINES_MAX else {}
    logger.info("task_tree", tasks=len(lines), lines=lines[:LINES_MAX], **left_out)


async def tell_on_signals(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """SIGUSR1 logs the tree, until cancelled."""
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        task_status.started()
        async for _ in signals:
            tell_task_tree()
