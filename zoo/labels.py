"""Classes from what the store holds: labels as they are, ratings by a named rule.

Stores keep ratings raw. Where the middle of the scale goes decides which trials are in which class
(DEAP has ratings of exactly 5, DREAMER is on a five-point scale with many 3), so the rule is part
of a result and is stored with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from omfa.pipeline.recording import DataError

Rule = Literal[">=", ">", "drop-middle"]


@dataclass(frozen=True)
class Rating:
    """Two classes, low and high, from a rating.

    Parameters
    ----------
    column : str
        The rating's column: ``"valence"``.
    rule : {">=", ">", "drop-middle"}
        ``">="`` and ``">"``: high where the rating is so to ``threshold``, else low.
        ``"drop-middle"``: high above ``threshold + margin``, low below ``threshold - margin``, and
        what lies between, its edges included, is left out.
    threshold : float
        On the scale of the store: 5 for DEAP, 3 for DREAMER.
    margin : float, default=0
        Half the width of the band that ``"drop-middle"`` leaves out; 0 drops the ties alone.
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

    def __str__(self) -> str:
        if self.rule != "drop-middle":
            return f"{self.column} {self.rule} {self.threshold:g}"
        low, high = self.threshold - self.margin, self.threshold + self.margin
        return f"{self.column} > {high:g} against < {low:g}, the rest dropped"


Target = str | Rating | None
"""A column of labels, a rating and its rule, or None for the dataset's own ``target``."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The classes of all windows.

    Attributes
    ----------
    codes : ndarray of int, shape (n_windows,)
        Index into ``classes``; -1 where the rule leaves a window out.
    classes : tuple of str
    rule : str
        How they were made, in words.
    """

    codes: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    rule: str


def make_labels(metadata: pd.DataFrame, target: Target = None) -> Labels:
    """Give each window its class.

    Parameters
    ----------
    metadata : pandas.DataFrame
        A row per window.
    target : str, Rating or None
        A label's column, a rating and its rule, or None for the column ``target``.

    Returns
    -------
    Labels

    Raises
    ------
    DataError
        If the column is not there, has gaps, is a rating without a rule, or holds one class only.
    """
    column = target.column if isinstance(target, Rating) else target or "target"
    doing = f"Reading the labels {column!r} of {len(metadata)} windows"
    if column not in metadata:
        raise DataError(
            doing,
            f"there is no such column; the dataset has {', '.join(map(str, metadata.columns))}",
            "Choose one of these",
        )
    values = metadata[column]
    _refuse_gaps(doing, metadata, values)
    labels = _binarise(values, target) if isinstance(target, Rating) else _as_classes(doing, values)
    if len(np.unique(labels.codes[labels.codes >= 0])) < 2:
        raise DataError(
            f"Making classes by {labels.rule}",
            "all windows that are left are in one class",
            "Choose another column or another threshold",
        )
    return labels


def _refuse_gaps(doing: str, metadata: pd.DataFrame, values: pd.Series) -> None:
    gaps = values.isna() | values.astype(str).str.strip().eq("")
    if not gaps.any():
        return
    subjects = metadata.loc[gaps, ["dataset", "subject"]].drop_duplicates()
    names = [f"{dataset}/{subject}" for dataset, subject in subjects.to_numpy()]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    raise DataError(
        doing,
        f"{int(gaps.sum())} windows have no label ({', '.join(names[:3])}{more})",
        "Choose a column that every trial has, or open the dataset without these recordings",
    )


def _binarise(values: pd.Series, rating: Rating) -> Labels:
    try:
        number = values.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Making classes by {rating}",
            f"{rating.column!r} is not a number everywhere ({values.iloc[0]!r})",
            "Give the name of the column alone to use its values as classes",
        ) from error
    above = number >= rating.threshold if rating.rule == ">=" else number > rating.threshold
    codes = above.astype(np.int64)
    if rating.rule == "drop-middle":
        codes[np.abs(number - rating.threshold) <= rating.margin] = -1
    return Labels(codes, ("low", "high"), str(rating))


def _as_classes(doing: str, values: pd.Series) -> Labels:
    if pd.api.types.is_float_dtype(values) and (values % 1 != 0).any():
        raise DataError(
            doing,
            f"they are ratings between {values.min():g} and {values.max():g}, not classes",
            f"Name a rule, for instance Rating({values.name!r}, '>=', 5)",
        )
    try:
        codes, found = pd.factorize(values, sort=True)
    except TypeError:  # kinds that cannot be ordered among themselves
        codes, found = pd.factorize(values.astype(str), sort=True)
    return Labels(
        codes.astype(np.int64),
        tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in found),
        f"the values of {values.name!r}",
    )


def target_to_json(target: Target) -> Any:
    """Write a target so that ``target_from_json`` gives it again."""
    return asdict(target) if isinstance(target, Rating) else target


def target_from_json(value: Any) -> Target:
    """Read what ``target_to_json`` wrote."""
    return Rating(**value) if isinstance(value, dict) else value
