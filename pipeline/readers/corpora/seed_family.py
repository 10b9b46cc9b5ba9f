"""What SEED, SEED-IV, SEED-V and SEED-VII share: the cap, its recordings, trials in .mat files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline import matlab
from omfa.pipeline.errors import DataError
from omfa.pipeline.readers.corpora import release
from omfa.pipeline.readers.neuroscan import NeuroscanFile, open_cnt
from omfa.pipeline.recording import Auxiliary, Key, Recording, SourceWarning
from omfa.pipeline.words import some

# fmt: off
CHANNELS = (
    "FP1", "FPZ", "FP2", "AF3", "AF4", "F7", "F5", "F3", "F1", "FZ", "F2", "F4", "F6", "F8", "FT7",
    "FC5", "FC3", "FC1", "FCZ", "FC2", "FC4", "FC6", "FT8", "T7", "C5", "C3", "C1", "CZ", "C2",
    "C4", "C6", "T8", "TP7", "CP5", "CP3", "CP1", "CPZ", "CP2", "CP4", "CP6", "TP8", "P7", "P5",
    "P3", "P1", "PZ", "P2", "P4", "P6", "P8", "PO7", "PO5", "PO3", "POZ", "PO4", "PO6", "PO8",
    "CB1", "O1", "OZ", "O2", "CB2",
)
# fmt: on
"""The rows of the preprocessed arrays."""

SFREQ = 200.0
"""Sampling rate of the preprocessed releases, Hz."""

RAW_SFREQ = 1000.0
"""Sampling rate of the raw releases, Hz."""

AUXILIARY = ("M1", "M2", "VEO", "HEO", "ECG")
"""Channels of the raw recordings that are not among the 62; not all are in every file."""

Trial = npt.NDArray[np.float32]

MAX_SAMPLES = 62 * 200 * 4 * 3600
"""Of all channels of one file's trials: four hours, four times a session."""

_TRIAL = re.compile(r"(?:^|_)eeg_?(\d+)$")
_FEATURE = re.compile(r"^(?:de|psd|dasm|rasm|asm|dcau)_")


# Trials in MATLAB files


def read_trials(
    path: Path, *, doing: str, folder: str, other: Callable[[matlab.Matrix], None]
) -> dict[int, Trial]:
    """Read the variables that end in ``eeg1``, ``eeg2``, ..., whatever they begin with.

    Parameters
    ----------
    path : Path
    doing : str
    folder : str
        The release's folder that holds signals, for the error about extracted features.
    other : callable
        Gets every other variable.

    Returns
    -------
    dict of int to ndarray, each (62, n_times)
        Microvolts by the trial's number.

    Raises
    ------
    DataError
        If a trial is there twice or has another shape, or the file holds extracted features.
    """
    trials: dict[int, Trial] = {}
    for variable in matlab.variables(path, doing=doing):
        if match := _TRIAL.search(variable.name):
            number = int(match[1])
            if number in trials:
                raise wrong(doing, f"it holds trial {number} twice")
            trials[number] = decode_trial(variable, number, doing)
            if sum(trial.size for trial in trials.values()) > MAX_SAMPLES:
                raise wrong(doing, "its trials are longer than four hours together")
        else:
            check_features([variable.name], doing, folder)
            other(variable)
    return trials


def check_features(names: Iterable[str], doing: str, folder: str) -> None:
    """Raise if one of the variables' names is that of an extracted feature.

    Parameters
    ----------
    names : iterable of str
    doing : str
    folder : str
        The release's folder that holds signals.
    """
    for name in filter(_FEATURE.match, names):
        raise wrong(
            doing, f"it holds extracted features ({name}), no signals", f"Give the folder {folder}"
        )


def decode_trial(variable: matlab.Matrix, number: int, doing: str) -> Trial:
    """Decode one trial, shape (62, n_times).

    Raises
    ------
    DataError
        If it has another shape.
    """
    if len(variable.shape) != 2 or variable.shape[0] != len(CHANNELS) or variable.shape[1] < 2:
        raise wrong(
            doing,
            f"trial {number} is {' x '.join(map(str, variable.shape))}, "
            f"expected {len(CHANNELS)} x samples",
        )
    # In rows of channels, as `align` needs it: it would make another copy of columns.
    return variable.array(np.float32, order="C", most=MAX_SAMPLES)


def check_trials(found: Iterable[int], expected: Sequence[int], doing: str, action: str) -> None:
    """Raise if the trials are not those expected."""
    numbers = set(found)
    if numbers != set(expected):
        missing = sorted(set(expected) - numbers)
        raise wrong(
            doing,
            f"{len(numbers)} trials, expected {len(expected)}"
            + (f"; {some(missing, 5)} missing" if missing else ""),
            action,
        )


