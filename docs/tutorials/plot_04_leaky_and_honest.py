"""
Leaky and honest, side by side
==============================

The same model, the same windows, and labels that mean nothing: whatever is above chance is the
split's, and not the model's. The corpus is a simulated DREAMER without any effect.
"""

# %%
# Nothing to be found
# -------------------
# ``effect=0``: the signal does not depend on the rating. Every trial has a character of its own, as
# real ones have.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from omfa.pipeline import ingest, simulate
from omfa.zoo import Protocol, compare_table, evaluate, inflation, open_dataset

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
simulate("dreamer", folder / "DREAMER", subjects=6, seconds=20, effect=0.0, progress=False)
ingest("dreamer", folder / "DREAMER", folder / "dreamer.zarr", serial=True, progress=False)
data = open_dataset(folder / "dreamer.zarr", 2.0, target="valence>3")
print(data)

# %%
# Two splits
# ----------
# ``leaky-window`` shuffles windows, so that neighbours of one trial are on both sides. It is what
# most published figures above 90 % did. ``within-subject`` keeps trials whole.

MODEL = "differential-entropy+svm"
honest = evaluate(MODEL, data, Protocol("within-subject", n_folds=4), out=folder / "results")
leaky = evaluate(MODEL, data, Protocol("leaky-window", n_folds=4), out=folder / "results")
columns = ["protocol", "model", "balanced_accuracy", "low", "high", "majority"]
compare_table([honest, leaky])[columns].style.hide(axis="index").format(precision=3)

# %%
# On one axis
# -----------
# A line is a person.

fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
pairs = np.array([one.subjects["balanced_accuracy"] for one in (honest, leaky)])
ax.plot([0, 1], pairs, "o-", color="0.6", lw=1)
ax.plot([0, 1], pairs.mean(axis=1), "D", color="#D55E00", ms=9, label="mean")
ax.axhline(0.5, color="k", ls="--", lw=1, label="chance: nothing is there")
ax.axvspan(0.6, 1.4, color="#D55E00", alpha=0.12)
ax.set(
    xlim=(-0.4, 1.4), ylim=(0, 1), xticks=[0, 1], ylabel="balanced accuracy",
    xticklabels=["within-subject\ntrials whole", "LEAKY\nwindows shuffled"],
    title="labels that mean nothing (simulated)",
)  # fmt: skip
ax.legend(loc="lower right")

# %%
# How much is it?
# ---------------
# ``inflation`` pairs the two by person.

added = inflation(leaky, honest)
low, high = added.interval
print(f"leaking adds {added.difference:.2f} [{low:.2f}, {high:.2f}], p {added.p:.3f}")

# %%
# Proved, not promised
# --------------------
# Every fold is checked before anything is trained. A split made by hand can be checked, too; this
# one breaks the promise, and is refused.

from omfa.pipeline import DataError
from omfa.zoo import Fold, check_fold, split

protocol = Protocol("within-subject", n_folds=4)
first = split(data.metadata, data.y, protocol)[0]
swapped = Fold(
    name="by hand",
    train=np.sort(np.append(first.train[1:], first.test[0])),
    validation=first.validation,
    test=first.test[1:],
)
try:
    check_fold(data.metadata, swapped, protocol)
except DataError as error:
    print(error)

assert pairs[1].mean() > pairs[0].mean()
temporary.cleanup()
plt.show()
