"""Simulated SEED-VII: 80 trials a file at 200 Hz, the Neuroscan recordings, continuous labels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.simulation.corpora.seed_family import (
    CAP,
    RECORDED,
    bounds_of,
    cnt_writer,
    gaps_of,
    mat_writer,
    piece_of,
    trial_row,
)
from omfa.pipeline.simulation.formats import mat_doubles, write_mat
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    Tick,
    recording_truth,
    text_file,
    words,
)
from omfa.pipeline.simulation.signals import Mixture, Piece

_ORDER = words("""
    happy neutral disgust sad anger  anger sad disgust neutral happy
    happy neutral disgust sad anger  anger sad disgust neutral happy
    anger sad fear neutral surprise  surprise neutral fear sad anger
    anger sad fear neutral surprise  surprise neutral fear sad anger
    happy surprise disgust fear anger  anger fear disgust surprise happy
    happy surprise disgust fear anger  anger fear disgust surprise happy
    disgust sad fear surprise happy  happy surprise fear sad disgust
    disgust sad fear surprise happy  happy surprise fear sad disgust
""")

# Ours: the release's 80 clips last 14,098 s together, and single lengths are not published.
_SECONDS = tuple(117 + 37 * clip % 113 for clip in range(80))
_GAPS = (30, *[25] * 19, 20)

# Recordings whose own triggers are wrong, and when they began.
_WRONG_TRIGGERS = {"14_20221015_1": "14:25:34", "9_20221111_3": "14:01:27"}


def _trials(settings: Settings, subject: int, session: int) -> list[dict[str, Any]]:
    first = 20 * (session - 1)
    lengths = settings.lengths(_SECONDS)[first : first + 20]
    return [
        trial_row(
            subject,
            session,
            trial,
            stimulus=first + trial,
            seconds=length,
            emotion=_ORDER[first + trial - 1],
        )
        for trial, length in enumerate(lengths, start=1)
    ]


def _plan(sfreq: float) -> Plan:
    plan = Plan(sfreq=sfreq, channels=CAP)
    plan.targets["valence"] = "1 happy and surprise, 0 neutral, -1 disgust, sad, anger and fear"
    return plan


def _add_continuous(plan: Plan, settings: Settings, subject: int) -> None:
    """Add a subject's ratings while watching: a value for every 4 s of each of the 80 trials."""

    def values(clip: int, n: int) -> npt.NDArray[np.float64]:
        draw = settings.rng(subject, "continuous", clip)
        return np.clip(0.5 + np.cumsum(draw.normal(0, 0.1, (1, n)), axis=1), 0, 1)

    def write(path: Path, tick: Tick) -> None:
        counts = [length // 4 for length in settings.lengths(_SECONDS)]
        write_mat(
            path,
            [
                mat_doubles((1, n), partial(values, clip, n), str(clip))
                for clip, n in enumerate(counts, start=1)
            ],
            compressed=False,
        )

    plan.files[f"continuous_labels/{subject}.mat"] = write


def plan_preprocessed(settings: Settings) -> Plan:
    """Plan the trials at 200 Hz, whole seconds long."""
    plan = _plan(200.0)
    for subject in settings.subjects:
        name = f"EEG_preprocessed/{subject}.mat"
        variables: dict[int, dict[str, tuple[Mixture, Piece]]] = {}
        for session in settings.sessions:
            mixture = settings.mixture(CAP, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {t["trial"]: piece_of(settings, t, t["code_valence"]) for t in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            variables[session] = {
                str(20 * (session - 1) + trial): (mixture, piece) for trial, piece in pieces.items()
            }
        # The makers took a folder's files as it listed them, so sessions can be in any order.
        order = settings.sessions if subject % 3 else settings.sessions[::-1]
        plan.files[name] = mat_writer(
            settings,
            {number: trial for session in order for number, trial in variables[session].items()},
            band=(0.1, 70.0),
            compressed="compressed" in settings.quirks,
        )
        _add_continuous(plan, settings, subject)
    return plan


def _stem(subject: int, session: int) -> str:
    """Return a recording's name; the dates are ours, but for those of the two that are known."""
    for stem in _WRONG_TRIGGERS:
        who, _, which = map(int, stem.split("_"))
        if (who, which) == (subject, session):
            return stem
    day = date(2022, 9, 1) + timedelta(days=2 * subject + 3 * session)
    return f"{subject}_{day:%Y%m%d}_{session}"


def plan_raw(settings: Settings) -> Plan:
    """Plan the recordings as the amplifier wrote them, and the tables of their triggers."""
    plan = _plan(1000.0)
    for subject in settings.subjects:
        for session in settings.sessions:
            stem = _stem(subject, session)
            name = f"EEG_raw/{stem}.cnt"
            mixture = settings.mixture(RECORDED, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {t["trial"]: piece_of(settings, t, t["code_valence"]) for t in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            gaps = gaps_of(settings, _GAPS)
            bounds = bounds_of([t["seconds"] for t in trials], gaps)
            plan.files[name] = cnt_writer(
                settings,
                mixture,
                list(pieces.values()),
                gaps,
                subject=subject,
                session=session,
                events=_events(stem, bounds, settings),
                ecg=True,
                known_length="no_sample_count" not in settings.quirks,
            )
            plan.files[f"save_info/{stem}_trigger_info.csv"] = text_file(_table(stem, bounds))
        _add_continuous(plan, settings, subject)
    return plan


def _events(
    stem: str, bounds: Sequence[tuple[int, int]], settings: Settings
) -> list[tuple[int, int]]:
    """Return a recording's own triggers, in samples: a start and an end for each trial."""
    events = [(1000 * at, code) for pair in bounds for code, at in enumerate(pair, 1)]
    if stem not in _WRONG_TRIGGERS:
        # One more after the last trial, which the makers' own script passes over.
        return [*events, (events[-1][0] + 500, 3)] if "extra_trigger" in settings.quirks else events
    # Elsewhere, and some not at all.
    return [(at + 700, code) for at, code in events[4:]]


def _table(stem: str, bounds: Sequence[tuple[int, int]]) -> str:
    begun = datetime.strptime(_WRONG_TRIGGERS.get(stem, "14:00:00"), "%H:%M:%S")
    day = datetime.strptime(stem.split("_")[1], "%Y%m%d")
    begun = datetime.combine(day, begun.time())
    return "".join(
        f"{code},{begun + timedelta(seconds=at):%Y-%m-%d %H:%M:%S.%f}\r\n"
        for pair in bounds
        for code, at in enumerate(pair, 1)
    )


CORPUS = Corpus(
    {"preprocessed": plan_preprocessed, "raw": plan_raw},
    n_subjects=20,
    n_sessions=4,
    quirks={"preprocessed": ("compressed",), "raw": ("no_sample_count", "extra_trigger")},
)
