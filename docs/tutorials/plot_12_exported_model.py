"""
An exported model
=================

A fine-tuned model as one file, run by onnxruntime without omfa and torch.
This needs ``pip install 'omfa[onnx]'``; whoever runs the file needs onnxruntime alone.
"""

# %%
# A model, as in the first tutorial, and its file. ``omfa-zoo export mood`` does the same.
# The file gets its name only once its answers are those of torch.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from lab import learn, record

from omfa.pipeline.preprocess import preprocess
from omfa.zoo import export, read_decision

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
model = learn(folder)
print(export(model, folder / "mood.onnx"))

# %%
# Windows
# -------
# The file takes microvolts in the band, at the rate and with the channels that it names. Whoever
# has no omfa brings signals there by other means; here the pipeline does it for somebody new.

raw, decision = record(seed=99), read_decision(model)
raw.pick(list(decision.channels)).reorder_channels(list(decision.channels))
signal = raw.get_data(units="uV").astype(np.float32)
clean = preprocess(signal, raw.info["sfreq"], decision.preprocessing, channels=raw.ch_names)
n_windows = clean.shape[1] // decision.n_times
windows = clean[:, : n_windows * decision.n_times].reshape(len(clean), n_windows, -1)
np.save(folder / "windows.npy", windows.swapaxes(0, 1))

# %%
# Ten lines of onnxruntime
# ------------------------
# Nothing below needs omfa.

import json

import onnxruntime

session = onnxruntime.InferenceSession(folder / "mood.onnx")
says = json.loads(session.get_modelmeta().custom_metadata_map["omfa"])
X = np.load(folder / "windows.npy").astype(np.float32)  # (windows, channels, samples), microvolts
present = np.ones(X.shape[:2], bool)  # False where a channel is missing or bad
logits, probabilities = session.run(None, {"x": X, "mask": present})
for p in probabilities:
    print(says["classes"][p.argmax()], f"{p.max():.2f}")

# %%
# What the file says of itself.

for key in ("channels", "sfreq", "window_seconds", "unit", "band", "reference"):
    print(f"{key}: {says[key]}")

# %%
# The simulated person is calm and tense in turns of two windows.

fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
image = ax.imshow(probabilities.T, aspect="auto", vmin=0, vmax=1)
ax.set(xlabel="window", yticks=range(len(says["classes"])), yticklabels=says["classes"])
fig.colorbar(image, label="probability")

truth = np.repeat(np.arange(6) % 2, 2)
assert np.mean(probabilities.argmax(axis=1) == truth) > 0.8

temporary.cleanup()
plt.show()
