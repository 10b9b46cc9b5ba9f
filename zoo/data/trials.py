"""The trials of stores as one table, and the windows cut from them.

``read_trials`` reads metadata only. ``cut`` lists windows by trial and sample, four numbers each;
no signal is read for it, so that other windows cost nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError, DataWarning
from omfa.pipeline.readers import UNNAMED
from omfa.pipeline.signal_path import SignalPath
from omfa.pipeline.store import Store, StoredRecording
from omfa.pipeline.words import some
from omfa.zoo.data.sources import Source
from omfa.zoo.protocols.identity import DIGITS, UNKNOWN, Recorded, doubles, source_digest
from omfa.zoo.protocols.protocol import TRIAL

WINDOW_COLUMNS = ("i_window_in_trial", "i_start_in_trial", "i_stop_in_trial", "target")
"""The columns of metadata for the place and the target of a window, in braindecode's names."""

OWN_COLUMNS = {*TRIAL, *WINDOW_COLUMNS, "stimulus", "recording", "onset", "length"}
"""The columns that omfa makes; every other column is a label or a rating."""


def _segments(recording: StoredRecording) -> pd.DataFrame:
    """Return the stretches of unbroken signal as a trial table."""
    onset, length = (recording.array(f"segment_{name}") for name in ("onset", "length"))
    return pd.DataFrame({"onset": onset, "length": length, "stimulus": ""})


def _table(
    spans: pd.DataFrame, dataset: str, attrs: Mapping[str, object], index: int
) -> pd.DataFrame:
    """Return a recording's trials with the columns that ``read_trials`` documents."""
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


def _source(
    recording: StoredRecording,
    attrs: Mapping[str, Any],
    dataset: str,
    preprocessing: Mapping[str, Any],
) -> Source:
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
        path=SignalPath.of(preprocessing, attrs, recording.sfreq),
        simulated=recording.simulated,
        recorded=Recorded(
            dataset,
            recording.recording,
            str(attrs.get("signal_sha256", UNKNOWN))[:DIGITS],
            source_digest(attrs.get("source_files", ())),
        ),
    )


def _check_people(stores: Sequence[Store]) -> None:
    """Raise if two stores without a name of their own have subjects of one id.

    They may be other people, who would be one subject, or the same ones.
    """
    for first, other in itertools.combinations(stores, 2):
        if first.name != other.name or first.name not in UNNAMED or not (len(first) and len(other)):
            continue
        both = sorted(set(first.recordings["subject"]) & set(other.recordings["subject"]))
        if both:
            raise DataError(
                f"Opening {other.path} with {first.path}",
                f"both are called {first.name!r}, which is no dataset's own name, and both have "
                f"the subjects {some(both, 5)}",
                "If these are other people, ingest one of the two with another --name; if they are "
                "the same, both with one --name",
            )


def _check_doubles(stores: Mapping[Recorded, str]) -> None:
    """Raise if a recording is there twice under two names; ``stores`` has the store of each."""
    if not (found := doubles(list(stores))):
        return
    one, other = found[0]
    here, there = stores[one], stores[other]
    pairs = [(a, b) for a, b in found if (stores[a], stores[b]) == (here, there)]
    shown = some([f"{a.name} and {b.name}" for a, b in pairs])
    doing = f"Opening {there}" + (f" with {here}" if here != there else "")
    windows = "The same windows must not be on both sides of a split"
    if here == there:
        raise DataError(
            doing,
            f"{len(pairs)} times it holds one recording under two names, by the digest of the "
            f"signal: {shown}",
            f"Ingest it again without one of the two. {windows}",
        )
    raise DataError(
        doing,
        f"{one.dataset!r} and {other.dataset!r} are one corpus under two names: {len(pairs)} "
        f"recordings are the same by the digest of the signal or of its file, {shown}",
        f"Open one of the two stores. {windows}",
    )


