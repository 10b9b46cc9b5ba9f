"""
A corpus to X, y and groups
===========================

From a folder of raw files to what scikit-learn asks for, in ten lines. The folder is a simulated
DEAP, in its true file format: what is found in it says nothing about emotion.
"""

# %%
# Ten lines
# ---------
# With the real DEAP, leave ``simulate`` out and name its folder. SEED, DREAMER and the others are
# read in the same way; :doc:`/readers` lists them.

import tempfile
from pathlib import Path

from omfa.pipeline import ingest, simulate
from omfa.zoo import open_dataset

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

simulate("deap", folder / "DEAP", subjects=4, seconds=8, effect=3.0, progress=False)
ingest("deap", folder / "DEAP", folder / "deap.zarr", serial=True, progress=False)
data = open_dataset(folder / "deap.zarr", 4.0, target="valence>5")
X, y, groups = data.to_numpy()
print(f"X {X.shape} {X.dtype}, microvolts; y {y.shape}; groups {', '.join(sorted(set(groups)))}")

# %%
# The store is on the disk and stays. Windows are cut when they are read, so another length, another
# stride or another rule for the classes needs no new ingest. Each window says whose it is.

columns = ["subject", "trial", "start_seconds", "valence", "target"]
data.metadata[[name for name in columns if name in data.metadata]].head()

# %%
# What is in it
# -------------
# Classes of ratings are seldom of one size, and the balance differs from person to person: a reason
# to score by balanced accuracy.

import matplotlib.pyplot as plt
import numpy as np

people = sorted(set(groups))
high = [np.mean(y[groups == who]) for who in people]
spectrum = np.abs(np.fft.rfft(X * np.hanning(X.shape[2]), axis=2)) ** 2
hertz = np.fft.rfftfreq(X.shape[2], 1 / data.sfreq)
shown = (hertz >= 4) & (hertz <= 45)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.bar(people, high, color="#0072B2")
left.axhline(0.5, color="0.5", lw=1)
left.set(ylim=(0, 1), ylabel="share of high valence", title="classes of each person")
left.tick_params(axis="x", rotation=20)
for k, name in enumerate(data.classes):
    right.plot(hertz[shown], np.log10(spectrum[y == k].mean(axis=(0, 1)))[shown], label=name)
right.set(xlabel="Hz", ylabel="log power", title="mean spectrum (simulated)")
right.legend()

# %%
# Into scikit-learn
# -----------------
# ``groups`` keeps people apart. Windows of one trial look alike whatever its label is, so trials,
# too, have to stay whole: with people held out they do.

from itertools import pairwise

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# A channel that is absent or bad is zero: 1e-3 keeps its logarithm finite.
edges = [4, 8, 13, 30, 45]
power = np.abs(np.fft.rfft(X, axis=2)) ** 2
bands = [
    np.log(1e-3 + power[..., (hertz >= low) & (hertz < high)].mean(axis=2))
    for low, high in pairwise(edges)
]
features = np.concatenate(bands, axis=1)
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
scores = cross_val_score(
    model, features, y, groups=groups, cv=LeaveOneGroupOut(), scoring="balanced_accuracy"
)
print("balanced accuracy of each held-out person:", scores.round(2), "mean", scores.mean().round(2))

temporary.cleanup()
plt.show()
