"""Reads DEAP: 32 subjects, 40 music videos of one minute, 32 electrodes and 8 other signals.

The preprocessed release holds each subject as a Python 2 pickle at 128 Hz with the trials in the
order of the videos, the original one as a continuous BioSemi recording at 512 Hz with the trials in
the order in which the subject watched them (Koelstra et al. 2012, IEEE Trans Affect Comput 3:18).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.biosemi import onsets, open_bdf
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.pickled import read_arrays
from omfa.pipeline.recording import Auxiliary, Key, Recording

# fmt: off
CHANNELS = (
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1", "Oz",
    "Pz", "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2", "P4", "P8",
    "PO4", "O2",
)
# fmt: on
"""The first rows of the preprocessed arrays."""

AUXILIARY = {
    "hEOG": "uV",
    "vEOG": "uV",
    "zEMG": "uV",
    "tEMG": "uV",
    "GSR": "Ohm",
    "Resp": "n/a",
    "Plet": "n/a",
    "Temp": "n/a",
}
"""The rows after them, each with its unit; the release names none for three of them."""

SFREQ = 128.0
"""Sampling rate of the preprocessed release, Hz."""

RAW_SFREQ = 512.0
"""Sampling rate of the original release, Hz."""

RAW_AUXILIARY = {f"EXG{i}": "uV" for i in range(1, 9)} | {
    "GSR1": "Ohm",
    "GSR2": "Ohm",
    "Erg1": "n/a",
    "Erg2": "n/a",
    "Resp": "n/a",
    "Plet": "n/a",
    "Temp": "n/a",
}
"""The other channels of the original files; EXG1 to 8 are EOG (4), zygomatic and trapezius EMG."""

LAST_TWENTE = 22
"""Subjects up to here were recorded in Twente, with skin conductance in nanosiemens."""

VIDEO_CODE, AFTER_CODE = 4, 5  # a video begins; the fixation after it

UNMARKED = {28: (23, 24, 25)}
"""Presentations, from 0, whose onset a subject's recording does not mark."""

N_TRIALS = 40
VIDEO_SECONDS = 60
BASELINE_SECONDS = 3
_QUESTIONNAIRE = "participant_questionnaire"
RATINGS = ("valence", "arousal", "dominance", "liking")
_SCALE = (1, 9)


