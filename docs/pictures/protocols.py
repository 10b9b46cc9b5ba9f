"""Draws what each protocol puts on which side: ``python docs/pictures/protocols.py``.

The folds are those that ``omfa.zoo.split`` makes of a small plan of people and clips.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from omfa.zoo import Protocol, split

N_PEOPLE, N_CLIPS, N_WINDOWS = 6, 10, 4
SIDES = {"not used": "#f2f2f2", "train": "#0072b2", "validation": "#a6cee3", "test": "#d55e00"}
SHOWN = (
    Protocol("leaky-window"),
    Protocol("within-subject"),
    Protocol("cross-session"),
    Protocol("cross-subject", n_folds=3),
    Protocol("cross-subject-stimulus", n_folds=3, n_stimulus_folds=3),
    Protocol("cross-dataset"),
)


def plan(protocol: Protocol) -> pd.DataFrame:
    """Return a row per window; people are halves of two datasets, clips halves of two sessions."""
    datasets, sessions = protocol.name == "cross-dataset", protocol.name == "cross-session"
    rows = []
    for person, clip, window in product(range(N_PEOPLE), range(N_CLIPS), range(N_WINDOWS)):
        rows.append(
            {
                "dataset": "b" if datasets and person >= N_PEOPLE / 2 else "a",
                "subject": f"{person}",
                "session": "2" if sessions and clip >= N_CLIPS / 2 else "1",
                "run": "1",
                "trial": clip,
                "stimulus": f"{clip}",
                "i_start_in_trial": 128 * (clip * N_WINDOWS + window),
                "i_stop_in_trial": 128 * (clip * N_WINDOWS + window + 1),
                "target": clip % 2,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Draw the picture."""
    mpl.rcParams["svg.hashsalt"] = "omfa"  # the same bytes each time
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, protocol in zip(figure.subplots(2, 3).flat, SHOWN, strict=True):
        windows = plan(protocol)
        fold = split(windows, windows["target"], protocol)[0]
        side = np.zeros(len(windows))
        for number, name in enumerate(SIDES):
            if number:
                side[fold.side(name)] = number
        picture = side.reshape(N_PEOPLE, -1)
        axes.imshow(picture, aspect="auto", cmap=ListedColormap([*SIDES.values()]), vmin=0, vmax=3)
        for person in range(1, N_PEOPLE):
            axes.axhline(person - 0.5, color="white", linewidth=2)
        for clip in range(1, N_CLIPS):
            axes.axvline(clip * N_WINDOWS - 0.5, color="white", linewidth=2)
        axes.set_title(protocol.name, fontsize=11)
        axes.set_xticks(
            np.arange(N_CLIPS) * N_WINDOWS + (N_WINDOWS - 1) / 2, range(1, N_CLIPS + 1), fontsize=8
        )
        axes.set_yticks(range(N_PEOPLE), range(1, N_PEOPLE + 1), fontsize=8)
        axes.set_xlabel(
            {"cross-session": "clip: 1-5 in session 1, 6-10 in session 2"}.get(
                protocol.name, "clip"
            ),
            fontsize=9,
        )
        axes.set_ylabel(
            {"cross-dataset": "person: 1-3, 4-6"}.get(protocol.name, "person"), fontsize=9
        )
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in SIDES.items()],
        loc="outside lower center",
        ncols=len(SIDES),
        frameon=False,
    )
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
