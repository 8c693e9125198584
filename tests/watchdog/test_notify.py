"""sd_notify: what is sent, where, and that nothing of it can hold up the service."""

from __future__ import annotations

import os
import socket

import pytest
import trio
from structlog.testing import capture_logs

from streamsvc.watchdog.notify import STATUS_CHARACTERS_MAX, Notifier, run_watchdog, send_datagram


class Manager:
    """Stands for systemd: notes datagrams, or refuses them."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.fault: OSError | None = None

    def __call__(self, message: bytes, address: str) -> None:
        assert "/run/notify" == address
        if self.fault:
            raise self.fault
        self.got.append(message.decode())


def make(manager: Manager, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": "/run/notify"} | environ, 42, manager)


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_real_socket(tmp_path, is_abstract):
    """Paths and abstract names both work."""
    address = f"@streamsvc-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if is_abstract else address)
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}, os.getpid())
        notifier.ready()
        notifier.status("2 streams\nstalled")
        notifier.beat()
        notifier.stopping()
        got = [manager.recv(1000).decode() for _ in range(4)]
    assert ["READY=1\n", "STATUS=2 streams stalled\n", "WATCHDOG=1\n", "STOPPING=1\n"] == got


def test_a_socket_without_room_does_not_block(tmp_path):
    """A manager that does not read costs an error, not a wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

        def flood() -> None:
            for _ in range(100_000):
                send_datagram(b"STATUS=x\n", str(tmp_path / "notify"))

        with pytest.raises(BlockingIOError):
            flood()


def test_no_manager():
    """Without NOTIFY_SOCKET nothing is sent."""
    manager = Manager()
    notifier = Notifier({"WATCHDOG_USEC": "1000000"}, 42, manager)
    notifier.ready()
    notifier.status("well")
    assert [] == manager.got
    assert None is notifier.watchdog_sec


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
    ],
)
def test_whose_watchdog(environ, expected):
    """Only the process that the manager means feeds the watchdog."""
    assert expected == make(Manager(), **environ).watchdog_sec


def test_what_must_arrive_is_sent_with_the_next_message():
    """A manager without room does not cost READY, which would end in a restart; a status may be lost."""
    manager = Manager()
    notifier = make(manager)
    manager.fault = BlockingIOError(11, "no room")
    with capture_logs() as events:
        notifier.ready()
        notifier.ready()
        notifier.status("lost")
    assert [{"event": "notify_failed", "log_level": "warning", "reason": "no room"}] == events
    manager.fault = None
    notifier.beat()
    notifier.beat()
    assert ["READY=1\nWATCHDOG=1\n", "WATCHDOG=1\n"] == manager.got


@pytest.mark.parametrize("address", ["/nonexistent/notify", "/" + "x" * 200, "relative", "vsock:2:1234"])
def test_nobody_listens(address):
    """An address that leads nowhere is told once and costs nothing."""
    with capture_logs() as events:
        notifier = Notifier({"NOTIFY_SOCKET": address}, 42)
        notifier.ready()
        notifier.stopping()
    assert ["notify_failed"] == [event["event"] for event in events]


def test_a_status_is_one_short_line():
    manager = Manager()
    make(manager).status("a\nREADY=1\r\n" + "\ud800" + "x" * 1000)
    (got,) = manager.got
    assert got.startswith("STATUS=a READY=1 ")
    assert 1 == got.count("\n")
    assert len(got) <= len("STATUS=\n") + STATUS_CHARACTERS_MAX


async def test_beats_come_three_times_within_the_managers_patience(autojump_clock):
    manager = Manager()
    with trio.move_on_after(60 - 0.5):
        await run_watchdog(make(manager, WATCHDOG_USEC="30000000"), lambda: True)
    assert ["WATCHDOG=1\n"] * 6 == manager.got


async def test_a_writer_that_hangs_withholds_the_beat(autojump_clock):
    """Told once, and once more when it is well again; nothing is sent in between."""
    manager = Manager()
    is_alive = True

    async def hang() -> None:
        nonlocal is_alive
        await trio.sleep(25)
        is_alive = False
        await trio.sleep(60)
        is_alive = True

    with capture_logs() as events, trio.move_on_after(109):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            await run_watchdog(make(manager, WATCHDOG_USEC="30000000"), lambda: is_alive)
    assert ["WATCHDOG=1\n"] * 5 == manager.got
    assert [
        {"event": "watchdog_withheld", "log_level": "error", "patience_sec": 30},
        {"event": "watchdog_resumed", "log_level": "info"},
    ] == events


async def test_no_watchdog_is_asked_for(autojump_clock):
    with trio.fail_after(1):
        await run_watchdog(make(Manager()), lambda: True)
