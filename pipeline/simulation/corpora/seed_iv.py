"""Simulated SEED-IV: the 200 Hz .mat files in a folder for each session."""

from __future__ import annotations

from omfa.pipeline.simulation.corpora.seed_family import CAP, mat_writer, piece_of, trial_row
from omfa.pipeline.simulation.formats import DISCLAIMER
from omfa.pipeline.simulation.plan import (
    Corpus,
    Plan,
    Settings,
    recording_truth,
    text_file,
    words,
)

_WORDS = ("neutral", "sad", "fear", "happy")

_PREFIXES = words("cz ha hql ldy ly mhw mz qyt rx tyc whh wll wq zjd zjy")

_LABELS = (
    words("1 2 3 0 2 0 0 1 0 1 2 1 1 1 2 3 2 2 3 3 0 3 0 3"),
    words("2 1 3 0 0 2 0 2 3 3 2 3 2 0 1 1 2 1 0 3 0 1 3 1"),
    words("1 2 2 1 3 3 3 1 1 2 1 0 2 3 3 0 2 3 0 0 2 0 1 0"),
)

# Of 4 s; a trial has up to 4 s more, of which we write the first sample.
_WINDOWS = (
    words("42 23 49 32 22 40 38 52 36 42 12 27 54 42 64 35 17 44 35 12 28 28 43 34"),
    words("55 25 34 36 53 27 34 46 34 20 60 12 36 27 44 15 46 49 45 10 37 44 24 19"),
    words("42 32 23 45 48 26 64 23 26 16 51 41 39 19 28 44 14 17 45 22 39 38 41 39"),
)

# By subject, the three sessions of each.
_DATES = words("""
    20160518 20161125 20161126  20150915 20150920 20151012  20150919 20151018 20151101
    20151111 20151118 20151123  20160406 20160413 20160420  20150507 20150511 20150512
    20150715 20150717 20150721  20151103 20151110 20151117  20151028 20151119 20151209
    20151014 20151021 20151023  20150916 20150921 20151011  20150725 20150804 20150807
    20151115 20151125 20161130  20151205 20151208 20151215  20150508 20150514 20150527
""")


def _file(subject: int, session: int, settings: Settings) -> str:
    if "flat" in settings.quirks:
        return f"eeg_raw_data/{subject}_{session}.mat"
    folder = f"session{session}" if "session_folders" in settings.quirks else session
    return f"eeg_raw_data/{folder}/{subject}_{_DATES[3 * subject + session - 4]}.mat"


def plan(settings: Settings) -> Plan:
    """Plan the release's signals and its ReadMe.txt."""
    plan = Plan(sfreq=200.0, channels=CAP)
    plan.targets["valence"] = "1 happy, 0 neutral, -1 sad and fear"
    for subject in settings.subjects:
        for session in settings.sessions:
            name = _file(subject, session, settings)
            mixture = settings.mixture(CAP, subject, session)
            lengths = settings.lengths([4 * int(n) for n in _WINDOWS[session - 1]])
            trials = [
                trial_row(
                    subject,
                    session,
                    trial,
                    stimulus=24 * (session - 1) + trial,
                    seconds=length,
                    emotion=_WORDS[int(code)],
                )
                for trial, (code, length) in enumerate(
                    zip(_LABELS[session - 1], lengths, strict=True), start=1
                )
            ]
            pieces = {t["trial"]: piece_of(settings, t, t["code_valence"]) for t in trials}
            prefix = _PREFIXES[subject - 1]
            named = {f"{prefix}_eeg{n}": (mixture, piece) for n, piece in pieces.items()}
            plan.trials += trials
            plan.recordings.append(recording_truth(name, subject, session, mixture, pieces))
            plan.files[name] = mat_writer(settings, named, band=(1.0, 75.0), n_last=1)
    if "no_readme" not in settings.quirks:
        rows = "\r\n".join(
            f"session{session}_label = [{','.join(codes)}];"
            for session, codes in enumerate(_LABELS, start=1)
        )
        plan.files["ReadMe.txt"] = text_file(
            f"{DISCLAIMER}.\r\nThe labels 0, 1, 2 and 3 are neutral, sad, fear and happy.\r\n{rows}"
            "\r\n"
        )
    return plan


CORPUS = Corpus(
    {"preprocessed": plan},
    n_subjects=15,
    n_sessions=3,
    quirks={"preprocessed": ("session_folders", "flat", "no_readme")},
)
