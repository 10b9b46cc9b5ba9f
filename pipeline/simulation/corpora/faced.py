"""Simulated FACED: the processed pickles, the ratings, and the table of people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.formats import (
    DISCLAIMER,
    mat_doubles,
    mat_numbers,
    mat_structs,
    write_mat,
    write_python3_pickle,
)
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    Tick,
    Write,
    recording_truth,
    text_file,
    words,
)
from omfa.pipeline.simulation.signals import Mixture, Piece, record

# The ears come last, the right one first.
FACED_CHANNELS = words(
    "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 "
    "CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 PO3 PO4 Oz O1 O2 A2 A1"
)
FACED_EMOTIONS = (
    *words("anger anger anger disgust disgust disgust fear fear fear sadness sadness sadness"),
    *words("neutral neutral neutral neutral amusement amusement amusement"),
    *words("inspiration inspiration inspiration joy joy joy tenderness tenderness tenderness"),
)
_VALENCE = (*(-1,) * 12, *(0,) * 4, *(1,) * 12)
# The items of a score, in the order of the file.
_ITEMS = words("joy tenderness inspiration amusement anger disgust fear sadness")
_ITEMS += words("arousal valence familiarity liking")
_N_CLIPS, _SECONDS, _SFREQ = len(FACED_EMOTIONS), 30, 250
_N_SUBJECTS, _N_FIRST_COHORT, _N_FAST = 123, 80, 68


def _scores(settings: Settings, subject: int) -> npt.NDArray[np.float64]:
    """Return a subject's simulated scores, shape (28 clips, 12 items), 0-7 in tenths."""
    draw = settings.rng(subject, "scores")
    scores = draw.uniform(0, 2, (_N_CLIPS, len(_ITEMS)))
    for clip, (emotion, valence) in enumerate(zip(FACED_EMOTIONS, _VALENCE, strict=True)):
        if emotion in _ITEMS:
            scores[clip, _ITEMS.index(emotion)] += 4
        scores[clip, 8] += 1.5 + 2 * abs(valence)
        scores[clip, 9] += 2.5 + 2 * valence
    return np.clip(scores, 0, 7).round(1)


def _order(settings: Settings, subject: int) -> list[int]:
    """Return the clips in the order in which a subject saw them."""
    return [int(clip) + 1 for clip in settings.rng(subject, "order").permutation(_N_CLIPS)]


def plan(settings: Settings) -> Plan:
    """Plan the processed release; subject 1 is ``sub000``."""
    plan = Plan(sfreq=float(_SFREQ), channels=FACED_CHANNELS)
    plan.targets["valence"] = "1 positive, 0 neutral, -1 negative emotions"
    folder = "Rating" if "ratings_apart" in settings.quirks else "Data"
    (seconds,) = settings.lengths([_SECONDS])
    for number in settings.subjects:
        subject = number - 1
        name = f"Processed_data/sub{subject:03}.pkl"
        mixture = settings.mixture(FACED_CHANNELS, subject)
        scores, order = _scores(settings, subject), _order(settings, subject)
        rows = [_trial(subject, clip, seconds, scores[clip - 1]) for clip in range(1, _N_CLIPS + 1)]
        pieces = [
            settings.piece(
                seconds, subject, 1, row["trial"], "clip", {"valence": row["code_valence"]}
            )
            for row in rows
        ]
        plan.trials += rows
        plan.recordings.append(recording_truth(name, subject, 1, mixture, {}))
        plan.files[name] = _writer(settings, subject, mixture, pieces)
        plan.files[f"{folder}/sub{subject:03}/After_remarks.mat"] = _ratings_writer(scores, order)
    plan.files["Recording_info.csv"] = text_file(_people(settings))
    plan.files["Dataset_description.md"] = text_file(f"{DISCLAIMER}.\n")
    return plan


def _trial(
    subject: int, clip: int, seconds: int, scores: npt.NDArray[np.float64]
) -> dict[str, Any]:
    row: dict[str, Any] = {"subject": subject, "session": 1, "trial": clip, "stimulus": str(clip)}
    row |= {"seconds": seconds, "emotion": FACED_EMOTIONS[clip - 1]}
    row |= dict(zip(_ITEMS, scores.tolist(), strict=True))
    row["code_valence"] = float(_VALENCE[clip - 1])
    row["class_valence"] = _VALENCE[clip - 1]
    return row


def _writer(settings: Settings, subject: int, mixture: Mixture, pieces: Sequence[Piece]) -> Write:
    n_times = round(_SFREQ * pieces[0].seconds)
    flat = [i for i, name in enumerate(mixture.channels) if mixture.bad.get(name) == "flat"]
    scale = 1e-6 if "volts" in settings.quirks and subject % 3 == 1 else 1.0

    def trials(tick: Tick) -> Iterator[npt.NDArray[np.floating]]:
        for piece in pieces:
            (eeg,) = record(
                mixture,
                [piece],
                sfreq=float(_SFREQ),
                band=(0.05, 47.0),
                effect=settings.effect,
                line_uv=0.0,
                blinking=False,  # the release has them taken out by ICA
            )
            eeg -= eeg.mean(axis=0)  # common average reference
            # Again: the reference has put the others' mean into them.
            eeg[flat] = 0
            tick()
            yield eeg.astype(np.float64) * scale

    def write(path: Path, tick: Tick) -> None:
        shape = (_N_CLIPS, len(FACED_CHANNELS), n_times)
        write_python3_pickle(path, shape, trials(tick))

    return write


def _ratings_writer(scores: npt.NDArray[np.float64], order: Sequence[int]) -> Write:
    def write(path: Path, tick: Tick) -> None:
        # In the order of presentation, unlike the signals.
        shown = [
            {
                "score": mat_doubles((1, len(_ITEMS)), scores[[clip - 1]].copy),
                "vid": mat_numbers(clip),
            }
            for clip in order
        ]
        write_mat(path, [mat_structs(shown, "After_remark")])

    return write


def _people(settings: Settings) -> str:
    """Return Recording_info.csv: all subjects, so that a smaller tree holds the same table."""
    lines = ["sub,Gender,Age,Cohort ,Sample_rate,Unit"]
    for subject in range(_N_SUBJECTS):
        draw = settings.rng(subject, "participant")
        sex, age = draw.choice(["F", "M"], p=[0.6, 0.4]), draw.integers(17, 39)
        first = subject < _N_FIRST_COHORT
        rate = 1000 if subject < _N_FAST else 250
        lines.append(
            f"sub{subject:03},{sex},{age},{1 if first else 2},{rate},{'V' if first else 'uV'}"
        )
    return "\n".join(lines) + "\n"


CORPUS = Corpus({"processed": plan}, n_subjects=_N_SUBJECTS,
                quirks={"processed": ("ratings_apart", "volts")})  # fmt: skip
