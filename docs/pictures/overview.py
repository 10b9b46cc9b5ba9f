"""Draws the picture of the README beside itself: ``python docs/pictures/overview.py``.

Left, the electrodes of each corpus that omfa reads; in the middle, the rows of a store of all of
them; right, the held-out result of ``docs/results.md``, whose figures stand here as they do there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from omfa.pipeline import UCS
from omfa.pipeline.simulation import CORPORA
from omfa.pipeline.simulation.plan import Settings
from omfa.pipeline.simulation.signals import Effect

SHOWN = ("seed", "deap", "dreamer", "faced", "mahnob-hci", "eav")
HELD_OUT = {
    # Of imagined movements, 24 people, fitted wholly: docs/results.md.
    ("fist or rest", "pre-trained"): (0.730, 0.685, 0.770),
    ("fist or rest", "from scratch"): (0.666, 0.614, 0.714),
    ("fist or rest", "tangent space"): (0.634, 0.592, 0.675),
    ("left or right", "pre-trained"): (0.788, 0.736, 0.832),
    ("left or right", "from scratch"): (0.692, 0.642, 0.739),
    ("left or right", "tangent space"): (0.611, 0.566, 0.655),
}
BLUE, GREY = "#0072b2", "#999999"


def channels_of(name: str) -> list[str]:
    """Return the electrodes of a corpus, as its simulator plans them."""
    corpus = CORPORA[name]
    settings = Settings(
        source=name,
        variant=next(iter(corpus.variants)),
        subjects=(1,),
        sessions=(1,),
        seconds=2,
        effect=Effect("power", 0.0),
        seed=0,
        bad_channels=0,
        quirks=frozenset(),
    )
    return [str(channel) for channel in next(iter(corpus.variants.values()))(settings).channels]


def flat(names: list[str]) -> np.ndarray:
    """Return electrodes on a disc, shape (n, 2): the angle from the top is the radius."""
    places = UCS.positions(names) - np.array([0.0, 0.0, 0.04])
    across = np.hypot(places[:, 0], places[:, 1])
    angle = np.arctan2(across, places[:, 2]) / (np.pi / 2)
    return places[:, :2] / across.clip(1e-9)[:, None] * angle[:, None]


def main() -> None:
    """Draw the picture."""
    figure = Figure(figsize=(11, 3.5), dpi=150, layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=[1.15, 1.2, 1.1])
    montages = {name: channels_of(name) for name in SHOWN}

    left.suptitle("corpora as they come", fontsize=11)
    for axes, (name, channels) in zip(left.subplots(2, 3).flat, montages.items(), strict=True):
        spots = flat(channels)
        turn = np.linspace(0, 2 * np.pi, 100)
        axes.plot(np.cos(turn), np.sin(turn), color=GREY, linewidth=0.8)
        axes.plot([-0.1, 0, 0.1], [0.99, 1.12, 0.99], color=GREY, linewidth=0.8)
        axes.scatter(*spots.T, s=5, color=BLUE)
        axes.set_title(f"{name}, {len(channels)}", fontsize=8, pad=2)
        axes.set(aspect="equal", xlim=(-1.45, 1.45), ylim=(-1.25, 1.25))
        axes.axis("off")

    middle.suptitle("one aligned store, nothing dropped", fontsize=11)
    axes = middle.subplots()
    union = UCS.in_order({channel for channels in montages.values() for channel in channels})
    there = np.array([[name in channels for name in union] for channels in montages.values()])
    axes.imshow(there, aspect="auto", cmap="Blues", vmin=0, vmax=1.4, interpolation="none")
    axes.set_yticks(range(len(montages)), montages, fontsize=8)
    axes.set_xticks(range(0, len(union), 6), union[::6], fontsize=7, rotation=90)
    axes.set_xlabel(f"{len(union)} channels of one schema, in one order", fontsize=9)

    right.suptitle("people whom pre-training never saw", fontsize=11)
    axes = right.subplots()
    rows = [row + (row > 2) * 0.6 for row in range(len(HELD_OUT))]  # a gap between the tasks
    for row, ((_, name), (score, low, high)) in zip(rows, HELD_OUT.items(), strict=True):
        colour = BLUE if name == "pre-trained" else GREY
        axes.barh(row, score - 0.5, left=0.5, color=colour, height=0.7)
        axes.plot([low, high], [row, row], color="black", linewidth=1)
        axes.text(high + 0.008, row, f"{score:.3f}".lstrip("0"), va="center", fontsize=8)
    axes.set_yticks(rows, [name for _, name in HELD_OUT], fontsize=8)
    for row, task in ((-0.65, "fist or rest"), (2.95, "left or right")):
        axes.text(0.503, row, task, fontsize=8, style="italic")
    axes.set_ylim(rows[-1] + 0.6, -1.1)
    axes.set_xlim(0.5, 0.9)
    axes.set_xlabel("balanced accuracy (chance .5)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
