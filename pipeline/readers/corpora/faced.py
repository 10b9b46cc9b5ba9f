"""Reads FACED: 123 subjects, 28 film clips of nine emotions, 30 electrodes and both ears.

The processed release holds each subject as one pickled array, cut to the last 30 s of each clip and
sorted by the clips' numbers, while the ratings stay in the order in which the clips were shown
(Chen et al. 2023, Sci Data 10:740). The original recordings are not read: what their event files
hold is known from one source only.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.pickled import read_array
from omfa.pipeline.recording import PLAUSIBLE_RMS, Key, Recording, SourceWarning
from omfa.pipeline.words import some

CHANNELS = (
    *("Fp1", "Fp2", "Fz", "F3", "F4", "F7", "F8", "FC1", "FC2", "FC5", "FC6", "Cz", "C3", "C4"),
    *("T7", "T8", "CP1", "CP2", "CP5", "CP6", "Pz", "P3", "P4", "P7", "P8", "PO3", "PO4", "Oz"),
    *("O1", "O2", "A2", "A1"),
)
"""The rows of the processed arrays.

The ears are the last two, the right one first. The original recordings of the first cohort have
them after T8, and code that applies their order to these arrays shifts fourteen names.
"""

EMOTIONS = (
    *("anger",) * 3,
    *("disgust",) * 3,
    *("fear",) * 3,
    *("sadness",) * 3,
    *("neutral",) * 4,
    *("amusement",) * 3,
    *("inspiration",) * 3,
    *("joy",) * 3,
    *("tenderness",) * 3,
)
"""What each of the 28 clips was chosen for, in the order of their numbers."""

RATINGS = (
    *("joy", "tenderness", "inspiration", "amusement", "anger", "disgust", "fear", "sadness"),
    *("arousal", "valence", "familiarity", "liking"),
)
"""What a score holds, in the order of the file."""

SFREQ = 250.0
N_CLIPS = len(EMOTIONS)
_SCALE = (0, 7)
_RATINGS_FILE, _PEOPLE_FILE = "After_remarks.mat", "Recording_info.csv"


@dataclass(frozen=True)
class FacedReader:
    """Reads FACED's processed recordings, one per subject, 250 Hz and a segment per clip.

    Labels: ``emotion``, the word that the clip was chosen for; what the subject answered, 0 to 7,
    or NaN where there is no ``After_remarks.mat``: ``joy``, ``tenderness``, ``inspiration``,
    ``amusement``, ``anger``, ``disgust``, ``fear``, ``sadness``, ``arousal``, ``valence``,
    ``familiarity``, ``liking``; and ``presentation``, the clip's place in the order in which the
    subject saw them, from 1. Stimuli are the clips' numbers, 1 to 28. There is no baseline.
    """

    name: str = field(default="faced", init=False)

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the subjects below a folder: FACED's, or the processed data's own."""
        files = release.find(root, ["Processed_data"], r"sub\d{3}\.pkl", corpus="FACED")
        people = release.beside(files[0], _PEOPLE_FILE)
        keys, unrated = [], []
        for file in files:
            number = file.stem[3:]
            ratings = release.beside(file, f"sub{number}/{_RATINGS_FILE}")
            unrated += [] if ratings else [number]
            keys.append(release.key(number, 1, [file, ratings, people], root))
        if unrated:
            warnings.warn(
                SourceWarning(
                    f"FACED reader: {root}: there is no {_RATINGS_FILE} for {len(unrated)} "
                    f"subjects, whose ratings are missing: {some(unrated, 5)}"
                ),
                stacklevel=2,
            )
        return sorted(keys)

    def read(self, key: Key) -> Recording:
        """Read one subject."""
        doing = release.telling("FACED", key)
        with release.opening(doing, key.paths[0]):
            return _read(key, doing).check()


