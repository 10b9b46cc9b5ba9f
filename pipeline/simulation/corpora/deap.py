"""Simulated DEAP: the 128 Hz .dat files, and the 512 Hz BioSemi recordings with their ratings."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.formats import (
    BDF_STEP,
    BdfChannel,
    write_bdf,
    write_python2_pickle,
)
from omfa.pipeline.simulation.plan import (
    HIGH,
    Corpus,
    Plan,
    Settings,
    Tick,
    Write,
    eye_channels,
    recording_truth,
    text_file,
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

DEAP_GENEVA = words(
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz "
    "Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
)
DEAP_TWENTE = words(
    "Fp1 AF3 F7 F3 FC1 FC5 T7 C3 CP1 CP5 P7 P3 Pz PO3 O1 Oz "
    "O2 PO4 P4 P8 CP6 CP2 C4 T8 FC6 FC2 F4 F8 AF4 Fp2 Fz Cz"
)
_PERIPHERALS = words("EXG1 EXG2 EXG3 EXG4 EXG5 EXG6 EXG7 EXG8 GSR1 GSR2 Erg1 Erg2 Resp Plet Temp")
_RATINGS = ("valence", "arousal", "dominance", "liking")
_NO_FAMILIARITY = (2, 15, 23)
_N_SUBJECTS = 32
_FIRST_GENEVA = 23  # participants from here on were recorded in Geneva
# Presentation positions (1-based) whose markers participant 28's recording lacks.
_UNMARKED = {28: (24, 25, 26)}
_START, _SYNC, _FIXATION, _CLIP, _AFTER, _END = 1, 2, 3, 4, 5, 7


def _ratings(settings: Settings, subject: int) -> npt.NDArray[np.float64]:
    """Return a participant's ratings, shape (40 videos, 4), 1-9 in hundredths, at times exactly 5.

    A video has a mean of its own; dominance and liking follow valence.
    """
    means = settings.rng("videos").uniform(2.5, 7.5, (40, 2))
    draw = settings.rng(subject, "ratings")
    ratings = np.empty((40, 4))
    ratings[:, :2] = means + draw.normal(0, 1.5, (40, 2))
    ratings[:, 2] = 2.5 + 0.5 * ratings[:, 0] + draw.normal(0, 1.2, 40)
    ratings[:, 3] = 1.5 + 0.7 * ratings[:, 0] + draw.normal(0, 1.2, 40)
    whole = draw.random((40, 4)) < 0.1
    ratings[whole] = np.round(ratings[whole])
    ratings[draw.random((40, 4)) < 0.04] = 5.0
    return np.clip(ratings, 1, 9).round(2)


def _order(settings: Settings, subject: int) -> list[int]:
    """Return the videos in the order in which a participant watched them."""
    return [int(video) + 1 for video in settings.rng(subject, "order").permutation(40)]


def _trial(
    subject: int, trial: int, video: int, seconds: int, ratings: npt.NDArray[np.float64]
) -> dict[str, Any]:
    row: dict[str, Any] = {"subject": subject, "session": 1, "trial": trial, "stimulus": str(video)}
    row["seconds"] = seconds
    row |= dict(zip(_RATINGS, ratings[video - 1].tolist(), strict=True))
    for target in ("valence", "arousal"):
        row[f"code_{target}"] = (row[target] - 5) / 4
        row[f"class_{target}"] = int(row[target] > 5)
    return row


def _pieces(
    settings: Settings, row: Mapping[str, Any], baseline_seconds: int
) -> tuple[Piece, Piece]:
    """Return a trial's fixation and clip; its video, not its place, names its random numbers."""
    # So both releases of one seed share what a person does at a video.
    place = (row["subject"], 1, int(row["stimulus"]))
    codes = {target: row[f"code_{target}"] for target in ("valence", "arousal")}
    return (
        settings.piece(baseline_seconds, *place, "fixation", BASELINE),
        settings.piece(row["seconds"], *place, "clip", codes),
    )


def plan_preprocessed(settings: Settings) -> Plan:
    """Plan the preprocessed release."""
    plan = Plan(sfreq=128.0, channels=DEAP_GENEVA)
    plan.targets = {target: text.format(5) for target, text in HIGH.items()}
    (seconds,) = settings.lengths([60])
    for subject in settings.subjects:
        name = f"data_preprocessed_python/s{subject:02}.dat"
        mixture = settings.mixture(DEAP_GENEVA, subject)
        ratings = _ratings(settings, subject)
        rows = [_trial(subject, video, video, seconds, ratings) for video in range(1, 41)]
        pieces = [_pieces(settings, row, 3) for row in rows]
        plan.trials += rows
        plan.recordings.append(recording_truth(name, subject, 1, mixture, {}))
        plan.files[name] = _writer(settings, mixture, ratings, pieces)
    return plan


