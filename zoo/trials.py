"""The trials of stores as one table, their targets, and the windows cut from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.recording import DataError
from omfa.pipeline.store import Store, StoredRecording
from omfa.zoo.labels import Rating, make_labels
from omfa.zoo.tiers import Source

TRIAL = ("dataset", "subject", "session", "run", "trial")
"""The columns that name a trial."""

WINDOW = ("i_window_in_trial", "i_start_in_trial", "i_stop_in_trial", "target")
"""The columns of a window, as braindecode has them."""

_OWN = {*TRIAL, *WINDOW, "stimulus", "recording", "onset", "length"}
_RULE = re.compile(r"^\s*(?P<column>[^<>=|]+?)\s*(?P<sign>>=|>)\s*(?P<value>[-+.\deE]+)\s*$")
_MIDDLE = re.compile(
    r"^\s*(?P<column>[^<>=|]+?)\s*<\s*(?P<low>[-+.\deE]+)\s*\|\s*>\s*(?P<high>[-+.\deE]+)\s*$"
)

TargetSpec = str | Rating | Mapping[str, "str | Rating"] | None


@dataclass(frozen=True, eq=False)
class Target:
    """What each trial is to be decoded as.

    Attributes
    ----------
    values : ndarray, shape (n_trials,)
        Class 0, 1, ... as int64, or a number as float32; -1 where nothing was asked for.
    keep : ndarray of bool, shape (n_trials,)
        False for trials that the rule leaves out.
    classes : tuple of str
        Empty for numbers.
    rule : str
        How the values were made, in words.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    keep: npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    rule: str


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
    table = table.rename(columns={c: f"label_{c}" for c in table if c in _OWN - own})
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
    told = json.dumps([attrs.get(name) for name in ("source", "participant", "source_files")])
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
        simulated="simulated" in f"{told} {recording.location.address}".lower(),
    )


# -------------------------------------------------------------------------------- targets


def parse_rule(text: str) -> str | Rating:
    """Read a target's text.

    Parameters
    ----------
    text : str
        A column, or a rule on a rating: ``"valence>5"`` (ties are low), ``"valence>=5"`` (ties are
        high), ``"valence<4.5|>5.5"`` (what lies between, edges included, is left out).

    Returns
    -------
    str or Rating

    Raises
    ------
    DataError
        If it looks like a rule and is none.
    """
    if not set("<>=|") & set(text):
        return text.strip()
    try:
        if match := _RULE.match(text):
            return Rating(match["column"], match["sign"], float(match["value"]))  # type: ignore[arg-type]
        if match := _MIDDLE.match(text):
            low, high = float(match["low"]), float(match["high"])
            if low <= high:
                middle, margin = (low + high) / 2, (high - low) / 2
                return Rating(match["column"], "drop-middle", middle, margin)
    except ValueError as error:
        raise _no_rule(text) from error
    raise _no_rule(text)


def _no_rule(text: str) -> DataError:
    return DataError(
        f"Reading the target {text!r}",
        "it is neither a column nor a rule",
        "Write it as 'valence', 'valence>5', 'valence>=5' or 'valence<4.5|>5.5'",
    )


def make_target(trials: pd.DataFrame, target: TargetSpec, *, where: str) -> Target:
    """Give each trial its target.

    Parameters
    ----------
    trials : pandas.DataFrame
        From ``read_trials``.
    target : str, Rating, mapping or None
        A label's column, a rule as text or as ``Rating``, one of these for each dataset by name
        (scales differ: DEAP's middle is 5, DREAMER's 3), or None. A column of whole numbers or of
        text gives classes in sorted order, another one numbers.
    where : str
        The stores, for the error.

    Raises
    ------
    DataError
        If a dataset has no such label, a trial has no value, or one class only is left.
    """
    if target is None:
        nothing = np.full(len(trials), -1)
        return Target(nothing, np.ones(len(trials), bool), (), "none")
    if not isinstance(target, Mapping):
        return _one_target(trials, target, where)
    names = trials["dataset"].unique()
    if missing := [name for name in names if name not in target]:
        raise DataError(
            f"Making targets of {where}",
            f"no target is given for {', '.join(missing)}, only for {', '.join(target)}",
            "Give one for each dataset",
        )
    parts = {
        name: _one_target(trials[trials["dataset"] == name], target[name], where) for name in names
    }
    classes = {part.classes for part in parts.values()}
    if len(classes) > 1:
        raise DataError(
            f"Making targets of {where}",
            f"the datasets have different classes: {' and '.join(map(str, sorted(classes)))}",
            "Choose targets with the same classes, or open the stores apart",
        )
    dtype = next(iter(parts.values())).values.dtype
    values, keep = np.zeros(len(trials), dtype), np.zeros(len(trials), bool)
    for name, part in parts.items():
        rows = (trials["dataset"] == name).to_numpy()
        values[rows], keep[rows] = part.values, part.keep
    rule = "; ".join(f"{name}: {part.rule}" for name, part in parts.items())
    return Target(values, keep, classes.pop(), rule)


def _one_target(trials: pd.DataFrame, target: str | Rating, where: str) -> Target:
    asked = parse_rule(target) if isinstance(target, str) else target
    column = asked.column if isinstance(asked, Rating) else asked
    labels = [name for name in trials if name not in _OWN - {"stimulus"}]
    for dataset, part in trials.groupby("dataset", observed=True):
        if column not in labels or part[column].isna().all():
            theirs = [name for name in labels if part[name].notna().any()]
            raise DataError(
                f"Making the target {column!r} of {where}",
                f"{dataset} has no such label; it has {', '.join(map(str, theirs))}",
                "Choose one of these, or name one for each dataset",
            )
    values = trials[column]
    if not isinstance(asked, Rating) and _is_number(values) and values.notna().all():
        numbers = values.to_numpy(np.float32)
        return Target(numbers, np.ones(len(trials), bool), (), f"the numbers of {column!r}")
    made = make_labels(trials, asked)
    return Target(made.codes, made.codes >= 0, made.classes, made.rule)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_float_dtype(values) and bool((values % 1 != 0).any())


def target_to_json(target: TargetSpec) -> object:
    """Write a target as JSON that ``open_dataset`` takes: a rule becomes its text again."""
    if isinstance(target, Mapping):
        return {name: target_to_json(each) for name, each in target.items()}
    return rule_text(target) if isinstance(target, Rating) else target


def rule_text(rating: Rating) -> str:
    """Return the text that ``parse_rule`` reads as this rule."""
    if rating.rule != "drop-middle":
        return f"{rating.column}{rating.rule}{rating.threshold!r}"
    low, high = rating.threshold - rating.margin, rating.threshold + rating.margin
    return f"{rating.column}<{low!r}|>{high!r}"


# -------------------------------------------------------------------------------- windows


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
