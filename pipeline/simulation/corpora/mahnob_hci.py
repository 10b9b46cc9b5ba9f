"""Simulated MAHNOB-HCI: a folder per session with a BioSemi recording and its description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.formats import BDF_STEP, DISCLAIMER, BdfChannel, write_bdf
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
from omfa.pipeline.simulation.signals import BASELINE, Mixture, Piece, heartbeat, record, rng

MAHNOB_CHANNELS = words(
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz "
    "Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
)
_OTHERS = words("EXG1 EXG2 EXG3 EXG4 EXG5 EXG6 EXG7 EXG8 GSR1 GSR2 Erg1 Erg2 Resp Temp")
# Between the published shortest and longest; what lies between is ours.
_SECONDS = (
    *(35, 117, 60, 88, 72, 95, 51, 103, 66, 80),
    *(42, 110, 57, 91, 76, 99, 48, 84, 63, 70),
)
_NEUTRAL_SECONDS, _PAUSE_SECONDS = 14, 30
# Whole words of what a film was chosen for here, its code in the release, and its valence.
_FELT = {
    "neutral": (0, 0),
    "anger": (1, -1),
    "disgust": (2, -1),
    "fear": (3, -1),
    "joy": (4, 1),
    "sadness": (5, -1),
    "surprise": (6, 0),
    "amusement": (11, 1),
    "anxiety": (12, -1),
}
_FILMS = words(
    "disgust amusement joy fear joy sadness neutral amusement anger joy "
    "sadness neutral amusement disgust anxiety joy neutral fear amusement surprise"
)
_N_CLIPS, _SFREQ = len(_FILMS), 256
_PER_SUBJECT = 130  # numbers of sessions that belong to a person
_MARK = 268
_FELT_ATTRIBUTES = (
    ("valence", "feltVlnc"),
    ("arousal", "feltArsl"),
    ("dominance", "feltCtrl"),
    ("predictability", "feltPred"),
)


@dataclass(frozen=True)
class _Clip:
    """A session with a recording: who, the number among its kind, and what was shown."""

    subject: int
    trial: int
    neutral: bool
    pieces: tuple[Piece, Piece, Piece]

    @property
    def cut(self) -> int:
        """Its number among the person's clips; a neutral one comes before each film."""
        return 2 * self.trial - self.neutral

    @property
    def session(self) -> int:
        return (self.subject - 1) * _PER_SUBJECT + self.cut

    @property
    def file(self) -> str:
        kind = "N" if self.neutral else "S"
        return f"Part_{self.subject}_{kind}_Trial{self.trial}_emotion.bdf"


def _trials(settings: Settings, subject: int) -> list[dict[str, Any]]:
    """Return a person's trials in the order of presentation, with simulated answers."""
    lengths = settings.lengths(_SECONDS)
    order = settings.rng(subject, "order").permutation(_N_CLIPS)
    draw = settings.rng(subject, "felt")
    rows = []
    for trial, film in enumerate(order, start=1):
        emotion = _FILMS[film] if draw.random() < 0.7 else str(draw.choice(list(_FELT)))
        _, valence = _FELT[emotion]
        means = (5 + 2.5 * valence, 5 + 1.5 * abs(valence), 5, 5)
        ratings = np.clip(np.round(draw.normal(means, 1.2)), 1, 9).astype(int).tolist()
        row: dict[str, Any] = {"subject": subject, "session": 1, "trial": trial}
        row |= {"stimulus": f"film_{film + 1}.avi", "seconds": lengths[film], "emotion": emotion}
        row |= dict(zip((name for name, _ in _FELT_ATTRIBUTES), ratings, strict=True))
        row |= {"code_valence": float(valence), "class_valence": valence}
        rows.append(row)
    return rows


def plan(settings: Settings) -> Plan:
    """Plan every session of the chosen people."""
    plan = Plan(sfreq=float(_SFREQ), channels=MAHNOB_CHANNELS)
    plan.targets["valence"] = "1 joy and amusement, 0 neutral and surprise, -1 the others"
    pause = _PAUSE_SECONDS if settings.seconds is None else 2
    between = _NEUTRAL_SECONDS if settings.seconds is None else 2
    for subject in settings.subjects:
        mixture = settings.mixture(MAHNOB_CHANNELS, subject)
        for row in _trials(settings, subject):
            trial = row["trial"]
            codes = {"valence": row["code_valence"]}
            for neutral in (True, False):
                part = "neutral" if neutral else "clip"
                seconds = between if neutral else row["seconds"]
                clip = _Clip(
                    subject,
                    trial,
                    neutral,
                    (
                        settings.piece(pause, subject, 1, trial, f"before {part}", BASELINE),
                        settings.piece(
                            seconds, subject, 1, trial, part, BASELINE if neutral else codes
                        ),
                        settings.piece(pause, subject, 1, trial, f"after {part}", BASELINE),
                    ),
                )
                folder = f"Sessions/{clip.session}/"
                plan.files[f"{folder}session.xml"] = text_file(_xml(clip, row))
                plan.files[folder + clip.file] = _bdf_writer(settings, mixture, clip)
                if not neutral:
                    plan.trials.append(row)
                    plan.recordings.append(
                        recording_truth(
                            folder + clip.file, subject, 1, mixture, {trial: clip.pieces[1]}
                        )
                    )
        last = (subject - 1) * _PER_SUBJECT + 2 * _N_CLIPS
        plan.files[f"Sessions/{last + 1}/session.xml"] = text_file(_tagging(subject, last + 1))
        plan.files[f"Subjects/subject{subject}.xml"] = text_file(
            f'<?xml version="1.0"?>\n<!-- {DISCLAIMER} -->\n<subject id="{subject}"/>\n'
        )
    return plan