def _writer(
    settings: Settings,
    mixture: Mixture,
    ratings: npt.NDArray[np.float64],
    pieces: Sequence[tuple[Piece, Piece]],
) -> Write:
    n_times = round(128 * sum(piece.seconds for piece in pieces[0]))

    def trials(tick: Tick) -> Iterator[npt.NDArray[np.floating]]:
        flat = [i for i, name in enumerate(mixture.channels) if mixture.bad.get(name) == "flat"]
        for pair in pieces:
            signal = record(
                mixture,
                pair,
                sfreq=128.0,
                band=(4.0, 45.0),
                effect=settings.effect,
                line_uv=0.0,
                blinking=False,  # the release has EOG removed
            )
            eeg = np.hstack(list(signal))
            eeg -= eeg.mean(axis=0)  # common average reference
            # Again: the reference has put the others' mean into them.
            eeg[flat] = 0
            other = np.hstack([_peripherals(p, round(128 * p.seconds), 128.0) for p in pair])
            # The release has the differences of EXG pairs: hEOG, vEOG, zEMG and tEMG.
            bipolar = other[0:8:2] - other[1:8:2]
            rows = [other[8] - other[8].mean(), other[12], other[13], 1e-3 * other[14]]
            tick()
            yield np.vstack([eeg, bipolar, rows])

    def write(path: Path, tick: Tick) -> None:
        arrays = {
            "labels": ((40, 4), [ratings]),
            "data": ((40, 40, n_times), trials(tick)),
        }
        write_python2_pickle(path, arrays)

    return write


def _peripherals(piece: Piece, n_times: int, sfreq: float) -> npt.NDArray[np.float32]:
    """Return EXG1-8 (uV), GSR1 (Ohm), GSR2, Erg1, Erg2, Resp, Plet and Temp: (15, n_times)."""
    draw = rng(*piece.purpose, "peripherals")
    time = np.arange(n_times, dtype=np.float32) / np.float32(sfreq)
    other = draw.standard_normal((15, n_times), dtype=np.float32)
    other[4:8] *= 5  # EMG
    vertical, horizontal = eye_channels(piece, n_times, sfreq)
    other[[0, 1]] += horizontal * np.array([[0.5], [-0.5]], np.float32)
    other[[2, 3]] += vertical * np.array([[0.5], [-0.5]], np.float32)
    other[8] = 150_000 + 4_000 * np.sin(2 * np.pi * time / 47 + draw.uniform(0, 6)) + other[8]
    other[12] = 3_000 * np.sin(2 * np.pi * 0.25 * time + draw.uniform(0, 6)) + 20 * other[12]
    other[13] = 2_000 * heartbeat(n_times, sfreq, draw=draw) + 20 * other[13]
    other[14] = 300 + 10 * np.sin(2 * np.pi * time / 90 + draw.uniform(0, 6)) + 0.1 * other[14]
    return other


@dataclass(frozen=True)
class _Step:
    """A stretch of DEAP's session: the marker at its start and the trial, 0 for none."""

    piece: Piece
    code: int = 0
    trial: int = 0


