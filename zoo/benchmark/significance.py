"""The one test over tasks and people, and what a comparison could have shown.

**The test**, fixed before it was run on the people held out. For each person and each task that
counts, the effect is the mean over the three matched pairs (fitted, frozen, linear probe) of the
balanced accuracy of pre-trained OMFA minus that of its control, as a share of the range between
chance and 1. Effects are averaged over the people of a task and then over tasks, so that each task
weighs the same however many people it has. Under the null hypothesis pre-training changes nothing
and the sign of a person's effects is a coin's: all effects of one person, in whatever tasks, are
flipped together, since they come from one head and one pair of models (sign flipping within
exchangeable blocks: Winkler et al. 2014, NeuroImage 92:381-397). Two-sided, as pre-training may
harm. It takes all pairs and all tasks that count; with less, there is no test.

**What could have been shown**: the least true difference that a paired t test of ``n`` people finds
at a level with a power, from the noncentral t distribution (Cohen 1988, chapter 2).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

ENUMERATED = 16
"""People up to whom all signs are tried; with more, ``N_FLIPS`` random ones beside the real one."""

N_FLIPS = 99_999

PAIRED_SD = 0.13
"""Standard deviation between people of a paired difference in balanced accuracy, measured on
earlier comparisons on these tasks; for what a comparison could show before it is made."""


@dataclass(frozen=True)
class Overall:
    """What the test over tasks and people says.

    Attributes
    ----------
    effect : float
        Mean over tasks, as a share of the range between chance and 1.
    tasks : dict of str to float
        The mean of each task.
    n_people : int
    p : float
    least_p : float
        The least that so many people can give.
    """

    effect: float
    tasks: dict[str, float]
    n_people: int
    p: float
    least_p: float


def effects(scores: pd.DataFrame, pairs: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Return each person's effect of pre-training in each task.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns ``task``, ``person``, ``row``, ``score`` (balanced accuracy, 0 to 1) and ``chance``.
    pairs : tuple of (str, str)
        Each pre-trained row and its control.

    Returns
    -------
    pandas.DataFrame
        Columns ``task``, ``person``, ``effect``.
    """
    wide = scores.pivot(index=["task", "person", "chance"], columns="row", values="score")
    apart = pd.DataFrame({pair: wide[pair[0]] - wide[pair[1]] for pair in pairs})
    found = apart.mean(axis=1).rename("effect").reset_index()
    found["effect"] /= 1 - found["chance"]
    return found[["task", "person", "effect"]]


def overall_test(table: pd.DataFrame, *, seed: int = 0) -> Overall:
    """Test whether the mean effect over tasks and people is 0, by flipping signs of people.

    Parameters
    ----------
    table : pandas.DataFrame
        What ``effects`` returned.
    seed : int
        Of the signs, where they are too many to try all.

    Returns
    -------
    Overall
    """
    tasks = table.groupby("task", sort=False)["effect"].mean()
    n = table.groupby("task")["effect"].transform("size")
    # The mean over tasks of means over people is a sum of what each person contributes.
    share = (table["effect"] / (n * len(tasks))).groupby(table["person"]).sum().to_numpy()
    effect = float(share.sum())
    if len(share) <= ENUMERATED:
        signs = np.array(list(itertools.product((1, -1), repeat=len(share))))
        extreme = np.abs(signs @ share) >= abs(effect) - 1e-12
        p, least = float(extreme.mean()), 2.0 ** (1 - len(share))
    else:
        rng = np.random.default_rng(seed)
        # In parts: all signs at once would take hundreds of megabytes.
        n_extreme = 0
        for part in np.array_split(np.arange(N_FLIPS), 100):
            signs = 2 * rng.integers(0, 2, (len(part), len(share))) - 1
            n_extreme += int((np.abs(signs @ share) >= abs(effect) - 1e-12).sum())
        p, least = (1 + n_extreme) / (1 + N_FLIPS), 1 / (1 + N_FLIPS)
    by_task = {str(name): float(value) for name, value in tasks.items()}
    return Overall(effect, by_task, len(share), p, least)