@dataclass(frozen=True)
class DeapReader:
    """Reads DEAP's recordings, one per subject.

    Labels: ``valence``, ``arousal``, ``dominance``, ``liking``, 1 to 9, and of the original release
    ``familiarity``, 1 to 5 or NaN. Stimuli are the videos' numbers (``Experiment_id``), 1 to 40,
    whatever the order of the trials. The 3 s before a video are its baseline.

    Attributes
    ----------
    variant : {"preprocessed", "raw"}
        ``data_preprocessed_python/sXX.dat``, 128 Hz, a segment per trial in the videos' order; or
        ``data_original/sXX.bdf``, 512 Hz, one segment with the trials in the order of presentation,
        which needs ``participant_ratings``.
    auxiliary : bool
        Whether to keep the channels that are not EEG.
    """

    variant: Literal["preprocessed", "raw"] = "preprocessed"
    auxiliary: bool = True
    name: str = field(default="deap", init=False)

    def __post_init__(self) -> None:
        release.check_choice("DEAP", "variant", self.variant, ("preprocessed", "raw"))

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the subjects below a folder: DEAP's, or the recordings' own."""
        folder, suffix = {
            "preprocessed": ("data_preprocessed_python", "dat"),
            "raw": ("data_original", "bdf"),
        }[self.variant]
        files = release.find(root, [folder], rf"s\d\d\.{suffix}", corpus="DEAP")
        tables = [release.beside(files[0], f"{_QUESTIONNAIRE}.csv")]
        if self.variant == "raw":
            tables[:0] = [
                release.beside(files[0], "participant_ratings.csv")
                or release.beside(files[0], "participant_ratings.xls")
            ]
        return sorted(release.key(int(file.stem[1:]), 1, [file, *tables], root) for file in files)

    def read(self, key: Key) -> Recording:
        """Read one subject."""
        doing = release.telling("DEAP", key)
        read = {"preprocessed": _read_preprocessed, "raw": _read_raw}[self.variant]
        with release.opening(doing, key.paths[0]):
            return read(key, doing, auxiliary=self.auxiliary).check()


def _read_preprocessed(key: Key, doing: str, *, auxiliary: bool) -> Recording:
    arrays = read_arrays(key.paths[0], doing=doing)
    if missing := {"data", "labels"} - set(arrays):
        raise _wrong(doing, f"it holds no array {' and '.join(sorted(missing))}")
    data, labels = arrays["data"], arrays["labels"]
    n_eeg, n_rows = len(CHANNELS), len(CHANNELS) + len(AUXILIARY)
    baseline = int(BASELINE_SECONDS * SFREQ)
    if data.ndim != 3 or data.shape[:2] != (N_TRIALS, n_rows) or data.shape[2] <= baseline:
        raise _wrong(
            doing,
            f"its data are {' x '.join(map(str, data.shape))}, expected {N_TRIALS} trials x "
            f"{n_rows} channels x more than {baseline} samples",
        )
    if labels.shape != (N_TRIALS, len(RATINGS)):
        raise _wrong(
            doing,
            f"its labels are {' x '.join(map(str, labels.shape))}, expected {N_TRIALS} x "
            f"{len(RATINGS)}",
        )
    ratings = pd.DataFrame(labels.astype(np.float64), columns=list(RATINGS))
    check_ratings(ratings, doing)
    trials = pd.DataFrame(
        {
            "segment": np.arange(N_TRIALS),
            "onset": baseline,
            "length": data.shape[2] - baseline,
            "baseline_onset": 0,
            "baseline_length": baseline,
            "stimulus": [str(video) for video in range(1, N_TRIALS + 1)],
        }
    )
    with np.errstate(over="ignore", invalid="ignore"):  # damaged samples become infinite
        segments = [trial[:n_eeg].astype(np.float32) for trial in data]
        rest = [trial[n_eeg:].astype(np.float32) for trial in data] if auxiliary else []
    return Recording(
        key=key,
        channels=list(CHANNELS),
        sfreq=SFREQ,
        segments=segments,
        trials=trials.join(ratings),
        auxiliary=[Auxiliary(tuple(AUXILIARY), tuple(AUXILIARY.values()), SFREQ, rest)]
        if auxiliary
        else [],
        participant=_participant(key, doing),
        source={
            "variant": "preprocessed",
            "reference": "average",
            "band": [4.0, 45.0],
            "timing": "cut by the corpus's authors",
        },
    )


def _read_raw(key: Key, doing: str, *, auxiliary: bool) -> Recording:
    file = open_bdf(key.paths[0], doing=doing)
    if file.sfreq != RAW_SFREQ:
        raise _wrong(doing, f"it was sampled at {file.sfreq:g} Hz, expected {RAW_SFREQ:g} Hz")
    subject = int(key.subject)
    # By name, which makes the sites' two orders one.
    rest = [name for name in RAW_AUXILIARY if name in file.channels] if auxiliary else []
    picks = release.pick(file.channels, [*CHANNELS, *rest], doing)
    n_eeg = len(CHANNELS)
    file.check_scales(picks[:n_eeg], doing=doing)
    # The status channel is the last in all three layouts, with a label or without.
    signal, status = file.read(picks, status=len(file.channels) - 1)
    ratings = _presented_ratings(key, doing)
    codes = status & np.uint16(0xFF)  # all that the release documents
    onset, shown = _video_onsets(codes, subject, doing)
    ends = np.append(onsets(codes, AFTER_CODE), len(codes))
    end = ends[np.searchsorted(ends, onset, side="right")]
    length = np.minimum(end - onset, int(VIDEO_SECONDS * RAW_SFREQ))
    baseline = int(BASELINE_SECONDS * RAW_SFREQ)
    trials = pd.DataFrame(
        {
            "segment": 0,
            "onset": onset,
            "length": length,
            "baseline_onset": onset - baseline,
            "baseline_length": baseline,
        }
    )
    units = RAW_AUXILIARY | ({"GSR1": "nS", "GSR2": "nS"} if subject <= LAST_TWENTE else {})
    return Recording(
        key=key,
        channels=list(CHANNELS),
        sfreq=RAW_SFREQ,
        segments=[signal[:n_eeg]],
        trials=trials.join(ratings.iloc[shown].reset_index(drop=True)),
        auxiliary=[
            Auxiliary(tuple(rest), tuple(units[n] for n in rest), RAW_SFREQ, [signal[n_eeg:]])
        ]
        if rest
        else [],
        participant=_participant(key, doing),
        source={
            "variant": "raw",
            "reference": "as recorded (BioSemi CMS)",
            "band": None,
            "timing": f"status code {VIDEO_CODE}",
            "unmarked_presentations": [i + 1 for i in UNMARKED.get(subject, ())],
        },
    )


def _video_onsets(
    codes: npt.NDArray[np.uint16], subject: int, doing: str
) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Return where videos begin, and which presentations, from 0, these are."""
    onset = onsets(codes, VIDEO_CODE)
    unmarked = UNMARKED.get(subject, ())
    if len(onset) == N_TRIALS:
        return onset, list(range(N_TRIALS))
    if unmarked and len(onset) == N_TRIALS - len(unmarked):
        # The recording goes on through the presentations without a mark: the gap shows the place.
        gaps = np.diff(onset)
        # Three presentations without a mark make it four times as long as the others.
        if gaps[unmarked[0] - 1] > 2.5 * np.median(gaps):
            return onset, [i for i in range(N_TRIALS) if i not in unmarked]
    raise _wrong(
        doing,
        f"its status channel marks {len(onset)} videos, expected {N_TRIALS - len(unmarked)}",
        "Download the file again; if it is whole, leave the subject out",
    )


