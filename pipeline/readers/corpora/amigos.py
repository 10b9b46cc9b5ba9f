"""Reads AMIGOS: 40 subjects, 16 short and 4 long videos, 14 electrodes of an Emotiv EPOC at 128 Hz.

The preprocessed release holds each subject as a MATLAB file of four cell arrays with a cell per
video. Cells can be empty, without labels, or NaN for the most part, and their order is another in
every file (Miranda-Correa et al. 2021, IEEE Trans Affect Comput 12:479).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.folder import left_out, once, walk
from omfa.pipeline.recording import Auxiliary, Key, Recording, SourceWarning
from omfa.pipeline.words import some

CHANNELS = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
"""The first columns of the arrays."""

AUXILIARY = {"ECG_Right": "n/a", "ECG_Left": "n/a", "GSR": "n/a"}
"""The last three columns; the release names no units."""

RATINGS = ("arousal", "valence", "dominance", "liking", "familiarity")
"""1 to 9; the first numbers of a self-assessment."""

CHOICES = ("neutral", "disgust", "happiness", "surprise", "anger", "fear", "sadness")
"""0 or 1, whether the subject chose the word; the numbers after them."""

SFREQ = 128.0
N_VIDEOS, N_SHORT = 20, 16
BASELINE_SECONDS = 5
_SCALE = (1, 9)
_FILE = re.compile(r"data_preprocessed_p(\d\d)\.mat", re.IGNORECASE)
_LIKE = re.compile(r"data_preprocessed.*\.mat", re.IGNORECASE)
_PEOPLE = "Participant_Questionnaires"
_MAX_SAMPLES = 17 * 128 * 3600  # of a video: an hour, twice the longest
_CELLS = ("VideoIDs", "joined_data", "labels_selfassessment")


@dataclass(frozen=True)
class AmigosReader:
    """Reads AMIGOS's preprocessed recordings, one per subject, a segment per video.

    Labels: ``arousal``, ``valence``, ``dominance``, ``liking``, ``familiarity``, 1 to 9;
    ``neutral``, ``disgust``, ``happiness``, ``surprise``, ``anger``, ``fear``, ``sadness``, 0 or
    1; all NaN where the subject did not answer. ``experiment`` is ``short`` or ``long``. Stimuli
    are the videos' names (``VideoIDs``), and trials are in the order of the file. The 5 s before a
    video are its baseline.

    Attributes
    ----------
    auxiliary : bool
        Whether to keep ECG and GSR.
    """

    auxiliary: bool = True
    name: str = field(default="amigos", init=False)

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the subjects below a folder; their files share a folder or have one each."""
        root = Path(root)
        where = f"AMIGOS reader: looking in {root}"
        if not root.is_dir():
            raise DataError(
                where, "there is no such folder", "Give the folder that holds the corpus"
            )
        alike = [path for path in walk(root) if _LIKE.fullmatch(path.name)]
        files = once([path for path in alike if _FILE.fullmatch(path.name)], where=where)
        if odd := sorted(str(p.relative_to(root)) for p in alike if not _FILE.fullmatch(p.name)):
            left_out(where, odd, "are not named as recordings of the corpus are")
        if not files:
            inside = some(sorted(path.name for path in root.iterdir()), 5) or "nothing"
            raise DataError(
                where,
                f"there is no Data_Preprocessed_P01.mat or the like in it; it holds {inside}",
                "Give the folder that the preprocessed data were unpacked to, or another source",
            )
        people = _people(root, where)
        keys: dict[str, Key] = {}
        for path in files:
            match = _FILE.fullmatch(path.name)
            assert match
            key = release.key(int(match[1]), 1, [path, people], root)
            if (other := keys.setdefault(key.recording, key)) is not key:
                raise DataError(
                    where,
                    f"{other.files[0]} and {key.files[0]} are both subject {key.subject}",
                    "Take one of the two away",
                )
        return sorted(keys.values())

    def read(self, key: Key) -> Recording:
        """Read one subject."""
        doing = release.telling("AMIGOS", key)
        with release.opening(doing, key.paths[0]):
            return _read(key, doing, auxiliary=self.auxiliary).check()


def _people(root: Path, where: str) -> Path | None:
    """Return the table of people, if it is there as text."""
    tables = [path for path in walk(root) if path.stem == _PEOPLE]
    readable = [path for path in tables if path.suffix.lower() == ".csv"]
    if tables and not readable:
        warnings.warn(
            SourceWarning(
                f"{where}: {tables[0].name} is not read, and age and sex with it; save it beside "
                f"itself as {_PEOPLE}.csv to have them"
            ),
            stacklevel=3,
        )
    return readable[0] if readable else None