def _element(attributes: Mapping[str, object], subject: int, inside: str) -> str:
    told = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {DISCLAIMER} -->\n<session {told}>\n'
        f'  <subject id="{subject}"/>\n{inside}</session>\n'
    )


def _xml(clip: _Clip, row: Mapping[str, Any]) -> str:
    attributes: dict[str, object] = {"sessionId": clip.session, "date": "2000.01.01"}
    attributes |= {"time": "00:00:00", "experimentType": "emotion elicitation"}
    attributes["isStim"] = int(not clip.neutral)
    if not clip.neutral:
        attributes["feltEmo"] = _FELT[row["emotion"]][0]
        attributes |= {attribute: row[name] for name, attribute in _FELT_ATTRIBUTES}
    attributes |= {"cutNr": clip.cut, "cutLenSec": clip.pieces[1].seconds}
    attributes |= {"vidRate": 60.9708, "audRate": 44100}
    # The release's letters differ in case from session to session.
    name = "neutral.avi" if clip.neutral else row["stimulus"]
    attributes["mediaFile"] = name.capitalize() if clip.trial % 2 else name
    return _element(
        attributes,
        clip.subject,
        f'  <track type="Video" color="1" filename="P{clip.subject}-Rec1.avi"/>\n'
        f'  <track type="Physiological" filename="{clip.file}">\n'
        f'    <annotation type="Status" filename="{clip.file}"/>\n  </track>\n',
    )


def _tagging(subject: int, session: int) -> str:
    """Return a session of the other experiment, which showed pictures and recorded no EEG."""
    attributes = {"sessionId": session, "date": "2000.01.01", "time": "00:00:00"}
    attributes |= {"experimentType": "implicit tagging", "isStim": 1, "cutNr": 1}
    return _element(attributes, subject, '  <track type="Video" filename="P-Rec2.avi"/>\n')


def _bdf_writer(settings: Settings, mixture: Mixture, clip: _Clip) -> Write:
    channels = [BdfChannel(name) for name in (*mixture.channels, *_OTHERS)]
    channels += [
        BdfChannel("Status", "Triggers and Status", "Boolean", "No filtering", status=True)
    ]
    offsets = settings.rng(clip.subject, "offsets").normal(-3_500, 250, (len(mixture.channels), 1))
    # The amplifier's own bits are set in all, and trigger lines in every second person's.
    idle = 0x190000 + (0x0500 if clip.subject % 2 == 0 else 0)

    def records(tick: Tick) -> Iterator[npt.NDArray[np.int32]]:
        signal = record(
            mixture,
            clip.pieces,
            sfreq=float(_SFREQ),
            band=(0.0, 51.0),
            effect=settings.effect,
            line_uv=5.0,
        )
        for i, (piece, eeg) in enumerate(zip(clip.pieces, signal, strict=True)):
            status = np.full((1, eeg.shape[1]), idle, np.int32)
            if i:  # the clip starts, the clip stops
                status[0, :13] += _MARK
            block = np.round(np.vstack([eeg + offsets, _others(piece, eeg.shape[1])]) / BDF_STEP)
            digits = np.clip(block, -(2**23), 2**23 - 1).astype(np.int32)
            yield np.vstack([digits, status])
        if not clip.neutral:
            tick()

    def write(path: Path, tick: Tick) -> None:
        n_records = int(sum(piece.seconds for piece in clip.pieces))
        write_bdf(path, channels, records(tick), n_records=n_records, sfreq=_SFREQ)

    return write


def _others(piece: Piece, n_times: int) -> npt.NDArray[np.float32]:
    """Return EXG1-8 (ECG in the first three), GSR1, GSR2, Erg1, Erg2, Resp, Temp: (14, n_times)."""
    draw = rng(*piece.purpose, "others")
    time = np.arange(n_times, dtype=np.float32) / np.float32(_SFREQ)
    other = draw.standard_normal((len(_OTHERS), n_times), dtype=np.float32)
    beats = heartbeat(n_times, float(_SFREQ), draw=draw)
    other[:3] += 900 * beats * np.array([[1.0], [-0.6], [0.4]], np.float32)
    other[8] += 90_000 + 3_000 * np.sin(2 * np.pi * time / 47 + draw.uniform(0, 6))
    other[12] = 3_000 * np.sin(2 * np.pi * 0.25 * time + draw.uniform(0, 6)) + 20 * other[12]
    other[13] = 300 + 10 * np.sin(2 * np.pi * time / 90 + draw.uniform(0, 6)) + 0.1 * other[13]
    return other


CORPUS = Corpus({"raw": plan}, n_subjects=27)
