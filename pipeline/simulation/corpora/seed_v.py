"""Simulated SEED-V: the 1000 Hz Neuroscan recordings and the table of trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omfa.pipeline.simulation.corpora.seed_family import (
    CAP,
    RECORDED,
    bounds_of,
    cnt_writer,
    gaps_of,
    piece_of,
    trial_row,
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

_ORDER = (
    words("happy fear neutral sad disgust") * 3,
    words("""sad fear neutral disgust happy happy disgust neutral sad fear neutral happy fear sad
          disgust"""),
    words("""sad fear neutral disgust happy happy disgust neutral sad fear neutral happy fear sad
          disgust"""),
)

_SECONDS = (
    (72, 96, 237, 187, 147, 258, 297, 69, 264, 141, 174, 172, 234, 240, 155),
    (237, 189, 66, 127, 131, 59, 240, 230, 120, 99, 187, 116, 95, 219, 76),
    (291, 65, 165, 90, 52, 239, 84, 72, 228, 285, 220, 118, 207, 131, 178),
)

# Before each trial, as the release's table has them, and after the last, which is ours.
_GAPS = (
    (30, 30, 59, 31, 31, 62, 31, 60, 33, 31, 61, 34, 60, 31, 32, 20),
    (30, 32, 60, 32, 63, 33, 32, 61, 35, 32, 58, 33, 31, 62, 32, 20),
    (30, 32, 60, 31, 61, 31, 53, 62, 33, 32, 59, 32, 32, 62, 31, 20),
)

# By subject, the three sessions of each; not all were in this order.
_DATES = words("""
    20180804 20180810 20180808  20180416 20180419 20180425  20180414 20180419 20180424
    20180414 20180417 20180501  20180719 20180728 20180723  20180713 20180731 20180802
    20180411 20180418 20180422  20180717 20180802 20180726  20180724 20180804 20180728
    20180507 20180524 20180626  20180510 20180508 20180522  20180515 20180508 20180517
    20180720 20180806 20180725  20180420 20180423 20180427  20180724 20180807 20180730
    20180805 20180815 20180813
""")

_REPAIRED = (7, 1)
"""Of which subject and session some copies hold a damaged file and a repaired one."""


def _trials(settings: Settings, subject: int, session: int) -> list[dict[str, Any]]:
    lengths = settings.lengths(_SECONDS[session - 1])
    return [
        trial_row(
            subject,
            session,
            trial,
            stimulus=15 * (session - 1) + trial,
            seconds=length,
            emotion=emotion,
        )
        for trial, (emotion, length) in enumerate(
            zip(_ORDER[session - 1], lengths, strict=True), start=1
        )
    ]


def _bounds(settings: Settings, session: int) -> list[tuple[int, int]]:
    lengths = settings.lengths(_SECONDS[session - 1])
    return bounds_of(lengths, gaps_of(settings, _GAPS[session - 1]))


def plan(settings: Settings) -> Plan:
    """Plan the recordings as the amplifier wrote them, and the table of all three sessions."""
    plan = Plan(sfreq=1000.0, channels=CAP)
    plan.targets["valence"] = "1 happy, 0 neutral, -1 disgust, fear and sad"
    for subject in settings.subjects:
        for session in settings.sessions:
            stem = f"EEG_raw/{subject}_{session}_{_DATES[3 * subject + session - 4]}"
            mended = "repaired" in settings.quirks and (subject, session) == _REPAIRED
            name = f"{stem}_repaired.cnt" if mended else f"{stem}.cnt"
            mixture = settings.mixture(RECORDED, subject, session)
            trials = _trials(settings, subject, session)
            pieces = {t["trial"]: piece_of(settings, t, t["code_valence"]) for t in trials}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            # The trigger comes later than the table has it, by an amount of the recording's own.
            late = int(settings.rng(subject, session, "events").integers(50, 600))
            write = cnt_writer(
                settings,
                mixture,
                list(pieces.values()),
                gaps_of(settings, _GAPS[session - 1]),
                subject=subject,
                session=session,
                events=[
                    (1000 * at + late, code)
                    for pair in _bounds(settings, session)
                    for code, at in enumerate(pair, 1)
                ],
                ecg="ecg" in settings.quirks,
                known_length="no_sample_count" not in settings.quirks,
            )
            plan.files[name] = write
            if mended:
                plan.files[f"{stem}.cnt"] = _damaged(write)
    plan.files["trial_start_end_timestamp.txt"] = text_file(
        "".join(_block(session, _bounds(settings, session)) for session in (1, 2, 3))
    )
    return plan


def _damaged(write: Write) -> Write:
    """Return the writer of a file that is cut short."""

    def cut(path: Path, tick: Tick) -> None:
        write(path, lambda: None)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)

    return cut


def _block(session: int, bounds: Sequence[tuple[int, int]]) -> str:
    starts, ends = (list(seconds) for seconds in zip(*bounds, strict=True))
    return f"Session {session}:\r\nstart_second: {starts}\r\nend_second: {ends}\r\n\r\n"


CORPUS = Corpus(
    {"raw": plan},
    n_subjects=16,
    n_sessions=3,
    quirks={"raw": ("repaired", "no_sample_count", "ecg")},
)