def _read(key: Key, doing: str, *, auxiliary: bool) -> Recording:
    cells = _cells(key.paths[0], doing)
    n_eeg = len(CHANNELS)
    baseline = int(BASELINE_SECONDS * SFREQ)
    segments, rest = [], []
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for i, (video, data, answer) in enumerate(zip(*(cells[name] for name in _CELLS), strict=True)):
        what = f"video {video or 'without a name'} in cell {i + 1}"
        if not data.size:
            notes.append(f"{doing}: {what} is empty and is left out.")
            continue
        if data.ndim != 2 or data.shape[1] != n_eeg + len(AUXILIARY) or len(data) <= baseline:
            raise _wrong(
                doing,
                f"{what} is {' x '.join(map(str, data.shape))}, expected more than {baseline} "
                f"samples x {n_eeg + len(AUXILIARY)}",
            )
        signal = data.T
        missing = float(np.isnan(signal[:n_eeg]).mean())
        if missing == 1:
            notes.append(f"{doing}: {what} has not a sample of EEG and is left out.")
            continue
        if missing > 0.5:
            notes.append(f"{doing}: {what} lacks {missing:.0%} of its EEG.")
        if not video:
            raise _wrong(doing, f"{what} has a signal, and nothing says what was shown")
        if not answer.size:
            notes.append(f"{doing}: {what} has no self-assessment; its labels are missing.")
        segments.append(signal[:n_eeg])
        rest.append(signal[n_eeg:])
        rows.append(
            {
                "segment": len(rows),
                "onset": baseline,
                "length": signal.shape[1] - baseline,
                "baseline_onset": 0,
                "baseline_length": baseline,
                "stimulus": video,
                "experiment": "short" if i < N_SHORT else "long",
                **_labels(answer, what, doing),
            }
        )
    if not rows:
        raise _wrong(doing, f"all of its {N_VIDEOS} cells are empty")
    trials = pd.DataFrame(rows)
    if twice := sorted(trials["stimulus"][trials["stimulus"].duplicated()]):
        raise _wrong(doing, f"it holds video {twice[0]} twice")
    return Recording(
        key=key,
        channels=list(CHANNELS),
        sfreq=SFREQ,
        segments=segments,
        trials=trials,
        auxiliary=[Auxiliary(tuple(AUXILIARY), tuple(AUXILIARY.values()), SFREQ, rest)]
        if auxiliary
        else [],
        participant=_participant(key, notes),
        source={
            "variant": "preprocessed",
            "reference": "average",
            "band": [4.0, 45.0],
            "timing": "cut by the corpus's authors",
        },
        notes=notes,
    )


def _cells(path: Path, doing: str) -> dict[str, list[Any]]:
    """Return the file's cells: names as text, signals as float32 (time, column), answers."""
    found: dict[str, list[Any]] = {}
    for variable in matlab.variables(path, doing=doing):
        if variable.name not in _CELLS:
            continue
        if variable.kind != "cell" or variable.size != N_VIDEOS:
            raise _wrong(
                doing,
                f"its {variable.name} is no row of {N_VIDEOS} cells but a {variable.kind} of "
                f"{variable.size}",
            )
        found[variable.name] = list(_decoded(variable))
    if missing := [name for name in _CELLS if name not in found]:
        raise _wrong(
            doing,
            f"it holds no variable {' and '.join(missing)}",
            "Take the preprocessed data; the original ones have other columns and are not read",
        )
    return found


def _decoded(variable: matlab.Matrix) -> Iterator[Any]:
    for cell in variable.cells(most=N_VIDEOS):
        if variable.name == "VideoIDs":
            yield cell.text() if cell.kind == "char" else ""
        elif variable.name == "joined_data":
            yield cell.array(np.float32, most=_MAX_SAMPLES)
        else:
            yield cell.array(np.float64, most=99)


def _labels(answer: npt.NDArray[np.float64], what: str, doing: str) -> dict[str, float]:
    names = [*RATINGS, *CHOICES]
    if not answer.size:
        return dict.fromkeys(names, np.nan)
    values = answer.ravel()
    if len(values) != len(names):
        raise _wrong(
            doing, f"the self-assessment of {what} has {len(values)} numbers, not {len(names)}"
        )
    low, high = _SCALE
    ratings, choices = values[: len(RATINGS)], values[len(RATINGS) :]
    if not ((ratings >= low) & (ratings <= high)).all() or not np.isin(choices, (0, 1)).all():
        raise _wrong(
            doing,
            f"the self-assessment of {what} is {' '.join(f'{v:g}' for v in values)}, expected "
            f"{len(RATINGS)} numbers from {low} to {high} and {len(CHOICES)} of 0 and 1",
        )
    return dict(zip(names, values.tolist(), strict=True))


def _participant(key: Key, notes: list[str]) -> dict[str, Any]:
    if len(key.paths) == 1:
        return {}
    cells = release.row_of(key.paths[1], int(key.subject), column="userid", notes=notes)
    return release.age_and_sex(cells)


def _wrong(doing: str, found: str, action: str = "Download the file again") -> DataError:
    return DataError(doing, found, action)
