"""The line of characters that a day becomes."""

import numpy as np

from streamsvc.integrity.quality import longest_silence
from streamsvc.integrity.timeline import CELLS, cells_of, drawn, legend, ruler

HALF_HOUR = 1800


def seconds(*busy):
    made = np.zeros(86_400, np.bool_)
    made[list(busy)] = True
    return made


def test_a_cell_is_half_an_hour():
    cells = cells_of(seconds(0, HALF_HOUR - 1, 2 * HALF_HOUR, 86_399), (0, 86_400), [])
    assert "#.#" + "." * 44 + "#" == cells


def test_what_is_missing_is_seen_whatever_else_is_there():
    cells = cells_of(seconds(*range(86_400)), (0, 86_400), [(HALF_HOUR - 0.5, HALF_HOUR), (86_399, 86_400)])
    assert "xx" + "#" * 45 + "x" == cells


def test_nobody_recorded_before_and_after():
    """Its first and last half hours are those in which somebody did."""
    cells = cells_of(seconds(5 * HALF_HOUR), (5 * HALF_HOUR - 1, 7 * HALF_HOUR), [])
    assert "    .#." + " " * 41 == cells


def test_blocks_where_a_terminal_has_them():
    assert "█·x " == drawn("#.x ", is_fine=True)
    assert "#.x " == drawn("#.x ", is_fine=False)
    assert all(line.isascii() for line in legend(is_fine=False))


def test_hours_stand_above_their_cells():
    assert CELLS == len(ruler())
    assert [2 * hour for hour in range(0, 24, 3)] == [ruler().index(f"{hour:02d}") for hour in range(0, 24, 3)]


def test_the_longest_silence():
    assert (0, 10) == longest_silence(seconds(10, 15), 0, 20)
    assert (16, 84) == longest_silence(seconds(10, 15), 0, 100)
    assert (11, 4) == longest_silence(seconds(10, 15), 10, 16)
    assert (5, 0) == longest_silence(seconds(5), 5, 5)
    assert (0, 86_400) == longest_silence(seconds(), 0, 86_400)
