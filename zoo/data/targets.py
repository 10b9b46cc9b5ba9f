"""Targets from what stores hold: labels as classes, ratings by a named rule or as numbers.

Stores keep ratings raw. Where the middle of the scale goes decides which trials are in which class
(DEAP has ratings of exactly 5, DREAMER is on a five-point scale with many 3), so the rule is part
of a result and is stored with it. ``make_target`` gives each trial of a dataset its target when it
is opened, ``labels_of`` gives the classes that an evaluation uses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import nearest, some
from omfa.zoo.data.common import is_common, targets_of, versioned
from omfa.zoo.data.rules import (
    Levels,
    Merged,
    OneTarget,
    Rating,
    levels_text,
    merged_text,
    parse_rule,
    rule_text,
)
from omfa.zoo.data.trials import OWN_COLUMNS, TrialsLeftOut
from omfa.zoo.protocols.windows import Dataset

TargetSpec = OneTarget | Mapping[str, OneTarget] | None
"""One target for all datasets, or a target for each dataset by name, or None."""


@dataclass(frozen=True, eq=False)
class Target:
    """What each row of a table, a trial or a window, is to be decoded as.

    Attributes
    ----------
    values : ndarray of int64 or float32, shape (n_rows,)
        A class 0, 1, ..., as int64, or a number, as float32; -1 in rows without either.
    keep : ndarray of bool, shape (n_rows,)
        False for rows that the rule leaves out.
    classes : tuple of str
        Names of the classes; empty for numbers.
    rule : str
        How the values were made, in words.
    """

    values: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    keep: npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    rule: str

    @classmethod
    def of_classes(cls, codes: npt.NDArray[np.int64], classes: Sequence[str], rule: str) -> Target:
        """Make a target of classes.

        Parameters
        ----------
        codes : ndarray of int64, shape (n_rows,)
            Class 0, 1, ...; rows with a negative code are left out.
        classes : sequence of str
            Their names.
        rule : str
            How they were made, in words.
        """
        return cls(codes, codes >= 0, tuple(classes), rule)

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        """The class of each row, shape (n_rows,); -1 for rows that are left out."""
        assert self.values.dtype == np.int64, "numbers are no classes"
        return self.values  # type: ignore[return-value]


def target_to_json(target: TargetSpec) -> object:
    """Return a target as a JSON value that ``open_dataset`` takes; a rule becomes its text."""
    if isinstance(target, Mapping):
        return {name: target_to_json(each) for name, each in target.items()}
    if isinstance(target, Merged):
        return merged_text(target)
    if isinstance(target, Levels):
        return levels_text(target)
    if is_common(target):
        return versioned(str(target))
    return rule_text(target) if isinstance(target, Rating) else target


def target_from_json(value: Any) -> OneTarget | None:
    """Return the target that ``target_to_json`` wrote as one JSON value.

    Results of omfa 0.1 hold the fields of a ``Rating`` in place of its text.
    """
    return Rating(**value) if isinstance(value, dict) else value


def _is_number(values: pd.Series) -> bool:
    """Return whether values are numbers and not all whole: a rating, and not classes."""
    return pd.api.types.is_float_dtype(values) and bool((values % 1 != 0).any())


# BIDS writes n/a where a value is missing, and other tables have learned it from there.
_NO_LABEL = ("", "n/a")


def _gaps(values: pd.Series) -> pd.Series:
    """Return which rows have no label."""
    return values.isna() | values.astype(str).str.strip().isin(_NO_LABEL)


def _refuse_gaps(doing: str, metadata: pd.DataFrame, values: pd.Series) -> None:
    """Raise a DataError that names the subjects with rows that have no label."""
    gaps = _gaps(values)
    if not gaps.any():
        return
    subjects = metadata.loc[gaps, ["dataset", "subject"]].drop_duplicates()
    names = [f"{dataset}/{subject}" for dataset, subject in subjects.to_numpy()]
    raise DataError(
        doing,
        f"{int(gaps.sum())} windows have no label ({some(names)})",
        "Choose a column that every trial has, or name the classes, which leaves out all else "
        "('event:happy,sad'), or open the dataset without these recordings",
    )


def _binarise(values: pd.Series, rating: Rating) -> Target:
    """Make the classes low and high of a rating."""
    number = _numbers(values, rating)
    # Compared in the ratings' own precision: 4.1 as a float32 is another number than as a float64.
    threshold, low, high = map(number.dtype.type, (rating.threshold, *rating.edges))
    codes = (number >= threshold if rating.rule == ">=" else number > threshold).astype(np.int64)
    if rating.rule == "drop-middle":
        codes[(number >= low) & (number <= high)] = -1
    return Target.of_classes(codes, ("low", "high"), str(rating))


def _numbers(values: pd.Series, rule: object) -> npt.NDArray[np.floating]:
    """Return a rating's numbers, in its own precision."""
    try:
        return values.to_numpy(np.float32 if values.dtype == np.float32 else np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Making classes by {rule}",
            f"{values.name!r} is not a number everywhere ({values.iloc[0]!r})",
            "Give the name of the column alone to use its values as classes",
        ) from error


