"""Faults of the streams: foreign errors become ours, and groups of errors become one."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from streamsvc.errors import ConnectionFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator


def dial_fault(error: OSError) -> ConnectionFaultError:
    """The fault that a failed dial tells of: the name, or the host."""
    if isinstance(error, socket.gaierror):
        return ConnectionFaultError("dns", f"the name cannot be resolved: {error.strerror}")
    causes = _leaves(error.__cause__) if isinstance(error.__cause__, BaseExceptionGroup) else [error]
    return ConnectionFaultError("refused", "; ".join(dict.fromkeys(str(cause) for cause in causes)))


@contextmanager
def one_fault(*foreign: type[Exception], cause: str = "protocol") -> Iterator[None]:
    """Unwrap the group in which a nursery leaves: its first connection fault, if there is nothing else in it.

    A fault that meets a cancellation or an unexpected error gives way to it: the rest of the group is raised.

    Args:
        foreign: Errors of a library that mean a connection fault too.
        cause: The cause of that fault.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected: tuple[type[Exception], ...] = (ConnectionFaultError, *foreign)
        faults, rest = group.split(expected)
        if rest is not None:
            raise rest from None
        leaves = _leaves(faults)
        for leaf in leaves:
            if isinstance(leaf, ConnectionFaultError):
                raise leaf from leaf.__cause__
        raise ConnectionFaultError(cause, f"{type(leaves[0]).__name__}: {leaves[0]}") from leaves[0]


@contextmanager
def in_time(deadline: float, what: str) -> Iterator[None]:
    """Bound a step that must finish: a connection fault at the deadline, `trio.current_time()`."""
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        raise ConnectionFaultError("timeout", f"{what} took too long") from None


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [] if error is None else [error]
