"""Draws the way of a window through OMFA: ``python docs/pictures/model.py``.

The signals are random numbers. Places, neighbours and the pull of the distance are the model's own.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from overview import flat

from omfa.models.graph import NEIGHBOURHOOD
from omfa.pipeline import UCS

SHOWN = {"Fp1": "#0072b2", "C4": "#009e73", "Pz": "#cc79a7", "O2": "#d55e00"}
ABSENT = "T7"
FIRST = (
    "any rate\nto 128 Hz",
    "scale to\nunit spread",
    "stem of\nconvolutions",
    "2 tokens\na second",
)
THEN = "transformer", "one vector h\na channel", "powers: five\nbands, 45 bins"
GREY = "#666666"


def box(axes: Axes, x: float, y: float, text: str) -> None:
    """Draw a step of the encoder."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), 0.2, 0.2, boxstyle="round,pad=0.01", facecolor="#e8f3fa", edgecolor="#0072b2"
        )
    )
    axes.text(x + 0.1, y + 0.1, text, ha="center", va="center", fontsize=9)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two steps."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY})


def main() -> None:
    """Draw the picture."""
    mpl.rcParams["svg.hashsalt"] = "omfa"  # the same bytes each time
    figure = Figure(figsize=(11, 3.1), layout="constrained")
    left, middle, right, last = figure.subplots(1, 4, width_ratios=[1.1, 2.5, 1.35, 0.65])

    left.set_title("one row per channel, µV", fontsize=11)
    random = np.random.default_rng(1)
    for row, (name, colour) in enumerate([*SHOWN.items(), (ABSENT, "#bbbbbb")]):
        wave = np.convolve(random.standard_normal(260), np.hanning(9), "valid")
        wave = wave / np.abs(wave).max() * 0.42 if name != ABSENT else np.zeros(len(wave))
        style = ":" if name == ABSENT else "-"
        left.plot(np.linspace(0, 4, len(wave)), wave - row, style, color=colour, linewidth=0.9)
        left.text(-0.15, -row, name, ha="right", va="center", fontsize=9, color=colour)
    left.text(2, -4.35, "absent: masked", ha="center", fontsize=8, color=GREY)
    left.set(xlim=(-0.9, 4.1), ylim=(-4.6, 0.6))

    middle.set_title("ART, the same for every channel, each by itself", fontsize=11)
    for column, text in enumerate(FIRST):
        box(middle, 0.02 + 0.26 * column, 0.6, text)
        if column:
            arrow(middle, (0.26 * column - 0.03, 0.7), (0.26 * column + 0.01, 0.7))
    for column, text in enumerate(THEN):
        box(middle, 0.8 - 0.26 * column, 0.15, text)
    arrow(middle, (0.9, 0.59), (0.9, 0.37))
    arrow(middle, (0.79, 0.25), (0.75, 0.25))
    arrow(middle, (0.38, 0.59), (0.38, 0.37))
    arrow(middle, (0.49, 0.25), (0.53, 0.25))
    middle.text(0.51, 0.39, "two layers", ha="center", fontsize=8, color=GREY)
    middle.text(0.51, 0.03, "to the node", ha="center", fontsize=8, color=GREY)
    middle.set(xlim=(0, 1.03), ylim=(-0.02, 0.9))

    right.set_title("nodes at their places, a graph", fontsize=11)
    places = UCS.positions([*SHOWN, ABSENT])
    spots = flat([*SHOWN, ABSENT])
    turn = np.linspace(0, 2 * np.pi, 100)
    right.plot(1.05 * np.cos(turn), 1.05 * np.sin(turn), color="#999999", linewidth=0.8)
    right.plot([-0.1, 0, 0.1], [1.04, 1.17, 1.04], color="#999999", linewidth=0.8)
    for a, b in combinations(range(len(SHOWN)), 2):
        near = np.exp(-((np.linalg.norm(places[a] - places[b]) / (2 * NEIGHBOURHOOD)) ** 2) / 2)
        right.plot(*spots[[a, b]].T, color=GREY, linewidth=0.4 + 5 * near, alpha=0.6, zorder=1)
    for spot, (name, colour) in zip(spots, [*SHOWN.items(), (ABSENT, "white")], strict=True):
        right.scatter(*spot, s=330, color=colour, edgecolor=GREY, zorder=2)
        shade = GREY if name == ABSENT else "white"
        right.text(*spot, name, ha="center", va="center", fontsize=8, color=shade, zorder=3)
    right.text(0, -1.4, "+ coherency of all pairs", ha="center", fontsize=8, color=GREY)
    right.set(aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.5, 1.3))

    last.set_title("logits", fontsize=11)
    last.barh([2, 1, 0], [0.3, 0.8, 0.45], color=["#999999", "#0072b2", "#999999"], height=0.5)
    last.set(xlim=(0, 1), ylim=(-1.6, 3.2))
    for axes in (left, middle, right, last):
        axes.axis("off")
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
