"""Budgets of addresses."""

from __future__ import annotations

from streamsvc.simulator.limits import AttemptBudget, WeightBudget


def test_attempts_count_over_any_five_minutes():
    budget = AttemptBudget(3)
    assert [True, True, True, False] == [budget.is_allowed("a", second) for second in (0, 100, 200, 299)]
    assert [True, False] == [budget.is_allowed("a", second) for second in (300, 301)]
    assert budget.is_allowed("b", 301)


def test_weight_is_per_address_and_minute_of_the_clock():
    budget = WeightBudget(100)
    first, second = budget.spend("a", 60, 59.0), budget.spend("a", 60, 59.5)
    assert (200, 60) == (first.status, first.used_weight)
    assert (429, 120, 1) == (second.status, second.used_weight, second.retry_after_sec)
    assert 200 == budget.spend("b", 60, 59.5).status
    after = budget.spend("a", 60, 60.0)
    assert (200, 60) == (after.status, after.used_weight)


def test_who_goes_on_after_429_is_banned_longer_each_time():
    budget = WeightBudget(1)
    now_sec, bans = 0.0, []
    for _ in range(3):
        while (verdict := budget.spend("a", 2, now_sec)).status == 429:
            pass
        bans.append(verdict.retry_after_sec)
        now_sec += verdict.retry_after_sec
    assert [121, 241, 481] == bans


def test_a_ban_ends():
    budget = WeightBudget(10)
    budget.ban("a", 5, 0.0)
    assert [418, 200] == [budget.spend("a", 1, second).status for second in (4.9, 5.0)]