def _presented_ratings(key: Key, doing: str) -> pd.DataFrame:
    """Return the stimulus and the ratings of each presentation, in order."""
    path = next((p for p in key.paths if p.stem == "participant_ratings"), None)
    if path is None:
        raise _wrong(
            doing,
            "there is no participant_ratings.csv, and the recording does not say which video "
            "each trial showed",
            "Put the release's metadata_csv beside data_original",
        )
    table = _table(path, doing)
    columns = ["participant_id", "trial", "experiment_id", *RATINGS]
    if missing := [name for name in columns if name not in table]:
        raise _wrong(doing, f"{path.name} has no column {', '.join(missing)}")
    mine = table[table["participant_id"] == int(key.subject)].sort_values("trial")
    every = list(range(1, N_TRIALS + 1))
    if list(mine["trial"]) != every or sorted(mine["experiment_id"]) != every:
        raise _wrong(
            doing,
            f"{path.name} does not have each of {N_TRIALS} trials and videos once; it has "
            f"{len(mine)} rows of the subject",
            "Download the table again",
        )
    check_ratings(mine, doing)
    ratings = mine[[*RATINGS]].astype(float).reset_index(drop=True)
    ratings.insert(0, "stimulus", [str(int(video)) for video in mine["experiment_id"]])
    if "familiarity" in mine:
        ratings["familiarity"] = mine["familiarity"].to_numpy(float)
    return ratings


def _table(path: Path, doing: str) -> pd.DataFrame:
    """Read one of the release's tables; its column names in lower case."""
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_excel(path)
    except (ValueError, ImportError) as error:
        raise _wrong(
            doing,
            f"{path.name} cannot be read ({error})",
            "Use the release's metadata_csv, or install xlrd for metadata_xls",
        ) from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    return table


def _participant(key: Key, doing: str) -> dict[str, Any]:
    """Return age and sex where the release's questionnaire has them."""
    path = next((p for p in key.paths if p.stem == _QUESTIONNAIRE), None)
    if path is None:
        return {}
    table = _table(path, doing)
    ids = table.get("participant_id", pd.Series(dtype=object)).astype(str)
    rows = table[ids.str.lower().str.lstrip("s0") == key.subject.lstrip("0")]
    person: dict[str, Any] = {}
    for _, row in rows.iloc[:1].iterrows():
        age, sex = row.get("age"), str(row.get("gender", row.get("sex", ""))).strip().upper()[:1]
        if isinstance(age, (int, float)) and age > 0:
            person["age"] = int(age)
        if sex in ("F", "M"):
            person["sex"] = sex
    return person


def check_ratings(ratings: pd.DataFrame, doing: str) -> None:
    """Raise if a rating is missing or off the scale, which only damage can do."""
    low, high = _SCALE
    for name in RATINGS:
        values = pd.to_numeric(ratings[name], errors="coerce")
        if not (inside := values.between(low, high)).all():
            row = int(np.flatnonzero(~inside)[0])
            raise _wrong(
                doing,
                f"{name} of trial {row + 1} is {ratings[name].iloc[row]}, off the scale of "
                f"{low} to {high}",
            )


def _wrong(doing: str, found: str, action: str = "Download the file again") -> DataError:
    return DataError(doing, found, action)
