"""Reads SEED-IV: 15 subjects, 3 sessions of 24 film clips, 62 electrodes, four emotions.

Each session is a MATLAB file of trials cut apart at 200 Hz, in a folder that is named by the
session's number (Zheng, Liu, Lu, Lu and Cichocki 2019, IEEE Trans Cybern 49:1110).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.corpora.seed_family import (
    SFREQ,
    check_trials,
    cut_recording,
    name_missing,
    read_trials,
    wrong,
)
from omfa.pipeline.readers.folder import left_out
from omfa.pipeline.recording import Key, Recording

N_TRIALS = 24

EMOTIONS = ("neutral", "sad", "fear", "happy")
"""The words of the labels 0 to 3."""

# fmt: off
LABELS = (
    (1, 2, 3, 0, 2, 0, 0, 1, 0, 1, 2, 1, 1, 1, 2, 3, 2, 2, 3, 3, 0, 3, 0, 3),
    (2, 1, 3, 0, 0, 2, 0, 2, 3, 3, 2, 3, 2, 0, 1, 1, 2, 1, 0, 3, 0, 1, 3, 1),
    (1, 2, 2, 1, 3, 3, 3, 1, 1, 2, 1, 0, 2, 3, 3, 0, 2, 3, 0, 0, 2, 0, 1, 0),
)
"""Of each session's trials, as published."""

WINDOWS = (
    (42, 23, 49, 32, 22, 40, 38, 52, 36, 42, 12, 27, 54, 42, 64, 35, 17, 44, 35, 12, 28, 28, 43,
     34),
    (55, 25, 34, 36, 53, 27, 34, 46, 34, 20, 60, 12, 36, 27, 44, 15, 46, 49, 45, 10, 37, 44, 24,
     19),
    (42, 32, 23, 45, 48, 26, 64, 23, 26, 16, 51, 41, 39, 19, 28, 44, 14, 17, 45, 22, 39, 38, 41,
     39),
)
"""How many windows of 4 s the release's features have of each session's trials."""

DATES = (
    ("20160518", "20161125", "20161126"), ("20150915", "20150920", "20151012"),
    ("20150919", "20151018", "20151101"), ("20151111", "20151118", "20151123"),
    ("20160406", "20160413", "20160420"), ("20150507", "20150511", "20150512"),
    ("20150715", "20150717", "20150721"), ("20151103", "20151110", "20151117"),
    ("20151028", "20151119", "20151209"), ("20151014", "20151021", "20151023"),
    ("20150916", "20150921", "20151011"), ("20150725", "20150804", "20150807"),
    ("20151115", "20151125", "20161130"), ("20151205", "20151208", "20151215"),
    ("20150508", "20150514", "20150527"),
)
# fmt: on
"""When each subject's sessions were, which the files' names hold."""

SEX = "MMFFFMMFFFFMMFF"

_FILE = r"\d+_(?:\d{8}|[1-3])\.mat"
_FOLDER = re.compile(r"(?:session[ _-]?)?([1-3])", re.IGNORECASE)
_README = ("ReadMe.txt", "readme.txt", "README.txt")
_MAX_README = 1_000_000  # characters
_README_LABELS = r"session\s*{}\s*_label\s*=\s*\[([\d,.;\s]*)\]"
# Lengths of the right session correlate almost wholly with the windows, others by less than 0.3.
_ALIKE = 0.9


@dataclass(frozen=True)
class SeedIVReader:
    """Reads SEED-IV's recordings, one per subject and session, from ``eeg_raw_data``.

    Labels: ``emotion``, a word: neutral, sad, fear or happy. The release has them in no data file;
    they are the published ones, compared with those in ``ReadMe.txt`` where it is there. Stimuli
    are the clips' numbers over all sessions, 1 to 72, since each session shows other clips.
    """

    name: str = field(default="seed-iv", init=False)

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the sessions below a folder: SEED-IV's, ``eeg_raw_data``, or a session's own."""
        # Any folder in it: a renamed session is found by its dates, or named.
        files = release.find(root, ["eeg_raw_data"], _FILE, corpus="SEED-IV", inner=r".+")
        where = f"SEED-IV reader: {root}"
        found: dict[tuple[int, int], Path] = {}
        unknown, twice = [], []
        # What the folder or the name says goes before what a date does.
        for file in sorted(files, key=lambda file: (_said(file) is None, file)):
            subject, session = _subject(file), _said(file) or _published(file)
            if session is None:
                unknown.append(os.path.relpath(file, root))
            elif found.setdefault((subject, session), file) != file:
                twice.append(f"{os.path.relpath(file, root)} ({found[subject, session]})")
        if not found:
            raise wrong(
                where,
                f"it holds {len(files)} files such as {unknown[0]}, in a folder that is not called "
                "1, 2 or 3 and with dates that are none of SEED-IV's",
                "Give the folder that SEED-IV was unpacked to, and call its session folders 1, 2 "
                "and 3",
            )
        if unknown:
            left_out(where, unknown, "are in a folder that says no session, with unknown dates,")
        if twice:
            left_out(where, twice, "are of a session that another file is of")
        readme = _beside(next(iter(found.values())))
        keys = sorted(
            release.key(subject, session, [file, readme], root)
            for (subject, session), file in found.items()
        )
        name_missing(keys, where=where)
        return keys

    def read(self, key: Key) -> Recording:
        """Read one session."""
        doing = release.telling("SEED-IV", key)
        with release.opening(doing, key.paths[0]):
            return _read(key, doing).check()


def _subject(file: Path) -> int:
    return int(file.stem.split("_")[0])


def _said(file: Path) -> int | None:
    """Return the session that a file's name or folder is of."""
    last = file.stem.split("_")[1]
    if len(last) == 1:
        return int(last)
    folder = _FOLDER.fullmatch(Path(os.path.abspath(file)).parent.name)  # noqa: PTH100 - as linked
    return int(folder[1]) if folder else None


