"""
Fine-tune a checkpoint on your own Raw
======================================

A pre-trained encoder, braindecode's ``EEGClassifier`` and recordings of your own. The recordings
are simulated here: six people who are calm and tense in turns. The checkpoint comes with omfa.
"""

# %%
# Recordings to Epochs
# --------------------
# ``lab.py``, beside this file, makes Raws in volts, as MNE reads them from files. A window is two
# seconds of one state.

import warnings

import matplotlib.pyplot as plt
import mne
import numpy as np
from lab import record

from omfa.models import OMFA
from omfa.zoo import load, load_card

STATES = {"calm": 0, "tense": 1}


def windows(raw):
    """Cut the annotated states into windows of two seconds."""
    raw = raw.copy().resample(128, verbose="error")  # the rate that the checkpoint learned from
    events, _ = mne.events_from_annotations(raw, STATES, chunk_duration=2.0, verbose="error")
    return mne.Epochs(
        raw, events, STATES, tmin=0, tmax=2 - 1 / raw.info["sfreq"],
        baseline=None, preload=True, verbose="error",
    )  # fmt: skip


people = [windows(record(person, trials=8)) for person in range(6)]
train, test = mne.concatenate_epochs(people[:4], verbose="error"), people[4:]
y = train.events[:, 2]
print(train)

# %%
# Units
# -----
# OMFA reads microvolts. ``EEGClassifier`` converts ``mne.Epochs`` from volts itself, so nothing is
# to be said here; arrays it passes on as they are. The table in :doc:`/prediction` has every
# object. A wrong unit gives a warning, as ``get_data()`` in volts does:

model = OMFA(n_outputs=2, chs_info=train.info["chs"], sfreq=128.0, preset="tiny").eval()
import torch

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    model(torch.as_tensor(train.get_data()[:4], dtype=torch.float32))
print(str(said[-1].message))

# %%
# A checkpoint
# ------------
# Its card says who trained it. Its encoder is trained; its classifier is new, and is told to be.

card = load_card("omfa-tiny-openeeg")
print(card.datasets)


def start():
    """Return the checkpoint for these channels, this rate and two classes."""
    return load("omfa-tiny-openeeg", n_outputs=2, chs_info=train.info["chs"], sfreq=128.0)


# %%
# Freezing
# --------
# Parameters that need no gradient stay as they are. With little data a frozen encoder is the safer
# choice: only the graph over the channels and the classifier learn, and an epoch is fast.

from braindecode import EEGClassifier


def fit(n_people, *, freeze):
    """Fit to the first people, and return the classifier."""
    module = start()
    if freeze:
        for parameter in module.encoder.parameters():
            parameter.requires_grad = False
    some = mne.concatenate_epochs(people[:n_people], verbose="error")
    net = EEGClassifier(
        module, optimizer=torch.optim.AdamW, lr=2e-3, batch_size=16, max_epochs=12,
        train_split=None, classes=[0, 1], verbose=0, iterator_train__shuffle=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return net.fit(some, some.events[:, 2])


def score(net):
    """Return the share of right answers about each new person."""
    return [np.mean(net.predict(one) == one.events[:, 2]) for one in test]


frozen = fit(4, freeze=True)
trainable = sum(p.numel() for p in frozen.module_.parameters() if p.requires_grad)
print(f"{trainable} of {sum(p.numel() for p in frozen.module_.parameters())} weights were fitted")
print("frozen encoder, two new people:", np.round(score(frozen), 2))

# %%
# Training loss, epoch by epoch.

whole = fit(4, freeze=False)
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for name, net in (("encoder frozen", frozen), ("all fitted", whole)):
    ax.plot(net.history[:, "epoch"], net.history[:, "train_loss"], ".-", label=name)
ax.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
ax.legend()

# %%
# A learning curve
# ----------------
# How many labelled people does it take? Two new people are asked each time. They are simulated, and
# easy; with real ones ``omfa-zoo evaluate --train-subjects`` gives the curve with intervals.

sizes = (1, 2, 4)
curve = [score(fit(n, freeze=True)) for n in sizes[:-1]] + [score(frozen)]
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(sizes, [np.mean(one) for one in curve], "o-", label="mean")
for n, one in zip(sizes, curve, strict=True):
    ax.plot([n] * len(one), one, ".", color="0.5")
ax.axhline(0.5, color="0.6", ls="--", lw=1, label="chance")
ax.set(xlabel="people to learn from", ylabel="right answers", ylim=(0.3, 1.05), xticks=sizes)
ax.legend(loc="lower right")
assert np.mean(curve[-1]) > 0.7

plt.show()
