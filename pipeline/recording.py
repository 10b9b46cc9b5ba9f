"""A recording as it comes from a reader, and what a reader is.

A reader turns one source of files into recordings; it converts units to microvolts and never
cleans a signal. The rest of the pipeline sees only what is defined here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError as DataError
from omfa.pipeline.words import some

Segment = npt.NDArray[np.floating]
"""A contiguous piece of signal, shape (n_chans, n_times)."""

TRIAL_COLUMNS = (
    "segment",
    "onset",
    "length",
    "baseline_segment",
    "baseline_onset",
    "baseline_length",
    "stimulus",
)
"""What every trial table has; every other column is a label or a rating."""

MAX_SFREQ = 250_000.0
"""Hz; no amplifier of EEG is faster, and a header that says more is damaged."""


class SourceWarning(UserWarning):
    """What a reader left out of a source, or doubts in it, while it listed the recordings.

    ``ingest`` gathers these warnings of ``discover`` in its summary. What is so of one recording
    is in its ``notes``.
    """


_ENTITY = re.compile(r"^[A-Za-z0-9]+$")


@dataclass(frozen=True, order=True)
class Key:
    """Names one recording and the files that hold it.

    Attributes
    ----------
    subject, session, run : str
        Letters and digits, as BIDS has them: ``"01"``, ``"1"``, ``"1"``.
    files : tuple of str
        Paths of every file the recording is read from, relative to ``root``, the signal's first.
    root : str
        The folder that ``discover`` was given.

    Examples
    --------
    >>> from omfa.pipeline import Key
    >>> Key("07", session="2", run="film", files=("s07.edf",), root="/data/raw").recording
    'sub-07_ses-2_run-film'
    """

    subject: str
    session: str = "1"
    run: str = "1"
    files: tuple[str, ...] = ()
    root: str = ""

    def __post_init__(self) -> None:
        for entity in ("subject", "session", "run"):
            value = getattr(self, entity)
            if not _ENTITY.match(value):
                raise DataError(
                    f"Naming the recording in {', '.join(self.files) or 'a source'}",
                    f"its {entity} {value!r} is not made of letters and digits",
                    "Change the file's name, or the pattern that reads it",
                )

    @property
    def recording(self) -> str:
        """The recording's name, which is also its group in a store."""
        return f"sub-{self.subject}_ses-{self.session}_run-{self.run}"

    def __str__(self) -> str:
        return f"{self.recording} ({some(self.files)})"

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files' full paths."""
        return tuple(Path(self.root) / name for name in self.files)


