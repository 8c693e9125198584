"""What the exchange allows per address: connection attempts in five minutes, REST weight in a minute, bans. Pure.

Memory is bounded: addresses that have been quiet are forgotten.
"""

from __future__ import annotations

from collections import deque

import attrs

ATTEMPTS_WINDOW_SEC = 300.0
ADDRESSES_MAX = 10_000
REFUSALS_BEFORE_BAN = 10
BAN_SEC_MIN = 120
BAN_SEC_MAX = 3 * 24 * 3600
MINUTE_SEC = 60


class AttemptBudget:
    """Connection attempts per address in any five minutes."""

    def __init__(self, attempts_max: int) -> None:
        self._attempts_max = attempts_max
        self._attempts: dict[str, deque[float]] = {}

    def is_allowed(self, address: str, now_sec: float) -> bool:
        """Count an attempt; False if it is one too many."""
        attempts = self._attempts.pop(address, deque())
        self._attempts[address] = attempts
        if len(self._attempts) > ADDRESSES_MAX:
            del self._attempts[next(iter(self._attempts))]
        while attempts and attempts[0] <= now_sec - ATTEMPTS_WINDOW_SEC:
            attempts.popleft()
        if len(attempts) >= self._attempts_max:
            return False
        attempts.append(now_sec)
        return True


@attrs.define
class _Account:
    minute: int = 0
    used: int = 0
    refusals: int = 0
    bans: int = 0
    banned_until_sec: float = 0.0


@attrs.frozen
class Verdict:
    """Whether a request may be answered.

    Attributes:
        status: 200, 429 or 418.
        used_weight: In this minute, the request included.
        retry_after_sec: How long to stay away; 0 with 200.
        until_ms: When the ban ends; 0 without one.
    """

    status: int
    used_weight: int
    retry_after_sec: int = 0
    until_ms: int = 0


class WeightBudget:
    """REST weight per address and minute of the clock. Who goes on after 429 is banned, longer each time."""

    def __init__(self, weight_per_min: int) -> None:
        self._weight_per_min = weight_per_min
        self._accounts: dict[str, _Account] = {}

    def spend(self, address: str, weight: int, now_sec: float) -> Verdict:
        """Count a request."""
        account = self._accounts.pop(address, None) or _Account()
        self._accounts[address] = account
        if len(self._accounts) > ADDRESSES_MAX:
            del self._accounts[next(iter(self._accounts))]
        if now_sec < account.banned_until_sec:
            return self._banned(account, now_sec)
        minute = int(now_sec // MINUTE_SEC)
        if minute != account.minute:
            account.minute, account.used, account.refusals = minute, 0, 0
        account.used += weight
        if account.used <= self._weight_per_min:
            return Verdict(200, account.used)
        account.refusals += 1
        if account.refusals > REFUSALS_BEFORE_BAN:
            account.banned_until_sec = now_sec + min(BAN_SEC_MAX, BAN_SEC_MIN * 2**account.bans)
            account.bans += 1
            return self._banned(account, now_sec)
        return Verdict(429, account.used, 1 + int(MINUTE_SEC - now_sec % MINUTE_SEC))

    def ban(self, address: str, seconds: float, now_sec: float) -> None:
        """Ban an address at once."""
        self._accounts.setdefault(address, _Account()).banned_until_sec = now_sec + seconds

    @staticmethod
    def _banned(account: _Account, now_sec: float) -> Verdict:
        wait_sec = 1 + int(account.banned_until_sec - now_sec)
        return Verdict(418, account.used, wait_sec, int(account.banned_until_sec * 1000))
