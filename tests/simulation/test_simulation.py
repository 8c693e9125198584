"""A handful of seeds of the simulation; `make simulate SEEDS=1..1000` runs as many as there is time for."""

from collections import Counter

import pytest
from simulate import report
from simulation import Outcome, simulate

SEEDS = (2, 3, 4, 5, 7, 8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed(seed):
    """Whatever happens in whatever order, the seven points hold."""
    outcome = simulate(seed)
    assert not outcome.failure, f"make simulate SEED={seed}\n{outcome.failure}"
    assert outcome.hits


def test_the_same_seed_gives_the_same_trace():
    """The log, the files and the ledger are equal to the last bit; another seed gives others."""
    assert simulate(8) == simulate(8)
    assert simulate(8).digest != simulate(7).digest


@pytest.mark.parametrize("failure", ["", "AssertionError: written, and nowhere"])
def test_the_report(failure, capsys):
    """It ends with 1 if a seed failed, and says how to run that again."""
    outcome = Outcome(7, "0123", 0.5, Counter({"A1": 2, "A11": 1}), Counter({"trade open": 1}), failure)
    assert bool(failure) == report([outcome])
    assert bool(failure) == ("make simulate SEED=7" in capsys.readouterr().out)