@dataclass(frozen=True)
class Auxiliary:
    """Channels that are not EEG, kept apart from the signal.

    Attributes
    ----------
    names, units : tuple of str
    sfreq : float
        Hz; may differ from the EEG's.
    segments : list of ndarray, each (n_auxiliary, n_times)
        One per segment of the EEG and over the same time.

    Examples
    --------
    >>> import numpy as np
    >>> from omfa.pipeline import Auxiliary
    >>> pulse = Auxiliary(names=["PPG"], units=["uV"], sfreq=64.0, segments=[np.zeros((1, 640))])
    >>> pulse.names
    ['PPG']
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    sfreq: float
    segments: list[Segment]


@dataclass
class Recording:
    """One continuous or trial-wise recording, uncleaned, in microvolts.

    Attributes
    ----------
    key : Key
    channels : list of str
        Names as the source spells them, EEG only.
    sfreq : float
        Hz.
    segments : list of ndarray, each (n_chans, n_times)
        The contiguous pieces of signal in microvolts, in order: one for a continuous recording,
        one per trial where the source holds trials cut apart. NaN marks a missing sample.
    trials : pandas.DataFrame
        A row per trial. ``segment`` (index into ``segments``), ``onset``, ``length``,
        ``baseline_onset``, ``baseline_length`` (samples at ``sfreq`` from the segment's start;
        length 0 where there is no baseline), ``baseline_segment`` (index of the segment that holds
        the baseline; the trial's own unless the reader says otherwise), ``stimulus`` (str, what
        was shown), and a column for each label and rating that the source holds, raw. Baseline
        and trial are contiguous only where they share a segment.
    auxiliary : list of Auxiliary
        Channels that are not EEG, a group per rate.
    positions : ndarray, shape (n_chans, 3), or None
        Measured electrode positions, head frame, metres. None for a template or none at all.
    times : ndarray of float, shape (n_trials, 2), or None
        Onset and duration of each trial in seconds from its segment's first sample, where the
        source gives seconds: they need not be whole samples, and decide how long the stored trial
        is. NaN, or None for all: those of its samples.
    participant : mapping
        What the source says about the person: ``{"age": 23, "sex": "F"}``.
    source : mapping
        JSON facts of the signal's history that the data alone do not show: ``reference``,
        ``band`` (Hz, as ``[low, high]``), ``timing``, ``variant``.
    notes : sequence of str
        What was left out of the recording or read otherwise than the source has it, in sentences
        that name the event or the channel. They are shown after a run and stored.

    Examples
    --------
    >>> from omfa.pipeline.readers import get_reader
    >>> reader = get_reader("dreamer")
    >>> recording = reader.read(reader.discover("DREAMER")[0]).check()
    >>> recording.channels[:3], recording.sfreq, recording.labels
    (['AF3', 'F7', 'F3'], 128.0, ['valence', 'arousal', 'dominance'])
    """

    key: Key
    channels: list[str]
    sfreq: float
    segments: list[Segment]
    trials: pd.DataFrame
    auxiliary: list[Auxiliary] = field(default_factory=list)
    positions: npt.NDArray[np.float64] | None = None
    times: npt.NDArray[np.float64] | None = None
    participant: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if "segment" in self.trials and "baseline_segment" not in self.trials:
            self.trials = self.trials.assign(baseline_segment=self.trials["segment"])

    @property
    def n_times(self) -> int:
        """Samples in all segments together."""
        return sum(segment.shape[1] for segment in self.segments)

    @property
    def labels(self) -> list[str]:
        """The trial table's label and rating columns."""
        return [name for name in self.trials.columns if name not in TRIAL_COLUMNS]

    def check(self) -> Recording:
        """Return the recording itself if it is consistent.

        Raises
        ------
        DataError
            If shapes, names, the rate or the trial table do not fit together. NaN is no error: it
            is counted as missing and the channel is judged by its quality.
        """
        for found in self._faults():
            raise DataError(
                f"Checking {self.key}",
                found,
                "The file is damaged or its reader is wrong: compare it with the source's own copy",
            )
        return self

    def _faults(self) -> Iterator[str]:
        if not (np.isfinite(self.sfreq) and 0 < self.sfreq <= MAX_SFREQ):
            yield f"the sampling rate is {self.sfreq:g} Hz"
        if not self.segments or not self.channels:
            yield "there is no EEG signal in it"
        if len(set(self.channels)) < len(self.channels):
            yield "two channels have one name"
        for i, segment in enumerate(self.segments):
            if segment.ndim != 2 or segment.shape[0] != len(self.channels):
                yield f"segment {i} is {segment.shape}, expected ({len(self.channels)}, n_times)"
            elif segment.shape[1] == 0:
                yield f"segment {i} is empty"
            elif not np.issubdtype(segment.dtype, np.floating):
                yield f"segment {i} is {segment.dtype}, expected floating-point microvolts"
        if missing := [name for name in TRIAL_COLUMNS if name not in self.trials]:
            yield f"the trial table lacks {', '.join(missing)}"
            return
        lengths = np.array([segment.shape[1] for segment in self.segments])
        table = self.trials
        for part in ("", "baseline_"):
            number, onset, length = (table[f"{part}{name}"] for name in TRIAL_COLUMNS[:3])
            for name, column in zip(TRIAL_COLUMNS[:3], (number, onset, length), strict=True):
                if (odd := ~_whole(column)).any():
                    row = int(np.flatnonzero(odd)[0])
                    yield (
                        f"the {part}{name} of trial {row + 1} is {column.iloc[row]}, expected a "
                        "whole number"
                    )
                    return
            if not number.between(0, len(lengths) - 1).all():
                yield "a trial names a segment that does not exist"
                return
            end = lengths[number.to_numpy(dtype=int)]
            outside = (onset < 0) | (length < 0) | (onset + length > end)
            if outside.any():
                row = int(np.flatnonzero(outside)[0]) + 1
                what = "the baseline of trial" if part else "trial"
                yield f"{what} {row} reaches outside its segment"
        if (table["length"] <= 0).any():
            yield "a trial has no samples"
        if self.times is not None and self.times.shape != (len(table), 2):
            yield f"times is {self.times.shape}, expected ({len(table)}, 2)"
        elif self.times is not None:
            samples = table[["onset", "length"]].to_numpy(float)
            # Rounded at both ends, and seconds of few digits; NaN is no difference.
            if (np.abs(self.times * self.sfreq - samples) > 2).any():
                yield "the seconds of a trial are not those of its samples"


