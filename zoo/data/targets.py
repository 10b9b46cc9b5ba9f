"""Targets from what stores hold: labels as classes, ratings by a named rule or as numbers.

Stores keep ratings raw. Where the middle of the scale goes decides which trials are in which class
(DEAP has ratings of exactly 5, DREAMER is on a five-point scale with many 3), so the rule is part
of a result and is stored with it. ``make_target`` gives each trial of a dataset its target when it
is opened, ``labels_of`` gives the classes that an evaluation uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.errors import DataError
from omfa.pipeline.words import some
from omfa.zoo.data.trials import OWN_COLUMNS
from omfa.zoo.protocols.windows import Dataset

Rule = Literal[">=", ">", "drop-middle"]

_NUMBER = r"[-+.\deE]+"
_RULE = re.compile(rf"^\s*(?P<column>[^<>=|]+?)\s*(?P<sign>>=|>)\s*(?P<value>{_NUMBER})\s*$")
_WORD = r"[^<>=|:,]*[^<>=|:,\s][^<>=|:,]*"
_CLASS = rf"{_WORD}(?:\|{_WORD})*(?:={_WORD})?"
_CLASSES = re.compile(rf"^\s*(?P<column>{_WORD}?)\s*:(?P<classes>{_CLASS}(?:,{_CLASS})*)$")
_MIDDLE = re.compile(
    rf"^\s*(?P<column>[^<>=|]+?)\s*<\s*(?P<low>{_NUMBER})\s*\|\s*>\s*(?P<high>{_NUMBER})\s*$"
)


@dataclass(frozen=True)
class Rating:
    """Two classes, low and high, from a rating.

    Parameters
    ----------
    column : str
        The rating's column: ``"valence"``.
    rule : {">=", ">", "drop-middle"}
        ``">="`` and ``">"``: high where the rating compares so with ``threshold``, else low.
        ``"drop-middle"``: high above ``threshold + margin``, low below ``threshold - margin``;
        ratings between, the edges included, are left out.
    threshold : float
        The middle, on the scale of the store: 5 for DEAP, 3 for DREAMER.
    margin : float, default=0
        Half the width of the band that ``"drop-middle"`` leaves out; 0 leaves out ties alone.

    Raises
    ------
    DataError
        If there is no such rule, or the margin is negative or given with another rule than
        ``"drop-middle"``.
    """

    column: str
    rule: Rule
    threshold: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise DataError(
                f"Making classes of {self.column!r}",
                f"there is no rule {self.rule!r}",
                f"Use one of {', '.join(map(repr, get_args(Rule)))}",
            )
        if self.margin < 0 or (self.margin and self.rule != "drop-middle"):
            raise DataError(
                f"Making classes of {self.column!r} by {self.rule!r}",
                f"margin={self.margin}",
                "Give a margin of 0 or more, and only with the rule 'drop-middle'",
            )

    @classmethod
    def between(cls, column: str, low: float, high: float) -> Rating:
        """Make the rule that leaves out ratings from ``low`` to ``high``, both included."""
        one, other = _decimal(low), _decimal(high)
        return cls(column, "drop-middle", float((one + other) / 2), float((other - one) / 2))

    @property
    def edges(self) -> tuple[float, float]:
        """The lowest and the highest rating that is left out, as they are written in decimals.

        In binary 4.85 - 0.75 is a little more than 4.1, and a rating on the edge would stay.
        """
        middle, margin = _decimal(self.threshold), _decimal(self.margin)
        return float(middle - margin), float(middle + margin)

    def __str__(self) -> str:
        if self.rule != "drop-middle":
            return f"{self.column} {self.rule} {self.threshold:g}"
        low, high = self.edges
        return f"{self.column} > {high:g} against < {low:g}, the rest dropped"


def _decimal(value: float) -> Decimal:
    return Decimal(repr(float(value)))


@dataclass(frozen=True)
class Merged:
    """Classes from values of a label: several values as one class, the others left out.

    Parameters
    ----------
    column : str
        The label's column: ``"event"``.
    groups : tuple of (str, tuple of str)
        The classes in their order, each its name and the values that are in it.

    Raises
    ------
    DataError
        If there are fewer than two classes, or a name or a value is there twice.
    """

    column: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.groups]
        values = [value for _, members in self.groups for value in members]
        found = [f"{name!r} names two classes" for name in names if names.count(name) > 1]
        found += [f"{value!r} is in two classes" for value in values if values.count(value) > 1]
        found += ["there is one class"] if len(names) < 2 else []
        if found:
            raise DataError(
                f"Making classes of {self.column!r} by {merged_text(self)!r}",
                found[0],
                "Name each class and each value once: 'event:left|right=fist,rest'",
            )

    def __str__(self) -> str:
        parts = [name if (name,) == v else f"{name} ({', '.join(v)})" for name, v in self.groups]
        return f"{self.column} {' against '.join(parts)}, the rest dropped"


OneTarget = str | Rating | Merged
"""A column of labels, or a rule on one, as text (``"valence>5"``, ``"event:left,right"``), as
``Rating`` or as ``Merged``."""

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


def _no_rule(text: str) -> DataError:
    return DataError(
        f"Reading the target {text!r}",
        "it is neither a column nor a rule",
        "Write it as 'valence', 'valence>5', 'valence>=5', 'valence<4.5|>5.5' or "
        "'event:left|right=fist,rest'",
    )


def parse_rule(text: str) -> OneTarget:
    """Read the text of a target.

    Parameters
    ----------
    text : str
        A column; a rule on a rating: ``"valence>5"`` (ties are low), ``"valence>=5"`` (ties are
        high), ``"valence<4.5|>5.5"`` (ratings between, edges included, are left out); or classes
        of some of a column's values, in their order: ``"event:left,right"``,
        ``"event:left|right=fist,rest"`` (left and right are one class, called fist; values that
        are not named are left out).

    Returns
    -------
    str, Rating or Merged
        The column, or the rule.

    Raises
    ------
    DataError
        If the text has a sign of comparison or a colon but is no rule.
    """
    if match := _CLASSES.match(text):
        return Merged(match["column"], tuple(map(_group, match["classes"].split(","))))
    if not set("<>=|:") & set(text):
        return text.strip()
    try:
        if match := _RULE.match(text):
            return Rating(match["column"], match["sign"], float(match["value"]))  # type: ignore[arg-type]
        if match := _MIDDLE.match(text):
            low, high = float(match["low"]), float(match["high"])
            if low <= high:
                return Rating.between(match["column"], low, high)
    except ValueError as error:
        raise _no_rule(text) from error
    raise _no_rule(text)


def _group(text: str) -> tuple[str, tuple[str, ...]]:
    """Read ``"left|right=fist"`` or ``"rest"``: a class and its values."""
    values, _, name = text.partition("=")
    members = tuple(value.strip() for value in values.split("|"))
    return name.strip() or "|".join(members), members


def merged_text(merged: Merged) -> str:
    """Return the text that ``parse_rule`` reads as these classes."""
    classes = []
    for name, members in merged.groups:
        values = "|".join(members)
        classes.append(values if values == name else f"{values}={name}")
    return f"{merged.column}:{','.join(classes)}"


def rule_text(rating: Rating) -> str:
    """Return the text that ``parse_rule`` reads as this rule."""
    if rating.rule != "drop-middle":  # by repr: all digits, so that the same number is read
        return f"{rating.column}{rating.rule}{rating.threshold!r}"
    low, high = rating.edges
    return f"{rating.column}<{low!r}|>{high!r}"


def target_to_json(target: TargetSpec) -> object:
    """Return a target as a JSON value that ``open_dataset`` takes; a rule becomes its text."""
    if isinstance(target, Mapping):
        return {name: target_to_json(each) for name, each in target.items()}
    if isinstance(target, Merged):
        return merged_text(target)
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


def _refuse_gaps(doing: str, metadata: pd.DataFrame, values: pd.Series) -> None:
    """Raise a DataError that names the subjects with rows that have no label."""
    gaps = values.isna() | values.astype(str).str.strip().isin(_NO_LABEL)
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
    try:
        number = values.to_numpy(np.float32 if values.dtype == np.float32 else np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Making classes by {rating}",
            f"{rating.column!r} is not a number everywhere ({values.iloc[0]!r})",
            "Give the name of the column alone to use its values as classes",
        ) from error
    # Compared in the ratings' own precision: 4.1 as a float32 is another number than as a float64.
    threshold, low, high = map(number.dtype.type, (rating.threshold, *rating.edges))
    codes = (number >= threshold if rating.rule == ">=" else number > threshold).astype(np.int64)
    if rating.rule == "drop-middle":
        codes[(number >= low) & (number <= high)] = -1
    return Target.of_classes(codes, ("low", "high"), str(rating))


def _merge(doing: str, values: pd.Series, merged: Merged) -> Target:
    """Make the classes of some values of a label."""
    texts = values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    code = {value: k for k, (_, members) in enumerate(merged.groups) for value in members}
    if lost := sorted(set(code) - set(texts)):
        raise DataError(
            doing,
            f"no window is {lost[0]!r}; there are {some(sorted(set(texts)), 8)}",
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
    target : str, Rating, Merged or None
        A label's column, a rule (as text, as ``Rating`` or as ``Merged``; a column of that name is
        used before a rule), or None for the column ``target``.

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
    if isinstance(target, str) and target not in metadata:
        target = parse_rule(target)
    column = target.column if isinstance(target, Rating | Merged) else target or "target"
    doing = f"Reading the labels {column!r} of {len(metadata)} windows"
    if column not in metadata:
        raise DataError(
            doing,
            f"there is no such column; the dataset has {', '.join(map(str, metadata.columns))}",
            "Choose one of these",
        )
    values = metadata[column]
    if not isinstance(target, Merged):  # which takes the values that it names
        _refuse_gaps(doing, metadata, values)
    if isinstance(target, Rating):
        labels = _binarise(values, target)
    elif isinstance(target, Merged):
        labels = _merge(doing, values, target)
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
    asked = target if known else parse_rule(str(target))
    column = asked if isinstance(asked, str) else asked.column
    labels = [name for name in trials if name not in OWN_COLUMNS - {"stimulus"}]
    for dataset, part in trials.groupby("dataset", observed=True):
        if column not in labels or part[column].isna().all():
            theirs = [name for name in labels if part[name].notna().any()]
            raise DataError(
                f"Making the target {column!r} of {where}",
                f"{dataset} has no such label; it has {', '.join(map(str, theirs))}",
                "Choose one of these, or name one for each dataset",
            )
    values = trials[column]
    # Numbers with gaps go on to make_labels, whose error names the subjects.
    if isinstance(asked, str) and _is_number(values) and values.notna().all():
        numbers = values.to_numpy(np.float32)
        return Target(numbers, np.ones(len(trials), bool), (), f"the numbers of {column!r}")
    return make_labels(trials, asked)


def make_target(trials: pd.DataFrame, target: TargetSpec, *, where: str) -> Target:
    """Give each trial its target.

    Parameters
    ----------
    trials : pandas.DataFrame
        The table of ``read_trials``.
    target : str, Rating, Merged, mapping or None
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
        If a dataset has no such label, a trial has no value, one class only is left, or datasets
        have different classes.
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


def labels_of(dataset: Dataset, target: OneTarget | None) -> Target:
    """Return the classes of a dataset's windows.

    Parameters
    ----------
    dataset : Dataset
    target : str, Rating, Merged or None
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
