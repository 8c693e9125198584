import pytest
import structlog
from recorder_support import Rig


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


class Log:
    """What was logged."""

    def __init__(self, captured):
        self._captured = captured

    def events(self, name):
        return [event for event in self._captured if event["event"] == name]


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as captured:
        yield Log(captured)
