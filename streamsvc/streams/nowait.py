"""What has come on a stream, read without waiting and without a scheduler's turn."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import trio

from streamsvc.errors import ConnectionFaultError

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 128 * 1024
"""In a burst each read costs the scheduler's turns once: with 64 KB that was a third of what a message costs."""

LOOK_BYTES = 64 * 1024
"""Of so much memory the allocator has a free piece at hand; where more has come the stream itself is read next."""


def nowait_reader(stream: trio.abc.Stream) -> Callable[[], bytes | None] | None:
    """A function that reads from a stream what has come; None where a stream cannot do that.

    The function gives None where nothing has come, or what has come says nothing yet; and empty bytes where the end may
    have come, which the stream's own `receive_some` then tells. Nobody may be in `receive_some` meanwhile. It raises a
    `ConnectionFaultError` where the connection is broken.
    """
    if isinstance(stream, trio.SocketStream):
        return partial(_read_socket, stream)
    reader: Callable[[], bytes | None] | None = getattr(stream, "receive_nowait", None)
    return reader


def _read_socket(stream: trio.SocketStream) -> bytes | None:
    try:
        return os.read(stream.socket.fileno(), LOOK_BYTES)  # Trio's sockets do not block.
    except BlockingIOError:
        return None
    except OSError as error:
        raise ConnectionFaultError("reset", "the connection was reset") from error
