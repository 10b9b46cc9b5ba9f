"""Simulated THU-EP: a MATLAB 7.3 file for each subject, and one of everybody's ratings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.formats import write_mat73
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    Tick,
    Write,
    recording_truth,
    words,
)
from omfa.pipeline.simulation.signals import Mixture, Piece, record

THU_EP_CHANNELS = words("""
    Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 A1 A2 CP1 CP2 CP5 CP6
    Pz P3 P4 P7 P8 PO3 PO4 Oz O1 O2
""")
THU_EP_EMOTIONS = words("""
    anger anger anger disgust disgust disgust fear fear fear sadness sadness sadness
    neutral neutral neutral neutral amusement amusement amusement
    inspiration inspiration inspiration joy joy joy tenderness tenderness tenderness
""")
THU_EP_RATINGS = words("""
    anger disgust fear sadness amusement joy inspiration tenderness
    arousal valence familiarity liking
""")
_SECONDS, _SFREQ, _N_SUBJECTS = 30, 250.0, 80
_BROAD = (0.5, 47.0)
_NARROW = ((1, 4), (4, 8), (8, 14), (14, 30), (30, 47))  # Hz; where they end is ours
_STEP = 0.01  # microvolts


def _valence(emotion: str) -> int:
    return 0 if emotion == "neutral" else -1 if emotion in THU_EP_EMOTIONS[:12] else 1


def _ratings(settings: Settings) -> npt.NDArray[np.float64]:
    """Return the ratings of all subjects, (item, clip, subject), from 0 to 7."""
    middle = np.ones((len(THU_EP_RATINGS), len(THU_EP_EMOTIONS)))
    for clip, emotion in enumerate(THU_EP_EMOTIONS):
        if emotion != "neutral":
            middle[THU_EP_RATINGS.index(emotion), clip] = 5.0
        middle[8:, clip] = 3.5, 3.5 + 2 * _valence(emotion), 2.0, 3.5 + _valence(emotion)
    everybody: list[npt.NDArray[np.float64]] = [
        middle + settings.rng(subject, "ratings").normal(0, 1, middle.shape)
        for subject in range(1, _N_SUBJECTS + 1)
    ]
    return np.round(np.clip(np.stack(everybody, axis=2), 0.0, 7.0), 1).astype(np.float64)


def plan(settings: Settings) -> Plan:
    """Plan the files: each subject's, and the ratings of all 80."""
    plan = Plan(sfreq=_SFREQ, channels=THU_EP_CHANNELS)
    plan.targets["valence"] = "1 positive emotions, 0 neutral, -1 negative ones"
    (seconds,) = settings.lengths([_SECONDS])
    ratings = _ratings(settings)
    for subject in settings.subjects:
        name = f"EEG data/sub_{subject}.mat"
        mixture = settings.mixture(THU_EP_CHANNELS, subject)
        pieces = {}
        for clip, emotion in enumerate(THU_EP_EMOTIONS, start=1):
            rated = ratings[:, clip - 1, subject - 1]
            code = _valence(emotion)
            row: dict[str, Any] = {"subject": subject, "session": 1, "trial": clip}
            row |= {"stimulus": str(clip), "seconds": seconds, "emotion": emotion}
            row |= dict(zip(THU_EP_RATINGS, map(float, rated), strict=True))
            plan.trials.append(row | {"code_valence": float(code), "class_valence": code})
            pieces[clip] = settings.piece(seconds, subject, 1, clip, "trial", {"valence": code})
        plan.recordings.append(recording_truth(name, subject, 1, mixture, pieces, blinking=False))
        plan.files[name] = _signals(settings, mixture, list(pieces.values()))
    plan.files["Ratings/ratings.mat"] = lambda path, tick: write_mat73(path, "ratings", ratings)
    return plan


def _signals(settings: Settings, mixture: Mixture, pieces: Sequence[Piece]) -> Write:
    def write(path: Path, tick: Tick) -> None:
        n_times = round(_SFREQ * pieces[0].seconds)
        n_bands = len(_NARROW) + 1
        # In the axes of the HDF5 file, which are MATLAB's in reverse.
        data = np.empty((n_times, len(THU_EP_CHANNELS), len(pieces), n_bands), np.float32)
        frequency = np.fft.rfftfreq(n_times, 1 / _SFREQ)
        for clip, piece in enumerate(pieces):
            (block,) = record(
                mixture,
                [piece],
                sfreq=_SFREQ,
                band=_BROAD,
                effect=settings.effect,
                line_uv=0.0,
                blinking=False,
            )
            spectrum = np.fft.rfft(block)
            for band, (low, high) in enumerate(_NARROW):
                inside = (frequency >= low) & (frequency < high)
                data[:, :, clip, band] = np.fft.irfft(spectrum * inside, n_times).T
            data[:, :, clip, -1] = block.T
            tick()
        write_mat73(path, "data", data, step=_STEP)

    return write


CORPUS = Corpus({"preprocessed": plan}, n_subjects=_N_SUBJECTS)
