"""Simulated AMIGOS: the preprocessed .mat files, a row of cells per subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.formats import (
    DISCLAIMER,
    MatElement,
    mat_cell,
    mat_doubles,
    mat_text,
    write_mat,
)
from omfa.pipeline.simulation.plan import (
    HIGH,
    Corpus,
    Plan,
    Settings,
    Tick,
    Write,
    recording_truth,
    text_file,
    words,
)
from omfa.pipeline.simulation.signals import BASELINE, Mixture, Piece, heartbeat, record, rng

AMIGOS_CHANNELS = words("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4")
# The published ranges fix the shortest and the longest of each kind; the others are ours.
_SHORT = dict(
    zip(
        words("4 5 9 10 13 18 19 20 23 30 31 34 36 58 80 138"),
        (51, 96, 67, 150, 84, 72, 113, 59, 101, 90, 78, 128, 63, 110, 87, 140),
        strict=True,
    )
)
_LONG = {"N1": 846, "P1": 1010, "B1": 1180, "U1": 1416}
_RATINGS = words("arousal valence dominance liking familiarity")
_CHOICES = words("neutral disgust happiness surprise anger fear sadness")
_WITHOUT_LONG = (8, 24, 28)
# The release's three faults: in which cell of every fourth subject, from the first, second, third.
_FAULTS = {1: (4, "empty"), 2: (6, "nan"), 3: (8, "unlabelled")}
_BASELINE_SECONDS, _FRAME_SECONDS = 5, 20
_N_SUBJECTS = 40


def _order(settings: Settings, subject: int) -> list[str]:
    """Return a subject's videos, short ones first, in the order of the cells."""
    draw = settings.rng(subject, "order")
    return [str(video) for part in (_SHORT, _LONG) for video in draw.permutation(list(part))]


def _answers(settings: Settings, subject: int, video: str) -> list[float]:
    """Return simulated self-assessments: five ratings of 1-9 in tenths, seven choices of 0 or 1."""
    mean = settings.rng("videos", video).uniform(2.5, 7.5, 2)
    draw = settings.rng(subject, "answers", video)
    arousal, valence = mean + draw.normal(0, 1.4, 2)
    others = (5 + draw.normal(0, 2), 1.5 + 0.7 * valence + draw.normal(0, 1), draw.uniform(1, 9))
    ratings = np.clip((arousal, valence, *others), 1, 9).round(1)
    choices = (draw.random(len(_CHOICES)) < 0.2).astype(float)
    if not choices.any():
        choices[0] = 1.0
    return [*ratings.tolist(), *choices.tolist()]


def plan(settings: Settings) -> Plan:
    """Plan the preprocessed release."""
    plan = Plan(sfreq=128.0, channels=AMIGOS_CHANNELS)
    plan.targets = {target: text.format(5) for target, text in HIGH.items()}
    lengths = settings.lengths([*_SHORT.values(), *_LONG.values()])
    seconds = dict(zip((*_SHORT, *_LONG), lengths, strict=True))
    for subject in settings.subjects:
        stem = f"Data_Preprocessed_P{subject:02}"
        inside = f"{stem}/" if "folder_each" in settings.quirks else ""
        name = f"Physiological Recordings/Matlab Preprocessed Data/{inside}{stem}.mat"
        mixture = settings.mixture(AMIGOS_CHANNELS, subject)
        rows = [
            _trial(settings, subject, cell, video, seconds[video])
            for cell, video in enumerate(_order(settings, subject), start=1)
        ]
        recording = recording_truth(name, subject, 1, mixture, {})
        for row in rows:
            if row["cell"] == "nan":
                first = max(0, _missing(row) - 128 * _BASELINE_SECONDS)
                length = 128 * row["seconds"] - first
                recording["missing"].append([row["trial"], list(AMIGOS_CHANNELS), first, length])
        plan.files[name] = _writer(settings, mixture, rows)
        plan.trials += [_told(row) for row in rows if row["cell"] != "empty"]
        plan.recordings.append(recording)
    plan.files["Metadata_csv/Participant_Questionnaires.csv"] = text_file(_people(settings))
    plan.files["readme.txt"] = text_file(f"{DISCLAIMER}.\r\n")
    return plan


def _trial(settings: Settings, subject: int, cell: int, video: str, seconds: int) -> dict[str, Any]:
    at, fault = _FAULTS.get(subject % 4, (0, ""))
    row: dict[str, Any] = {"subject": subject, "session": 1, "trial": cell, "stimulus": video}
    row |= {"seconds": seconds, "cell": fault if cell == at else "whole"}
    if video in _LONG and subject in _WITHOUT_LONG:
        row["cell"] = "empty"
    answers = _answers(settings, subject, video)
    row |= dict(zip((*_RATINGS, *_CHOICES), answers, strict=True))
    for target in ("valence", "arousal"):
        row[f"code_{target}"] = (row[target] - 5) / 4
        row[f"class_{target}"] = int(row[target] > 5)
    return row


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial's truth: without its answers where the file has none."""
    lost = (*_RATINGS, *_CHOICES) if row["cell"] == "unlabelled" else ()
    return {name: None if name in lost else value for name, value in row.items() if name != "cell"}


