"""systemd's end of NOTIFY_SOCKET."""

from __future__ import annotations

import socket


class Manager:
    """The other end of NOTIFY_SOCKET: keeps every line in the order in which it came."""

    def __init__(self, path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def lines(self) -> list[str]:
        """All lines so far."""
        try:
            while datagram := self._socket.recv(65536):
                self._lines += datagram.decode().splitlines()
        except BlockingIOError:
            pass
        return self._lines

    def names(self) -> list[str]:
        """The variables of all lines so far."""
        return [line.partition("=")[0] for line in self.lines()]

    def statuses(self) -> list[str]:
        """What was said of the state, oldest first."""
        return [line.removeprefix("STATUS=") for line in self.lines() if line.startswith("STATUS=")]

    def close(self) -> None:
        self._socket.close()
