"""A simulated laboratory for the tutorials: recordings, and a model that learned from them.

Four people are calm and tense in turns of four seconds; a rhythm of 10 Hz is strong while they are
calm. What is found in such signals says that software works, and nothing about emotion.
"""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np

from omfa.pipeline import ingest
from omfa.zoo import fine_tune, open_dataset

CHANNELS = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2"]
TRIAL = 4.0
"""Seconds from one state to the other."""

COMMAND = "fine_tune(), as the function learn() of lab.py, in omfa's tutorials, calls it"
"""What the card says of how the model was made."""


def record(seed: int, trials: int = 6) -> mne.io.RawArray:
    """Return a simulated recording at 256 Hz, in volts as MNE has it, annotated."""
    rng, sfreq = np.random.default_rng(seed), 256.0
    n_times = round(trials * TRIAL * sfreq)
    t = np.arange(n_times) / sfreq
    # Neighbours share half of the noise: channels that agree with none are taken for bad ones.
    signal = 6 * rng.standard_normal(n_times) + 6 * rng.standard_normal((len(CHANNELS), n_times))
    strength = np.where(t // TRIAL % 2 == 0, 40, 4)
    rhythm = strength * np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6))
    signal += rhythm * np.linspace(0.5, 1, len(CHANNELS))[:, np.newaxis]
    info = mne.create_info(CHANNELS, sfreq, "eeg")
    raw = mne.io.RawArray(signal * 1e-6, info, verbose="error")
    names = ["calm" if i % 2 == 0 else "tense" for i in range(trials)]
    return raw.set_annotations(mne.Annotations(np.arange(trials) * TRIAL, TRIAL, names))


def learn(folder: Path) -> Path:
    """Return a tiny model that learned from four simulated people, from scratch."""
    (folder / "raw").mkdir()
    for person in range(1, 5):
        record(person).save(folder / "raw" / f"S{person:02d}_raw.fif", verbose="error")
    ingest(
        "files",
        folder / "raw",
        folder / "lab.zarr",
        name="lab",
        labels_from="annotations",
        pattern="S{subject}_raw.fif",
        serial=True,
        progress=False,
    )
    dataset = open_dataset(folder / "lab.zarr", window_seconds=2.0, target="event")
    training = {"preset": "tiny", "epochs": 12, "lr": 3e-3, "device": "cpu"}
    return fine_tune(dataset, folder / "mood", parameters=training, command=COMMAND)
