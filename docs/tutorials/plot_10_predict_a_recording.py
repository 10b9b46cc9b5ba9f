"""
Predict a recording
===================

A fine-tuned model answers a recording that has no labels: when was this person calm, when tense?
Everything here is simulated, in a temporary folder.
"""

# %%
# A model
# -------
# ``lab.py``, beside this file, simulates four people, makes a store of them and fine-tunes a tiny
# model. On data of your own these are two commands::
#
#     omfa-ingest files EDF/ lab.zarr --name lab --pattern 'S{subject}.edf' \
#         --labels-from annotations
#     omfa-zoo finetune lab.zarr --target event --checkpoint omfa-tiny-openeeg --out mood

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from lab import TRIAL, learn, record

from omfa.zoo import Predictor

temporary = tempfile.TemporaryDirectory()
predictor = Predictor.from_checkpoint(learn(Path(temporary.name)))
print("It tells apart:", *predictor.decision.classes)

# %%
# A new recording
# ---------------
# Somebody whom the model has never seen. The annotations are not given: they serve to check the
# answers below.

raw = record(seed=99)
truth = raw.annotations.description
raw.set_annotations(None)
found = predictor.predict(raw)
print("Warnings:", *found.warnings or ["none"])

# %%
# Answers
# -------
# A row per window of two seconds. ``omfa-zoo predict mood new.edf --out answers`` writes the same
# table, and a page that shows it.

print(found.table.round(3).to_string())

# %%
# The probability of one class over time, and what was simulated.

middle = (found.table["start"] + found.table["stop"]) / 2
fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for start in np.flatnonzero(truth == "calm") * TRIAL:
    ax.axvspan(start, start + TRIAL, color="0.9", label="simulated calm" if start == 0 else "")
ax.step(middle, found.table["p_calm"], where="mid", label="p(calm)")
ax.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1))
ax.legend(loc="upper right")

right = np.mean(found.table["class"] == np.repeat(truth, 2))
print(f"{right:.0%} of the windows are answered rightly.")
assert right > 0.8

# %%
# The answers go back into MNE as annotations.

raw.set_annotations(found.annotations())
print(raw.annotations)

# %%
# What is missing
# ---------------
# One electrode fell off, another recorded nothing: both are masked, and named. Answers differ for
# it, and nothing is invented in their place.

damaged = raw.copy().drop_channels(["C4"])
damaged.apply_function(lambda signal: 0 * signal, picks=["Fp2"])
found = predictor.predict(damaged)
for channel, state in found.channels.items():
    print(f"{channel:4} {state}")
print(*found.warnings, sep="\n")
assert found.table["share_present"].eq(0.75).all()

temporary.cleanup()
plt.show()