def _steps(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> list[_Step]:
    """Return a participant's whole session, ``rows`` in the order of presentation."""
    short = settings.seconds is not None
    subject = rows[0]["subject"]
    steps: list[_Step] = []

    def wait(seconds: int, code: int = 0) -> None:
        # Numbered from 100 on: the numbers below are the videos'.
        piece = settings.piece(seconds, subject, 1, 100 + len(steps), "pause", BASELINE)
        steps.append(_Step(piece, code))

    wait(5)
    wait(5, _START)
    wait(5 if short else 120, _START)
    wait(2, _SYNC)
    for row in rows:
        fixation, clip = _pieces(settings, row, 5)
        wait(2)
        steps.append(_Step(fixation, _FIXATION))
        steps.append(_Step(clip, _CLIP, row["trial"]))
        wait(3, _AFTER)
        wait(2 if short else 15, _START)
        if row["trial"] == 20:
            wait(2, _SYNC)
            wait(5 if short else 60)
            wait(2, _SYNC)
    wait(2, _SYNC)
    wait(2, _END)
    return steps


def _presented(settings: Settings, subject: int) -> list[dict[str, Any]]:
    ratings = _ratings(settings, subject)
    (seconds,) = settings.lengths([60])
    return [
        _trial(subject, trial, video, seconds, ratings)
        for trial, video in enumerate(_order(settings, subject), start=1)
    ]


def plan_raw(settings: Settings) -> Plan:
    """Plan the recordings as the amplifier wrote them."""
    plan = Plan(sfreq=512.0, channels=DEAP_TWENTE)
    if settings.subjects[0] >= _FIRST_GENEVA:
        plan.channels = DEAP_GENEVA
    plan.targets = {target: text.format(5) for target, text in HIGH.items()}
    for subject in settings.subjects:
        name = f"data_original/s{subject:02}.bdf"
        eeg = DEAP_GENEVA if subject >= _FIRST_GENEVA else DEAP_TWENTE
        mixture = settings.mixture(eeg, subject)
        rows = _presented(settings, subject)
        steps = _steps(settings, rows)
        plan.trials += rows
        pieces = {step.trial: step.piece for step in steps if step.trial}
        plan.recordings.append(recording_truth(name, subject, 1, mixture, pieces))
        plan.files[name] = _bdf_writer(settings, subject, mixture, steps)
    plan.files["metadata_csv/participant_ratings.csv"] = text_file(_table(settings))
    return plan


def _bdf_writer(
    settings: Settings, subject: int, mixture: Mixture, steps: Sequence[_Step]
) -> Write:
    sfreq = 512
    pieces = [step.piece for step in steps]
    geneva = subject >= _FIRST_GENEVA
    channels = [BdfChannel(name) for name in [*mixture.channels, *_PERIPHERALS]]
    status = BdfChannel("Status", "Triggers and Status", "Boolean", "No filtering", status=True)
    blank = replace(status, label="")
    channels += [status] if subject <= 23 else [blank] if subject <= 28 else [blank, blank]
    offsets = settings.rng(subject, "offsets").normal(0, 5_000, (len(mixture.channels), 1))

    def records(tick: Tick) -> Iterator[npt.NDArray[np.int32]]:
        signal = record(
            mixture,
            pieces,
            sfreq=sfreq,
            band=(0.0, 104.0),
            effect=settings.effect,
            line_uv=10.0,
        )
        for i, (step, eeg) in enumerate(zip(steps, signal, strict=True)):
            n_times = eeg.shape[1]
            other = _peripherals(step.piece, n_times, sfreq)
            if not geneva:
                other[8] = 1e9 / other[8]  # Twente recorded nanosiemens, Geneva ohms
            block = np.round(np.vstack([eeg + offsets, other]) / BDF_STEP)
            digits = np.clip(block, -(2**23), 2**23 - 1).astype(np.int32)
            yield np.vstack([digits, _status(subject, step.code, i, n_times, len(steps))])
            if step.trial:
                tick()

    unmarked = _UNMARKED.get(subject, ())
    if unmarked:
        steps = _without_markers(steps, unmarked)

    def write(path: Path, tick: Tick) -> None:
        n_records = int(sum(piece.seconds for piece in pieces))
        write_bdf(path, channels, records(tick), n_records=n_records, sfreq=sfreq)

    return write


def _without_markers(steps: Sequence[_Step], trials: Collection[int]) -> list[_Step]:
    """Drop the markers of some trials, from the fixation before to the screen after."""
    silent: set[int] = set()
    for i, step in enumerate(steps):
        if step.trial in trials and step.trial:
            silent.update(range(i - 1, i + 3))
    return [replace(step, code=0) if i in silent else step for i, step in enumerate(steps)]


def _status(
    subject: int, code: int, step: int, n_times: int, n_steps: int
) -> npt.NDArray[np.int32]:
    """Return the status rows of a step: a 50 ms pulse of its code on the layout's resting value.

    From participant 24 on the box's own bits are set (0x18FF00, one more at the very start); from
    29 on a second channel precedes the status and a further bit comes on half-way.
    """
    pulse = np.zeros(n_times, np.int32)
    pulse[:26] = code
    if subject <= 23:
        return pulse[None]
    pulse += 0x19FF00 if step == 0 else 0x18FF00
    if subject <= 28:
        return pulse[None]
    if step > n_steps // 2:
        pulse |= 0x400000
    return np.stack([np.full(n_times, 0x18FF00, np.int32), pulse])


def _table(settings: Settings) -> str:
    """Return participant_ratings.csv: all 32 participants, as the release has it."""
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(
        words(
            "Participant_id Trial Experiment_id Start_time Valence Arousal Dominance Liking "
            "Familiarity"
        )
    )
    # Of all, as in the release, so that a tree of fewer subjects holds the same table.
    for subject in range(1, _N_SUBJECTS + 1):
        presented = _presented(settings, subject)
        steps = _steps(settings, presented)
        starts = np.cumsum([0, *(step.piece.seconds for step in steps)])
        onset = {step.trial: int(1e6 * t) for step, t in zip(steps, starts, strict=False)}
        familiar = settings.rng(subject, "familiarity").integers(1, 6, 40)
        for row in presented:
            trial = row["trial"]
            known = "" if subject in _NO_FAMILIARITY else int(familiar[trial - 1])
            ratings = [row[name] for name in _RATINGS]
            rows.writerow([subject, trial, row["stimulus"], onset[trial], *ratings, known])
    return table.getvalue()


CORPUS = Corpus({"preprocessed": plan_preprocessed, "raw": plan_raw}, n_subjects=32)