def read_trials(
    stores: Sequence[Store], *, whole: bool = False
) -> tuple[pd.DataFrame, list[Source]]:
    """Read the trial tables of all recordings.

    Parameters
    ----------
    stores : sequence of Store
    whole : bool
        Take each stretch of unbroken signal for a trial, whatever was shown in it. Such trials have
        neither stimulus nor labels.

    Returns
    -------
    trials : pandas.DataFrame
        A row per trial: ``dataset`` (the store's source), ``subject`` ("sub-01"), ``session``
        ("ses-1"), ``run`` ("run-1"), ``trial`` (from 1), ``stimulus``, ``recording`` (index into
        ``sources``), ``onset``, ``length`` (samples), and every label. A label with the name of
        one of these or of ``WINDOW_COLUMNS`` gets ``label_`` before its name.
    sources : list of Source
        The recordings, in the order of the stores.

    Raises
    ------
    DataError
        If a recording is there twice, under one name or two, or two stores are of one unnamed
        dataset and have subjects of one id, or there is no trial at all.
    """
    tables: list[pd.DataFrame] = []
    sources: list[Source] = []
    homes: dict[tuple[str, str], str] = {}  # (dataset, recording) to the store that has it
    recorded: dict[Recorded, str] = {}
    _check_people(stores)
    for store in stores:
        for recording in store:
            attrs = recording.attrs
            name = (store.name, attrs["recording"])
            if name in homes:
                raise DataError(
                    f"Opening {store.path} with {homes[name]}",
                    f"both hold {attrs['recording']} of {store.name}",
                    "Open one of them: the same windows must not be on both sides of a split. If "
                    "they are other people's, ingest one of the two with another --name",
                )
            homes[name] = store.path
            spans = _segments(recording) if whole else recording.trials
            tables.append(_table(spans, store.name, attrs, len(sources)))
            preprocessing = store.settings.get("preprocessing", {})
            sources.append(_source(recording, attrs, store.name, preprocessing))
            recorded[sources[-1].recorded] = store.path
    _check_doubles(recorded)
    trials = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if not len(trials):
        raise DataError(
            f"Opening {', '.join(store.path for store in stores)}",
            f"there are no trials in the {len(sources)} recordings",
            "Ingest the corpus with its trials or events",
        )
    return trials, sources


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where windows lie, in the order of recordings and of starts.

    Attributes
    ----------
    trial : ndarray of int64, shape (n_windows,)
        Each window's row in the trial table.
    number : ndarray of int64, shape (n_windows,)
        Its number in the trial, from 0.
    start : ndarray of int64, shape (n_windows,)
        Its first sample, counted from the start of the recording.
    n_times : ndarray of int64, shape (n_windows,)
        Its samples.
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


class TrialsLeftOut(DataWarning):
    """Trials that are shorter than a window give none.

    Examples
    --------
    >>> import warnings
    >>> from omfa.zoo import TrialsLeftOut, open_dataset
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     data = open_dataset("dreamer.zarr", 4.0)
    >>> said[0].category.__name__, data.left_out.too_short
    ('TrialsLeftOut', 24)
    """


@dataclass(frozen=True)
class LeftOut:
    """How many trials no window comes from, and why.

    Attributes
    ----------
    n_trials : int
        All trials of the stores.
    by_rule : int
        Those that the target's rule leaves out, or that have no value for it.
    too_short : int
        Others that are shorter than a window.
    window_seconds : float
        What a window has.
    longest : float
        Seconds of the longest that is too short.
    """

    n_trials: int = 0
    by_rule: int = 0
    too_short: int = 0
    window_seconds: float = 0.0
    longest: float = 0.0

    def __str__(self) -> str:
        """Say it in words; nothing if no trial is left out."""
        parts = []
        if self.too_short:
            window = f"shorter than a window of {self.window_seconds:g} s"
            parts.append(f"{self.too_short} {window} (the longest has {self.longest:.4g} s)")
        if self.by_rule:
            parts.append(f"{self.by_rule} by the target's rule")
        total = self.too_short + self.by_rule
        return f"{total} of {self.n_trials} trials left out: {', '.join(parts)}" if parts else ""


def left_out(
    trials: pd.DataFrame,
    sfreq: npt.NDArray[np.float64],
    cuts: Cuts,
    keep: npt.NDArray[np.bool_],
    window_seconds: float,
) -> LeftOut:
    """Count the trials that no window comes from.

    Parameters
    ----------
    trials, sfreq, window_seconds
        As for ``cut``.
    cuts : Cuts
        What it returned.
    keep : ndarray of bool, shape (n_trials,)
        False for trials that the target's rule leaves out.
    """
    short = keep & (np.bincount(cuts.trial, minlength=len(trials)) == 0)
    seconds = trials["length"].to_numpy() / sfreq
    return LeftOut(
        n_trials=len(trials),
        by_rule=int((~keep).sum()),
        too_short=int(short.sum()),
        window_seconds=window_seconds,
        longest=float(seconds[short].max(initial=0)),
    )


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
        A row per trial with ``recording``, ``onset`` and ``length`` (samples).
    sfreq : ndarray of float, shape (n_trials,)
        Each trial's rate in Hz.
    window_seconds, stride_seconds : float
        Length of a window, and time from one window's start to the next; rounded to whole samples
        at each trial's rate.
    where : str
        The stores, for the error.

    Returns
    -------
    Cuts

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
    # Counted over all windows, less the windows of the trials before.
    number = np.arange(len(trial)) - np.repeat(np.cumsum(count) - count, count)
    start = trials["onset"].to_numpy(np.int64)[trial] + number * stride[trial]
    cuts = Cuts(trial, number, start, width[trial])
    # Tiers lay signals out in this order. A store's trials need not be in the order of time.
    return cuts[np.lexsort((start, trials["recording"].to_numpy()[trial]))]