def cut_recording(
    key: Key,
    trials: Sequence[Trial],
    columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]],
    *,
    participant: Mapping[str, Any],
    source: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Recording:
    """Make a recording of trials that were cut apart, each a segment.

    Parameters
    ----------
    key : Key
    trials : sequence of ndarray, each (62, n_times)
    columns : mapping
        The trial table's ``stimulus`` and labels.
    participant, source, notes
        As ``Recording`` has them.
    """
    return Recording(
        key=key,
        channels=list(CHANNELS),
        sfreq=SFREQ,
        segments=list(trials),
        trials=pd.DataFrame(
            {
                "segment": np.arange(len(trials)),
                "onset": 0,
                "length": [trial.shape[1] for trial in trials],
                "baseline_onset": 0,
                "baseline_length": 0,
                **columns,
            }
        ),
        participant=participant,
        source={
            "variant": "preprocessed",
            "reference": "unknown",
            "timing": "cut by the corpus's authors",
            **source,
        },
        notes=notes,
    )


# Neuroscan recordings


@dataclass(frozen=True)
class RawSession:
    """A Neuroscan recording of the cap whose header is sound, not decoded yet.

    Attributes
    ----------
    file : NeuroscanFile
    rest : tuple of str
        The auxiliary channels that it has and that are wanted.
    doing : str
    """

    file: NeuroscanFile
    rest: tuple[str, ...]
    doing: str

    def recording(
        self,
        key: Key,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]],
        *,
        participant: Mapping[str, Any],
        timing: str,
        otherwise: str = "",
        notes: Sequence[str] = (),
    ) -> Recording:
        """Decode it: one segment that holds all trials and what was between them.

        Parameters
        ----------
        key : Key
        starts, ends : ndarray of int, shape (n_trials,)
            Samples.
        columns : mapping
            The trial table's ``stimulus`` and labels.
        participant, notes
            As ``Recording`` has them.
        timing : str
            Whose table says when the trials are.
        otherwise : str
            What to do, besides downloading, where the file ends before the last trial.

        Raises
        ------
        DataError
            If the file ends before the last trial does.
        """
        file, n_eeg = self.file, len(CHANNELS)
        if ends[-1] > file.n_times:
            raise wrong(
                self.doing,
                f"it ends after {file.n_times / RAW_SFREQ:g} s, and the last trial at "
                f"{ends[-1] / RAW_SFREQ:g} s",
                f"Download the file again{otherwise}",
            )
        signal = file.signal(release.pick(file.channels, [*CHANNELS, *self.rest], self.doing))
        first = float(file.events[:, 0].min() / RAW_SFREQ) if len(file.events) else None
        return Recording(
            key=key,
            channels=list(CHANNELS),
            sfreq=RAW_SFREQ,
            segments=[signal[:n_eeg]],
            trials=pd.DataFrame(
                {
                    "segment": 0,
                    "onset": starts,
                    "length": ends - starts,
                    "baseline_onset": 0,
                    "baseline_length": 0,
                    **columns,
                }
            ),
            auxiliary=[Auxiliary(self.rest, ("uV",) * len(self.rest), RAW_SFREQ, [signal[n_eeg:]])]
            if self.rest
            else [],
            participant=participant,
            source={
                "variant": "raw",
                "reference": "unknown",
                "band": None,
                "timing": timing,
                "first_start": float(starts[0] / RAW_SFREQ),
                "first_trigger": first,
            },
            notes=notes,
        )


def open_session(path: Path, *, doing: str, auxiliary: bool) -> RawSession:
    """Read a recording's header and events.

    Raises
    ------
    DataError
        If it is no Neuroscan file of the 62 channels at 1000 Hz, or is cut short.
    """
    file = open_cnt(path, doing=doing)
    if file.sfreq != RAW_SFREQ:
        raise wrong(doing, f"it was sampled at {file.sfreq:g} Hz, expected {RAW_SFREQ:g} Hz")
    upper = [name.upper() for name in file.channels]
    rest = tuple(name for name in AUXILIARY if name in upper) if auxiliary else ()
    picks = release.pick(file.channels, [*CHANNELS, *rest], doing)[: len(CHANNELS)]
    scales = file.scale[picks] / np.median(file.scale[picks])
    # The format has no checksum: a scale unlike the others is a sign of damage.
    if scales.min() < 0.5 or scales.max() > 2:
        raise wrong(doing, "its EEG channels have scales that differ more than twofold")
    return RawSession(file, rest, doing)


def in_a_row(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> bool:
    """Return whether starts and ends are those of one trial after another."""
    return (
        0 < len(starts) == len(ends) and bool((np.diff(np.ravel([starts, ends], "F")) > 0).all())
    ) and bool(starts[0] >= 0)


# Listing


def name_missing(keys: Sequence[Key], *, where: str) -> None:
    """Warn of sessions that some subjects have and others lack."""
    sessions = {key.session for key in keys}
    there = {(key.subject, key.session) for key in keys}
    missing = [
        f"subject {subject.lstrip('0')} session {session}"
        for subject in sorted({key.subject for key in keys})
        for session in sorted(sessions)
        if (subject, session) not in there
    ]
    if missing:
        warnings.warn(
            SourceWarning(
                f"{where}: {len(missing)} sessions that others have are not there: "
                f"{some(missing, 5)}. Copy their files into the folder if you hold them."
            ),
            stacklevel=3,
        )


def wrong(doing: str, found: str, action: str = "Download the file again") -> DataError:
    """Return the error of a file that is not as the release has it."""
    return DataError(doing, found, action)