def _read(key: Key, doing: str) -> Recording:
    data = read_array(key.paths[0], doing=doing, dtype=np.float32)
    if data.ndim == 4:
        raise _wrong(
            doing,
            f"it holds extracted features, {_shape(data)}",
            "Give Processed_data in place of EEG_Features",
        )
    if data.ndim != 3 or data.shape[:2] != (N_CLIPS, len(CHANNELS)) or not data.shape[2]:
        raise _wrong(
            doing,
            f"its data are {_shape(data)}, expected {N_CLIPS} clips x {len(CHANNELS)} channels x "
            "samples",
        )
    notes: list[str] = []
    low, high = PLAUSIBLE_RMS
    with np.errstate(over="ignore", invalid="ignore"):
        if low <= 1e6 * (typical := _typical_rms(data)) <= high:
            notes.append(
                f"{doing}: its values are volts by their size, {typical:.3g} RMS in the median, "
                "and were multiplied by a million."
            )
            data *= 1e6
    trials = pd.DataFrame(
        {
            "segment": np.arange(N_CLIPS),
            "onset": 0,
            "length": data.shape[2],
            "baseline_onset": 0,
            "baseline_length": 0,
            "stimulus": [str(clip) for clip in range(1, N_CLIPS + 1)],
            "emotion": list(EMOTIONS),
        }
    )
    participant, recorded = _person(key, notes)
    return Recording(
        key=key,
        channels=list(CHANNELS),
        sfreq=SFREQ,
        segments=list(data),
        trials=trials.join(_ratings(key, doing)),
        participant=participant,
        source={
            "variant": "processed",
            "reference": "average",
            "band": [0.05, 47.0],
            "timing": "cut by the corpus's authors",
            **recorded,
        },
        notes=notes,
    )


def _typical_rms(data: npt.NDArray[np.float32]) -> float:
    """Return the median over channels and some clips of the first second's deviation."""
    # Enough to tell microvolts from volts, and a hundredth of what all clips would take.
    found = data[::7, :, : int(SFREQ)].std(axis=2)
    found = found[np.isfinite(found)]
    return float(np.median(found)) if found.size else 0.0


def _ratings(key: Key, doing: str) -> pd.DataFrame:
    """Return the scores by the clips' numbers, NaN where the subject has no file of them."""
    columns = [*RATINGS, "presentation"]
    path = next((p for p in key.paths if p.name == _RATINGS_FILE), None)
    if path is None:
        return pd.DataFrame(np.nan, index=range(N_CLIPS), columns=columns)
    where = f"{doing}: {path.parent.name}/{path.name}"
    shown: list[int] = []
    scores: list[npt.NDArray[np.float64]] = []
    for variable in matlab.variables(path, doing=where):
        if variable.name != "After_remark":
            continue
        for part in variable.fields(most=999):
            if part.name == "score":
                scores.append(part.array(np.float64, most=999).ravel())
            elif part.name == "vid":
                shown.append(int(np.nan_to_num(part.array(np.float64, most=9).sum(), posinf=0)))
    if sorted(shown) != list(range(1, N_CLIPS + 1)) or len(scores) != N_CLIPS:
        raise _wrong(
            where,
            f"it has {len(scores)} scores, of the clips {some(shown, 5) or 'none'}, expected one "
            f"of each of {N_CLIPS}",
        )
    if lengths := {len(score) for score in scores} - {len(RATINGS)}:
        raise _wrong(where, f"a score has {lengths.pop()} numbers, expected {len(RATINGS)}")
    values = np.stack(scores)
    low, high = _SCALE
    if not ((values >= low) & (values <= high)).all():
        raise _wrong(where, f"its scores are not all from {low} to {high}")
    table = pd.DataFrame(values, columns=list(RATINGS)).assign(
        presentation=np.arange(1.0, N_CLIPS + 1)
    )
    return table.iloc[np.argsort(shown)].reset_index(drop=True)


def _person(key: Key, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return age and sex, and cohort and rate of the original recording, as far as known."""
    path = next((p for p in key.paths if p.name == _PEOPLE_FILE), None)
    if path is None:
        return {}, {}
    cells = release.row_of(path, int(key.subject), column="sub", notes=notes)
    recorded = {
        fact: int(cells[column])
        for fact, column in (("cohort", "cohort"), ("recorded_sfreq", "sample_rate"))
        if re.fullmatch(r"\d{1,5}", cells.get(column, ""), re.ASCII)
    }
    return release.age_and_sex(cells), recorded


def _shape(data: npt.NDArray[Any]) -> str:
    return " x ".join(map(str, data.shape))


def _wrong(doing: str, found: str, action: str = "Download the file again") -> DataError:
    return DataError(doing, found, action)