def _published(file: Path) -> int | None:
    """Return the session that a file's date is of."""
    subject, date = _subject(file), file.stem.split("_")[1]
    if 1 <= subject <= len(DATES) and date in DATES[subject - 1]:
        return DATES[subject - 1].index(date) + 1
    return None


def _beside(file: Path) -> Path | None:
    """Find the ReadMe.txt of the release, from a session's folder or from what holds all."""
    places = [file] if len(file.stem.split("_")[1]) == 1 else [file, file.parent]
    found = (release.beside(place, name) for place in places for name in _README)
    return next(filter(None, found), None)


def _read(key: Key, doing: str) -> Recording:
    session = int(key.session)
    dated = _published(key.paths[0])
    if dated not in (None, session):
        raise wrong(
            doing,
            f"its date is that of the subject's session {dated}, and its folder is that of session "
            f"{session}",
            f"Put it into the folder {dated}, or give it its own name again",
        )
    strange: list[str] = []
    trials = read_trials(
        key.paths[0],
        doing=doing,
        folder="eeg_raw_data",
        other=lambda variable: strange.append(variable.name),
    )
    if not trials:
        raise wrong(
            doing,
            f"it holds no trial of EEG; its variables are {', '.join(strange[:3]) or 'none'}",
            "Give the folder eeg_raw_data",
        )
    numbers = range(1, N_TRIALS + 1)
    check_trials(trials, numbers, doing, "Download the file again")
    _check_lengths([trials[number].shape[1] for number in numbers], session, doing)
    codes, said_by = _labels(session, key.paths[1:], doing)
    return cut_recording(
        key,
        [trials[number] for number in numbers],
        {
            "stimulus": [str(N_TRIALS * (session - 1) + number) for number in numbers],
            "emotion": [EMOTIONS[code] for code in codes],
        },
        participant={"sex": SEX[n - 1]} if (n := int(key.subject)) <= len(SEX) and n else {},
        source={"band": [1.0, 75.0], "labels": said_by},
    )


def _check_lengths(lengths: Sequence[int], session: int, doing: str) -> None:
    """Raise if the trials are as long as another session's: their labels would be another's."""
    alike = [_correlation(np.array(lengths) / (4 * SFREQ), np.array(row)) for row in WINDOWS]
    best = int(np.argmax(alike)) + 1
    if best != session and alike[best - 1] > _ALIKE:
        raise wrong(
            doing,
            f"its trials are as long as those of session {best}, and its folder or name is that of "
            f"session {session}",
            "Put each session's files into the folder of its number",
        )


def _correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.integer]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) else 0.0


def _labels(session: int, tables: Sequence[Path], doing: str) -> tuple[Sequence[int], str]:
    """Return a session's labels, and who says so; raise if ReadMe.txt has others."""
    published = LABELS[session - 1]
    if not tables:
        return published, "as published"
    # Latin-1 has a character for every byte: a remark in another script stops nothing.
    with tables[0].open(encoding="latin-1") as file:
        text = file.read(_MAX_README)
    found = re.search(_README_LABELS.format(session), text, re.IGNORECASE)
    if found is None:
        return published, f"as published; {tables[0].name} has none"
    codes = [int(float(code)) for code in re.findall(r"[\d.]*\d", found[1])]
    if len(codes) != N_TRIALS:
        raise _wrong_labels(doing, tables[0], f"{len(codes)} labels of session {session}")
    if tuple(codes) != published:
        first = next(i for i in range(N_TRIALS) if codes[i] != published[i])
        raise _wrong_labels(
            doing,
            tables[0],
            f"label {codes[first]} for trial {first + 1} of session {session}, where "
            f"{published[first]} is published",
        )
    return published, f"as published and in {tables[0].name}"


def _wrong_labels(doing: str, table: Path, found: str) -> DataError:
    return wrong(
        doing,
        f"{table.name} has {found}; {N_TRIALS} known labels are expected",
        f"Download {table.name} again, or take it out of the folder to read the published labels",
    )