def _cut(values: pd.Series, levels: Levels) -> Target:
    """Make the classes of a rating that is cut at its edges."""
    number = _numbers(values, levels)
    codes = np.searchsorted(np.array(levels.edges, number.dtype), number, side="left")
    return Target.of_classes(codes.astype(np.int64), levels.names, str(levels))


def _merge(doing: str, values: pd.Series, merged: Merged) -> Target:
    """Make the classes of some values of a label."""
    texts = values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    code = {value: k for k, (_, members) in enumerate(merged.groups) for value in members}
    lost = set(code) - set(texts)
    if merged.some_missing:
        lost = {v for _, members in merged.groups for v in members if lost.issuperset(members)}
    if named := sorted(lost):
        raise DataError(
            doing,
            f"no window is {named[0]!r}; there are {some(sorted(set(texts)), 8)}",
            "Name these",
        )
    codes = np.asarray(texts.map(code).fillna(-1), np.int64)
    return Target.of_classes(codes, [name for name, _ in merged.groups], str(merged))


def _as_classes(doing: str, values: pd.Series) -> Target:
    """Make a class of each value, in sorted order."""
    if _is_number(values):
        raise DataError(
            doing,
            f"they are ratings between {values.min():g} and {values.max():g}, not classes",
            f"Name a rule, for instance Rating({values.name!r}, '>=', 5)",
        )
    try:
        codes, found = pd.factorize(values, sort=True)
    except TypeError:  # kinds that cannot be ordered among themselves
        codes, found = pd.factorize(values.astype(str), sort=True)
    return Target.of_classes(
        codes.astype(np.int64),
        tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in found),
        f"the values of {values.name!r}",
    )


def make_labels(metadata: pd.DataFrame, target: OneTarget | None = None) -> Target:
    """Give each row of a table its class.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window or trial, with ``dataset``, ``subject`` and the column of the target.
    target : str, Rating, Merged, Levels or None
        A label's column, a rule (as text or as one of its classes; a column of that name is used
        before a rule), a common target, or None for the column ``target``.

    Returns
    -------
    Target
        Classes, shape (n_rows,).

    Raises
    ------
    DataError
        If the column is not there, has gaps, is a rating without a rule, lacks a value that the
        rule names, or holds one class only.
    """
    if isinstance(target, str) and is_common(target) and target not in metadata:
        return _in_common(metadata, target, make_labels, f"{len(metadata)} windows")
    if isinstance(target, str) and target not in metadata:
        target = parse_rule(target)
    column = target if isinstance(target, str) else target.column if target else "target"
    doing = f"Reading the labels {column!r} of {len(metadata)} windows"
    if column not in metadata:
        raise DataError(
            doing,
            f"there is no such column{nearest(column, map(str, metadata.columns))}; "
            f"the dataset has {', '.join(map(str, metadata.columns))}",
            "Choose one of these",
        )
    values = metadata[column]
    if not isinstance(target, Merged):  # which takes the values that it names
        _refuse_gaps(doing, metadata, values)
    if isinstance(target, Rating):
        labels = _binarise(values, target)
    elif isinstance(target, Merged):
        labels = _merge(doing, values, target)
    elif isinstance(target, Levels):
        labels = _cut(values, target)
    else:
        labels = _as_classes(doing, values)
    if len(np.unique(labels.codes[labels.codes >= 0])) < 2:
        raise DataError(
            f"Making classes by {labels.rule}",
            "all windows that are left are in one class",
            "Choose another column or another threshold",
        )
    return labels


