"""How long to stay away after a fault. Pure; randomness is passed in.

Full jitter: a random wait between nothing and a bound that doubles with every failure, so that connections that were
dropped together do not come back together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from streamsvc.errors import ConnectionFaultError

LONG_FACTOR = 5
"""Where the exchange has said that we are not welcome, the wait is about this many times the longest usual one."""

_BANNED = {418, 429}
_NOT_WELCOME = {403, 451}
_POLICY_VIOLATION = 1008
_DOUBLINGS_MAX = 30


def is_alarming(fault: ConnectionFaultError) -> bool:
    """Whether a person must look at it: another attempt alone will hardly mend it."""
    return fault.cause == "tls" or _is_not_welcome(fault) or is_ban(fault)


def is_ban(fault: ConnectionFaultError) -> bool:
    """Whether the exchange refuses this address for a while, whatever the connection."""
    return fault.cause == "status" and fault.status in _BANNED


def _is_not_welcome(fault: ConnectionFaultError) -> bool:
    refused = fault.cause == "status" and fault.status in _NOT_WELCOME
    return refused or (fault.cause == "closed" and fault.status == _POLICY_VIOLATION)


class Backoff:
    """The waits of one connection, which grow with its failures."""

    def __init__(self, min_sec: float, max_sec: float, rng: random.Random) -> None:
        """The first wait is at most `min_sec`, no usual one is longer than `max_sec`."""
        self._min_sec = min_sec
        self._max_sec = max(min_sec, max_sec)
        self._rng = rng
        self._failures = 0

    def reset(self) -> None:
        """The connection has proved stable: begin anew."""
        self._failures = 0

    def next_sec(self, fault: ConnectionFaultError) -> float:
        """How long to wait after this fault, seconds.

        418 and 429 wait as long as the exchange says, and longer than usual where it does not say. So do 403, 451 and
        close code 1008. A certificate that is refused waits about the longest usual time.
        """
        bound_sec = min(self._max_sec, self._min_sec * 2.0 ** min(self._failures, _DOUBLINGS_MAX))
        self._failures += 1
        if is_ban(fault) and fault.retry_after_sec is not None:
            return fault.retry_after_sec + self._rng.uniform(0.0, self._min_sec)
        if is_ban(fault) or _is_not_welcome(fault):
            return self._rng.uniform(0.5, 1.0) * self._max_sec * LONG_FACTOR
        if fault.cause == "tls":
            return self._rng.uniform(0.5, 1.0) * self._max_sec
        return self._rng.uniform(0.0, bound_sec)
