"""Reads SEED: 15 subjects, 3 sessions of 15 film clips, 62 electrodes.

The preprocessed release holds each session as a MATLAB file of trials cut apart at 200 Hz, the raw
one as a continuous Neuroscan recording at 1000 Hz with a table of when the clips were shown
(Zheng and Lu 2015, IEEE Trans Auton Ment Dev 7:162).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.corpora.seed_family import CHANNELS as CHANNELS
from omfa.pipeline.readers.corpora.seed_family import (
    RAW_SFREQ,
    check_trials,
    cut_recording,
    in_a_row,
    open_session,
    read_trials,
    wrong,
)
from omfa.pipeline.recording import Key, Recording

DATES = (
    ("20131027", "20131030", "20131107"),
    ("20140404", "20140413", "20140419"),
    ("20140603", "20140611", "20140629"),
    ("20140621", "20140702", "20140705"),
    ("20140411", "20140418", "20140506"),
    ("20130712", "20131016", "20131113"),
    ("20131027", "20131030", "20131106"),
    ("20140511", "20140514", "20140521"),
    ("20140620", "20140627", "20140704"),
    ("20131130", "20131204", "20131211"),
    ("20140618", "20140625", "20140630"),
    ("20131127", "20131201", "20131207"),
    ("20140527", "20140603", "20140610"),
    ("20140601", "20140615", "20140627"),
    ("20130709", "20131016", "20131105"),
)
"""When each subject's sessions were: the file names hold the date and not the session."""

# fmt: off
PREFIXES = (
    "djc", "jl", "jj", "lqj", "ly", "mhw", "phl", "sxy", "wk", "ww", "wsf", "wyw", "xyl", "ys",
    "zjy",
)
# fmt: on
"""What each subject's variables begin with; early copies have no number in the file name."""

SEX = "MFFMFMFFMFMMFMF"

# fmt: off
TIME_TXT = (
    (27000, 290000, 551000, 784000, 1050000, 1262000, 1484000, 1748000, 1993000, 2287000, 2551000,
     2812000, 3072000, 3335000, 3599000),
    (262000, 523000, 757000, 1022000, 1235000, 1457000, 1721000, 1964000, 2258000, 2524000, 2786000,
     3045000, 3307000, 3573000, 3805000),
)
# fmt: on
"""Starts and ends of the clips in the raw recordings, samples."""

NEUROLM = (
    (24, 289, 550, 782, 1049, 1260, 1483, 1747, 1993, 2283, 2550, 2812, 3072, 3332, 3598),
    (264, 526, 757, 1023, 1235, 1458, 1722, 1967, 2259, 2525, 2788, 3046, 3308, 3573, 3806),
)
"""The same after NeuroLM, seconds."""

_LABELS = (-1, 0, 1)
_MAX_LABELS = 999
_FILE = r"(?P<who>\d+|[a-z]+)_(?P<date>\d{8})\.mat"


