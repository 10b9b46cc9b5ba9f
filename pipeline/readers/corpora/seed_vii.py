"""Reads SEED-VII: 20 subjects, 4 sessions of 20 film clips, 62 electrodes, seven emotions.

The preprocessed release holds all 80 trials of a subject in one MATLAB file at 200 Hz, the raw one
each session as a Neuroscan recording at 1000 Hz, whose triggers come in pairs: a trial's start and
its end. Two recordings have wrong triggers, and a table of times in their place (Jiang, Liu, Zheng
and Lu 2024, IEEE Trans Affect Comput, "SEED-VII"; the makers' own script says how both were cut).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.corpora.seed_family import (
    MAX_SAMPLES,
    RAW_SFREQ,
    SFREQ,
    Trial,
    check_features,
    check_trials,
    cut_recording,
    decode_trial,
    in_a_row,
    name_missing,
    open_session,
    wrong,
)
from omfa.pipeline.recording import Key, Recording

N_SESSIONS, N_TRIALS = 4, 20

_WORDS = {
    "H": "happy",
    "N": "neutral",
    "D": "disgust",
    "S": "sad",
    "A": "anger",
    "F": "fear",
    "U": "surprise",
}

EMOTIONS = tuple(
    tuple(_WORDS[letter] for letter in session)
    for session in (
        "HNDSAASDNHHNDSAASDNH",
        "ASFNUUNFSAASFNUUNFSA",
        "HUDFAAFDUHHUDFAAFDUH",
        "DSFUHHUFSDDSFUHHUFSD",
    )
)
"""Of each session's trials, as published."""

SEX = "MMFMMMFFFFMFMFMFMFFM"
# fmt: off
AGE = (26, 24, 25, 25, 20, 22, 22, 21, 24, 20, 24, 23, 21, 19, 22, 21, 23, 23, 23, 22)
# fmt: on

STARTS = {"14_20221015_1": time(14, 25, 34), "9_20221111_3": time(14, 1, 27)}
"""When the two recordings whose triggers are wrong began, by which their tables are read."""

LABEL_SECONDS = 4
"""What each value of the continuous labels is of."""

_FILES = {"preprocessed": r"[1-9]\d?\.mat", "raw": r"\d+_\d{8}_[1-4]\.cnt"}
_FOLDERS = {"preprocessed": ["EEG_preprocessed"], "raw": ["EEG_raw"]}
_NUMBER = re.compile(r"[1-9]\d?")
_MAX_VALUES = 3600  # of a trial's continuous label: four hours
_MAX_TABLE = 1_000_000  # characters


