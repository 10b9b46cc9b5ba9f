"""Simulated EAV: a MATLAB file of signals and one of labels for each subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.formats import mat_numbers, mat_stack, write_mat
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    Tick,
    Write,
    quantized,
    recording_truth,
    words,
)
from omfa.pipeline.simulation.signals import Mixture, Piece, record

EAV_CHANNELS = words("""
    Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6
    P7 P3 Pz P4 P8 PO9 O1 Oz O2 PO10
""")
EAV_EMOTIONS = words("neutral sadness anger happiness calmness")
EAV_CONDITIONS = ("listening", "speaking")
_VALENCE = {"neutral": 0, "sadness": -1, "anger": -1, "happiness": 1, "calmness": 1}
_SECONDS, _SFREQ = 20, 500.0
# The order of the emotions is the corpus's, five pairs of listening and speaking each time; that
# the first of the five is the neutral one is ours.
_ORDER = "AACCSSHACHHSSAACCHHS"
_STEP = 0.1  # microvolts per digit: the amplifier's 16 bits


def _trials(settings: Settings, subject: int) -> list[dict[str, Any]]:
    (seconds,) = settings.lengths([_SECONDS])
    named = {emotion[0].upper(): emotion for emotion in EAV_EMOTIONS}
    shown = [emotion for letter in _ORDER for emotion in ("neutral", *[named[letter]] * 4)]
    return [
        {
            "subject": subject,
            "session": 1,
            "trial": trial,
            "stimulus": str(trial),
            "seconds": seconds,
            "emotion": (emotion := shown[(trial - 1) // 2]),
            "condition": EAV_CONDITIONS[(trial - 1) % 2],
            "code_valence": float(_VALENCE[emotion]),
            "class_valence": _VALENCE[emotion],
        }
        for trial in range(1, 2 * len(shown) + 1)
    ]


def plan(settings: Settings) -> Plan:
    """Plan the files of each subject."""
    plan = Plan(sfreq=_SFREQ, channels=EAV_CHANNELS)
    plan.targets["valence"] = "1 happiness, calmness; 0 neutral; -1 sadness, anger"
    for subject in settings.subjects:
        number = f"{subject:02d}" if "leading_zero" in settings.quirks else str(subject)
        stem = f"EAV/subject{number}/EEG/subject{number}_eeg"
        mixture = settings.mixture(EAV_CHANNELS, subject)
        trials = _trials(settings, subject)
        pieces = {
            row["trial"]: settings.piece(
                row["seconds"], subject, 1, row["trial"], "trial", {"valence": row["code_valence"]}
            )
            for row in trials
        }
        plan.trials += trials
        plan.recordings.append(recording_truth(f"{stem}.mat", subject, 1, mixture, pieces))
        # One half of the files has the one name, the other half the other.
        name = "seg1" if subject % 2 else "seg"
        plan.files[f"{stem}.mat"] = _signals(settings, name, mixture, list(pieces.values()))
        plan.files[f"{stem}_label.mat"] = _labels(trials)
    return plan


def _signals(settings: Settings, name: str, mixture: Mixture, pieces: Sequence[Piece]) -> Write:
    def trials(tick: Tick) -> Iterator[npt.NDArray[np.float64]]:
        for piece in pieces:
            (block,) = record(
                mixture,
                [piece],
                sfreq=_SFREQ,
                band=(0.0, 200.0),
                effect=settings.effect,
                line_uv=2.0,
            )
            tick()
            yield quantized(block, _STEP).T

    def write(path: Path, tick: Tick) -> None:
        shape = (round(_SFREQ * pieces[0].seconds), len(EAV_CHANNELS), len(pieces))
        write_mat(path, [mat_stack(shape, lambda: trials(tick), name)])

    return write


def _labels(trials: Sequence[dict[str, Any]]) -> Write:
    """Return the writer of the labels: a row for each emotion and condition, a column a trial."""
    rows = [
        2 * EAV_EMOTIONS.index(trial["emotion"]) + EAV_CONDITIONS.index(trial["condition"])
        for trial in trials
    ]
    one_hot = (np.arange(10)[:, None] == rows).astype(int)
    return lambda path, tick: write_mat(path, [mat_numbers(one_hot, "label")])


CORPUS = Corpus({"preprocessed": plan}, n_subjects=42, quirks={"preprocessed": ("leading_zero",)})
