"""Simulated SEED: the 200 Hz .mat files, and the 1000 Hz Neuroscan recordings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from omfa.pipeline.simulation.corpora.seed_family import (
    CAP,
    RECORDED,
    bounds_of,
    cnt_writer,
    gaps_of,
    mat_writer,
    piece_of,
)
from omfa.pipeline.simulation.formats import DISCLAIMER, mat_numbers, write_mat
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    recording_truth,
    text_file,
    words,
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
    plan = Plan(sfreq=200.0, channels=CAP)
    folder = _top(settings.quirks) + "Preprocessed_EEG/"
    for subject in settings.subjects:
        for session in settings.sessions:
            name = folder + _file(subject, session, settings.quirks)
            mixture = settings.mixture(plan.channels, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {t["trial"]: piece_of(settings, t, t["code_emotion"]) for t in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            prefix = SEED_PREFIXES[subject - 1]
            named = {f"{prefix}_eeg{n}": (mixture, piece) for n, piece in pieces.items()}
            # Both end points are kept.
            plan.files[name] = mat_writer(settings, named, band=(0.0, 75.0), n_last=1)
    _add_labels(plan, folder)
    return plan


def plan_raw(settings: Settings) -> Plan:
    """Plan the recordings as the amplifier wrote them."""
    plan = Plan(sfreq=1000.0, channels=CAP)
    folder = _top(settings.quirks) + "SEED_RAW_EEG/"
    gaps = gaps_of(settings, _GAPS)
    bounds = bounds_of(settings.lengths(SEED_SECONDS), gaps)
    starts, ends = ([1000 * seconds for seconds in ends] for ends in zip(*bounds, strict=True))
    for subject in settings.subjects:
        for session in settings.sessions:
            name = f"{folder}{subject}_{session}.cnt"
            mixture = settings.mixture(RECORDED, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {t["trial"]: piece_of(settings, t, t["code_emotion"]) for t in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            # The trigger comes later than the table has it, by an amount of the recording's own.
            late = int(settings.rng(subject, session, "events").integers(50, 600))
            pairs = zip(starts, ends, strict=True)
            plan.files[name] = cnt_writer(
                settings,
                mixture,
                list(pieces.values()),
                gaps,
                subject=subject,
                session=session,
                events=[(at + late, code) for pair in pairs for code, at in enumerate(pair, 1)],
                ecg="ecg" in settings.quirks,
                known_length="no_sample_count" not in settings.quirks,
            )
    plan.files[folder + "time.txt"] = text_file(
        f"start_point_list = {str(starts).replace(' ', '')};#1000Hz\r\n"
        f"end_point_list = {str(ends).replace(' ', '')};#1000Hz\r\n"
    )
    _add_labels(plan, _top(settings.quirks) + "Preprocessed_EEG/")
    return plan


CORPUS = Corpus(
    {"preprocessed": plan_preprocessed, "raw": plan_raw},
    n_subjects=15,
    n_sessions=3,
    quirks={
        "preprocessed": ("old_layout", "person_names"),
        "raw": ("old_layout", "no_sample_count", "ecg"),
    },
)
