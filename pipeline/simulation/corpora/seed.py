"""Simulated SEED: the 200 Hz .mat files, and the 1000 Hz Neuroscan recordings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.channels import UCS
from omfa.pipeline.simulation.formats import (
    CNT_STEP,
    DISCLAIMER,
    MatElement,
    mat_doubles,
    mat_numbers,
    write_cnt,
    write_mat,
)
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    Tick,
    Write,
    eye_channels,
    quantized,
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

SEED_PREFIXES = words("djc jl jj lqj ly mhw phl sxy wk ww wsf wyw xyl ys zjy")
SEED_DATES = words("""
    20131027 20131030 20131107  20140404 20140413 20140419  20140603 20140611 20140629
    20140621 20140702 20140705  20140411 20140418 20140506  20130712 20131016 20131113
    20131027 20131030 20131106  20140511 20140514 20140521  20140620 20140627 20140704
    20131130 20131204 20131211  20140618 20140625 20140630  20131127 20131201 20131207
    20140527 20140603 20140610  20140601 20140615 20140627  20130709 20131016 20131105
""")
SEED_LABELS = (1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1)
SEED_SECONDS = (235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206)
# Before each trial in the raw recording, and after the last.
_GAPS = (27, 28, 28, 27, 28, 27, 27, 27, 29, 29, 27, 26, 26, 28, 26, 20)


def _file(subject: int, session: int, quirks: Collection[str]) -> str:
    person = SEED_PREFIXES[subject - 1] if "person_names" in quirks else str(subject)
    return f"{person}_{SEED_DATES[3 * subject + session - 4]}.mat"


def _top(quirks: Collection[str]) -> str:
    return "" if "old_layout" in quirks else "SEED_EEG/"


def _trials(settings: Settings, subject: int, session: int) -> list[dict[str, Any]]:
    lengths = settings.lengths(SEED_SECONDS)
    return [
        {
            "subject": subject,
            "session": session,
            "trial": trial,
            "stimulus": str(trial),
            "seconds": length,
            "emotion": label,
            "code_emotion": float(label),
            "class_emotion": label,
        }
        for trial, (label, length) in enumerate(zip(SEED_LABELS, lengths, strict=True), start=1)
    ]


def _piece(settings: Settings, trial: Mapping[str, Any]) -> Piece:
    return settings.piece(
        trial["seconds"],
        trial["subject"],
        trial["session"],
        trial["trial"],
        "trial",
        {"valence": trial["code_emotion"]},
    )


def _add_labels(plan: Plan, folder: str) -> None:
    plan.targets["emotion"] = "1 positive, 0 neutral, -1 negative"
    plan.planted["emotion"] = "valence"
    plan.files[folder + "label.mat"] = lambda path, tick: write_mat(
        path, [mat_numbers(SEED_LABELS, "label")]
    )
    plan.files[folder + "readme.txt"] = text_file(
        f"{DISCLAIMER}.\r\n15 trials a file; label.mat has their labels "
        "(1 positive, 0 neutral, -1 negative). 62 channels, 200 Hz.\r\n"
    )


def plan_preprocessed(settings: Settings) -> Plan:
    """Plan the preprocessed release."""
    plan = Plan(sfreq=200.0, channels=UCS.names[:62])
    folder = _top(settings.quirks) + "Preprocessed_EEG/"
    for subject in settings.subjects:
        for session in settings.sessions:
            name = folder + _file(subject, session, settings.quirks)
            mixture = settings.mixture(plan.channels, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {trial["trial"]: _piece(settings, trial) for trial in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            plan.files[name] = _writer(settings, subject, mixture, list(pieces.values()))
    _add_labels(plan, folder)
    return plan


def _writer(settings: Settings, subject: int, mixture: Mixture, pieces: Sequence[Piece]) -> Write:
    def element(trial: int, piece: Piece, tick: Tick) -> MatElement:
        def make() -> npt.NDArray[np.float64]:
            (block,) = record(
                mixture,
                [piece],
                sfreq=200.0,
                band=(0.0, 75.0),
                effect=settings.effect,
                line_uv=1.0,
                n_last=1,  # both end points are kept
            )
            tick()
            return quantized(block, CNT_STEP)

        shape = (62, round(200 * piece.seconds) + 1)
        return mat_doubles(shape, make, f"{SEED_PREFIXES[subject - 1]}_eeg{trial}")

    def write(path: Path, tick: Tick) -> None:
        write_mat(path, (element(i, piece, tick) for i, piece in enumerate(pieces, start=1)))

    return write


def plan_raw(settings: Settings) -> Plan:
    """Plan the recordings as the amplifier wrote them."""
    eeg = [*UCS.names[:32], "M1", *UCS.names[32:41], "M2", *UCS.names[41:62]]
    plan = Plan(sfreq=1000.0, channels=UCS.names[:62])
    folder = _top(settings.quirks) + "SEED_RAW_EEG/"
    lengths = settings.lengths(SEED_SECONDS)
    gaps = list(_GAPS) if settings.seconds is None else [2] * len(_GAPS)
    starts = [1000 * (sum(gaps[: i + 1]) + sum(lengths[:i])) for i in range(15)]
    ends = [start + 1000 * length for start, length in zip(starts, lengths, strict=True)]
    for subject in settings.subjects:
        for session in settings.sessions:
            name = f"{folder}{subject}_{session}.cnt"
            mixture = settings.mixture(eeg, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {trial["trial"]: _piece(settings, trial) for trial in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            pauses = [
                settings.piece(gap, subject, session, i, "pause", BASELINE)
                for i, gap in enumerate(gaps, start=1)
            ]
            plan.files[name] = _cnt_writer(
                settings,
                mixture,
                [p for pair in zip(pauses, pieces.values(), strict=False) for p in pair]
                + pauses[15:],
                list(zip(starts, ends, strict=True)),
                settings.rng(subject, session, "events"),
            )
    plan.files[folder + "time.txt"] = text_file(
        f"start_point_list = {str(starts).replace(' ', '')};#1000Hz\r\n"
        f"end_point_list = {str(ends).replace(' ', '')};#1000Hz\r\n"
    )
    _add_labels(plan, _top(settings.quirks) + "Preprocessed_EEG/")
    return plan


def _cnt_writer(
    settings: Settings,
    mixture: Mixture,
    pieces: Sequence[Piece],
    bounds: Sequence[tuple[int, int]],
    draw: np.random.Generator,
) -> Write:
    sfreq = 1000
    names = [*(name.upper() for name in mixture.channels), "VEO", "HEO"]
    names += ["ECG"] if "ecg" in settings.quirks else []
    positions = UCS.positions(mixture.channels)
    plan_of_head = dict.fromkeys(names, (0.0, 0.0))
    plan_of_head |= {
        name: (float(x), float(y)) for name, (x, y, _) in zip(names, positions, strict=False)
    }
    # The trigger comes later than the timing table has it, by an amount of the recording's own.
    late = int(draw.integers(50, 600))
    events = [(at + late, code) for start, end in bounds for at, code in ((start, 1), (end, 2))]

    def blocks(tick: Tick) -> Iterator[npt.NDArray[np.int32]]:
        signal = record(
            mixture,
            pieces,
            sfreq=sfreq,
            band=(0.0, 200.0),
            effect=settings.effect,
            line_uv=4.0,
        )
        for i, (piece, eeg) in enumerate(zip(pieces, signal, strict=True)):
            other = eye_channels(piece, eeg.shape[1], sfreq)
            if "ecg" in settings.quirks:
                beats = heartbeat(eeg.shape[1], sfreq, draw=rng(*piece.purpose, "heart"))
                other = np.vstack([other, 800 * beats])
            yield np.round(np.vstack([eeg, other]) / CNT_STEP).astype(np.int32)
            if i % 2:
                tick()

    def write(path: Path, tick: Tick) -> None:
        write_cnt(
            path,
            plan_of_head,
            blocks(tick),
            sfreq=sfreq,
            events=events,
            known_length="no_sample_count" not in settings.quirks,
        )

    return write


CORPUS = Corpus(
    {"preprocessed": plan_preprocessed, "raw": plan_raw},
    n_subjects=15,
    n_sessions=3,
    quirks={
        "preprocessed": ("old_layout", "person_names"),
        "raw": ("old_layout", "no_sample_count", "ecg"),
    },
)
