"""What processes cost: the exact CPU time of a whole family, dead members included, and who holds how much memory.

CPU time of a living process is read from its POSIX CPU clock, in nanoseconds and with the threads that have ended. That
of a dead one is kept by the kernel for whoever waits for it: a parent that waited carries it in its own account, and a
child whose parent is gone comes to us, because we ask to be the reaper of our descendants. So no member is forgotten
whenever it ends, and nobody has to look at the right moment. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import attrs

_PR_SET_CHILD_SUBREAPER = 36
_CPUCLOCK_SCHED = 2
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_STAT_PARENT, _STAT_UTIME, _STAT_STIME, _STAT_CUTIME, _STAT_CSTIME = 1, 11, 12, 13, 14
"""Fields of `/proc/PID/stat` after the name, which may hold spaces (proc_pid_stat(5), fields 4 and 14 to 17)."""


def become_reaper() -> None:
    """Let orphaned descendants become our children, so that we can wait for them (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _stat(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` after the name; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parents() -> dict[int, int]:
    """The parent of every process."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid: int(fields[_STAT_PARENT]) for pid in pids if (fields := _stat(pid))}


def children_of(pid: int) -> list[int]:
    """The children of a process, zombies among them."""
    return [child for child, parent in _parents().items() if parent == pid]


def family_of(pid: int) -> list[int]:
    """A process and all its living descendants."""
    parents, family = _parents(), [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def own_cpu_ns(pid: int) -> int:
    """The CPU time that a living process and its threads, ended ones too, have used; 0 if it is gone."""
    clock_of_process = (~pid << 3) | _CPUCLOCK_SCHED
    try:
        return time.clock_gettime_ns(clock_of_process)
    except OSError:
        return 0


def reaped_cpu_ns(pid: int) -> int:
    """The CPU time of the descendants that a process has waited for, to the kernel's tick of 10 ms."""
    fields = _stat(pid)
    return (int(fields[_STAT_CUTIME]) + int(fields[_STAT_CSTIME])) * _TICK_NS if fields else 0


def family_cpu_ns(pid: int) -> int:
    """The CPU time of a living process and its descendants until now."""
    return sum(own_cpu_ns(member) + reaped_cpu_ns(member) for member in family_of(pid))


@attrs.frozen
class FamilyCpu:
    """The CPU time of a family after its end, ns.

    Attributes:
        main_ns: The first process alone, to the kernel's tick.
        total_ns: All of them: those that it waited for, and those that were left to us.
        orphans: How many were left to us.
    """

    main_ns: int
    total_ns: int
    orphans: int


class Family:
    """A child of ours and its descendants, until all of them are gone.

    `become_reaper` must have been called before the child was started. While a family is waited for, other children
    of ours must be named as `strangers`.
    """

    def __init__(self, pid: int, strangers: set[int]) -> None:
        self.pid = pid
        self._strangers = strangers | {pid}

    def ignore(self, pid: int) -> None:
        """Another child of ours was started, which is none of the family."""
        self._strangers.add(pid)

    def has_ended(self) -> bool:
        """Whether the child itself has ended; it stays a zombie until `collect`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def collect(self, orphans_sec_max: float = 30.0) -> tuple[int, FamilyCpu]:
        """Wait for the child, which has ended, and for its orphans; returns the exit code and what all of them cost.

        Raises:
            TimeoutError: an orphan goes on for too long.
        """
        fields = _stat(self.pid)
        main_ns = (int(fields[_STAT_UTIME]) + int(fields[_STAT_STIME])) * _TICK_NS
        _, status, usage = os.wait4(self.pid, 0)
        total_ns = round((usage.ru_utime + usage.ru_stime) * 1e9)
        orphans = 0
        deadline = time.monotonic() + orphans_sec_max
        while left := [pid for pid in children_of(os.getpid()) if pid not in self._strangers]:
            for pid in left:
                done, _, usage = os.wait4(pid, os.WNOHANG)
                if done:
                    total_ns += round((usage.ru_utime + usage.ru_stime) * 1e9)
                    orphans += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {left} outlived their parent by {orphans_sec_max} s")
            time.sleep(0.01)
        return os.waitstatus_to_exitcode(status), FamilyCpu(main_ns, total_ns, orphans)


@attrs.frozen
class Memory:
    """Memory of one process, bytes: resident now, and the most it ever was."""

    resident_bytes: int
    peak_bytes: int


def memory_of(pid: int) -> Memory | None:
    """The memory of a living process, None if it is gone or a zombie."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return Memory(kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024) if kilobytes else None


def command_of(pid: int) -> str:
    """The command line of a living process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