@dataclass(frozen=True)
class SeedVIIReader:
    """Reads SEED-VII's recordings, one per subject and session.

    Labels: ``emotion``, a word: happy, neutral, disgust, sad, anger, fear or surprise; and, where
    the folder ``continuous_labels`` is there, ``continuous_label``: the subject's rating of every
    4 s of the trial, as text, values parted by blanks. Stimuli are the clips' numbers, 1 to 80.

    Attributes
    ----------
    variant : {"preprocessed", "raw"}
        ``EEG_preprocessed/*.mat``, 200 Hz, a segment per trial, four recordings a file; or
        ``EEG_raw/*.cnt``, 1000 Hz, one segment that holds all trials and what was between them.
    auxiliary : bool
        Whether to keep the raw recordings' mastoids, EOG and ECG.
    """

    variant: Literal["preprocessed", "raw"] = "preprocessed"
    auxiliary: bool = True
    name: str = field(default="seed-vii", init=False)

    def __post_init__(self) -> None:
        release.check_choice("SEED-VII", "variant", self.variant, tuple(_FILES))

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the sessions below a folder: SEED-VII's, or the recordings' own."""
        files = release.find(root, _FOLDERS[self.variant], _FILES[self.variant], corpus="SEED-VII")
        if self.variant == "preprocessed":
            return sorted(
                release.key(int(file.stem), session, [file, _continuous_file(file)], root)
                for file in files
                for session in range(1, N_SESSIONS + 1)
            )
        found: dict[tuple[int, int], Path] = {}
        for file in files:
            subject, _, session = map(int, file.stem.split("_"))
            if (first := found.setdefault((subject, session), file)) != file:
                raise wrong(
                    f"SEED-VII reader: looking in {root}",
                    f"{first.name} and {file.name} are both session {session} of subject {subject}",
                    "Take the one that is not the release's out of the folder",
                )
        keys = sorted(
            release.key(subject, session, [file, _trigger_file(file), _continuous_file(file)], root)
            for (subject, session), file in found.items()
        )
        name_missing(keys, where=f"SEED-VII reader: {root}")
        return keys

    def read(self, key: Key) -> Recording:
        """Read one session; of several in one file, ``read_each`` walks it once for all."""
        if self.variant == "raw":
            doing = release.telling("SEED-VII", key)
            with release.opening(doing, key.paths[0]):
                return _read_raw(key, doing, auxiliary=self.auxiliary).check()
        ((_, found),) = self.read_each([key])
        if isinstance(found, DataError):
            raise found
        return found

    def read_each(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Recording | DataError]]:
        """Read sessions, those of one file in one pass.

        Yields
        ------
        key, Recording or DataError
            A session of a file as soon as the walk has all its trials and their checksums hold.
        """
        files: dict[tuple[str, ...], list[Key]] = {}
        for key in keys:
            files.setdefault(key.files, []).append(key)
        for group in files.values():
            if self.variant == "preprocessed":
                yield from _read_file(group)
                continue
            try:
                yield group[0], self.read(group[0])
            except DataError as error:
                yield group[0], error


def _continuous_file(file: Path) -> Path | None:
    return release.beside(file, f"continuous_labels/{int(file.stem.split('_')[0])}.mat")


def _trigger_file(file: Path) -> Path | None:
    """Find the table of a recording whose own triggers are wrong."""
    if file.stem not in STARTS:
        return None
    name = f"{file.stem}_trigger_info.csv"
    return release.beside(file, f"save_info/{name}") or release.beside(file, name)


# The preprocessed release


def _read_file(keys: Sequence[Key]) -> Iterator[tuple[Key, Recording | DataError]]:
    wanted = {int(key.session): key for key in keys}
    telling = release.telling("SEED-VII", keys[0])
    try:
        with release.opening(telling, keys[0].paths[0]):
            for session, found in _sessions(keys[0].paths[0], wanted):
                key = wanted.pop(session)
                yield key, _cut(key, found)
    except DataError as error:  # the file as a whole: what was not reached has no answer yet
        for key in wanted.values():
            yield key, _of(key, error)


def _of(key: Key, error: DataError) -> DataError:
    """Return an error as one of a recording."""
    return DataError(release.telling("SEED-VII", key), *error.args[1:])


def _sessions(
    path: Path, wanted: Mapping[int, Key]
) -> Iterator[tuple[int, dict[int, Trial] | DataError]]:
    """Walk a file; yield each session once all its trials are read, and what is wrong last."""
    trials: dict[int, dict[int, Trial]] = {session: {} for session in wanted}
    faults: dict[int, DataError] = {}
    strange: list[str] = []
    seen: set[str] = set()

    def decode(variable: matlab.Matrix) -> Trial | None:
        if not _NUMBER.fullmatch(variable.name):
            strange.append(variable.name)
            return None
        number = int(variable.name)
        return decode_trial(variable, number, "") if _session(number) in trials else None

    try:
        for name, found in matlab.each(path, decode, doing=""):
            number = int(name) if _NUMBER.fullmatch(name) else 0
            session = _session(number)
            if name in seen:
                found = wrong("", f"it holds trial {number} twice")
            seen.add(name)
            if session not in trials:
                continue
            if isinstance(found, DataError):
                faults.setdefault(session, found)
                continue
            assert found is not None  # it is decoded where its session is wanted
            trials[session][number] = found
            if sum(trial.size for trial in trials[session].values()) > MAX_SAMPLES:
                faults.setdefault(
                    session, wrong("", "its trials are longer than four hours together")
                )
            if len(trials[session]) == N_TRIALS and session not in faults:
                yield session, trials.pop(session)
    except DataError as error:  # behind it nothing can be found
        broken: DataError | None = error
    else:
        broken = None
    for session, found in trials.items():
        yield session, faults.get(session) or broken or _incomplete(session, found, strange)


def _session(number: int) -> int:
    """Return the session of a trial, 1 to 4, by its number, 1 to 80."""
    return (number - 1) // N_TRIALS + 1


def _numbers(session: int) -> range:
    return range(N_TRIALS * (session - 1) + 1, N_TRIALS * session + 1)


def _incomplete(session: int, found: Mapping[int, Trial], strange: Sequence[str]) -> DataError:
    try:
        check_features(strange, "", "EEG_preprocessed")
        check_trials(found, _numbers(session), "", "Download the file again")
    except DataError as error:
        return error
    raise AssertionError("a whole session is yielded where it is found")


def _cut(key: Key, found: dict[int, Trial] | DataError) -> Recording | DataError:
    doing = release.telling("SEED-VII", key)
    if isinstance(found, DataError):
        return _of(key, found)
    numbers = _numbers(int(key.session))
    try:
        trials = [found[number] for number in numbers]
        columns, said = _labels(key, [trial.shape[1] / SFREQ for trial in trials], doing)
        return cut_recording(
            key,
            trials,
            columns,
            participant=_participant(key),
            source={"band": [0.1, 70.0], "notch": 50.0, "continuous_label": said},
        ).check()
    except DataError as error:
        return error


# The raw release


def _read_raw(key: Key, doing: str, *, auxiliary: bool) -> Recording:
    session = open_session(key.paths[0], doing=doing, auxiliary=auxiliary)
    notes: list[str] = []
    if start := STARTS.get(key.paths[0].stem):
        points = _points_in_table(key, start, doing)
        timing = "the table of triggers"
    else:
        points = np.sort(session.file.events[:, 0])
        timing = "triggers"
        if len(points) < 2 * N_TRIALS:
            raise wrong(doing, f"it has {len(points)} triggers, expected {2 * N_TRIALS}")
        if more := len(points) - 2 * N_TRIALS:
            notes.append(f"{doing}: its last {more} triggers are no trial's and are left out.")
    starts, ends = points[: 2 * N_TRIALS].reshape(N_TRIALS, 2).T
    if not in_a_row(starts, ends):
        raise wrong(doing, "its triggers are not those of one trial after another")
    columns, said = _labels(key, list((ends - starts) / RAW_SFREQ), doing)
    recording = session.recording(
        key, starts, ends, columns, participant=_participant(key), timing=timing, notes=notes
    )
    recording.source = {**recording.source, "continuous_label": said}
    return recording


def _points_in_table(key: Key, start: time, doing: str) -> npt.NDArray[np.int64]:
    """Read starts and ends, in samples, of a table of codes and times of day."""
    path = next((path for path in key.paths if path.suffix.lower() == ".csv"), None)
    if path is None:
        raise wrong(
            doing,
            "its own triggers are not those of the clips, and there is no "
            f"{key.paths[0].stem}_trigger_info.csv in save_info beside its folder",
            "Copy the release's save_info there",
        )
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file.read(_MAX_TABLE).splitlines()) if row]
    seconds = []
    for number, row in enumerate(rows[: 2 * N_TRIALS], 1):
        try:
            seconds.append(_of_day(time.fromisoformat(row[-1].split()[-1])) - _of_day(start))
        except (ValueError, IndexError) as error:
            raise wrong(
                doing, f"row {number} of {path.name} has no time", f"Download {path.name} again"
            ) from error
    if len(seconds) < 2 * N_TRIALS:
        raise wrong(
            doing,
            f"{path.name} has {len(seconds)} rows, expected {2 * N_TRIALS}",
            f"Download {path.name} again",
        )
    return np.round(np.array(seconds) * RAW_SFREQ).astype(np.int64)


def _of_day(when: time) -> float:
    return 3600 * when.hour + 60 * when.minute + when.second + when.microsecond / 1e6


# What both have


def _labels(key: Key, seconds: Sequence[float], doing: str) -> tuple[dict[str, list[str]], str]:
    """Return the columns of a session's trials, and where the continuous labels are from."""
    session = int(key.session)
    numbers = _numbers(session)
    columns = {
        "stimulus": [str(number) for number in numbers],
        "emotion": list(EMOTIONS[session - 1]),
    }
    path = next((p for p in key.paths[1:] if p.suffix.lower() == ".mat"), None)
    if path is None:
        return columns, "none"
    values = _continuous(path, numbers, doing)
    otherwise = f"Download {path.name} again, or take continuous_labels out of the folder"
    for number, lasting in zip(numbers, seconds, strict=True):
        found, expected = len(values[number]), int(lasting // LABEL_SECONDS)
        # The makers' windows are of trials before they were cut to whole seconds.
        if abs(found - expected) > 1:
            raise wrong(
                doing,
                f"the continuous label of trial {number} in {path.name} has {found} values, and "
                f"the trial has {lasting:g} s, which are {expected} of {LABEL_SECONDS} s",
                otherwise,
            )
    # Written so that they read back to every bit.
    columns["continuous_label"] = [" ".join(map(repr, values[n].tolist())) for n in numbers]
    return columns, f"continuous_labels/{path.name}"


def _continuous(
    path: Path, numbers: Sequence[int], doing: str
) -> dict[int, npt.NDArray[np.float64]]:
    values = {}
    for variable in matlab.variables(path, doing=f"{doing}: {path.name}"):
        if _NUMBER.fullmatch(variable.name) and int(variable.name) in numbers:
            array = variable.array(np.float64, most=_MAX_VALUES)
            values[int(variable.name)] = array.ravel()
    if missing := [number for number in numbers if number not in values]:
        raise wrong(
            doing,
            f"{path.name} in continuous_labels has no trial {missing[0]}",
            f"Download {path.name} again, or take continuous_labels out of the folder",
        )
    return values


def _participant(key: Key) -> dict[str, Any]:
    number = int(key.subject) if key.subject.isdigit() else 0
    return {"sex": SEX[number - 1], "age": AGE[number - 1]} if 1 <= number <= len(SEX) else {}
