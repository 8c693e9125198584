"""Percentiles from a histogram against those of the numbers themselves."""

from math import ceil

import numpy as np
import pytest

from streamsvc.integrity.latency_histogram import PERCENTILES, LatencyHistogram

MS = 10**6


def summary(*pieces):
    histogram = LatencyHistogram()
    for piece in pieces:
        histogram.add(np.array(piece, np.int64))
    return histogram.summary()


def nearest_ranks(values):
    ordered = sorted(values)
    return [ordered[ceil(percent * len(ordered) / 100) - 1] for percent in PERCENTILES]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_percentiles_are_within_their_resolution(seed, scale):
    """From microseconds to hours, early and late clocks alike."""
    random = np.random.default_rng(seed)
    values = (scale * random.lognormal(17, 3, 10_000)).astype(np.int64)
    found = summary(values[:10], values[10:7000], values[7000:])
    assert (10_000, values.min(), values.max()) == (found.messages, found.least_ns, found.greatest_ns)
    assert np.allclose(nearest_ranks(values.tolist()), found.percentiles_ns, rtol=0.016, atol=1000)


def test_clocks_that_run_before_the_exchange():
    """A negative latency is a fact about clocks; the order of values of both signs holds."""
    found = summary([-3 * MS] * 50 + [5 * MS] * 50)
    assert (-3 * MS, 5 * MS) == (found.least_ns, found.greatest_ns)
    assert np.allclose([-3 * MS, 5 * MS, 5 * MS, 5 * MS], found.percentiles_ns, rtol=0.016)


@pytest.mark.parametrize("value", [0, 1, -1, 999, 1000, -1000, 40 * MS, 2**62, -(2**62)])
def test_one_message_is_every_percentile(value):
    """However far: no value is beyond the bins, and what is exact stays so."""
    found = summary([value])
    assert (value, value, (value,) * 4) == (found.least_ns, found.greatest_ns, found.percentiles_ns)


def test_nothing_was_measured():
    assert summary() is None
    assert summary([]) is None


def test_histograms_are_joined():
    values = [MS * number for number in range(1, 101)]
    whole, parts = summary(values), LatencyHistogram()
    for piece in (values[:30], [], values[30:]):
        part = LatencyHistogram()
        part.add(np.array(piece, np.int64))
        parts.add_all(part)
    assert whole == parts.summary()
