"""What systemd is told: one datagram a message, as sd_notify(3) describes it. Without NOTIFY_SOCKET nothing is sent.

WATCHDOG=1 comes from health, not from a timer: a loop that turns proves nothing about a disk that hangs.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import trio

from streamsvc.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STATUS_CHARACTERS_MAX: Final = 200
START_PATIENCE_SEC: Final = 60.0
"""What a part of the start may take once what it waited for is there."""


def send_datagram(message: bytes, address: str) -> None:
    """Send one datagram to a Unix socket without waiting for room; `@` begins an abstract address.

    Raises:
        OSError: nobody listens there, or there is no room now.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
        sock.sendto(message, f"\0{address[1:]}" if address.startswith("@") else address)


class Notifier:
    """The service's voice towards its manager.

    Args:
        environ: The environment; NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read once.
        pid: The id of this process: the watchdog of another process is not ours to feed.
        send: Sends one datagram.
    """

    def __init__(
        self, environ: Mapping[str, str], pid: int, send: Callable[[bytes, str], None] = send_datagram
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._send = send
        self._unsent = ""
        self._is_failing = False
        usec, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        is_ours = bool(self._address) and owner in {"", str(pid)} and usec.isascii() and usec.isdigit()
        self.watchdog_sec: float | None = int(usec) / 1e6 if is_ours and int(usec) > 0 else None

    def ready(self) -> None:
        """The service has started."""
        self._tell("READY=1\n")

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._tell("STOPPING=1\n")

    def status(self, text: str) -> None:
        """A line for people, shown by `systemctl status`; a status that cannot be sent now is left out."""
        line = " ".join(text.split())[:STATUS_CHARACTERS_MAX]
        self._tell(f"STATUS={line}\n", is_kept=False)

    def waiting(self, text: str, again_sec: float) -> None:
        """The start waits for something, which will be told again after `again_sec`: no reason to give it up."""
        self.status(text)
        self._tell(f"EXTEND_TIMEOUT_USEC={int((again_sec + START_PATIENCE_SEC) * 1e6)}\n", is_kept=False)

    def beat(self) -> None:
        """The service is well."""
        self._tell("WATCHDOG=1\n", is_kept=False)

    def _tell(self, line: str, *, is_kept: bool = True) -> None:
        """Send a line; one that must arrive is sent with the next one if there is no room now."""
        if not self._address:
            return
        message = self._unsent + line
        try:
            self._send(message.encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._is_failing:
                logger.warning("notify_failed", reason=error.strerror or str(error))
            self._is_failing = True
            if is_kept and line not in self._unsent:
                self._unsent = message
        else:
            self._is_failing = False
            self._unsent = ""


async def run_watchdog(notifier: Notifier, is_alive: Callable[[], bool]) -> None:
    """Beat three times within the manager's patience as long as `is_alive` says so, until cancelled.

    Args:
        notifier: Who is told. If no watchdog is asked for, this returns at once.
        is_alive: Whether the writer makes progress, or is in a pause that it has declared.
    """
    await trio.lowlevel.checkpoint()
    if notifier.watchdog_sec is None:
        return
    is_withheld = False
    while True:
        if is_alive():
            if is_withheld:
                logger.info("watchdog_resumed")
            is_withheld = False
            notifier.beat()
        elif not is_withheld:
            is_withheld = True
            logger.error("watchdog_withheld", patience_sec=int(notifier.watchdog_sec))
        await trio.sleep(notifier.watchdog_sec / 3)
