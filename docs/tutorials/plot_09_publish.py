"""
Publish a checkpoint
====================

A model with a card that says what it is, from a folder to a name that others load, with digests
that are checked. The model learned from simulated people.
"""

# %%
# A model
# -------
# ``lab.py``, beside this file, fine-tunes a tiny one. ``omfa-zoo finetune`` writes the same folder.

import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from lab import learn, record

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
os.environ["OMFA_HOME"] = str(folder / "home")  # where names are looked up, by whoever loads

from omfa.pipeline import DataError
from omfa.zoo import Predictor, evaluate, load, load_card, open_dataset, verify
from omfa.zoo.publish import publish

model = learn(folder)
card = load_card(model)
print(card.datasets)

# %%
# What it is worth
# ----------------
# A card without figures says little. Results of ``evaluate`` go into it, with the intervals, and
# with the protocol that they were had under. Four people are few, and these are simulated.

data = open_dataset(folder / "lab.zarr", window_seconds=2.0, target="event")
training = {"preset": "tiny", "epochs": 12, "lr": 3e-3, "device": "cpu"}
results = [
    evaluate("omfa:scratch", data, "leave-one-subject-out", parameters=training, out=folder / "r"),
    evaluate("relative-band-power+logistic", data, "leave-one-subject-out", out=folder / "r"),
]
for result in results:
    print(f"{result.estimator:30} {result.subjects['balanced_accuracy'].mean():.2f}")

# %%
# A licence is asked for
# ----------------------
# Weights that learned from a corpus may be bound by its terms, so nothing is presumed.

try:
    publish(model, folder / "out")
except DataError as error:
    print(error)

# %%
# A folder for others
# -------------------
# ``publish`` is ``omfa-zoo publish mood out/lab-mood --licence cc-by-4.0 ...``. The folder is what
# a web server or a Hugging Face repository (``hf upload OWNER/lab-mood out/lab-mood``) serves; the
# entry with the digests is what others put into the ``checkpoints.toml`` of their ``OMFA_HOME``.

entry = publish(
    model,
    folder / "out" / "lab-mood",
    name="lab-mood",
    licence="cc-by-4.0",
    use="To try how a checkpoint is published.",
    limits="It learned from four simulated people, and knows nothing about emotion.",
    results=results,
    registry=folder / "home" / "checkpoints.toml",
)
for path in sorted((folder / "out" / "lab-mood").iterdir()):
    print(f"{path.stat().st_size:8}  {path.name}")
print("\n".join(entry.splitlines()[:12]), "\n...")

# %%
# By its name
# -----------
# Whoever has the entry loads it by name. Sizes and digests are compared before anything is read,
# and nothing in a checkpoint is run: weights are safetensors, the rest is JSON.

print("loaded:", type(load("lab-mood", sfreq=128.0)).__name__)
print(verify("lab-mood"))
found = Predictor.from_checkpoint("lab-mood").predict(record(99))
middle = (found.table["start"] + found.table["stop"]) / 2

fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
ax.step(middle, found.table["p_calm"], where="mid")
ax.set(xlabel="s", ylabel="p(calm)", ylim=(0, 1), title="lab-mood on somebody new (simulated)")

# %%
# Weights that were changed on the way are refused.

weights = folder / "out" / "lab-mood" / "model.safetensors"
changed = bytearray(weights.read_bytes())
changed[-1] ^= 1
weights.write_bytes(changed)
try:
    load("lab-mood", sfreq=128.0)
except DataError as error:
    print(str(error).replace(str(folder), ""))

# %%

assert np.isfinite(found.table["p_calm"]).all()
del os.environ["OMFA_HOME"]
temporary.cleanup()
plt.show()
