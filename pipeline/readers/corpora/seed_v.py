"""Reads SEED-V: 16 subjects, 3 sessions of 15 film clips, 62 electrodes, five emotions.

The release has signals as Neuroscan recordings at 1000 Hz, and a table of when the clips were shown
(Liu, Qiu, Zheng and Lu 2022, IEEE Trans Cogn Dev Syst 14:715).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.corpora.seed_family import (
    RAW_SFREQ,
    in_a_row,
    name_missing,
    open_session,
    wrong,
)
from omfa.pipeline.readers.folder import left_out
from omfa.pipeline.recording import Key, Recording

N_TRIALS = 15

EMOTIONS = ("disgust", "fear", "sad", "neutral", "happy")
"""The words of the labels 0 to 4."""

LABELS = (
    (4, 1, 3, 2, 0, 4, 1, 3, 2, 0, 4, 1, 3, 2, 0),
    (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
    (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
)
"""Of each session's trials, as published."""

# fmt: off
SECONDS = (
    ((30, 132, 287, 555, 773, 982, 1271, 1628, 1730, 2025, 2227, 2435, 2667, 2932, 3204),
     (102, 228, 524, 742, 920, 1240, 1568, 1697, 1994, 2166, 2401, 2607, 2901, 3172, 3359)),
    ((30, 299, 548, 646, 836, 1000, 1091, 1392, 1657, 1809, 1966, 2186, 2333, 2490, 2741),
     (267, 488, 614, 773, 967, 1059, 1331, 1622, 1777, 1908, 2153, 2302, 2428, 2709, 2817)),
    ((30, 353, 478, 674, 825, 908, 1200, 1346, 1451, 1711, 2055, 2307, 2457, 2726, 2888),
     (321, 418, 643, 764, 877, 1147, 1284, 1418, 1679, 1996, 2275, 2425, 2664, 2857, 3066)),
)
"""Starts and ends of each session's clips, as published."""

SEX = "FMFFMFFMFMFFFMMF"
AGE = (21, 21, 23, 21, 20, 23, 23, 21, 23, 24, 24, 20, 22, 22, 19, 19)
# fmt: on

TABLE = "trial_start_end_timestamp.txt"
"""The release's own table of starts and ends."""

_FILE = r"\d+_[1-3]_\d{8}(?:_repaired)?\.cnt"
_MAX_TABLE = 1_000_000  # characters


@dataclass(frozen=True)
class SeedVReader:
    """Reads SEED-V's recordings, one per subject and session, from ``EEG_raw``.

    Labels: ``emotion``, a word: disgust, fear, sad, neutral or happy. Stimuli are the clips'
    numbers over all sessions, 1 to 45, since each session shows other clips. The session is the
    name's second number: it follows the clips, and some people saw the third before the second.
    Of a recording that was repaired, the repaired file is read.

    Attributes
    ----------
    auxiliary : bool
        Whether to keep the mastoids, EOG and ECG.
    """

    auxiliary: bool = True
    name: str = field(default="seed-v", init=False)

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the sessions below a folder: SEED-V's, or the recordings' own."""
        where = f"SEED-V reader: {root}"
        sessions: dict[tuple[int, int], list[Path]] = {}
        for file in release.find(root, ["EEG_raw"], _FILE, corpus="SEED-V"):
            subject, session = map(int, file.stem.split("_")[:2])
            sessions.setdefault((subject, session), []).append(file)
        chosen = {place: _chosen(files, where) for place, files in sessions.items()}
        if passed := [f.name for p, files in sessions.items() for f in files if f != chosen[p]]:
            left_out(where, passed, "have a repaired copy, which is read,")
        table = release.beside(next(iter(chosen.values())), TABLE)
        keys = sorted(
            release.key(subject, session, [file, table], root)
            for (subject, session), file in chosen.items()
        )
        name_missing(keys, where=where)
        return keys

    def read(self, key: Key) -> Recording:
        """Read one session."""
        doing = release.telling("SEED-V", key)
        with release.opening(doing, key.paths[0]):
            return _read(key, doing, auxiliary=self.auxiliary).check()


def _chosen(files: Sequence[Path], where: str) -> Path:
    """Return the one file of a session, or the one that was repaired."""
    repaired = [file for file in files if file.stem.lower().endswith("_repaired")]
    candidates = repaired or files
    if len(candidates) > 1:
        raise wrong(
            where,
            f"{' and '.join(file.name for file in candidates)} are of one subject's session",
            "Take the one that is not the release's out of the folder",
        )
    return candidates[0]


def _read(key: Key, doing: str, *, auxiliary: bool) -> Recording:
    session = int(key.session)
    raw = open_session(key.paths[0], doing=doing, auxiliary=auxiliary)
    starts, ends, timing = _bounds(key.paths[1:], session, doing)
    return raw.recording(
        key,
        starts,
        ends,
        {
            "stimulus": [str(N_TRIALS * (session - 1) + i) for i in range(1, N_TRIALS + 1)],
            "emotion": [EMOTIONS[code] for code in LABELS[session - 1]],
        },
        participant=_participant(key),
        timing=timing,
    )


def _bounds(
    tables: Sequence[Path], session: int, doing: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], str]:
    """Return where trials start and end, in samples, and whose table says so."""
    if not tables:
        seconds: list[list[float]] = [[*row] for row in SECONDS[session - 1]]
        timing = f"{TABLE} as published"
    else:
        # Latin-1 has a character for every byte: no remark in another script stops the reading.
        with tables[0].open(encoding="latin-1") as file:
            text = file.read(_MAX_TABLE)
        parts = re.split(r"session\s*(\d+)\s*:", text, flags=re.IGNORECASE)
        block = dict(zip(parts[1::2], parts[2::2], strict=True)).get(str(session), "")
        found = dict(re.findall(r"(start|end)_second\s*:\s*\[([\d,.\s]*)\]", block))
        seconds = [
            [float(n) for n in re.findall(r"\d+(?:\.\d+)?", found.get(which, ""))]
            for which in ("start", "end")
        ]
        timing = TABLE
    starts, ends = (np.round(np.array(row) * RAW_SFREQ).astype(np.int64) for row in seconds)
    if not len(starts) == len(ends) == N_TRIALS or not in_a_row(starts, ends):
        raise wrong(
            doing,
            f"{TABLE} has {len(starts)} starts and {len(ends)} ends for session {session}, which "
            f"are not {N_TRIALS} trials in a row",
            f"Download {TABLE} again, or take it out of the folder to read by the published times",
        )
    return starts, ends, timing


def _participant(key: Key) -> dict[str, Any]:
    number = int(key.subject) if key.subject.isdigit() else 0
    return {"sex": SEX[number - 1], "age": AGE[number - 1]} if 1 <= number <= len(SEX) else {}
