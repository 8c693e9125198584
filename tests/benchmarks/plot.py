"""Draws what `cost_curves.py` measured.

python plot.py MEASURED.json PICTURE.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter


def draw(axes: Any, points: list[dict[str, Any]], key: str, label: str, *, is_log: bool) -> None:
    """One curve: all processes, and the main process alone."""
    places = [point[key] for point in points]
    axes.plot(places, [point["cpu_us"] for point in points], "o-", label="all processes")
    axes.plot(places, [point["cpu_main_us"] for point in points], "s--", label="of it the main process")
    for point in points:
        if point["is_beyond"]:
            note = f"the limit: {point['per_sec']:,}/s"
            arrow = {"arrowstyle": "-", "color": "grey"}
            place = point[key], point["cpu_us"]
            axes.annotate(note, place, (8, 110), textcoords="offset points", ha="right", arrowprops=arrow)
    axes.set_xscale("log")
    if is_log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(label)
    axes.set_ylabel("CPU time of a message, µs")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()


def main(source: str, target: str) -> None:
    """Draw both curves beside each other."""
    measured = json.loads(Path(source).read_text())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    rate = measured["by_symbols"][0]["wanted_per_sec"]
    draw(left, measured["by_symbols"], "symbols", f"symbols, at {rate:,.0f} messages/s", is_log=False)
    symbols = measured["by_rate"][0]["symbols"]
    draw(right, measured["by_rate"], "per_sec", f"messages/s, of {symbols} symbols", is_log=True)
    figure.savefig(target, dpi=110, facecolor="white")


if __name__ == "__main__":
    main(*sys.argv[1:])
