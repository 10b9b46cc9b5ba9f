"""The trials of stores as one table, and the windows cut from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.recording import DataError
from omfa.pipeline.store import Store, StoredRecording
from omfa.zoo.data.sources import Source
from omfa.zoo.protocols.protocol import TRIAL

WINDOW_COLUMNS = ("i_window_in_trial", "i_start_in_trial", "i_stop_in_trial", "target")
"""The columns of a window, as braindecode has them."""

OWN_COLUMNS = {*TRIAL, *WINDOW_COLUMNS, "stimulus", "recording", "onset", "length"}


def read_trials(
    stores: Sequence[Store], *, whole: bool = False
) -> tuple[pd.DataFrame, list[Source]]:
    """Read the trial tables of all recordings.

    Parameters
    ----------
    stores : sequence of Store
    whole : bool
        Take each stretch of unbroken signal for a trial, whatever was shown; it has no labels.

    Returns
    -------
    trials : pandas.DataFrame
        A row per trial: ``dataset`` (the store's source), ``subject`` ("sub-01"), ``session``
        ("ses-1"), ``run`` ("run-1"), ``trial`` (from 1), ``stimulus``, ``recording`` (index into
        ``sources``), ``onset``, ``length`` (samples), and every label. A label with the name of
        one of these or of a window's columns gets ``label_`` before its name.
    sources : list of Source
        A recording each.

    Raises
    ------
    DataError
        If two stores hold the same recording, or there is no trial at all.
    """
    tables: list[pd.DataFrame] = []
    sources: list[Source] = []
    homes: dict[tuple[str, str], str] = {}
    for store in stores:
        for recording in store:
            attrs = recording.attrs
            name = (store.name, attrs["recording"])
            if name in homes:
                raise DataError(
                    f"Opening {store.path} with {homes[name]}",
                    f"both hold {attrs['recording']} of {store.name}",
                    "Open one of them: the same windows must not be on both sides of a split",
                )
            homes[name] = store.path
            spans = _segments(recording) if whole else recording.trials
            tables.append(_table(spans, store.name, attrs, len(sources)))
            sources.append(_source(recording, attrs))
    trials = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if not len(trials):
        raise DataError(
            f"Opening {', '.join(store.path for store in stores)}",
            f"there are no trials in the {len(sources)} recordings",
            "Ingest the corpus with its trials or events",
        )
    return trials, sources


def _segments(recording: StoredRecording) -> pd.DataFrame:
    onset, length = (recording.array(f"segment_{name}") for name in ("onset", "length"))
    return pd.DataFrame({"onset": onset, "length": length, "stimulus": ""})


def _table(
    spans: pd.DataFrame, dataset: str, attrs: Mapping[str, object], index: int
) -> pd.DataFrame:
    table = spans.drop(columns=["baseline_onset", "baseline_length"], errors="ignore")
    own = {"onset", "length", "stimulus"}
    table = table.rename(columns={c: f"label_{c}" for c in table if c in OWN_COLUMNS - own})
    names: dict[str, Any] = {
        "dataset": dataset,
        "subject": f"sub-{attrs['subject']}",
        "session": f"ses-{attrs['session']}",
        "run": f"run-{attrs['run']}",
        "trial": np.arange(1, len(table) + 1),
    }
    for i, (column, value) in enumerate(names.items()):
        table.insert(i, column, value)
    return table.assign(recording=index)


def _source(recording: StoredRecording, attrs: Mapping[str, object]) -> Source:
    return Source(
        address=recording.location.address,
        options=tuple(getattr(recording.location, "options", ())),
        recording=recording.recording,
        digest=str(attrs["digest"]),
        dtype=str(attrs["dtype"]),
        sfreq=recording.sfreq,
        channels=tuple(recording.channels),
        bad_channels=tuple(recording.bad_channels),
        n_times=int(str(attrs["n_times"])),
        simulated=recording.simulated,
    )


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where the windows lie; a row per window, ordered by recording and start.

    Attributes
    ----------
    trial : ndarray of int64, shape (n_windows,)
        Row of the trial table.
    number : ndarray of int64, shape (n_windows,)
        Of the window in its trial, from 0.
    start : ndarray of int64, shape (n_windows,)
        Sample of the stored signal.
    n_times : ndarray of int64, shape (n_windows,)
        Samples.
    """

    trial: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    n_times: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.trial)

    def __getitem__(self, rows: npt.ArrayLike) -> Cuts:
        index = np.asarray(rows)
        return Cuts(self.trial[index], self.number[index], self.start[index], self.n_times[index])


def cut(
    trials: pd.DataFrame,
    sfreq: npt.NDArray[np.float64],
    *,
    window_seconds: float,
    stride_seconds: float,
    where: str,
) -> Cuts:
    """Cut windows from trials: whole ones only, from each trial's first sample on.

    Parameters
    ----------
    trials : pandas.DataFrame
        ``recording``, ``onset``, ``length``; a row each.
    sfreq : ndarray, shape (n_trials,)
        Hz.
    window_seconds, stride_seconds : float
        Rounded to whole samples of each trial's rate.
    where : str
        The stores, for the error.

    Raises
    ------
    DataError
        If a length is less than a sample, or the window is longer than every trial.
    """
    doing = f"Cutting windows of {window_seconds:g} s every {stride_seconds:g} s from {where}"
    width = np.round(window_seconds * sfreq).astype(np.int64)
    stride = np.round(stride_seconds * sfreq).astype(np.int64)
    for what, samples in (("window", width), ("stride", stride)):
        if len(samples) and samples.min() < 1:
            raise DataError(
                doing,
                f"the {what} is shorter than a sample at {sfreq.min():g} Hz",
                f"Give a longer {what}",
            )
    length = trials["length"].to_numpy(np.int64)
    count = np.where(length >= width, (length - width) // np.maximum(stride, 1) + 1, 0)
    if not count.sum():
        longest = (length / sfreq).max(initial=0)
        raise DataError(doing, f"the longest trial has {longest:g} s", "Ask for a shorter window")
    trial = np.repeat(np.arange(len(trials)), count)
    number = np.arange(len(trial)) - np.repeat(np.cumsum(count) - count, count)
    start = trials["onset"].to_numpy(np.int64)[trial] + number * stride[trial]
    cuts = Cuts(trial, number, start, width[trial])
    return cuts[np.lexsort((start, trials["recording"].to_numpy()[trial]))]


def json_digest(value: object) -> str:
    """Return a short digest of a JSON value."""
    from omfa.pipeline.store import digest

    return digest(json.loads(json.dumps(value)))[:16]
