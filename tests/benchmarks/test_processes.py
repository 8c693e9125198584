"""The benchmark's account of CPU time: nobody is forgotten, whenever and however they end.

Everything happens in a process of its own: the reaper of descendants must not be the one that runs the other tests.
"""

import json
import subprocess
import sys
from pathlib import Path

BURN_SEC = 0.15
TICK_SEC = 0.01

# A family of four: a child that is waited for, one that is killed, one that outlives its parent, and the parent.
PARENT = f"""
import subprocess, sys
burn = "import time\\nwhile time.process_time() < {BURN_SEC}: pass\\n"
subprocess.run([sys.executable, "-c", burn], check=True)
killed = subprocess.Popen([sys.executable, "-c", burn + "print(flush=True)\\ntime.sleep(60)"], stdout=subprocess.PIPE)
killed.stdout.readline()
killed.kill()
killed.wait()
orphan = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.readline()\\n" + burn], stdin=subprocess.PIPE)
exec(burn)
print("ready", flush=True)
sys.stdin.readline()
"""

REAPER = """
import json, os, subprocess, sys, time
from processes import Family, become_reaper, family_cpu_ns

become_reaper()
parent = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
parent.stdout.readline()
before_ns = family_cpu_ns(parent.pid)
family = Family(parent.pid, strangers=set())
was_ended = family.has_ended()
if sys.argv[2] == "kill":
    parent.kill()
else:
    print(file=parent.stdin, flush=True)
while not family.has_ended():
    time.sleep(0.001)
code, cpu = family.collect()
print(json.dumps({"before": before_ns / 1e9, "was_ended": was_ended, "code": code, "main": cpu.main_ns / 1e9,
                  "total": cpu.total_ns / 1e9, "orphans": cpu.orphans}))
"""


def measured(end: str) -> dict:
    """What the account says of a family that ends by itself (`leave`) or by a SIGKILL of its head (`kill`)."""
    done = subprocess.run(
        [sys.executable, "-c", REAPER, PARENT, end],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


def test_members_that_were_waited_for_killed_or_left_behind_are_counted():
    """The total holds what each of four processes says that it burnt; the main one's share is its own."""
    cpu = measured("leave")
    assert not cpu["was_ended"]
    assert 0 == cpu["code"]
    assert 1 == cpu["orphans"]
    assert cpu["before"] > 3 * BURN_SEC - 2 * TICK_SEC
    assert cpu["total"] > 4 * BURN_SEC - 2 * TICK_SEC
    assert cpu["main"] > BURN_SEC - 2 * TICK_SEC
    assert cpu["total"] - cpu["main"] > 3 * BURN_SEC - 2 * TICK_SEC


def test_the_family_of_a_killed_process_is_counted_just_so():
    """SIGKILL of the head loses no account; the exit code is the negative signal, as subprocess has it."""
    cpu = measured("kill")
    assert -9 == cpu["code"]
    assert 1 == cpu["orphans"]
    assert cpu["total"] > 4 * BURN_SEC - 2 * TICK_SEC