def _whole(column: pd.Series) -> npt.NDArray[np.bool_]:
    """Return which cells are whole numbers, as samples and indices are; NaN is none."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    return np.isfinite(values) & (values == np.round(values))


PLAUSIBLE_RMS = (0.5, 500.0)
"""Microvolts that one second of a scalp channel may have; volts or millivolts fall outside."""


def plausible_unit(recording: Recording) -> str | None:
    """Doubt a recording whose amplitude does not look like EEG in microvolts.

    The median over channels and over seconds, spread evenly over the recording, of the
    root mean square about the second's own mean, which offset and slow drift leave alone.

    Returns
    -------
    str or None
        A warning in three parts, or None where the amplitude is plausible or nothing is finite.
    """
    second = max(int(recording.sfreq), 1)
    with np.errstate(invalid="ignore"):  # infinite samples
        rms = [
            segment[:, start : start + second].std(axis=1, dtype=np.float64)
            for segment in recording.segments
            for start in np.linspace(0, max(segment.shape[1] - second, 0), 4, dtype=int)
        ]
    values = np.concatenate(rms)
    values = values[np.isfinite(values)]
    low, high = PLAUSIBLE_RMS
    if not values.size or low <= (typical := float(np.median(values))) <= high:
        return None
    return str(
        DataError(
            f"Checking the unit of {recording.key.recording} ({', '.join(recording.key.files)})",
            f"a channel has {typical:.3g} microvolts RMS, and scalp EEG has {low:g} to {high:g}",
            "See whether the source is in another unit, and scale it if it is",
        )
    )


@runtime_checkable
class Reader(Protocol):
    """Turns one source into recordings.

    A reader is a small frozen dataclass: its fields are its options and are stored with the
    recordings. It must pickle, since ``read`` runs on any worker.

    A reader of files that hold many recordings each may add
    ``read_each(keys) -> Iterator[tuple[Key, Recording | DataError]]``, which yields the recordings
    of keys that share their files, in one pass. A ``DataError`` that the iterator itself raises
    is about the file as a whole, such as a checksum at its end that does not hold: what was
    yielded before must not be kept.

    A reader of sources that have a title may add a method ``title(root) -> str | None``, which
    returns what the store calls the data in place of ``name``. What a reader leaves out of a folder
    is a ``SourceWarning`` of ``discover``; a recording that is not there is listed and fails when
    it is read. An option that is added to a reader in use has ``metadata={"quiet": True}``.

    A reader whose options name what only all recordings together can lack may add
    ``review(stored: Iterable[tuple[Key, DataFrame]]) -> Iterable[str]``. After a run it gets the
    recordings that are in the store, each with its table of trials, and returns notes. The tables
    are read as they are asked for.

    Examples
    --------
    >>> from omfa.pipeline import Reader
    >>> from omfa.pipeline.readers import get_reader
    >>> reader = get_reader("dreamer")
    >>> isinstance(reader, Reader)
    True
    >>> [key.recording for key in reader.discover("DREAMER")]
    ['sub-01_ses-1_run-1', 'sub-02_ses-1_run-1']
    """

    @property
    def name(self) -> str:
        """What a store calls the data, where nothing else names them."""

    def discover(self, root: str | Path) -> Sequence[Key]:
        """List the recordings below a folder, cheaply: names are read, signals are not.

        Raises
        ------
        DataError
            If the folder does not hold this source.
        """

    def read(self, key: Key) -> Recording:
        """Read one recording.

        Raises
        ------
        DataError
            If the file is not what the source documents.
        """