def _missing(row: Mapping[str, Any]) -> int:
    """Return the sample of its cell from which on a NaN cell has none: three quarters of it."""
    return 128 * (_BASELINE_SECONDS + row["seconds"]) // 4


def _pieces(settings: Settings, row: Mapping[str, Any]) -> tuple[Piece, Piece]:
    # A video names its random numbers, and not its cell.
    number = [*_SHORT, *_LONG].index(row["stimulus"])
    codes = {target: row[f"code_{target}"] for target in ("valence", "arousal")}
    return (
        settings.piece(_BASELINE_SECONDS, row["subject"], 1, number, "before", BASELINE),
        settings.piece(row["seconds"], row["subject"], 1, number, "video", codes),
    )


def _signal(
    settings: Settings, mixture: Mixture, row: Mapping[str, Any], tick: Tick
) -> npt.NDArray[np.float64]:
    """Return a cell's (time, 17) array."""
    pieces = _pieces(settings, row)
    blocks = record(
        mixture,
        pieces,
        sfreq=128.0,
        band=(4.0, 45.0),
        effect=settings.effect,
        line_uv=0.0,
        blinking=False,
    )
    eeg = np.hstack(list(blocks))
    eeg -= eeg.mean(axis=0)  # common average reference
    # Again: the reference has put the others' mean into them.
    eeg[[i for i, name in enumerate(mixture.channels) if mixture.bad.get(name) == "flat"]] = 0
    other = np.hstack([_others(piece, round(128 * piece.seconds)) for piece in pieces])
    signal = np.vstack([eeg, other]).astype(np.float64)
    if row["cell"] == "nan":
        signal[: len(eeg), _missing(row) :] = np.nan
    tick()
    return signal.T


def _others(piece: Piece, n_times: int) -> npt.NDArray[np.float32]:
    """Return both leads of the ECG and the GSR, shape (3, n_times)."""
    draw = rng(*piece.purpose, "others")
    time = np.arange(n_times, dtype=np.float32) / np.float32(128)
    beats = heartbeat(n_times, 128.0, draw=draw)
    other = 5 * draw.standard_normal((3, n_times), dtype=np.float32)
    other[0] += 500 * beats
    other[1] += 300 * beats
    other[2] += 120_000 + 3_000 * np.sin(2 * np.pi * time / 47 + draw.uniform(0, 6))
    return other


def _writer(settings: Settings, mixture: Mixture, rows: Sequence[Mapping[str, Any]]) -> Write:
    def cells(name: str, elements: Sequence[MatElement]) -> MatElement:
        return mat_cell(elements, (1, len(elements)), name)

    def write(path: Path, tick: Tick) -> None:
        data, frames, answers = [], [], []
        for row in rows:
            empty = row["cell"] == "empty"
            n_times = 128 * (_BASELINE_SECONDS + row["seconds"])
            make = partial(_signal, settings, mixture, row, tick)
            data.append(_nothing(0) if empty else mat_doubles((n_times, 17), make))
            frames.append(_nothing(0) if empty else _annotation(settings, row))
            values = np.array([[row[name] for name in (*_RATINGS, *_CHOICES)]])
            lost = empty or row["cell"] == "unlabelled"
            answers.append(_nothing(1) if lost else mat_doubles(values.shape, values.copy))
        write_mat(
            path,
            [
                cells("VideoIDs", [mat_text(row["stimulus"]) for row in rows]),
                cells("joined_data", data),
                cells("labels_ext_annotation", frames),
                cells("labels_selfassessment", answers),
            ],
        )

    return write


def _nothing(n_rows: int) -> MatElement:
    return mat_doubles((n_rows, 0), lambda: np.empty((n_rows, 0)))


def _annotation(settings: Settings, row: Mapping[str, Any]) -> MatElement:
    """Return what annotators said of frames of 20 s: number, valence, arousal."""
    n_frames = max(1, -(-(_BASELINE_SECONDS + row["seconds"]) // _FRAME_SECONDS))
    draw = settings.rng(row["subject"], "frames", row["stimulus"])
    frames = np.column_stack([np.arange(1, n_frames + 1), draw.uniform(-1, 1, (n_frames, 2))])
    return mat_doubles((n_frames, 3), lambda: frames)


def _people(settings: Settings) -> str:
    """Return the table of all 40, so that a tree of fewer subjects holds the same."""
    lines = ["UserID,Age,Gender"]
    for subject in range(1, _N_SUBJECTS + 1):
        draw = settings.rng(subject, "participant")
        lines.append(f"{subject},{draw.integers(21, 41)},{draw.choice(['female', 'male'])}")
    return "\n".join(lines) + "\n"


CORPUS = Corpus({"preprocessed": plan}, n_subjects=_N_SUBJECTS,
                quirks={"preprocessed": ("folder_each",)})  # fmt: skip
