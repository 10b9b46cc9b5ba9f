"""Simulated DREAMER: the one .mat file, and the JSON edition."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    mat_numbers,
    mat_struct,
    mat_text,
    write_mat,
)
from omfa.pipeline.simulation.plan import (
    HIGH,
    Corpus,
    Plan,
    Settings,
    Tick,
    quantized,
    recording_truth,
    words,
)
from omfa.pipeline.simulation.signals import (
    BASELINE,
    Mixture,
    Piece,
    heartbeat,
    record,
    rng,
)
from omfa.pipeline.writing import staged

DREAMER_CHANNELS = words("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4")
# The published figures fix the first, the shortest, the longest and the sum; the others are ours.
DREAMER_SECONDS = (
    *(199, 124, 253, 216, 180, 67, 393, 172, 300),
    *(102, 245, 310, 190, 147, 205, 268, 224, 133),
)
_VALENCE = (
    *(3.17, 3.04, 4.57, 2.04, 3.22, 2.70, 4.52, 1.35, 1.39),
    *(2.17, 3.96, 3.96, 4.39, 2.35, 2.48, 3.65, 1.52, 2.65),
)
_AROUSAL = (
    *(2.26, 3.00, 3.83, 4.26, 3.70, 3.83, 3.17, 3.96, 3.00),
    *(3.30, 1.96, 2.61, 3.70, 2.22, 3.09, 3.35, 3.00, 3.91),
)
_BASELINE_SECONDS = 61
_STEP = 1e3 / 1950  # microvolts per digit: the EPOC's 14 bits
_MISSING = (1, 7)  # subject and clip of the piece with missing samples

_Draw = Callable[[str, int], npt.NDArray[np.float64]]


def _scores(settings: Settings, subject: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return a subject's integer scores of the 18 clips, spread about the published means."""
    draw = settings.rng(subject, "scores")
    means = {"valence": _VALENCE, "arousal": _AROUSAL, "dominance": (3.3,) * 18}
    return {
        name: np.clip(np.round(np.array(mean) + draw.normal(0, 0.8, 18)), 1, 5).astype(np.int64)
        for name, mean in means.items()
    }


@dataclass(frozen=True)
class _Subject:
    """One subject: how to draw each clip's EEG (time, 14) and ECG (time, 2)."""

    settings: Settings
    number: int
    mixture: Mixture
    rows: list[dict[str, Any]]

    def piece(self, part: str, clip: int) -> Piece:
        row = self.rows[clip - 1]
        if part == "baseline":
            limit = self.settings.seconds or _BASELINE_SECONDS
            seconds: int = min(_BASELINE_SECONDS, limit)
            return self.settings.piece(seconds, self.number, 1, clip, part, BASELINE)
        codes = {target: row[f"code_{target}"] for target in ("valence", "arousal")}
        return self.settings.piece(row["seconds"], self.number, 1, clip, part, codes)

    def eeg(self, part: str, clip: int) -> npt.NDArray[np.float64]:
        (block,) = record(
            self.mixture,
            [self.piece(part, clip)],
            sfreq=128.0,
            band=(0.16, 45.0),
            effect=self.settings.effect,
            line_uv=2.0,
        )
        offset = self.settings.rng(self.number, "offset").normal(4_200, 40, (14, 1))
        signal = quantized(block + offset.astype(np.float32), _STEP)
        if (self.number, clip, part) == (*_MISSING, "stimuli"):
            first, length = _missing(self.rows[clip - 1]["seconds"])
            signal[:, first : first + length] = np.nan
        return signal.T

    def ecg(self, part: str, clip: int) -> npt.NDArray[np.float64]:
        piece = self.piece(part, clip)
        draw = rng(*piece.purpose, "heart")
        n_times = round(256 * piece.seconds)
        beats = heartbeat(n_times, 256.0, draw=draw)
        leads = np.stack([2_000 + 400 * beats, 2_000 + 250 * beats])
        return np.round(leads + draw.normal(0, 5, leads.shape)).T.astype(np.float64)


def _missing(seconds: int) -> tuple[int, int]:
    """Return first sample and length of the missing piece of a clip."""
    return 64 * seconds, 64