def _one_target(trials: pd.DataFrame, target: OneTarget, where: str) -> Target:
    """Give each trial its target by one rule or label for all datasets."""
    known = not isinstance(target, str) or target in trials
    if not known and is_common(target):
        return _in_common(
            trials, str(target), lambda part, one: _one_target(part, one, where), where
        )
    asked = target if known else parse_rule(str(target))
    column = asked if isinstance(asked, str) else asked.column
    labels = [name for name in trials if name not in OWN_COLUMNS - {"stimulus"}]
    for dataset, part in trials.groupby("dataset", observed=True):
        if column not in labels or _gaps(part[column]).all():
            theirs = [str(name) for name in labels if part[name].notna().any()]
            raise DataError(
                f"Making the target {column!r} of {where}",
                f"{dataset} has no such label{nearest(column, theirs)}; it has {', '.join(theirs)}",
                "Choose one of these, or name one for each dataset",
            )
    gaps = _gaps(trials[column]).to_numpy()
    if gaps.any() and not isinstance(asked, Merged):  # which takes the values that it names
        _say_unlabelled(trials[gaps], column, where)
        made = _one_target(trials[~gaps], target, where)
        values = np.full(len(trials), -1, made.values.dtype)
        keep = np.zeros(len(trials), bool)
        values[~gaps], keep[~gaps] = made.values, made.keep
        return Target(values, keep, made.classes, made.rule)
    if isinstance(asked, str) and _is_number(trials[column]):
        numbers = trials[column].to_numpy(np.float32)
        return Target(numbers, np.ones(len(trials), bool), (), f"the numbers of {column!r}")
    return make_labels(trials, asked)


def _say_unlabelled(trials: pd.DataFrame, column: str, where: str) -> None:
    """Warn of trials that have no value in a column: their windows are left out."""
    people = (trials["dataset"].astype(str) + "/" + trials["subject"].astype(str)).unique()
    warnings.warn(
        f"Opening {where}: {len(trials)} trials have no {column!r} and are left out "
        f"({some(people)}).",
        TrialsLeftOut,
        stacklevel=4,
    )


def make_target(trials: pd.DataFrame, target: TargetSpec, *, where: str) -> Target:
    """Give each trial its target.

    Parameters
    ----------
    trials : pandas.DataFrame
        The table of ``read_trials``.
    target : str, Rating, Merged, Levels, mapping or None
        A label's column, a rule as text, ``Rating`` or ``Merged``, one of these for each dataset
        by name (scales differ: DEAP's middle is 5, DREAMER's 3), or None. A column of whole numbers
        or of text gives classes in sorted order, another one numbers.
    where : str
        The stores, for the error.

    Returns
    -------
    Target
        Classes or numbers, shape (n_trials,). A mapping gives all datasets the same classes.

    Raises
    ------
    DataError
        If a dataset has no such label, one class only is left, or datasets have different classes.

    Warns
    -----
    TrialsLeftOut
        Of trials that have no value.
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
    return _each_dataset(trials, target, lambda part, one: _one_target(part, one, where), where)


def _in_common(
    trials: pd.DataFrame,
    target: str,
    make: Callable[[pd.DataFrame, OneTarget], Target],
    where: str,
) -> Target:
    """Give the rows of each dataset what a common target means for it; the rule names both."""
    rules = targets_of(target, list(trials["dataset"].unique()))
    made = _each_dataset(trials, rules, make, where)
    return replace(made, rule=f"{versioned(target)}, {made.rule}")


def _each_dataset(
    trials: pd.DataFrame,
    targets: Mapping[str, OneTarget],
    make: Callable[[pd.DataFrame, OneTarget], Target],
    where: str,
) -> Target:
    """Give the rows of each dataset their target; all must have the same classes."""
    names = trials["dataset"].unique()
    parts = {name: make(trials[trials["dataset"] == name], targets[name]) for name in names}
    classes = {part.classes for part in parts.values()}
    if len(classes) > 1:
        raise DataError(
            f"Making targets of {where}",
            f"the datasets have different classes: {' and '.join(map(str, sorted(classes)))}",
            "Choose targets with the same classes, such as 'common:valence', or open the stores "
            "apart",
        )
    dtype = next(iter(parts.values())).values.dtype
    values, keep = np.zeros(len(trials), dtype), np.zeros(len(trials), bool)
    for name, part in parts.items():
        rows = (trials["dataset"] == name).to_numpy()
        values[rows], keep[rows] = part.values, part.keep
    rule = "; ".join(f"{name}: {part.rule}" for name, part in parts.items())
    return Target(values, keep, classes.pop(), rule)


def labels_of(dataset: Dataset, target: OneTarget | None) -> Target:
    """Return the classes of a dataset's windows.

    Parameters
    ----------
    dataset : Dataset
    target : str, Rating, Merged, Levels or None
        A label's column or a rule. None takes the target that the dataset was opened
        with, or else the column ``target`` of its metadata.

    Returns
    -------
    Target
        Classes, shape (n_windows,).

    Raises
    ------
    DataError
        If there are none: see ``make_labels``.
    """
    if target is not None or dataset.classes is None:
        return make_labels(dataset.metadata, target)
    if not dataset.classes:
        raise DataError(
            "Reading the classes of the dataset",
            "it was opened without a target, or with numbers for one",
            "Pass target='COLUMN' or target=Rating(...) here or to open_dataset",
        )
    codes = dataset.metadata["target"].to_numpy(dtype=np.int64)
    return Target.of_classes(codes, dataset.classes, dataset.rule)