@dataclass(frozen=True)
class SeedReader:
    """Reads SEED's recordings, one per subject and session.

    Labels: ``emotion``, as in ``label.mat`` (1 positive, 0 neutral, -1 negative). Stimuli are the
    clips' numbers, 1 to 15.

    Attributes
    ----------
    variant : {"preprocessed", "raw"}
        ``Preprocessed_EEG/*.mat``, 200 Hz, a segment per trial; or ``SEED_RAW_EEG/*.cnt``, 1000 Hz,
        one segment that holds all trials and what was between them.
    timing : {"time.txt", "neurolm"}
        When the trials of the raw recordings are: the release's table (from ``time.txt``, or as
        published where the file is missing), or that of NeuroLM from the same laboratory, in whole
        seconds, with trials that begin up to 4 s earlier and end up to 3 s later. Neither is exact:
        the first trigger of a recording may be elsewhere, and ``source`` says where.
    auxiliary : bool
        Whether to keep the raw recordings' mastoids, EOG and ECG.
    """

    variant: Literal["preprocessed", "raw"] = "preprocessed"
    timing: Literal["time.txt", "neurolm"] = "time.txt"
    auxiliary: bool = True
    name: str = field(default="seed", init=False)

    def __post_init__(self) -> None:
        release.check_choice("SEED", "variant", self.variant, ("preprocessed", "raw"))
        release.check_choice("SEED", "timing", self.timing, ("time.txt", "neurolm"))

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the sessions below a folder: SEED's, ``SEED_EEG``, or the recordings' own."""
        if self.variant == "raw":
            return _raw_keys(root, with_table=self.timing == "time.txt")
        return _preprocessed_keys(root)

    def read(self, key: Key) -> Recording:
        """Read one session."""
        doing = release.telling("SEED", key)
        with release.opening(doing, key.paths[0]):
            if self.variant == "raw":
                recording = _read_raw(key, doing, timing=self.timing, auxiliary=self.auxiliary)
            else:
                recording = _read_preprocessed(key, doing)
            return recording.check()


def _preprocessed_keys(root: str | Path) -> list[Key]:
    files = release.find(root, ["Preprocessed_EEG"], _FILE, corpus="SEED", known=r"label\.mat")
    label = release.beside(files[0], "label.mat")
    dated: dict[tuple[int | str, str], Path] = {}
    for file in files:
        who, date = file.stem.split("_")
        subject = int(who) if who.isdigit() else _person(file)
        if (first := dated.setdefault((subject, date), file)) != file:
            numbered, other = (first, file) if first.stem[0].isdigit() else (file, first)
            warnings.warn(
                f"SEED reader: looking in {root}: {numbered.name} and {other.name} are both "
                f"subject {subject} on {date}. The second is left out.",
                stacklevel=3,
            )
            dated[subject, date] = numbered
    keys = [
        release.key(
            subject,
            _session(subject, date, [d for s, d in dated if s == subject]),
            [file, label],
            root,
        )
        for (subject, date), file in dated.items()
    ]
    return sorted(keys)


def _session(subject: int | str, date: str, dates: Iterable[str]) -> int:
    """Return which session a date is: among the published ones, or else by rank."""
    dates = sorted(dates)
    if isinstance(subject, int) and 1 <= subject <= len(DATES):
        published = DATES[subject - 1]
        if set(dates) <= set(published):
            return published.index(date) + 1
    return dates.index(date) + 1


def _person(file: Path) -> int | str:
    """Return the subject whose file is named after the person, by how its variables begin."""
    try:
        name = next(matlab.variables(file)).name
    except (DataError, StopIteration, OSError):  # reading the recording reports it
        return file.stem.split("_")[0]
    prefix = name.rsplit("_eeg", 1)[0]
    return PREFIXES.index(prefix) + 1 if prefix in PREFIXES else file.stem.split("_")[0]


def _read_preprocessed(key: Key, doing: str) -> Recording:
    inside: list[npt.NDArray[np.int64]] = []

    def other(variable: matlab.Matrix) -> None:
        if variable.name in ("label", "labels"):
            inside.append(_labels(variable, doing))

    trials = read_trials(key.paths[0], doing=doing, folder="Preprocessed_EEG", other=other)
    if len(key.paths) > 1:
        labels = read_labels(key.paths[1], doing)
    elif inside:
        labels = inside[-1]
    else:
        raise _no_labels(doing)
    numbers = range(1, len(labels) + 1)
    check_trials(trials, numbers, doing, "Download the file and label.mat again")
    return cut_recording(
        key,
        [trials[number] for number in numbers],
        {"stimulus": [str(number) for number in numbers], "emotion": labels},
        participant=_participant(key),
        source={"band": [0.0, 75.0]},
    )


def _raw_keys(root: str | Path, *, with_table: bool) -> list[Key]:
    files = release.find(root, ["SEED_RAW_EEG"], r"\d+_\d+\.cnt", corpus="SEED")
    label = release.beside(files[0], "label.mat")
    table = release.beside(files[0], "time.txt") if with_table else None
    numbered = {tuple(map(int, file.stem.split("_"))): file for file in files}
    return sorted(
        release.key(subject, session, [file, label, table], root)
        for (subject, session), file in numbered.items()
    )


def _read_raw(key: Key, doing: str, *, timing: str, auxiliary: bool) -> Recording:
    session = open_session(key.paths[0], doing=doing, auxiliary=auxiliary)
    tables = {path.name.lower(): path for path in key.paths[1:]}
    starts, ends, table = _bounds(tables.get("time.txt"), timing, doing)
    if "label.mat" not in tables:
        raise _no_labels(doing)
    labels = read_labels(tables["label.mat"], doing)
    if len(labels) != len(starts):
        raise wrong(
            doing,
            f"{len(starts)} trials in the timing table and {len(labels)} labels in label.mat",
            "Take both files from one release",
        )
    stimuli = [str(number) for number in range(1, len(starts) + 1)]
    return session.recording(
        key,
        starts,
        ends,
        {"stimulus": stimuli, "emotion": labels},
        participant=_participant(key),
        timing=table,
        otherwise=", or choose the other timing",
    )


def _bounds(
    path: Path | None, timing: str, doing: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], str]:
    """Return where trials start and end, in samples, and whose table says so."""
    if timing == "neurolm":
        starts, ends = (np.array(seconds) * int(RAW_SFREQ) for seconds in NEUROLM)
        return starts, ends, "NeuroLM's table"
    if path is None:
        return np.array(TIME_TXT[0]), np.array(TIME_TXT[1]), "time.txt as published"
    # Latin-1 has a character for every byte: no remark in another script stops the reading.
    text = path.read_text(encoding="latin-1")
    # Only what is in the brackets: a remark after them has a number of its own.
    found = dict(re.findall(r"(start|end)_point_list\s*=\s*\[([\d,.\s]*)\]", text))
    lists = [[int(float(n)) for n in re.findall(r"[\d.]+", found.get(w, ""))] for w in _ENDS]
    starts, ends = (np.array(points, dtype=np.int64) for points in lists)
    if not in_a_row(starts, ends):
        raise wrong(
            doing,
            f"{path.name} has {len(starts)} starts and {len(ends)} ends, which are no trials in "
            "a row",
            "Download time.txt again, or choose the timing 'neurolm'",
        )
    return starts, ends, "time.txt"


_ENDS = ("start", "end")


def read_labels(path: Path, doing: str) -> npt.NDArray[np.int64]:
    """Read ``label.mat``: 1, 0 or -1 for each trial."""
    for variable in matlab.variables(path, doing=f"{doing}: {path.name}"):
        if variable.name in ("label", "labels"):
            return _labels(variable, doing)
    raise wrong(doing, f"{path.name} holds no variable 'label'", "Download label.mat again")


def _labels(variable: matlab.Matrix, doing: str) -> npt.NDArray[np.int64]:
    values = variable.array(most=_MAX_LABELS).ravel()
    if not (values.size and np.isin(values, _LABELS).all()):
        raise wrong(doing, "its labels are not all -1, 0 or 1", "Download label.mat again")
    return values.astype(np.int64)


def _participant(key: Key) -> dict[str, str]:
    number = int(key.subject) if key.subject.isdigit() else 0
    return {"sex": SEX[number - 1]} if 1 <= number <= len(SEX) else {}


def _no_labels(doing: str) -> DataError:
    return wrong(
        doing,
        "there is no label.mat in its folder or beside it",
        "Copy label.mat from the release's Preprocessed_EEG into its folder",
    )