def plan(settings: Settings) -> Plan:
    """Plan the one file."""
    plan = Plan(sfreq=128.0, channels=DREAMER_CHANNELS)
    plan.targets = {target: text.format(3) for target, text in HIGH.items()}
    name = "DREAMER.mat" if settings.variant == "preprocessed" else "DREAMER_Data.json"
    lengths = settings.lengths(DREAMER_SECONDS)
    people = []
    for number in settings.subjects:
        scores = _scores(settings, number)
        rows = []
        for clip, seconds in enumerate(lengths, start=1):
            row: dict[str, Any] = {"subject": number, "session": 1, "trial": clip}
            row |= {"stimulus": str(clip), "seconds": seconds}
            row |= {score: int(values[clip - 1]) for score, values in scores.items()}
            for target in ("valence", "arousal"):
                row[f"code_{target}"] = (row[target] - 3) / 2
                row[f"class_{target}"] = int(row[target] > 3)
            rows.append(row)
        person = _Subject(settings, number, settings.mixture(DREAMER_CHANNELS, number), rows)
        pieces = {clip: person.piece("stimuli", clip) for clip in range(1, 19)}
        recording = recording_truth(name, number, 1, person.mixture, pieces)
        if number == _MISSING[0]:
            clip = _MISSING[1]
            where = _missing(lengths[clip - 1])
            recording["missing"].append([clip, list(DREAMER_CHANNELS), *where])
        people.append(person)
        plan.trials += rows
        plan.recordings.append(recording)
    write = _write_mat if settings.variant == "preprocessed" else _write_json
    plan.files[name] = lambda path, tick: write(path, people, tick)
    return plan


def _age_and_sex(person: _Subject) -> tuple[str, str]:
    draw = person.settings.rng(person.number, "participant")
    return str(draw.integers(22, 34)), str(draw.choice(["male", "female"]))


def _write_mat(path: Path, people: Sequence[_Subject], tick: Tick) -> None:
    fields = {
        "Data": mat_cell([_struct(person, tick) for person in people], (1, len(people))),
        "EEG_SamplingRate": mat_numbers(128),
        "ECG_SamplingRate": mat_numbers(256),
        "EEG_Electrodes": mat_cell([mat_text(name) for name in DREAMER_CHANNELS], (1, 14)),
        "noOfSubjects": mat_numbers(len(people)),
        "noOfVideoSequences": mat_numbers(18),
        "Disclaimer": mat_text(DISCLAIMER),
        "Provider": mat_text("omfa simulator"),
        "Version": mat_text("simulated"),
        "Acknowledgement": mat_text(DISCLAIMER),
    }
    write_mat(path, [mat_struct(fields, "DREAMER")])


def _counted(draw: _Draw, tick: Tick) -> _Draw:
    def counted(part: str, clip: int) -> npt.NDArray[np.float64]:
        if part == "stimuli":
            tick()
        return draw(part, clip)

    return counted


def _struct(person: _Subject, tick: Tick) -> MatElement:
    def signals(draw: _Draw, sfreq: int, n_chans: int) -> MatElement:
        def cell(part: str) -> MatElement:
            cells = [
                mat_doubles(
                    (round(sfreq * person.piece(part, clip).seconds), n_chans),
                    partial(draw, part, clip),
                )
                for clip in range(1, 19)
            ]
            return mat_cell(cells, (18, 1))

        return mat_struct({"baseline": cell("baseline"), "stimuli": cell("stimuli")})

    age, sex = _age_and_sex(person)
    scores = {
        f"Score{score.capitalize()}": mat_numbers(
            np.array([[row[score]] for row in person.rows]), uint8=True
        )
        for score in ("valence", "arousal", "dominance")
    }
    return mat_struct(
        {
            "Age": mat_text(age),
            "Gender": mat_text(sex),
            "EEG": signals(_counted(person.eeg, tick), 128, 14),
            "ECG": signals(person.ecg, 256, 2),
            **scores,
        }
    )


def _write_json(path: Path, people: Sequence[_Subject], tick: Tick) -> None:
    """Write the JSON edition, a clip at a time."""
    with staged(path) as out:

        def signals(draw: _Draw) -> None:
            for opening, part in (("{", "baseline"), (", ", "stimuli")):
                out.write(f'{opening}"{part}": ['.encode())
                for clip in range(1, 19):
                    values = json.dumps(np.round(draw(part, clip), 4).tolist())
                    out.write((", " * (clip > 1) + values).encode())
                out.write(b"]")
            out.write(b"}")

        for i, person in enumerate(people):
            age, sex = _age_and_sex(person)
            out.write(b", " if i else b"[")
            out.write(json.dumps({"Age": age, "Gender": sex})[:-1].encode() + b', "EEG": ')
            signals(_counted(person.eeg, tick))
            out.write(b', "ECG": ')
            signals(person.ecg)
            for score in ("valence", "arousal", "dominance"):
                scores = [row[score] for row in person.rows]
                out.write(f', "Score{score.capitalize()}": {json.dumps(scores)}'.encode())
            out.write(b"}")
        out.write(b"]\n")


CORPUS = Corpus({"preprocessed": plan, "json": plan}, n_subjects=23, numbered=False)
