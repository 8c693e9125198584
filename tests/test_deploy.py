"""The units for systemd agree with what the service does, and let it do nothing else."""

import configparser
import os
import shutil
import signal
import subprocess
from pathlib import Path

import attrs
import pytest

from streamsvc.cli import WRONG_USAGE
from streamsvc.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
UNITS = ("streamsvc.service", "streamsvc@.service")
EXPOSURE_MAX = 12
"""Tenths: what is left is the network, Unix sockets, the machine's own files, and nice(2)."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")


def section_of(name):
    """The service's section of a unit; of a name that stands several times, the last value."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(DEPLOY / name)
    return unit["Service"]


def lines_of(name):
    """What a unit says, without comments."""
    return [line for line in (DEPLOY / name).read_text().splitlines() if line and not line.startswith("#")]


def analyze(*arguments, **options):
    """Run systemd-analyze; returns its exit code and all that it said."""
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        **options,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module", params=UNITS)
def service(request):
    """Its section."""
    return section_of(request.param)


def test_wrong_settings_are_no_reason_to_start_again(service):
    """A crash is, and so is a kill; the code for wrong settings and for a folder in use is not."""
    assert ("on-failure", WRONG_USAGE) == (service["Restart"], int(service["RestartPreventExitStatus"]))


def test_a_stop_may_take_what_a_drain_takes(service):
    """Otherwise systemd would kill a service that is sealing in good order."""
    assert int(service["TimeoutStopSec"]) >= 2 * attrs.fields(Settings).drain_sec.default
    assert "mixed" == service["KillMode"]


def test_a_process_that_hangs_shows_where_and_no_secret(service):
    """SIGABRT lets Python print every thread; a core dump would hold the key."""
    assert signal.SIGABRT.name == service["WatchdogSignal"]
    assert "PYTHONFAULTHANDLER=1" == service["Environment"]
    assert "0" == service["LimitCORE"]


def test_work_that_can_wait_may_step_back_behind_the_recorder(service):
    """Merging days begins with nice(2), and would fail where that is refused."""
    assert "setpriority" == service["SystemCallFilter"]


def test_instances_are_like_the_only_one():
    """A template differs from the plain unit in its names alone, and shares the user and the budget of attempts."""
    plain, template = map(lines_of, UNITS)
    own = ("Description=", "Environment=DATA_DIR", "EnvironmentFile=", "StateDirectory=", "WorkingDirectory=")
    differing = [(one, other) for one, other in zip(plain, template, strict=True) if one != other]
    assert len(own) == len(differing)
    assert all(one.startswith(own) and "%i" in other for one, other in differing)
    assert "RuntimeDirectory=streamsvc" in template
    assert "User=streamsvc" in template


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_sandbox_stays_tight(name):
    """What systemd reckons that a service gone wrong could do stays below a threshold."""
    code, said = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", str(DEPLOY / name))
    assert 0 == code, said


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_every_line(tmp_path, name):
    """No word of a unit is unknown or left out; the program is not installed here, so another stands for it."""
    text = (DEPLOY / name).read_text()
    instance = tmp_path / name.replace("@", "@one")
    instance.write_text(text.replace("/opt/streamsvc/.venv/bin/streamsvc", shutil.which("true") or "/bin/true"))
    assert (0, "") == analyze("verify", "--man=no", str(instance))


def test_the_installer_asks_for_root_before_it_writes(tmp_path):
    """Anybody else is told why, and nothing is done."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        [DEPLOY / "install.sh"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (1, "") == (done.returncode, done.stdout)
    assert "run it as root" in done.stderr
