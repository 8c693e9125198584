"""The unit for systemd agrees with what the service does."""

import configparser
import signal
from pathlib import Path

import attrs
import pytest

from streamsvc.cli import WRONG_USAGE
from streamsvc.settings import Settings


@pytest.fixture(scope="module")
def service():
    """Its section; of a name that stands several times, the last value."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(Path(__file__).parent.parent / "deploy" / "streamsvc.service")
    return unit["Service"]


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
