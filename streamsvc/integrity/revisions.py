"""Derived rows that were written more than once: which count, and what the running sum is over those (pure numpy)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_DAY_NS = 86_400 * 10**9


def ordered(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """The places of one symbol's rows by open time, those of one bin by revision."""
    return np.lexsort((columns["receive_time"], columns["revision"], columns["open_time"]))


def latest(columns: Mapping[str, NDArray[Any]], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of rows in the order of `ordered` the places of those that count: the last of each bin."""
    times = columns["open_time"][order]
    is_last = np.ones(len(order), np.bool_)
    is_last[:-1] = times[1:] != times[:-1]
    return order[is_last]


def summed_cvd(columns: Mapping[str, NDArray[Any]], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """The CVD of one symbol through each bin that counts, from the latest deltas of all bins, exact in decimals.

    A stored `cvd` is never rewritten, so it does not know of corrections that came later. What it does know is where
    the sum began, and whether it starts over with a UTC day (`CVD_RESET=daily`): then the first bin of a day was stored
    with a `cvd` that is its own `delta`.

    Args:
        columns: All rows of one symbol from its first day on, in any order.
        order: Their places, from `ordered`.
    """
    times = columns["open_time"][order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = times[1:] != times[:-1]
    stored, chosen = order[is_first], latest(columns, order)
    days = times[is_first] // _DAY_NS
    begins_day = np.ones(len(days), np.bool_)
    begins_day[1:] = days[1:] != days[:-1]
    sums = np.zeros(len(chosen))
    total = Decimal(0)
    for place, (first, last) in enumerate(zip(stored.tolist(), chosen.tolist(), strict=True)):
        if begins_day[place]:
            # At the very first row: where the sum had come to, of which older rows may be removed.
            before = _decimal(columns["cvd"][first]) - _decimal(columns["delta"][first])
            if place == 0 or before == 0:
                total = before
        total += _decimal(columns["delta"][last])
        sums[place] = float(total)
    return sums


def _decimal(value: Any) -> Decimal:
    """The shortest decimal that float64 takes for this value, which is the one that was written."""
    return Decimal(repr(float(value)))
